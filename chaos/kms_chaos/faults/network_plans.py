"""Faults of the network, made by toxics on the region's proxy, or by switching the proxy off.

Numbers are bounded so that each fault shows: an answer of KMS to a data key's request has some 500 bytes with its
headers, a request more than 1000.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kms_chaos.faults.cut_plans import LEAST_ANSWER_BYTES
from kms_chaos.faults.ordering import (
    NO_ANSWER,
    Bite,
    FaultPlan,
    Ordered,
    Service,
    bite,
    lacking,
    toxic_name,
    toxics,
    unlike,
)
from kms_chaos.faults.toxics import Toxic

_FOR_EVER = 0  # Toxiproxy's `timeout` of 0: drop data, never close
_LEAST_TRAFFIC_BYTES = 800
"""What any request and its answer exceed together."""
RAMP_FROM = 0.25
"""The share of its latency with which a ramp begins: seen from the first request on."""
_TIMER = 0.95
"""Timers of the server may be early by this factor."""
_MILLISECONDS = 1000.0
_DIGITS = 4
"""Of a toxicity, which the server keeps in 32 bits and shows with no more digits than those need."""


class Blackhole(FaultPlan):
    """Everything that goes in, in either direction, is dropped, on open and on new connections."""

    kind: Literal["blackhole"]
    service: Service = "kms"
    """Another than KMS: what the drill's own watchdog asks; the way to KMS stays as it is."""


class Refused(FaultPlan):
    """Nobody listens: open connections are closed, new ones refused."""

    kind: Literal["refused"]
    service: Service = "kms"


class Latency(FaultPlan):
    """Answers come late, by uniform jitter around a latency that may rise over a time: a gray failure."""

    kind: Literal["latency"]
    latency_ms: Annotated[int, Field(ge=50, le=60_000)]
    jitter_ms: Annotated[int, Field(ge=0, le=30_000)] = 0
    ramp_seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    """How long it takes from a quarter of the latency to the whole."""

    @model_validator(mode="after")
    def _stays_late(self) -> Self:
        if 2 * self.jitter_ms > self.latency_ms:
            raise ValueError(f"jitter_ms ({self.jitter_ms}) must not exceed half of latency_ms ({self.latency_ms})")
        return self

    def toxic(self, tag: str, share: float = 1.0) -> Toxic:
        """Return the toxic for a share of the latency."""
        attributes = {"latency": round(self.latency_ms * share), "jitter": round(self.jitter_ms * share)}
        return Toxic(
            name=toxic_name(self, tag, "downstream"), type="latency", stream="downstream", attributes=attributes
        )


class Bandwidth(FaultPlan):
    """Bytes crawl, in both directions."""

    kind: Literal["bandwidth"]
    kilobytes_per_second: Annotated[int, Field(ge=1, le=4)] = 1


class Drip(FaultPlan):
    """Answers come in drops, with a pause after each."""

    kind: Literal["drip"]
    drop_bytes: Annotated[int, Field(ge=1, le=150)] = 20
    delay_ms: Annotated[int, Field(ge=10, le=60_000)] = 200

    @property
    def least_seconds(self) -> float:
        """How long any answer takes at least."""
        return LEAST_ANSWER_BYTES // self.drop_bytes * self.delay_ms / _MILLISECONDS

    @model_validator(mode="after")
    def _is_slow(self) -> Self:
        if self.least_seconds < 0.1:  # noqa: PLR2004 - what a busy machine takes anyway
            raise ValueError("an answer in such drops takes less than 0.1 s: smaller drop_bytes or a longer delay_ms")
        return self


class Intermittent(FaultPlan):
    """A share of connections is a black hole; each serves one request alone, so a retry draws again."""

    kind: Literal["intermittent"]
    share: Annotated[float, Field(ge=0.01, le=0.99)]


class Flapping(FaultPlan):
    """A black hole, or a refusal, comes and goes."""

    kind: Literal["flapping"]
    inner: Literal["blackhole", "refused"] = "blackhole"
    on_seconds: Annotated[float, Field(ge=0.5, le=600)]
    off_seconds: Annotated[float, Field(ge=0.5, le=600)]


@toxics.register
def _(plan: Blackhole, tag: str) -> tuple[Toxic, ...]:
    return tuple(_black_hole(toxic_name(plan, tag, stream), stream) for stream in ("upstream", "downstream"))


