"""Two drills for one slot on two hosts, with a crash and a freeze at every step that they take: what comes of it?

Every place where a drill may be overtaken is a step: before and after each request to the table and to Toxiproxy, and
each line of the journal. So the steps of the lease's protocol and of undoing are tried one by one, not at random: the
first drill is killed, or stands still (for less than the lease's time, for more, and past the time of its fault) at
each of them; the second begins before or after that, and is killed at each of its own while the first stands still.
Each host heals what was left on it, as a daemon would.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from mishaps import MINUTE, REGIONS, Fate
from sim_drill import UNCLEAR, Surroundings, drill, healer, run_of
from sim_host import CONFIG, LEASE
from sim_table import Table
from sim_toxiproxy import Server
from virtual_time import BEGAN_UTC, Host, Process, World, WorldClock, threads_take_turns

from kms_chaos.heal import open_runs
from kms_watchdog.config import Settings, load
from kms_watchdog.drills import journal, undo
from kms_watchdog.drills.folder import folders
from kms_watchdog.drills.slots import Slot
from kms_watchdog.drills.verdict import answer

STEP_SECONDS = 0.01
LOOK_SECONDS = 10.0
"""How often each host looks for what is left."""
AGAIN_SECONDS = 60.0
"""How soon a drill that was refused is tried again; a daemon waits for an hour."""
FREEZES = (20.0, 75.0, 1200.0)
"""Shorter than the lease lives (60 s), longer, and longer than a fault may last."""
BEGINNINGS = (0.0, 0.005, 30.0)
"""When the second drill begins, seconds after the first: at once before it, at once after it, while its fault is on."""
LIFE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens to the two."""

    first: Fate | None = None
    second: Fate | None = None
    second_begins: float = 0.005

    def __str__(self) -> str:
        """Tell it."""
        return f"first {_told(self.first)}, second {_told(self.second)} and begins at {self.second_begins} s"


def _told(fate: Fate | None) -> str:
    if fate is None:
        return "lives"
    how = "is killed" if fate.freeze_seconds is None else f"stands still for {fate.freeze_seconds:.0f} s"
    return f"{how} at step {fate.step}"


@dataclass
class Ending:
    """What came of it."""

    steps: tuple[int, int]
    """How many each took in its first life."""
    done: tuple[str, ...] = ()
    """Runs that came to a verdict that answers."""
    findings: list[str] = field(default_factory=list)
    past_its_check: bool = False
    """Whether the first stood still between its last look at the lease and the fault: that is what remains."""


class Explorer:
    """Tells stories on two hosts; the configuration is read once."""

    def __init__(self, folder: Path, *, again: bool = True) -> None:
        self._folder = folder
        self._settings: list[Settings] = []
        self._table = self._heals = True
        for name in ("a", "b"):
            (folder / name).mkdir()
            path = folder / name / "watchdog.toml"
            path.write_text(
                CONFIG.format(regions=list(REGIONS), lease=LEASE, again=str(again).lower()), encoding="utf-8"
            )
            self._settings.append(load(path))
        plan = next(plan for plan in self._settings[0].plans if plan.name == "weekly")
        (self._slot,) = plan.slots(BEGAN_UTC, BEGAN_UTC + timedelta(days=7))

    def forget_the_lease(self) -> None:
        """Let each host have a lease of its own, to see that it is found out."""
        self._table = False

    def forget_to_heal(self) -> None:
        """Let nobody look for what is left, to see that it is found out."""
        self._heals = False

    def tell(self, story: Story) -> Ending:
        """Live through a story, on empty state folders."""
        for settings in self._settings:
            shutil.rmtree(settings.state.dir, ignore_errors=True)
            settings.state.dir.mkdir()
        world = World()
        with threads_take_turns(world):
            telling = _Telling(
                world, self._settings, self._slot, story, table=Table() if self._table else None, heals=self._heals
            )
            try:
                while world.now < LIFE_SECONDS and telling.goes_on():
                    world.run(world.now + MINUTE)
                world.run(world.now + MINUTE)  # what is left is looked after meanwhile
            finally:
                world.end()
        return telling.ending()


@dataclass
class _Steps:
    world: World
    fate: Fate | None
    taken: int = 0
    acting: bool = False
    """It has looked at the lease, and not yet begun to break anything."""
    past_its_check: bool = False

    def __call__(self, what: str) -> None:
        turn = self.world.current
        assert turn is not None
        self.world.check()
        self.taken += 1
        if self.fate and self.taken == self.fate.step:
            if self.fate.freeze_seconds is None:
                turn.process.kill()
            else:
                self.past_its_check = self.acting
                turn.process.freeze(self.fate.freeze_seconds)
        if "change was answered" in what:
            self.acting = False
        self.world.sleep(STEP_SECONDS)

    def acts(self, _run_id: str) -> None:
        self.acting = True
        self("acts")


