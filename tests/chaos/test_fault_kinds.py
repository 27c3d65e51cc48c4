"""Every kind of fault bites stock boto3 clients on open and on new connections, and is gone afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fault_bench import OTHER, SERVERS, Bench, Outcome, order_of

from kms_chaos.faults.apply import Shown
from kms_chaos.faults.line import RouteError
from kms_chaos.faults.plans import KINDS, Ordered, bite, unlike

pytestmark = pytest.mark.slow  # each on two servers, pooled and new

CLOSED = {"ConnectionClosedError"}
RESET = {"ConnectionClosedError", "SSLError"}
"""As the RST comes while the client still sends, or when it waits already; the core names both ConnectionReset."""
OK = {""}
READ, CONNECT, NO_CONNECTION = {"ReadTimeoutError"}, {"ConnectTimeoutError"}, {"EndpointConnectionError"}

Case = tuple[dict[str, Any], set[str], set[str]]
"""A fault, and what a call on an open and on a new connection may raise."""

ON_PROXIES = {
    "blackhole": ({"kind": "blackhole"}, READ, READ),
    "refused": ({"kind": "refused"}, NO_CONNECTION, NO_CONNECTION),
    "late": ({"kind": "latency", "latency_ms": 100, "jitter_ms": 10}, OK, OK),
    "too-late": ({"kind": "latency", "latency_ms": 900}, READ, READ),
    "crawl": ({"kind": "bandwidth", "kilobytes_per_second": 1}, READ, READ),
    "drip": ({"kind": "drip", "drop_bytes": 10, "delay_ms": 100}, READ, READ),
    "truncated": ({"kind": "truncated"}, CLOSED, CLOSED),
    "slow-close": ({"kind": "slow_close", "delay_ms": 100}, CLOSED, CLOSED),
    "slower-close": ({"kind": "slow_close", "delay_ms": 2000}, READ, READ),
    "reset-mid-response": ({"kind": "reset", "when": "mid_response"}, RESET, RESET),
    "flapping": ({"kind": "flapping", "on_seconds": 60.0, "off_seconds": 1.0}, READ, READ),
    "flapping-refused": (
        {"kind": "flapping", "inner": "refused", "on_seconds": 60.0, "off_seconds": 1.0}, NO_CONNECTION, NO_CONNECTION,
    ),
    "ramp": ({"kind": "latency", "latency_ms": 400, "ramp_seconds": 60.0}, OK, OK | READ),
}  # fmt: skip

AT_CLIENTS = {
    "reset-new": ({"kind": "reset", "when": "new"}, RESET, RESET),
    "reset-pooled": ({"kind": "reset", "when": "pooled"}, RESET, OK),
    "body-cut": ({"kind": "truncated", "within": "body"}, OK, OK),
    "syn-drop": ({"kind": "syn_drop"}, CONNECT, CONNECT),
    "stale-pool": ({"kind": "stale_pool"}, READ, OK),
    "dns": ({"kind": "dns_failure"}, NO_CONNECTION, NO_CONNECTION),
    "slow-operation": ({"kind": "slow_operation", "operation": "GenerateDataKey", "delay_ms": 100}, OK, OK),
    "slower-operation": ({"kind": "slow_operation", "operation": "GenerateDataKey", "delay_ms": 900}, READ, READ),
    "clock-fast": ({"kind": "clock_skew", "seconds": 400.0}, {"ClientError"}, {"ClientError"}),
    "clock-slow": ({"kind": "clock_skew", "seconds": -400.0}, {"ClientError"}, {"ClientError"}),
}

OF_KMS = {
    "throttling": ("ThrottlingException", "ClientError"),
    "kms_internal": ("KMSInternalException", "KMSInternalException"),
    "dependency_timeout": ("DependencyTimeoutException", "DependencyTimeoutException"),
    "key_unavailable": ("KeyUnavailableException", "KeyUnavailableException"),
    "disabled": ("DisabledException", "DisabledException"),
    "pending_deletion": ("KMSInvalidStateException", "KMSInvalidStateException"),
    "access_denied": ("AccessDeniedException", "ClientError"),
    "expired_credentials": ("ExpiredTokenException", "ClientError"),
    "key_revoked": ("DisabledException", "DisabledException"),
}
"""Error code, and the class that botocore's model has for it."""


LONG = {"too-late", "drip", "slower-close", "flapping", "ramp"}
"""What others show as well, and sooner."""


def cases(table: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("fields", "pooled", "new"),
        [
            pytest.param(*values, id=name, marks=[pytest.mark.slow] if name in LONG else [])
            for name, values in table.items()
        ],
    )


def shows(order: Ordered, seen: Outcome) -> bool:
    return bite(order.plan).shown_by(error_code=seen.code, seconds=seen.seconds, operation="GenerateDataKey")


def see_it_bite(bench: Bench, order: Ordered, pooled_raises: set[str], new_raises: set[str]) -> None:
    """Put the fault on, ask on an open and on a new connection, and take it off; all that must be so is."""
    pooled, new, elsewhere = bench.client(), bench.client(), bench.client(OTHER)
    assert (bench.ask(pooled).raised, bench.ask(elsewhere).raised) == ("", "")
    lifted: list[Shown] = []

    with bench.fault(order, lifted.append) as shown:
        seen = bench.ask(pooled), bench.ask(new)
        beside = bench.ask(elsewhere)

    assert json.loads(json.dumps(shown)) == shown
    assert unlike(order.plan, order, shown) == ""
    assert (seen[0].raised in pooled_raises, seen[1].raised in new_raises) == (True, True), seen
    assert [shows(order, one) for one in seen] == [True, new_raises != OK or bite(order.plan).whole], seen
    assert (beside.raised, beside.code) == ("", "")
    assert [bool(unlike(order.plan, order, after)) for after in lifted] == [True]
    assert [bench.ask(client).code for client in (pooled, new, elsewhere)] == ["", "", ""]