def _black_hole(name: str, stream: str, *, share: float = 1.0) -> Toxic:
    return Toxic(name=name, type="timeout", stream=stream, attributes={"timeout": _FOR_EVER}, toxicity=share)


@toxics.register
def _(plan: Latency, tag: str) -> tuple[Toxic, ...]:
    return (plan.toxic(tag),)


@toxics.register
def _(plan: Bandwidth, tag: str) -> tuple[Toxic, ...]:
    return tuple(
        Toxic(
            name=toxic_name(plan, tag, stream),
            type="bandwidth",
            stream=stream,
            attributes={"rate": plan.kilobytes_per_second},
        )
        for stream in ("upstream", "downstream")
    )


@toxics.register
def _(plan: Drip, tag: str) -> tuple[Toxic, ...]:
    attributes = {"average_size": plan.drop_bytes, "size_variation": 0, "delay": plan.delay_ms * 1000}
    return (Toxic(name=toxic_name(plan, tag, "downstream"), type="slicer", stream="downstream", attributes=attributes),)


@toxics.register
def _(plan: Intermittent, tag: str) -> tuple[Toxic, ...]:
    return (_black_hole(toxic_name(plan, tag, "upstream"), "upstream", share=round(plan.share, _DIGITS)),)


@toxics.register
def _(plan: Flapping, tag: str) -> tuple[Toxic, ...]:
    if plan.inner == "refused":
        return ()
    return tuple(_black_hole(toxic_name(plan, tag, stream), stream) for stream in ("upstream", "downstream"))


@bite.register
def _(plan: Blackhole) -> Bite:
    return Bite(codes=NO_ANSWER, operations=_alone(plan.service))


@bite.register
def _(plan: Refused) -> Bite:
    return Bite(codes=frozenset({"ConnectionRefused", "ConnectionReset"}), operations=_alone(plan.service))


def _alone(service: Service) -> frozenset[str]:
    """Return what the drill calls its requests to a service beside KMS: they alone show that it is hurt."""
    return frozenset() if service == "kms" else frozenset({service})


@bite.register
def _(plan: Latency) -> Bite:
    share = RAMP_FROM if plan.ramp_seconds else 1.0
    return Bite(
        codes=NO_ANSWER,
        slower_than_seconds=_TIMER * share * (plan.latency_ms - plan.jitter_ms) / _MILLISECONDS,
        whole=not plan.ramp_seconds,  # each step of a ramp sends on at once what the step before held back
    )


@bite.register
def _(plan: Bandwidth) -> Bite:
    seconds = _LEAST_TRAFFIC_BYTES / plan.kilobytes_per_second / _MILLISECONDS
    return Bite(codes=NO_ANSWER, slower_than_seconds=_TIMER * seconds)


@bite.register
def _(plan: Drip) -> Bite:
    return Bite(codes=NO_ANSWER, slower_than_seconds=_TIMER * plan.least_seconds)


@bite.register
def _(_plan: Intermittent) -> Bite:
    return Bite(codes=NO_ANSWER, whole=False)


@bite.register
def _(_plan: Flapping) -> Bite:
    return Bite(codes=NO_ANSWER | {"ConnectionRefused", "ConnectionReset"}, whole=False)


@unlike.register
def _(_plan: Refused, _order: Ordered, shown: Mapping[str, Any]) -> str:
    return _not_off(shown)


def _not_off(shown: Mapping[str, Any]) -> str:
    return "" if shown.get("enabled") is False else "the proxy still listens"


@unlike.register
def _(plan: Flapping, order: Ordered, shown: Mapping[str, Any]) -> str:
    return _not_off(shown) if plan.inner == "refused" else lacking(order.toxics, shown)


@unlike.register
def _(plan: Latency, order: Ordered, shown: Mapping[str, Any]) -> str:
    if not plan.ramp_seconds:
        return lacking(order.toxics, shown)
    return lacking((plan.toxic(order.tag, RAMP_FROM),), shown)


@unlike.register
def _(_plan: Intermittent, order: Ordered, shown: Mapping[str, Any]) -> str:
    if shown.get("line", {}).get("connections") != "serve once":
        return "connections serve more than one request, so the dice are not thrown for each"
    return lacking(order.toxics, shown)