class _Telling:
    """One story on its way."""

    def __init__(
        self, world: World, settings: list[Settings], slot: Slot, story: Story, *, table: Table | None, heals: bool
    ) -> None:
        self._world, self._slot, self._table = world, slot, table
        self._settings = settings
        self._servers = [Server(host=name, now=lambda: world.now) for name in ("a", "b")]
        self._steps = [_Steps(world, story.first), _Steps(world, story.second)]
        self._wanting: list[Process] = []
        for number, begins in enumerate((0.0, story.second_begins)):
            host = Host("ab"[number])
            self._wanting.append(world.start(host, f"{host.name}/drills", self._drills(number, host, begins)))
            if heals:
                world.start(host, f"{host.name}/watch", self._watch(number, host))

    def goes_on(self) -> bool:
        """Return whether somebody still wants the slot to be filled."""
        return any(process.running for process in self._wanting)

    def ending(self) -> Ending:
        """Return what came of it."""
        steps = (self._steps[0].taken, self._steps[1].taken)
        ending = Ending(steps=steps, past_its_check=self._steps[0].past_its_check)
        ending.findings += self._broken_still()
        if not ending.past_its_check:
            ending.findings += self._broken_at_once()
        ending.done = tuple(self._answered())
        return ending

    def _answered(self) -> Iterator[str]:
        for settings in self._settings:
            for found in folders(settings.state.dir):
                if answer(journal.read(found.journal).records):
                    yield found.run_id

    def _surroundings(self, number: int, host: Host, steps: _Steps) -> Surroundings:
        return Surroundings(
            world=self._world, settings=self._settings[number], clock=WorldClock(self._world, host),
            server=self._servers[number], table=self._table, step=steps, acted=steps.acts,
        )  # fmt: skip

    def _drills(self, number: int, host: Host, begins: float) -> Callable[[Process], int]:
        def main(_: Process) -> int:
            """Try until the slot has had its drill, here or elsewhere."""
            self._world.sleep(begins)
            steps = self._steps[number]
            for attempt in range(60):
                where = self._surroundings(number, host, steps)
                name = f"{host.name}-{attempt}"
                code: list[int] = []

                def once(_: Process, where: Surroundings = where, name: str = name, code: list[int] = code) -> int:
                    run = run_of(where, self._slot, name, self._slot.plan.drill, self._slot.plan.region)
                    code.append(drill(where, run))
                    return code[-1]

                process = self._world.start(host, f"{host.name}/drill", once)
                while process.running:
                    self._world.sleep(1.0)
                if code in ([0], [UNCLEAR]):  # it came to its verdict, or the slot has had its drill
                    return 0
                steps = _Steps(self._world, None)
                self._world.sleep(AGAIN_SECONDS)
            return 0

        return main

    def _watch(self, number: int, host: Host) -> Callable[[Process], int]:
        def main(process: Process) -> int:
            while process.alive:
                self._world.sleep(LOOK_SECONDS)
                for found in open_runs(self._settings[number].state.dir):
                    if found.has_owner() and not self._is_late(found.undo):
                        continue
                    where = self._surroundings(number, host, _Steps(self._world, None))
                    healer(where, found.run_id)
            return 0

        return main

    def _is_late(self, record: Path) -> bool:
        return record.exists() and self._world.utc() >= undo.read(record).expires_at_utc

    def _broken_still(self) -> Iterator[str]:
        for server, settings in zip(self._servers, self._settings, strict=True):
            until = {
                found.run_id: undo.read(found.undo).expires_at_utc
                for found in folders(settings.state.dir)
                if found.undo.exists()
            }
            for span in server.spans:
                run_id = span.proxy.split(".")[1]
                due = (until[run_id] - BEGAN_UTC).total_seconds() if run_id in until else 0.0
                if span.ended is None:
                    yield f"{span.proxy} is still broken"
                elif span.ended > due + 2 * LOOK_SECONDS:
                    yield f"{span.proxy} was broken until {span.ended:.0f} s, and was to be until {due:.0f}"
            if server.there:
                yield f"proxies are left: {sorted(server.there)}"

    def _broken_at_once(self) -> Iterator[str]:
        for a in self._servers[0].spans:
            for b in self._servers[1].spans:
                if a.began < (b.ended or LIFE_SECONDS) and b.began < (a.ended or LIFE_SECONDS):
                    yield f"{a.proxy} and {b.proxy} were broken at once, from {max(a.began, b.began):.1f} s on"


def wrong(story: Story, ending: Ending, *, again: bool) -> list[str]:
    """Return what must not be: what was found, and how many drills the slot had.

    Where its plan says "again", one that stood still past its lease may have come to its verdict, or come to it later,
    when the slot is filled once more: at least once. Where the plan does not say so: at most once.
    """
    late = story.first is not None and story.first.freeze_seconds in FREEZES[1:]
    least, most = (1, 2 if late else 1) if again else (0, 1)
    if least <= len(ending.done) <= most:
        return ending.findings
    return [*ending.findings, f"the slot had {len(ending.done)} drills that came to a verdict: {ending.done}"]


def one_failure(steps: int, stride: int = 1) -> Iterator[Story]:
    """Yield every story in which the first is killed, or stands still, at one of its steps."""
    for step in range(1, steps + 1, stride):
        for freeze in (None, *FREEZES):
            for begins in BEGINNINGS:
                yield Story(first=Fate(step=step, freeze_seconds=freeze), second_begins=begins)


def a_crash_and_a_freeze(steps: int, stride: int = 1) -> Iterator[Story]:
    """Yield every story in which the first stands still for longer than its lease, and the second is killed."""
    for step in range(1, steps + 1, stride):
        for other in range(1, steps + 1, stride):
            yield Story(first=Fate(step=step, freeze_seconds=FREEZES[1]), second=Fate(step=other, freeze_seconds=None))
