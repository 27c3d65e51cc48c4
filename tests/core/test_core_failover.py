"""What a call does when regions fail: it goes on elsewhere, in time, and says what it saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kms_core import Core
from kms_core.errors import ClosedError, KmsDeniedError, KmsUnavailableError
from kms_core.events import Attempt, BreakerMoved, FailedOver, KeyQuarantined
from kms_core.kms import GeneratedKey, KmsFailure
from kms_core.message import encrypted_data_keys
from kms_core.testing import FakeEstate, ManualClock, core_over

CONTEXT = {"canary": "true"}
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"


def seal(core: Core, number: int = 0) -> bytes:
    """Seal under a context of its own, so that no cache has a part in it."""
    return core.encrypt(b"x", purpose="general", context={"number": str(number)})


SILENT = [
    "ConnectTimeout",
    "ReadTimeout",
    "ConnectionRefused",
    "ConnectionReset",
    "DnsFailure",
    "TlsError",
    "Truncated",
]


@pytest.mark.parametrize("code", SILENT)
def test_a_region_that_does_not_answer_costs_no_request(core: Core, estate: FakeEstate, code: str) -> None:
    """The next region answers within the same call, at once; the message opens in every region afterwards."""
    estate.fail(code, regions=[EAST])

    messages = [seal(core, number) for number in range(5)]

    estate.fail(None)
    for number, message in enumerate(messages):
        for region in (EAST, WEST, IRELAND):
            opened = core.pinned(region).decrypt(message, purpose="general", context={"number": str(number)})
            assert opened == b"x"


def test_the_breaker_opens_after_three_failures_and_ends_the_waiting(
    core: Core, estate: FakeEstate, clock: ManualClock, recorder: Any
) -> None:
    """Three calls pay the timeout, the fourth does not; the drill's journal shows why."""
    estate.fail("ConnectTimeout", regions=[EAST])

    costs = []
    for number in range(5):
        began = clock.monotonic()
        seal(core, number)
        costs.append(clock.monotonic() - began)

    assert costs == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert recorder.of(BreakerMoved) == [BreakerMoved(region=EAST, old="closed", new="open", cause="failures")]
    assert (
        recorder.of(FailedOver)
        == [FailedOver(from_region=EAST, to_region=WEST, operation="GenerateDataKey", purpose="general")] * 5
    )
    assert core.health().regions[EAST].breaker == "open"


def test_it_returns_to_the_preferred_region_when_that_is_well(
    core: Core, estate: FakeEstate, clock: ManualClock, recorder: Any
) -> None:
    """After the time open, one probe; two good ones close the breaker."""
    estate.fail("ConnectionRefused", regions=[EAST])
    for number in range(3):
        seal(core, number)
    estate.fail(None)
    clock.advance(6.1)
    estate.calls.clear()

    for number in range(10, 13):
        seal(core, number)

    assert estate.asked() == [EAST] * 3
    assert [(move.new, move.cause) for move in recorder.of(BreakerMoved)] == [
        ("open", "failures"),
        ("half_open", "cooldown_over"),
        ("closed", "probe_succeeded"),
    ]


