"""A machine of the simulator: a daemon, a Toxiproxy, a state folder, and the drills and healers it starts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mishaps import DAY, HOUR, MINUTE, REGIONS, Fate, fate_of_drill, fate_of_healer
from sim_drill import SimChild, Surroundings, drill, healer, run_of
from sim_table import Table
from sim_toxiproxy import Server
from virtual_time import Host, Process, World, WorldClock

from kms_core.testing import FakeEstate, core_over
from kms_watchdog.config import Settings, load
from kms_watchdog.daemon import Daemon
from kms_watchdog.drills.slots import Slot
from kms_watchdog.health import Status
from kms_watchdog.kept import open_kept
from kms_watchdog.scheduler import Job
from kms_watchdog.state_folder import StateFolder

CONFIG = """
[estate]
name = "simulated"
account_id = "123456789012"
primary_region = "us-east-1"
regions = {regions}
[keys.general]
alias = "alias/general"
[keys.payment]
alias = "alias/payment"
[canaries]
kinds = ["round_trip"]
interval_seconds = 21600
[state]
dir = "state"
[cloudwatch]
enabled = false
[drills]
production = false
{lease}
[drills.slots.weekly]
drill = "region-blackhole"
region = "us-east-1"
every = "week"
day = 1
at = "03:00"
window_days = 2
again_after_abort = {again}
[drills.slots.monthly]
drill = "region-refused"
region = "eu-west-1"
every = "month"
day = 10
at = "04:00"
window_days = 7
again_after_abort = {again}
"""
LEASE_SECONDS = 60.0
LEASE = """[drills.lease]
table = "kms-drills"
region = "us-west-2"
"""
OFTEN = {
    "canary": 2 * MINUTE,
    "drills.watch": MINUTE,
    "drills.follow": MINUTE,
    "drills.slots": MINUTE,
    "heartbeat": MINUTE,
}
SELDOM = {"canary": 12 * HOUR, "drills.slots": HOUR}
WHILE_A_DRILL_RUNS = {"drills.watch": 4.0, "drills.follow": 4.0, "drills.slots": 20.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a daemon called the estate."""

    at: float
    status: Status
    up_since: float
    """When it began, or last woke from standing still."""