@pytest.mark.parametrize("server", SERVERS, indirect=True)
@cases(ON_PROXIES)
def test_a_fault_on_the_proxy(bench: Bench, fields: dict[str, Any], pooled: set[str], new: set[str]) -> None:
    """On both makes of Toxiproxy; the proxy shows it, and then no longer."""
    order = order_of(**fields)

    see_it_bite(bench, order, pooled, new)

    state = bench.server.proxy(bench.name(order.region))
    assert state is not None
    assert (state.enabled, state.toxics, state.address) == (True, (), bench.lines[order.region].address)


@cases(AT_CLIENTS)
def test_a_fault_at_the_clients_end(bench: Bench, fields: dict[str, Any], pooled: set[str], new: set[str]) -> None:
    """Nothing is asked of Toxiproxy, and the line is as it was."""
    line = bench.lines["us-east-1"]
    before = line.shown()

    see_it_bite(bench, order_of(**fields), pooled, new)

    assert line.shown() == before


@pytest.mark.parametrize("kind", OF_KMS)
def test_an_error_of_kms_itself(bench: Bench, kind: str) -> None:
    """Botocore raises the class of its own model; the request id says whose answer it is."""
    code, raised = OF_KMS[kind]
    order = order_of(kind=kind)

    see_it_bite(bench, order, {raised}, {raised})

    with bench.fault(order):
        seen = bench.ask(bench.client())
    assert (seen.code, seen.request_id[:6]) == (code, "drill-")


def test_there_is_a_test_for_every_kind() -> None:
    """Whoever adds one adds it here."""
    tried = {fields["kind"] for fields, *_ in (*ON_PROXIES.values(), *AT_CLIENTS.values())} | OF_KMS.keys()

    assert tried | {"intermittent"} == KINDS.keys() - {"evacuation"}  # which is no fault, and has tests of its own


def test_kms_itself_refuses_a_clock_that_is_off(bench: Bench) -> None:
    """Its own request id, and its own words for either side."""
    client = bench.client()
    words = []

    for seconds in (400.0, -400.0):
        with bench.fault(order_of(kind="clock_skew", seconds=seconds)), pytest.raises(ClientError) as refused:
            client.list_aliases()
        words.append(refused.value.response["Error"]["Message"])
        assert not refused.value.response["ResponseMetadata"]["RequestId"].startswith("drill-")

    assert [text.partition(":")[0] for text in words] == ["Signature not yet current", "Signature expired"]


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_an_intermittent_fault_draws_for_each_request(bench: Bench) -> None:
    """Though one client has one connection at a time: it is let go of after each answer."""
    client = bench.client()
    bench.ask(client)
    order = order_of(kind="intermittent", share=0.5)

    with bench.fault(order) as shown:
        seen = [bench.ask(client) for _ in range(14)]

    assert unlike(order.plan, order, shown) == ""
    assert {one.code for one in seen} == {"", "ReadTimeout"}  # by chance all alike: once in 8192 runs
    assert [bench.ask(client).code for _ in range(3)] == [""] * 3


def test_a_share_of_answers_and_some_operations_alone(bench: Bench) -> None:
    """The dice are thrown for each request; what is not named passes."""
    client = bench.client()

    with bench.fault(order_of(kind="throttling", share=0.5)):
        shared = [bench.ask(client).code for _ in range(20)]
    with bench.fault(order_of(kind="disabled", operations=["Decrypt"])):
        others = [bench.ask(client, operation=name).code for name in ("GenerateDataKey", "DescribeKey")]
    with bench.fault(order_of(kind="slow_operation", operation="Decrypt", delay_ms=60_000)):
        fast = bench.ask(client).code

    assert set(shared) == {"", "ThrottlingException"}
    assert (others, fast) == (["", ""], "")


def test_a_revoked_key_is_told_by_every_name_that_a_request_uses(bench: Bench) -> None:
    """By alias, and by the ARN that the line has learned from DescribeKey; other keys go on."""
    client = bench.client()
    arns = {key: client.describe_key(KeyId=f"alias/test-{key}")["KeyMetadata"]["Arn"] for key in ("general", "pii")}
    names = ["alias/test-pii", arns["pii"], arns["pii"].rpartition("/")[2]]

    with bench.fault(order_of(kind="key_revoked", purposes=["pii"], answer="access_denied")):
        revoked = [bench.ask(client, key=name).code for name in names]
        others = [bench.ask(client, key=name).code for name in ("alias/test-general", arns["general"])]

    assert revoked == ["AccessDeniedException"] * 3
    assert others == ["", ""]


def test_a_purpose_that_the_line_does_not_know_is_refused(bench: Bench) -> None:
    """A revocation that hits nothing would prove nothing."""
    with pytest.raises(RouteError, match="payment"), bench.fault(order_of(kind="key_revoked", purposes=["payment"])):
        pytest.fail("the block must not run")


def test_a_pool_with_nothing_in_it_cannot_go_stale(bench: Bench) -> None:
    """The read-back says so, and the judge will."""
    order = order_of(kind="stale_pool")

    with bench.fault(order) as shown:
        assert unlike(order.plan, order, shown) == "no connection was open that could be hurt"