def test_a_region_that_is_slow_but_answers_is_left_too(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """Failures alone never open a breaker there, and every call would pay."""
    estate[EAST].latency_seconds = 1.6

    for number in range(4):
        seal(core, number)

    assert estate.asked() == [EAST, EAST, EAST, WEST]
    assert [move.cause for move in recorder.of(BreakerMoved)] == ["slow"]


def test_an_attempt_that_trickles_is_cut_at_its_limit(core: Core, estate: FakeEstate) -> None:
    """Botocore's timeout is for one recv; the limit on the whole attempt is the core's own."""
    estate[EAST].latency_seconds = 3.0

    message = seal(core)

    assert estate.asked() == [EAST, WEST]
    assert WEST.encode() in encrypted_data_keys(message)[0].provider_info


def test_all_silent_is_a_typed_error_within_the_deadline(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """Six attempts at most, each listed with region, code and time."""
    estate.fail("ReadTimeout")
    began = clock.monotonic()

    with pytest.raises(KmsUnavailableError, match="us-east-1: GenerateDataKey ReadTimeout after 2000 ms") as failed:
        seal(core)

    assert clock.monotonic() - began <= 8.0 + 2.0, "the fake's time-out is not cut at the deadline; a real one is"
    assert [attempt.region for attempt in failed.value.attempts] == [EAST, WEST, IRELAND, EAST]
    assert failed.value.error_code in {"ReadTimeout", "Deadline"}


def test_six_attempts_are_the_most(core: Core, estate: FakeEstate) -> None:
    """max_retries=5 means six, over all regions together."""
    estate.fail("ConnectionRefused")

    with pytest.raises(KmsUnavailableError) as failed:
        seal(core)

    assert [attempt.region for attempt in failed.value.attempts] == [EAST, WEST, IRELAND] * 2


def test_the_last_door_is_never_closed(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """All breakers open, yet when one region is well again, the very next call finds it."""
    estate.fail("ConnectionRefused")
    for number in range(4):
        with pytest.raises(KmsUnavailableError):
            seal(core, number)
    assert {seen.breaker for seen in core.health().regions.values()} == {"open"}
    estate.fail(None, regions=[IRELAND])

    message = seal(core, 9)

    assert IRELAND.encode() in encrypted_data_keys(message)[0].provider_info
    assert "forced" in {move.cause for move in recorder.of(BreakerMoved)}


def test_a_fault_of_the_server_is_retried_in_place_once(core: Core, estate: FakeEstate) -> None:
    """One hiccup does not send the load to another region."""
    estate[EAST].script.append("KMSInternalException")
    seal(core)
    assert estate.asked() == [EAST, EAST]

    estate.calls.clear()
    estate[EAST].script.extend(["KMSInternalException"] * 2)
    seal(core, 1)
    assert estate.asked() == [EAST, EAST, WEST]


def test_throttling_opens_no_breaker_and_spills_once(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """A throttled region is well, and says so; when the next one is throttled too, the call ends."""
    estate.fail("ThrottlingException", regions=[EAST])
    for number in range(5):
        seal(core, number)
    assert estate.asked() == [EAST, EAST, WEST] * 5
    assert not recorder.of(BreakerMoved)

    estate.fail("ThrottlingException")
    with pytest.raises(KmsUnavailableError) as failed:
        seal(core, 9)
    assert [attempt.region for attempt in failed.value.attempts] == [EAST, EAST, WEST]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ValidationException", "NoCredentialsError"])
def test_a_denial_ends_the_call_at_once(core: Core, estate: FakeEstate, recorder: Any, code: str) -> None:
    """A person must act; no breaker opens for what is the caller's own."""
    estate.fail(code)

    for number in range(4):
        with pytest.raises(KmsDeniedError) as denied:
            seal(core, number)
        assert denied.value.error_code == code
        assert len(denied.value.attempts) == 1
    assert not recorder.of(BreakerMoved)


def test_a_disabled_key_is_left_out_in_its_region_alone(
    core: Core, estate: FakeEstate, clock: ManualClock, recorder: Any
) -> None:
    """For half a minute, loudly, and for that key alone; the region itself goes on."""
    general = estate[EAST].aliases["alias/general"]
    estate.set_key_state(general, "Disabled", regions=[EAST])

    for number in range(3):
        seal(core, number)
    core.encrypt(b"x", purpose="payment", context=CONTEXT)

    assert estate.asked() == [EAST, WEST, WEST, WEST, EAST]
    assert recorder.of(KeyQuarantined) == [
        KeyQuarantined(region=EAST, purpose="general", error_code="DisabledException", seconds=30.0)
    ]
    assert not recorder.of(BreakerMoved)
    estate.set_key_state(general, "Enabled")
    clock.advance(30.0)
    estate.calls.clear()
    seal(core, 9)
    assert estate.asked() == [EAST]


def test_a_disabled_strict_key_is_refused_at_once(core: Core, estate: FakeEstate) -> None:
    """Failover never goes round a payment key that somebody disabled where it is used."""
    estate.set_key_state(estate[EAST].aliases["alias/payment"], "Disabled", regions=[EAST])

    for number in range(3):
        with pytest.raises(KmsDeniedError) as denied:
            core.encrypt(b"x", purpose="payment", context={"number": str(number)})
        assert denied.value.error_code == "DisabledException"
    assert estate.asked() == [EAST] * 3


def test_a_key_disabled_everywhere_stops_opening_and_sealing_with_the_cache(
    core: Core, estate: FakeEstate, clock: ManualClock
) -> None:
    """Revocation is bounded by the time to live."""
    message = seal(core)
    assert core.decrypt(message, purpose="general", context={"number": "0"}) == b"x"
    estate.set_key_state(estate[EAST].aliases["alias/general"], "Disabled")

    clock.advance(299.0)
    core.decrypt(message, purpose="general", context={"number": "0"})
    seal(core)
    clock.advance(1.0)
    with pytest.raises(KmsDeniedError):
        core.decrypt(message, purpose="general", context={"number": "0"})
    with pytest.raises(KmsDeniedError):
        seal(core)


def test_what_is_unknown_counts_as_unclassified_and_is_tried_elsewhere(core: Core, estate: FakeEstate) -> None:
    """The safe side for what nobody has foreseen; an unknown refusal of KMS ends the call."""
    estate[EAST].script.append("Unclassified")
    seal(core)
    assert estate.asked() == [EAST, WEST]

    estate[EAST].script.append(KmsFailure("NewException", status=400))
    with pytest.raises(KmsDeniedError) as denied:
        seal(core, 1)
    assert denied.value.error_code == "NewException"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"key_arn": "arn:aws:kms:us-east-1:123456789012:key/mrk-" + "f" * 32}, id="another key"),
        pytest.param({"plaintext": bytes(16)}, id="a short data key"),
        pytest.param({"wrapped": bytes(6145)}, id="a blob that is too long"),
    ],
)
def test_a_complete_answer_to_something_else_is_not_believed(
    core: Core, estate: FakeEstate, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """The next region is asked; what was answered is never used."""
    honest = estate[EAST].generate_data_key

    def dishonest(key_arn: str, context: Any) -> GeneratedKey:
        made = honest(key_arn, context)
        fields = {"plaintext": made.plaintext, "wrapped": made.wrapped, "key_arn": made.key_arn} | change
        return GeneratedKey(request_id=made.request_id, **fields)

    monkeypatch.setattr(estate[EAST], "generate_data_key", dishonest)

    message = seal(core)

    assert WEST.encode() in encrypted_data_keys(message)[0].provider_info


def test_attempts_are_told_with_region_code_and_request(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """Metrics and journals are made of these."""
    estate[EAST].script.append("DependencyTimeoutException")
    seal(core)

    failed, succeeded = recorder.of(Attempt)
    assert (failed.region, failed.error_code, failed.pinned) == (EAST, "DependencyTimeoutException", False)
    assert (succeeded.error_code, succeeded.operation, succeeded.purpose) == ("", "GenerateDataKey", "general")
    assert succeeded.request_id.startswith("0000")


def test_an_explicit_preference_comes_before_the_home_region(
    make_core: Callable[..., Core], estate: FakeEstate
) -> None:
    """Regions not named follow in their own order."""
    core = make_core(region_preference=(IRELAND,))
    estate.fail("ConnectionRefused", regions=[IRELAND])

    seal(core)

    assert estate.asked() == [IRELAND, EAST]


def test_an_observer_that_raises_hurts_nobody(estate: FakeEstate, config: Any) -> None:
    """Its errors stay with it."""

    class Broken:
        def on_event(self, event: object) -> None:
            raise RuntimeError("broken")

    with core_over(estate, config, observer=Broken()) as core:
        assert core.decrypt(seal(core), purpose="general", context={"number": "0"}) == b"x"


def test_closing_ends_a_call_that_is_under_way(core: Core, estate: FakeEstate) -> None:
    """It does not go on to another region."""
    estate.fail("ReadTimeout")
    estate[EAST].during = lambda call: core.close()

    with pytest.raises(ClosedError):
        seal(core)

    assert estate.asked() == [EAST]


def test_a_defect_of_ours_blames_no_region(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """It comes out as it is, and a probe that it hit gives its permit back."""
    estate.fail("ConnectionRefused", regions=[EAST])
    for number in range(3):
        seal(core, number)
    estate.fail(None)
    clock.advance(6.1)

    def defect(call: object) -> None:
        raise ZeroDivisionError

    estate[EAST].during = defect
    with pytest.raises(ZeroDivisionError):
        seal(core, 7)
    estate[EAST].during = None
    estate.calls.clear()
    seal(core, 8)

    assert estate.asked() == [EAST]