@dataclass(eq=False)
class SimHost:
    """One machine."""

    machine: Host
    world: World
    folder: Path
    estate: FakeEstate
    table: Table | None
    rng: random.Random
    is_busy: Callable[[float], bool]
    """Whether something is about to happen, so that jobs run at their own pace; else hours may pass between them."""
    next_edge: Callable[[float], float]
    """When that changes next."""
    acted: Callable[[str, str], None]
    again_after_abort: bool = False
    daemon: Process | None = None
    woke_at: float = 0.0
    looked: list[Looked] = field(default_factory=list)
    children: list[Process] = field(default_factory=list)
    unwell: list[tuple[float, float]] = field(default_factory=list)
    """When its daemon or its Toxiproxy could not do their work."""
    fates: bool = True
    heal: Callable[[Surroundings, str], int] = healer
    fate_of_drill: Callable[[random.Random], Fate | None] = fate_of_drill
    late: set[str] = field(default_factory=set)
    """Runs that are to stand still past their lease."""
    _stirred_until: float = 0.0
    """A drill or a healer ran just now: what is left of it is looked after at the daemon's own pace until then."""

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.config_path = self.folder / "watchdog.toml"
        lease = LEASE if self.table else ""
        again = str(self.again_after_abort).lower()
        self.config_path.write_text(CONFIG.format(regions=list(REGIONS), lease=lease, again=again), encoding="utf-8")
        self.settings: Settings = load(self.config_path)
        self.clock = WorldClock(self.world, self.machine)
        self.server = Server(host=self.machine.name, now=lambda: self.world.now)

    @property
    def name(self) -> str:
        """The machine's."""
        return self.machine.name

    def was_unwell(self, began: float, ended: float) -> bool:
        """Return whether its daemon or its Toxiproxy could not do their work for some of that time."""
        return any(one < ended and other > began for one, other in self.unwell)

    def was_unwell_throughout(self, began: float, ended: float) -> bool:
        """Return whether mishaps, one after the other, lasted all that time."""
        for one, other in sorted(self.unwell):
            if one <= began:
                began = max(began, other)
        return began >= ended

    # -- the daemon --------------------------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """Start it."""
        self.woke_at = self.world.now
        self.daemon = self.world.start(self.machine, f"{self.name}/daemon", self._watch)

    def _watch(self, process: Process) -> int:
        with self._built() as daemon:
            daemon.look_back()
            jobs = daemon.jobs()
            last = [float("-inf")] * len(jobs)
            while process.alive:
                due = min(map(sum, zip(last, self._paces(jobs), strict=True)))
                self.world.sleep(min(due, self.next_edge(self.world.now)) - self.world.now)
                now = self.world.now
                due_now = [n for n, pace in enumerate(self._paces(jobs)) if last[n] + pace <= now]
                for number in due_now:
                    jobs[number].action()
                    last[number] = now
                if any(_kind(jobs[number]) == "canary" for number in due_now):
                    status = daemon.health_now().status
                    self.looked.append(Looked(at=self.world.now, status=status, up_since=self.woke_at))
        return 0

    @contextmanager
    def _built(self) -> Iterator[Daemon]:
        folder = StateFolder(self.settings.state.dir)
        folder.prepare()
        made = Daemon(
            self.settings,
            self.config_path,
            folder,
            self.clock,
            make_core=lambda config, observer: core_over(self.estate, config, observer=observer),
            open_files=partial(open_kept, starts_drills=StartsDrills(self), starts_healers=self._start_healer),
        )
        try:
            yield made
        finally:
            made.kept.close()
            made.core.close()

    def _paces(self, jobs: tuple[Job, ...]) -> list[float]:
        """Return in how many seconds each job runs again, as things are now."""
        if any(child.running for child in self.children):
            self._stirred_until = self.world.now + 2 * MINUTE
        stirred, busy = self.world.now < self._stirred_until, self.is_busy(self.world.now)
        return [_pace(_kind(job), stirred=stirred, busy=busy) for job in jobs]

    # -- its children ------------------------------------------------------------------------------------------------

    def _start_healer(self, run_id: str) -> SimChild:
        fate = fate_of_healer(self.rng) if self.fates else None
        return SimChild(self._start("healer", fate, lambda where: self.heal(where, run_id)))

    def start_drill(self, slot: Slot, run_id: str) -> SimChild:
        """Start the drill of a slot."""
        halts: list[Callable[[str], None]] = []

        def main(where: Surroundings) -> int:
            run = run_of(where, slot, run_id, slot.plan.drill, slot.plan.region or None)
            halts.append(run.halt.call)
            return drill(where, run)

        def tell(signal: str) -> None:
            for call in halts:
                call(signal)

        fate = self.fate_of_drill(self.rng) if self.fates else None
        if fate and fate.freeze_seconds and fate.freeze_seconds > LEASE_SECONDS:
            self.late.add(run_id)
        return SimChild(self._start("drill", fate, main), told=tell)

    def _start(self, what: str, fate: Fate | None, main: Callable[[Surroundings], int]) -> Process:
        started: list[Process] = []
        steps = Steps(self.world, self.rng, fate)

        def body(process: Process) -> int:
            started.append(process)
            return main(self.surroundings(steps))

        process = self.world.start(self.machine, f"{self.name}/{what}", body)
        self.children = [*(child for child in self.children if child.running), process]
        return process

    def surroundings(self, step: Callable[[str], None]) -> Surroundings:
        """Return what a process of this host has around it."""
        return Surroundings(
            world=self.world,
            settings=self.settings,
            clock=self.clock,
            server=self.server,
            table=self.table,
            step=step,
            acted=partial(self.acted, self.name),
        )


def _kind(job: Job) -> str:
    return job.id if job.id in OFTEN else "canary" if ":" in job.id else "else"


def _pace(kind: str, *, stirred: bool, busy: bool) -> float:
    if stirred and kind in WHILE_A_DRILL_RUNS:
        return WHILE_A_DRILL_RUNS[kind]
    return OFTEN.get(kind, DAY) if busy else SELDOM.get(kind, 12 * HOUR)


class StartsDrills:
    """What `DrillSchedule` starts drills with."""

    def __init__(self, host: SimHost) -> None:
        self._host = host

    def __call__(self, slot: Slot, run_id: str) -> Any:
        """Start the drill of a slot."""
        return self._host.start_drill(slot, run_id)

    def last_words(self) -> str:
        """Return the last line that the last drill said."""
        return "refused"


class Steps:
    """The points at which a process may be overtaken, and the one at which its fate comes."""

    def __init__(self, world: World, rng: random.Random, fate: Fate | None) -> None:
        self._world, self._rng, self._fate = world, rng, fate
        self.taken = 0

    def __call__(self, what: str) -> None:
        """Take a step: a moment passes, and others have their turn.

        Raises:
            Killed: it was the last.
        """
        del what
        turn = self._world.current
        assert turn is not None
        self._world.check()
        self.taken += 1
        if self._fate and self.taken == self._fate.step:
            if self._fate.freeze_seconds is None:
                turn.process.kill()
            else:
                turn.process.freeze(self._fate.freeze_seconds)
        self._world.sleep(self._rng.uniform(0.0005, 0.02))
