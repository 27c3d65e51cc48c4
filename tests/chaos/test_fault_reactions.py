"""What the core makes of each fault: the reaction that the table of errors demands, seen through real connections."""

from __future__ import annotations

from typing import Any

import pytest
from fault_bench import CONTEXT, OTHER, TARGET, Bench, Heard, order_of, region_of

from kms_core import Core, KeyConfig, KmsDeniedError, KmsUnavailableError

pytestmark = pytest.mark.slow

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")


def seal(core: Core, number: int = 0, purpose: str = "general") -> bytes:
    """Seal something under a context that no cached data key is for: KMS must be asked."""
    return core.encrypt(b"plaintext", purpose=purpose, context={**CONTEXT, "n": str(number)})


def closed(heard: Heard) -> bool:
    return heard.moves == []


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        pytest.param({"kind": "blackhole"}, {"ReadTimeout"}, id="blackhole"),
        pytest.param({"kind": "refused"}, {"ConnectionRefused"}, id="refused"),
        pytest.param({"kind": "reset", "when": "new"}, {"ConnectionReset"}, id="reset"),
        pytest.param({"kind": "truncated"}, {"ConnectionReset"}, id="truncated"),
        pytest.param({"kind": "truncated", "within": "body"}, {"Truncated"}, id="body-cut"),
        pytest.param({"kind": "syn_drop"}, {"ConnectTimeout"}, id="syn-drop"),
        pytest.param({"kind": "dns_failure"}, {"DnsFailure"}, id="dns"),
        pytest.param({"kind": "kms_internal"}, {"KMSInternalException"}, id="kms-internal"),
        pytest.param({"kind": "dependency_timeout"}, {"DependencyTimeoutException"}, id="dependency-timeout"),
        pytest.param({"kind": "key_unavailable"}, {"KeyUnavailableException"}, id="key-unavailable"),
    ],
)
def test_an_outage_of_a_region_moves_calls_to_the_next_and_opens_its_breaker(
    bench: Bench, fields: dict[str, Any], codes: set[str]
) -> None:
    """The caller notices nothing; after the threshold the region is not asked any more."""
    with bench.core(breaker_open_seconds=60.0) as (core, heard), bench.fault(order_of(**fields)):
        messages = [seal(core, number) for number in range(5)]

    assert TARGET not in {region_of(message) for message in messages}
    assert set(heard.attempts(TARGET)) == codes
    assert heard.moves == [("closed", "open")]
    assert 3 <= len(heard.attempts(TARGET)) < 5 * 2
    assert heard.failed_over >= 1


def test_throttling_spills_and_never_opens_the_breaker(bench: Bench) -> None:
    """The region is healthy and says so: to move all load would throttle the next."""
    with bench.core() as (core, heard), bench.fault(order_of(kind="throttling")):
        message = seal(core)

    assert region_of(message) == OTHER
    assert set(heard.attempts(TARGET)) == {"ThrottlingException"}
    assert closed(heard)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"kind": "access_denied"}, "AccessDeniedException", id="access-denied"),
        pytest.param({"kind": "expired_credentials"}, "ExpiredTokenException", id="expired-credentials"),
        pytest.param({"kind": "clock_skew", "seconds": -400.0}, "InvalidSignatureException", id="clock-skew"),
    ],
)
def test_what_is_the_callers_own_fault_fails_at_once_and_moves_nothing(
    bench: Bench, fields: dict[str, Any], code: str
) -> None:
    """No other region is asked, no breaker moves, a person must act."""
    with bench.core() as (core, heard), bench.fault(order_of(**fields)), pytest.raises(KmsDeniedError) as denied:
        seal(core)

    assert denied.value.error_code == code
    assert [set(heard.attempts(region)) for region in REGIONS] == [{code}, set(), set()]
    assert closed(heard)


@pytest.mark.parametrize(
    ("kind", "code"), [("disabled", "DisabledException"), ("pending_deletion", "KMSInvalidStateException")]
)
def test_a_key_out_of_use_in_one_region_is_used_in_the_next_unless_its_state_decides(
    bench: Bench, kind: str, code: str
) -> None:
    """A strict key's failover would go around whoever disabled it; neither is the region's failure."""
    keys = {
        "general": KeyConfig(alias="alias/test-general"),
        "pii": KeyConfig(alias="alias/test-pii", strict_key_state=True),
    }
    with bench.core(keys=keys) as (core, heard), bench.fault(order_of(kind=kind)):
        message = seal(core)
        with pytest.raises(KmsDeniedError) as denied:
            seal(core, purpose="pii")

    assert region_of(message) == OTHER
    assert denied.value.error_code == code
    assert set(heard.attempts(TARGET)) == {code}
    assert closed(heard)


def test_a_key_that_is_revoked_everywhere_stops_and_the_others_go_on(bench: Bench) -> None:
    """What the request names tells which; the core names its keys by ARN, which the line has learned."""
    with bench.core() as (core, heard):
        seal(core, purpose="pii")
        with bench.faults(*(order_of(kind="key_revoked", region=region, purposes=["pii"]) for region in REGIONS)):
            with pytest.raises(KmsDeniedError) as denied:
                seal(core, 1, purpose="pii")
            seal(core, 1)
        seal(core, 2, purpose="pii")

    assert denied.value.error_code == "DisabledException"
    assert closed(heard)


def test_one_slow_operation_is_told_from_a_slow_region(bench: Bench) -> None:
    """Opening fails over to where it is fast; sealing stays at home."""
    slow = order_of(kind="slow_operation", operation="Decrypt", delay_ms=5000)
    with bench.core(data_key_ttl_seconds=0.001) as (core, heard), bench.fault(slow):
        message = seal(core)
        opened = core.decrypt(message, purpose="general", context={**CONTEXT, "n": "0"})

    assert region_of(message) == TARGET
    assert opened == b"plaintext"
    assert heard.attempts(TARGET) == ["", "ReadTimeout"]
    assert heard.attempts(OTHER) == [""]


def test_a_late_region_makes_no_errors(bench: Bench) -> None:
    """A gray failure: nothing fails, and everything takes longer."""
    with bench.core() as (core, heard), bench.fault(order_of(kind="latency", latency_ms=100)):
        messages = [seal(core, number) for number in range(2)]

    assert {region_of(message) for message in messages} == {TARGET}
    assert set(heard.attempts(TARGET)) == {""}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"kind": "stale_pool"}, "ReadTimeout", id="stale"),
        pytest.param({"kind": "reset", "when": "pooled"}, "ConnectionReset", id="reset"),
    ],
)
def test_connections_that_died_cost_one_hop_and_no_outage(bench: Bench, fields: dict[str, Any], code: str) -> None:
    """The next connection to the same region is good."""
    with bench.core() as (core, heard), bench.fault(order_of(**fields)):
        messages = [seal(core, number) for number in range(4)]

    assert [region_of(message) for message in messages[1:]] == [TARGET] * 3
    assert heard.attempts(TARGET)[0] == code
    assert closed(heard)


def test_all_regions_lost_is_told_as_unavailable(bench: Bench) -> None:
    """Each region's own error is in it."""
    orders = [order_of(kind="dns_failure", region=region) for region in REGIONS]
    with bench.core() as (core, _), bench.faults(*orders), pytest.raises(KmsUnavailableError) as lost:
        seal(core)

    assert {(failure.region, failure.error_code) for failure in lost.value.attempts} == {
        (region, "DnsFailure") for region in REGIONS
    }
