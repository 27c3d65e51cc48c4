"""The tables of a drill file, one class each, with what their numbers may be."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kms_chaos.faults.plans import Span
from kms_watchdog.results import Mode

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Part(BaseModel):
    """A part of a drill file: unknown keys are refused, types are strict, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Target(Part):
    """Which regions are hurt."""

    region: str = Field(pattern=r"^(primary|home|[a-z]{2}(-[a-z]+)+-\d)$")
    count: Annotated[int, Field(ge=1, le=20)] | Literal["all"] = 1
    """How many: the region, and those that follow it in the estate's order."""


class Timing(Part):
    """How long each phase lasts. What waits for alarms is written for one alarm period, and scales with the real."""

    alarm_period_seconds: Literal[10, 60] = 10
    baseline_at_least_seconds: Seconds = 6.0
    baseline_at_most_seconds: Seconds = 45.0
    hold_at_least_seconds: Seconds = 20.0
    hold_at_most_seconds: Seconds = 75.0
    hold_past_cache: bool = False
    """Hold longer than any data key may live in the core's cache: what is revoked must have stopped by then."""

    @model_validator(mode="after")
    def _least_before_most(self) -> Self:
        if self.hold_at_least_seconds > self.hold_at_most_seconds:
            raise ValueError("hold_at_least_seconds must not exceed hold_at_most_seconds")
        if self.baseline_at_least_seconds > self.baseline_at_most_seconds:
            raise ValueError("baseline_at_least_seconds must not exceed baseline_at_most_seconds")
        return self


class Load(Part):
    """The drill's own traffic."""

    purposes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Keys that it uses; empty: all of the estate's."""
    operations_per_second: float = Field(default=12.0, gt=0, le=500)
    concurrency: int = Field(default=8, ge=1, le=64)
    canary_interval_seconds: Seconds = 2.0


class Objectives(Part):
    """What the workload must meet while the fault lasts, and how soon all must be well again."""

    failed_operations: int = Field(default=0, ge=0)
    p99_seconds: Seconds = 3.0
    rto_seconds: Seconds = 30.0


Move = Annotated[str, Field(pattern=r"^(closed|open|half_open)>(closed|open|half_open)$")]


class BreakerPlan(Part):
    """The moves that each target's breaker must make, in this order (others may come between)."""

    moves: Annotated[tuple[Move, ...], Field(strict=False)] = ()
    stays_closed: bool = False
    """Whether it must not move at all: the fault is not the region's, so no load may be moved for it."""

    @model_validator(mode="after")
    def _moves_or_stays(self) -> Self:
        if self.moves and self.stays_closed:
            raise ValueError("a breaker that stays closed makes no moves")
        return self


class Serves(StrEnum):
    """What one lane of the workload must do while the fault is on."""

    ALWAYS = "always"
    NEVER = "never"
    SOMETIMES = "sometimes"


class Expect(Part):
    """How the core must react, by its table of errors (reference crypto-core.md, section 3)."""

    failover: Literal["must", "must_not", "may"] = "must"
    """Whether another region must answer in the target's place, or must not even be asked."""
    warm: Annotated[Serves, Field(strict=False)] = Serves.ALWAYS
    """Operations whose data key may be in the cache."""
    cold: Annotated[Serves, Field(strict=False)] = Serves.ALWAYS
    """Operations for which KMS must be asked."""
    revoked: bool = False
    """Whether the key is revoked everywhere: no operation may succeed once the cache's keys have had their time."""
    errors: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """What operations may fail with: error codes of KMS or of the connection, or the core's own class names."""

    @model_validator(mode="after")
    def _names_its_errors(self) -> Self:
        if {self.warm, self.cold} != {Serves.ALWAYS} and not self.errors:
            raise ValueError("operations may fail, so errors must say with what")
        return self


class AlarmRule(Part):
    """One alarm, in the target region, in all others, in all, in a region by name, or once; drill twin or live."""

    alarm: str = Field(pattern=r"^[A-Za-z0-9]{1,60}$")
    region: str = Field(pattern=r"^(target|others|all|estate|[a-z]{2}(-[a-z]+)+-\d)$")
    """`estate`: the one alarm over all regions, as `TwoRegionsDown` is."""
    mode: Literal["drill", "live"] = "drill"
    within_seconds: Seconds | None = None

    def regions(self, targets: tuple[str, ...], regions: tuple[str, ...]) -> tuple[str, ...]:
        """Return the regions it speaks of; `estate` speaks of itself."""
        match self.region:
            case "target":
                return targets
            case "others":
                return tuple(r for r in regions if r not in targets)
            case "all":
                return regions
            case name:
                return (name,)

    @property
    def alarm_mode(self) -> Mode:
        """The mode as the alarm table knows it."""
        return Mode(self.mode)


Rules = Annotated[tuple[AlarmRule, ...], Field(strict=False)]


class AlarmPlan(Part):
    """Which alarms must fire, must clear, and must stay quiet."""

    must_fire: Rules = ()
    must_clear: Rules = ()
    must_not_fire: Rules = ()

    @model_validator(mode="after")
    def _times_are_given(self) -> Self:
        for name in ("must_fire", "must_clear"):
            for rule in getattr(self, name):
                if rule.within_seconds is None:
                    raise ValueError(f"{name} of {rule.alarm} needs within_seconds")
        return self


class ColdStart(Part):
    """A second core is started while the fault is on, with nothing in its cache, and must serve every key in time."""

    kind: Literal["cold_start"]
    after_seconds: Span = 0.0
    """How long after the first fault."""
    within_seconds: Seconds = 10.0
    """From the start to the last key's first message, sealed and opened."""


class WatchdogPlan(Part):
    """A watchdog of the drill's own, a process beside the live one, whose connections run over the drill's lines."""

    starts_after_seconds: Span | None = None
    """How long after the first fault it starts; None: before it, so that it is ready when the fault begins."""
    killed_after_seconds: Seconds | None = None
    """How long after the first fault it is killed with SIGKILL, and started again; None: it is not."""
    ready_within_seconds: Seconds = 30.0
    """From each start until it has looked at everything once."""
    publishes: bool = False
    """Whether it sends metrics to CloudWatch (into a namespace of its own, which no alarm reads)."""

    @model_validator(mode="after")
    def _is_there_to_be_killed(self) -> Self:
        if self.killed_after_seconds is not None and self.starts_after_seconds is not None:
            raise ValueError(
                "a watchdog that is killed in the fault starts before it: starts_after_seconds is too much"
            )
        return self

    @property
    def starts(self) -> int:
        """How often it is started."""
        return 1 if self.killed_after_seconds is None else 2

    @property
    def last_after_seconds(self) -> float:
        """When the last is done to it, after the first fault."""
        return max(self.starts_after_seconds or 0.0, self.killed_after_seconds or 0.0)
