"""One drill that is about to run: which, where, as whom, and by which clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kms_chaos import alarms
from kms_chaos.drill import Drill, DrillError
from kms_chaos.faults.plans import Ordered, ordered
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.halt import Halt
from kms_chaos.own_process import OwnProcess
from kms_chaos.own_watchdog import Process
from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills.folder import DrillFolder, folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One drill that is about to run."""

    settings: Settings
    drill: Drill
    targets: tuple[str, ...]
    """The regions to hurt; the first is the one that the run is named by."""
    run_id: str
    clock: Clock
    slot: str = ""
    """The scheduled slot that it fills, such as `failover/2026-12`; empty: somebody asked for it."""
    halt: Halt = field(default_factory=Halt)
    make_core: Callable[..., Core] = Core
    """How the drill's own cores are made; another one to see that a drill of a system that is broken is not green."""
    armed: bool = False
    """Whether it may hurt more than one region."""
    reason: str = ""
    """Why it is started, by whoever starts it."""
    approval: str = ""
    """Somebody else's leave: a file, or `latest`; empty: none is given."""
    alias: str = ""
    """What it is called while it lasts where a trainee may look, its regions untold; empty: nothing is hidden."""
    reach: Callable[[str], Toxiproxy] = Toxiproxy
    """How the Toxiproxy at an address is reached; another one for the same reason."""
    make_watchdog: Callable[..., Process] = OwnProcess
    """How the drill's own watchdog is started; another one for the same reason."""

    say: Callable[[str], None] = lambda _line: None
    """Tells whoever waits for the drill why it does not begin yet."""

    @property
    def folder(self) -> DrillFolder:
        """Where its files are."""
        return folder(self.settings.state.dir, self.run_id)

    @property
    def target(self) -> str:
        """The first of the regions to hurt."""
        return self.targets[0]

    @property
    def faults(self) -> tuple[Ordered, ...]:
        """Every fault in every region that it hits."""
        return ordered(self.drill.faults, self.targets, self.regions)

    @property
    def hurt(self) -> tuple[str, ...]:
        """Every region whose KMS a fault hits."""
        hit = {fault.region for fault in self.faults if fault.service == "kms"}
        return tuple(region for region in self.regions if region in hit)

    @property
    def services(self) -> tuple[str, ...]:
        """The services beside KMS that a fault hits."""
        return tuple(sorted({fault.service for fault in self.faults} - {"kms"}))

    @property
    def purposes(self) -> tuple[str, ...]:
        """The keys that it uses."""
        return self.drill.workload.purposes or tuple(self.settings.keys)

    @property
    def regions(self) -> tuple[str, ...]:
        """All regions of the estate."""
        return self.settings.estate.regions

    @property
    def canaries(self) -> frozenset[tuple[str, str]]:
        """Every canary, by region and purpose."""
        return frozenset((region, purpose) for region in self.regions for purpose in self.purposes)

    def alarm_keys(self, rules: tuple[Any, ...]) -> frozenset[tuple[str, str, str]]:
        """Return the alarms of `rules`, for this target."""
        return alarms.keys_of(rules, self.targets, self.regions)


def plan(
    settings: Settings,
    drill: Drill,
    *,
    region: str | None,
    clock: Clock,
    run_id: str | None = None,
    slot: str = "",
    purposes: tuple[str, ...] = (),
) -> Run:
    """Return the run of `drill` on `region` (None: the drill's own target), starting now.

    `purposes` are the keys to use instead of the drill's own.

    `run_id` is that of the ledger which has claimed `slot` for it; None: from the time and the drill's name.

    Raises:
        DrillError: the estate has no such region or key, or the drill speaks of an alarm that does not exist, or ends
            before that alarm can fire.
    """
    if purposes:
        load = drill.workload.model_copy(update={"purposes": tuple(dict.fromkeys(purposes))})
        drill = drill.model_copy(update={"workload": load})
    targets = drill.targets(
        primary=settings.estate.primary_region,
        regions=settings.estate.regions,
        override=region,
        home=settings.home_region,
    )
    if unknown := sorted(set(drill.workload.purposes) - set(settings.keys)):
        raise DrillError(f"{drill.name} uses key {unknown[0]}, which this estate has not: {', '.join(settings.keys)}")
    run_id = run_id or f"{clock.now_utc():%Y%m%dT%H%M%SZ}-{drill.name}"
    timed = drill.for_alarm_period(settings.cloudwatch.period_seconds).for_cache(cache_seconds(settings))
    alarms.check_times(timed, settings.cloudwatch.period_seconds)
    slot = slot_named(settings, slot)
    return Run(settings=settings, drill=timed, targets=targets, run_id=run_id, slot=slot, clock=clock)


def slot_named(settings: Settings, given: str) -> str:
    """Return the id of the slot that `given` names: by itself, or as NAME@TIME the turn of NAME that was due then.

    The second is for triggers that know the time for which they were scheduled, and nothing of slots.

    Raises:
        DrillError: no such slot is planned, or TIME is no moment of ISO 8601 with an offset.
    """
    name, at, when = given.partition("@")
    if not at:
        return given
    planned = settings.drills.slots.get(name)
    if planned is None:
        raise DrillError(
            f"--slot {given}: drills.slots has no {name}: {', '.join(settings.drills.slots) or 'it is empty'}"
        )
    try:
        moment = datetime.fromisoformat(when)
    except ValueError as e:
        raise DrillError(f"--slot {given}: {when!r} is no moment of ISO 8601, such as 2026-12-03T03:00:00Z") from e
    if moment.tzinfo is None:
        raise DrillError(f"--slot {given}: {when!r} says no offset from UTC, such as Z")
    return planned.plan(name, planned.drill).slot_at(moment.astimezone(UTC)).id


def cache_seconds(settings: Settings) -> float:
    """Return how long a data key may serve from the core's cache at the most, use while stale included."""
    core = settings.core_config()
    return max(core.data_key_ttl_seconds, core.stale_max_age_seconds if core.stale_if_unavailable else 0.0)
