"""What every kind of fault has, and what is asked of each: its toxics, its bite, and whether it is on as ordered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kms_chaos.faults.toxics import Toxic

NO_ANSWER = frozenset({"ConnectTimeout", "ReadTimeout", "Deadline"})
"""Codes of an attempt that nobody answered, as the core's events name them."""
CONNECTION = NO_ANSWER | {"ConnectionRefused", "ConnectionReset", "DnsFailure", "TlsError", "Truncated", "Unclassified"}
"""Codes of an attempt that the connection failed: what a fault of the network causes, and KMS never says."""

Span = Annotated[float, Field(ge=0, le=3600)]
Service = Literal["kms", "cloudwatch", "sts"]
"""What of a region may be hurt: KMS, or a service that a watchdog and a core need beside it."""
Where = Annotated[str, Field(pattern=r"^(target|others|all|[a-z]{2}(-[a-z]+)+-\d)$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bite:
    """What attempts at the region show while the fault is on; one of `codes`, or else a time."""

    codes: frozenset[str] = frozenset()
    """Error codes of attempts, any of which shows it."""
    slower_than_seconds: float | None = None
    """An attempt that takes longer shows it, whatever its code."""
    whole: bool = True
    """Whether no attempt may be answered well meanwhile; else some are."""
    operations: frozenset[str] = frozenset()
    """The KMS operations that it hits; empty: all."""
    quiet: bool = False
    """Whether it shows in that nobody but canaries asks the region: nothing fails."""

    def shown_by(self, *, error_code: str, seconds: float, operation: str) -> bool:
        """Return whether an attempt that took so long and ended so shows it."""
        if self.operations and operation not in self.operations:
            return False
        slow = self.slower_than_seconds is not None and seconds >= self.slower_than_seconds
        return slow or error_code in self.codes

    def to_json(self) -> dict[str, Any]:
        """Return it for the journal."""
        return {
            "codes": sorted(self.codes),
            "slower_than_seconds": self.slower_than_seconds,
            "whole": self.whole,
            "operations": sorted(self.operations),
            "quiet": self.quiet,
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Bite:
        """Return what `to_json` wrote."""
        return cls(
            codes=frozenset(values["codes"]),
            slower_than_seconds=values["slower_than_seconds"],
            whole=values["whole"],
            operations=frozenset(values["operations"]),
            quiet=values["quiet"],
        )


class FaultPlan(BaseModel):
    """What every kind has."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    region: Where = "target"
    after_seconds: Span = 0.0
    """How long after the first fault it begins."""
    for_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    """How long it lasts; None: to the end of the hold."""

    def regions(self, targets: tuple[str, ...], regions: tuple[str, ...]) -> tuple[str, ...]:
        """Return the regions that it hits."""
        match self.region:
            case "target":
                return targets
            case "others":
                return tuple(region for region in regions if region not in targets)
            case "all":
                return regions
            case name:
                return (name,)


@singledispatch
def toxics(_plan: FaultPlan, _tag: str) -> tuple[Toxic, ...]:
    """Return the toxics that the region's proxy is to have for a plan; none for kinds that need none.

    The tag keeps two faults of one drill apart in their names, which the undo record holds before anything is ordered.
    """
    return ()


@singledispatch
def bite(plan: FaultPlan) -> Bite:
    """Return what shows that `plan` bites.

    Raises:
        NotImplementedError: the kind does not say; no drill can be made of it.
    """
    raise NotImplementedError(type(plan).__name__)


@singledispatch
def unlike(_plan: FaultPlan, order: Ordered, shown: Mapping[str, Any]) -> str:
    """Return in what `shown` (what was read back with the fault on) is not what was ordered; empty when it is."""
    return lacking(order.toxics, shown)


def lacking(ordered: tuple[Toxic, ...], shown: Mapping[str, Any]) -> str:
    """Return which toxic of `ordered` the proxy does not have by what was read back; empty when it has all."""
    if not ordered:
        return ""
    if shown.get("enabled") is not True:
        return "the proxy is not enabled, so its toxics do nothing"
    seen = [(t.get("type"), t.get("stream"), t.get("attributes"), t.get("toxicity")) for t in shown.get("toxics", ())]
    wanted = [(t.type, t.stream, t.to_json()["attributes"], t.toxicity) for t in ordered]
    absent = [f"{kind} {stream}" for kind, stream, *rest in wanted if (kind, stream, *rest) not in seen]
    return f"no toxic {absent[0]} on it" if absent else ""


def toxic_name(plan: FaultPlan, tag: str, part: str) -> str:
    """Return the name of one toxic of `plan`: ours by its beginning."""
    return f"kmswd_{getattr(plan, 'kind', 'fault')}_{tag}_{part}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """One fault in one region, as a drill orders it."""

    id: str
    """Unique in the drill, such as `0-blackhole-us-east-1`."""
    region: str
    plan: FaultPlan

    @property
    def kind(self) -> str:
        """The kind's name."""
        return str(getattr(self.plan, "kind", ""))

    @property
    def service(self) -> str:
        """Which of the region's services it hits."""
        return str(getattr(self.plan, "service", "kms"))

    @property
    def toxics(self) -> tuple[Toxic, ...]:
        """What Toxiproxy is to have for it."""
        return toxics(self.plan, self.tag)

    @property
    def tag(self) -> str:
        """What keeps the names of its toxics apart from those of the drill's other faults."""
        return self.id.partition("-")[0]
