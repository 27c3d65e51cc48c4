"""Faults at the clients' end of the line: where they dial, what they look up, how they sign, when they send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kms_chaos.faults.cut_plans import nothing_moved
from kms_chaos.faults.ordering import NO_ANSWER, Bite, FaultPlan, Ordered, bite, unlike

Operation = Literal["GenerateDataKey", "Decrypt", "DescribeKey"]
"""The operations that the core asks KMS for."""
_ALLOWED_SKEW_SECONDS = 300.0
"""How far off AWS lets a signature's time be. Source: IAM User Guide, "Signature Version 4", on `X-Amz-Date`."""
_MILLISECONDS = 1000.0


class SynDrop(FaultPlan):
    """Nobody answers the SYN of a new connection. No connection outlives its request, so all are new."""

    kind: Literal["syn_drop"]


class StalePool(FaultPlan):
    """Connections that are open die silently; new ones are fine. What a firewall that forgets idle flows does."""

    kind: Literal["stale_pool"]
    every_seconds: Annotated[float, Field(ge=0.5, le=600)] | None = None
    """How often; None: once, when the fault begins."""


class DnsFailure(FaultPlan):
    """The endpoint's name does not resolve. No connection outlives its request, so all look it up."""

    kind: Literal["dns_failure"]


class SlowOperation(FaultPlan):
    """One operation alone is answered late; the others are fine."""

    kind: Literal["slow_operation"]
    operation: Operation
    delay_ms: Annotated[int, Field(ge=50, le=60_000)]

    @property
    def delay_seconds(self) -> float:
        """How late, in seconds."""
        return self.delay_ms / _MILLISECONDS


class ClockSkew(FaultPlan):
    """Requests are signed by a clock that is off, and KMS itself refuses them."""

    kind: Literal["clock_skew"]
    seconds: Annotated[float, Field(ge=-86_400, le=86_400)]
    """Positive: the clock is fast."""

    @model_validator(mode="after")
    def _is_refused(self) -> Self:
        if abs(self.seconds) <= _ALLOWED_SKEW_SECONDS + 1:
            raise ValueError(f"AWS accepts a clock that is up to {_ALLOWED_SKEW_SECONDS:g} s off: seconds must be more")
        return self


def line_of(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how the line was with the fault on."""
    line = shown.get("line", {})
    return line if isinstance(line, Mapping) else {}


@bite.register
def _(_plan: SynDrop) -> Bite:
    return Bite(codes=NO_ANSWER)


@bite.register
def _(_plan: StalePool) -> Bite:
    return Bite(codes=NO_ANSWER, whole=False)


@bite.register
def _(_plan: DnsFailure) -> Bite:
    return Bite(codes=frozenset({"DnsFailure"}))


@bite.register
def _(plan: SlowOperation) -> Bite:
    return Bite(codes=NO_ANSWER, slower_than_seconds=plan.delay_seconds, operations=frozenset({plan.operation}))


@bite.register
def _(_plan: ClockSkew) -> Bite:
    return Bite(codes=frozenset({"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"}))


@unlike.register
def _(_plan: SynDrop, _order: Ordered, shown: Mapping[str, Any]) -> str:
    line = line_of(shown)
    is_on = line.get("elsewhere") is True and line.get("connections") == "serve once"
    return "" if is_on else "new connections are not dialled to a peer that drops SYNs"


@unlike.register
def _(_plan: StalePool, _order: Ordered, shown: Mapping[str, Any]) -> str:
    return nothing_moved(shown)


@unlike.register
def _(_plan: DnsFailure, _order: Ordered, shown: Mapping[str, Any]) -> str:
    line = line_of(shown)
    is_on = line.get("lookup") == "fails" and line.get("connections") == "serve once"
    return "" if is_on else "the name is still looked up"


@unlike.register
def _(plan: SlowOperation, _order: Ordered, shown: Mapping[str, Any]) -> str:
    wanted = {"what": "late", "operation": plan.operation, "seconds": plan.delay_seconds}
    return "" if wanted in line_of(shown).get("answers", ()) else f"{plan.operation} is not held back"


@unlike.register
def _(plan: ClockSkew, _order: Ordered, shown: Mapping[str, Any]) -> str:
    off = line_of(shown).get("signs_off_by_seconds")
    return "" if off == plan.seconds else f"requests are signed {off} s off, not {plan.seconds}"
