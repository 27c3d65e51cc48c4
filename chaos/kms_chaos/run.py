"""One drill that is about to run: which, where, as whom, and by which clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kms_chaos import alarms, guards
from kms_chaos.drill import Drill
from kms_chaos.halt import Halt
from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills.folder import DrillFolder, folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One drill that is about to run."""

    settings: Settings
    drill: Drill
    target: str
    run_id: str
    clock: Clock
    halt: Halt = field(default_factory=Halt)

    @property
    def folder(self) -> DrillFolder:
        """Where its files are."""
        return folder(self.settings.state.dir, self.run_id)

    @property
    def regions(self) -> tuple[str, ...]:
        """All regions of the estate."""
        return self.settings.estate.regions

    @property
    def canaries(self) -> frozenset[tuple[str, str]]:
        """Every canary, by region and purpose."""
        return frozenset((region, purpose) for region in self.regions for purpose in self.settings.keys)

    def alarm_keys(self, rules: tuple[Any, ...]) -> frozenset[tuple[str, str, str]]:
        """Return the alarms of `rules`, for this target."""
        return alarms.keys_of(rules, self.target, self.regions)


def plan(settings: Settings, drill: Drill, *, region: str | None, clock: Clock) -> Run:
    """Return the run of `drill` on `region` (None: the drill's own target), starting now.

    Raises:
        guards.RefusedError: the region is none of the estate's.
        DrillError: it speaks of an alarm that does not exist, or ends before that alarm can fire.
    """
    target = drill.target_region(primary=settings.estate.primary_region, override=region)
    if target not in settings.estate.regions:
        raise guards.RefusedError(f"{target} is not a region of this estate: {', '.join(settings.estate.regions)}")
    run_id = f"{clock.now_utc():%Y%m%dT%H%M%SZ}-{drill.name}"
    timed = drill.for_alarm_period(settings.cloudwatch.period_seconds)
    alarms.check_times(timed, settings.cloudwatch.period_seconds)
    return Run(settings=settings, drill=timed, target=target, run_id=run_id, clock=clock)
