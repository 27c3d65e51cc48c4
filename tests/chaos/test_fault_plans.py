"""What drill files may order, and what they may not; all of it values."""

from __future__ import annotations

from typing import Any

import pytest
from fault_bench import order_of
from pydantic import TypeAdapter, ValidationError

from kms_chaos.faults.plans import KINDS, AnyFault, ApiFault, Bite, FaultPlan, bite, unlike

ANY: TypeAdapter[Any] = TypeAdapter(AnyFault)

LEAST: dict[str, dict[str, Any]] = {
    "latency": {"latency_ms": 50},
    "reset": {"when": "new"},
    "intermittent": {"share": 0.3},
    "flapping": {"on_seconds": 1.0, "off_seconds": 1.0},
    "slow_operation": {"operation": "Decrypt", "delay_ms": 50},
    "clock_skew": {"seconds": 400.0},
}
"""What must be given, by kind; nothing for the others."""


def least(kind: str) -> FaultPlan:
    return ANY.validate_python({"kind": kind, **LEAST.get(kind, {})})


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_reads_back_from_its_journal(kind: str) -> None:
    """As JSON has it, lists for tuples; and so does its bite."""
    plan = least(kind)

    assert type(plan) is KINDS[kind]
    assert ANY.validate_python(plan.model_dump(mode="json")) == plan
    assert Bite.of_json(bite(plan).to_json()) == bite(plan)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_shown_is_not_what_was_ordered(kind: str) -> None:
    """A fault that left no trace was not put on."""
    order = order_of(kind=kind, **LEAST.get(kind, {}))

    for nothing in ({}, {"line": {}}, {"line": {}, "proxy": "p", "enabled": True, "toxics": []}):
        assert unlike(order.plan, order, nothing)


@pytest.mark.parametrize("kind", KINDS)
def test_two_of_a_kind_have_toxics_of_different_names(kind: str) -> None:
    """The undo record holds names; one drill may order a kind twice."""
    fields = {"kind": kind, **LEAST.get(kind, {})}
    one, two = ({toxic.name for toxic in order_of(number, **fields).toxics} for number in (0, 1))

    assert not one & two
    assert all(name.startswith("kmswd_") for name in one)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param({"kind": "blackhol"}, "kind", id="kind"),
        pytest.param({"kind": "blackhole", "share": 1.0}, "Extra inputs", id="another-kinds-key"),
        pytest.param({"kind": "latency", "latency_ms": 10}, "greater than or equal to 50", id="not-to-be-seen"),
        pytest.param({"kind": "latency", "latency_ms": 100, "jitter_ms": 51}, "half of latency_ms", id="jitter"),
        pytest.param({"kind": "latency", "latency_ms": 1 << 62}, "less than or equal to", id="overflow"),
        pytest.param({"kind": "bandwidth", "kilobytes_per_second": 0}, "greater than or equal to 1", id="rate"),
        pytest.param({"kind": "drip", "drop_bytes": 0}, "greater than or equal to 1", id="drop"),
        pytest.param({"kind": "drip", "drop_bytes": 150, "delay_ms": 10}, "less than 0.1 s", id="fast-drops"),
        pytest.param({"kind": "truncated", "after_bytes": 5000}, "less than or equal to", id="beyond-the-answer"),
        pytest.param({"kind": "reset", "when": "later"}, "'new', 'pooled' or 'mid_response'", id="when"),
        pytest.param({"kind": "intermittent", "share": 1.0}, "less than or equal to", id="share"),
        pytest.param({"kind": "flapping", "on_seconds": 0.0, "off_seconds": 1.0}, "greater than", id="flap"),
        pytest.param({"kind": "clock_skew", "seconds": 300.0}, "must be more", id="skew-that-aws-accepts"),
        pytest.param({"kind": "slow_operation", "operation": "Sign", "delay_ms": 100}, "operation", id="operation"),
        pytest.param({"kind": "throttling", "operations": ["Sign"]}, "operations", id="operations"),
        pytest.param({"kind": "throttling", "share": 0.0}, "greater than 0", id="no-share"),
        pytest.param({"kind": "key_revoked", "answer": "throttled"}, "'disabled' or 'access_denied'", id="answer"),
        pytest.param({"kind": "key_revoked", "purposes": ["PII"]}, "purposes", id="purpose"),
    ],
)
def test_what_proves_nothing_or_kills_the_server_is_refused(fields: dict[str, Any], says: str) -> None:
    """Before anything is touched."""
    with pytest.raises(ValidationError) as refused:
        ANY.validate_python(fields)
    assert says in str(refused.value)


def test_a_late_answer_shows_and_a_quick_one_does_not() -> None:
    """The threshold is what the slowest possible healthy answer never reaches, and the quickest late one does."""
    steady = bite(order_of(kind="latency", latency_ms=400, jitter_ms=100).plan)
    ramp = bite(order_of(kind="latency", latency_ms=400, jitter_ms=100, ramp_seconds=60.0).plan)

    assert steady.slower_than_seconds == pytest.approx(0.285)
    assert ramp.slower_than_seconds == pytest.approx(0.285 / 4)
    assert steady.shown_by(error_code="", seconds=0.3, operation="Decrypt")
    assert not steady.shown_by(error_code="", seconds=0.2, operation="Decrypt")


def test_a_ramp_begins_with_a_quarter_and_is_read_back_so() -> None:
    """The whole latency at once would not be the ramp that was ordered."""
    order = order_of(kind="latency", latency_ms=400, jitter_ms=40, ramp_seconds=60.0)
    quarter = {**order.toxics[0].to_json(), "attributes": {"latency": 100, "jitter": 10}}
    whole = order.toxics[0].to_json()

    assert unlike(order.plan, order, {"enabled": True, "toxics": [quarter]}) == ""
    assert unlike(order.plan, order, {"enabled": True, "toxics": [whole]}) == "no toxic latency downstream on it"


def test_a_cut_that_counts_from_the_handshake_on_is_not_one_inside_the_answer() -> None:
    """The bytes are measured where it is put on, and exceed those of the plan."""
    order = order_of(kind="slow_close", after_bytes=100)
    cut, close = (toxic.to_json() for toxic in order.toxics)
    measured = {**cut, "attributes": {"bytes": 2100}}

    assert unlike(order.plan, order, {"enabled": True, "toxics": [measured, close]}) == ""
    assert "after the handshake" in unlike(order.plan, order, {"enabled": True, "toxics": [cut, close]})
    assert "slow_close" in unlike(order.plan, order, {"enabled": True, "toxics": [measured]})


@pytest.mark.parametrize("kind", [kind for kind, plan in KINDS.items() if issubclass(plan, ApiFault)])
def test_some_answers_may_be_good_when_a_share_or_some_keys_alone_are_hit(kind: str) -> None:
    """Else every one must show the fault, of the operations that it hits."""
    assert bite(order_of(kind=kind).plan).whole
    assert not bite(order_of(kind=kind, share=0.5).plan).whole
    assert bite(order_of(kind=kind, operations=["Decrypt"]).plan).operations == {"Decrypt"}
    assert not bite(order_of(kind="key_revoked", purposes=["pii"]).plan).whole
