"""Faults that end connections: inside an answer, by a reset, or slowly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from kms_chaos.faults.ordering import NO_ANSWER, Bite, FaultPlan, Ordered, bite, lacking, toxic_name, toxics, unlike
from kms_chaos.faults.toxics import Toxic

LEAST_ANSWER_BYTES = 300
"""What any answer of KMS to a data key's request exceeds, headers included."""
_HUNG_UP = frozenset({"ConnectionReset", "Truncated"})

AfterBytes = Annotated[int, Field(ge=1, le=LEAST_ANSWER_BYTES)]


class Truncated(FaultPlan):
    """Answers end after so many bytes: in the middle of the whole, with the connection, or in their body.

    botocore takes an answer whose head is whole for a success without members.
    """

    kind: Literal["truncated"]
    after_bytes: AfterBytes = 100
    within: Literal["answer", "body"] = "answer"


class SlowClose(FaultPlan):
    """Every new connection falls silent inside its first answer, and is closed only after a while."""

    kind: Literal["slow_close"]
    after_bytes: AfterBytes = 100
    delay_ms: Annotated[int, Field(ge=100, le=60_000)] = 5000


class Reset(FaultPlan):
    """Connections are reset (RST): new ones in the handshake, open ones at their next request, or inside an answer."""

    kind: Literal["reset"]
    when: Literal["new", "pooled", "mid_response"]
    after_bytes: AfterBytes = 100
    """Of the answer, for `mid_response`."""


def _cut(plan: Truncated | SlowClose | Reset, tag: str) -> Toxic:
    """Return the toxic that ends a connection; `bytes` is counted from the answer on, which `apply` turns into all."""
    attributes = {"bytes": plan.after_bytes}
    return Toxic(name=toxic_name(plan, tag, "cut"), type="limit_data", stream="downstream", attributes=attributes)


@toxics.register
def _(plan: Truncated, tag: str) -> tuple[Toxic, ...]:
    return (_cut(plan, tag),) if plan.within == "answer" else ()


@toxics.register
def _(plan: SlowClose, tag: str) -> tuple[Toxic, ...]:
    name, attributes = toxic_name(plan, tag, "close"), {"delay": plan.delay_ms}
    return _cut(plan, tag), Toxic(name=name, type="slow_close", stream="downstream", attributes=attributes)


@toxics.register
def _(plan: Reset, tag: str) -> tuple[Toxic, ...]:
    if plan.when != "mid_response":
        return ()
    resets = Toxic(  # at toxicity 0 it lets everything pass, and yet every close of the connection is an RST
        name=toxic_name(plan, tag, "reset"), type="reset_peer", stream="downstream", toxicity=0.0
    )
    return resets, _cut(plan, tag)


@bite.register
def _(plan: Truncated) -> Bite:
    return Bite(codes=_HUNG_UP if plan.within == "answer" else frozenset({"Truncated"}))


@bite.register
def _(_plan: SlowClose) -> Bite:
    return Bite(codes=NO_ANSWER | _HUNG_UP)


@bite.register
def _(plan: Reset) -> Bite:
    if plan.when == "mid_response":
        return Bite(codes=_HUNG_UP)
    return Bite(codes=frozenset({"ConnectionReset"}), whole=plan.when == "new")


@unlike.register
def _(plan: Truncated, order: Ordered, shown: Mapping[str, Any]) -> str:
    if plan.within == "answer":
        return _not_cut(plan.after_bytes, order, shown)
    return "" if cut_shown(plan) in shown.get("line", {}).get("answers", ()) else "bodies are not cut"


def cut_shown(plan: Truncated) -> dict[str, Any]:
    """Return how a line shows that it cuts bodies as `plan` orders."""
    return {"what": "cut", "after_bytes": plan.after_bytes}


@unlike.register
def _(plan: SlowClose, order: Ordered, shown: Mapping[str, Any]) -> str:
    return _not_cut(plan.after_bytes, order, shown)


@unlike.register
def _(plan: Reset, order: Ordered, shown: Mapping[str, Any]) -> str:
    line = shown.get("line", {})
    match plan.when:
        case "mid_response":
            return _not_cut(plan.after_bytes, order, shown)
        case "new":
            is_on = line.get("elsewhere") is True and line.get("connections") == "serve once"
            return "" if is_on else "new connections are not dialled to a peer that resets them"
        case _:
            return nothing_moved(shown)


def _not_cut(after_bytes: int, order: Ordered, shown: Mapping[str, Any]) -> str:
    """Compare all but the number of bytes, which was measured where it was put on: it must exceed that of the plan."""
    cuts = [t for t in shown.get("toxics", ()) if t.get("type") == "limit_data"]
    if not any(cut.get("attributes", {}).get("bytes", 0) > after_bytes for cut in cuts):
        return "no toxic cuts connections after the handshake"
    return lacking(tuple(toxic for toxic in order.toxics if toxic.type != "limit_data"), shown)


def nothing_moved(shown: Mapping[str, Any]) -> str:
    """Return that no open connection was hurt, when that is so."""
    moves = shown.get("line", {}).get("moves", ())
    return "" if any(move.get("moved", 0) > 0 for move in moves) else "no connection was open that could be hurt"
