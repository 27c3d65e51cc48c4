"""What `python tests/torture crashes` runs: each protocol traced once, and a crash at each of its sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from crash_apply import killed_at_each_change
from crash_census import Site, reached, sites
from crash_disk import Tree, put, tree_of
from crash_drill import ARCHIVE, RUN_ID, Ground, ground, look, look_at_archive, whole
from crash_figures import Protocol
from crash_sites import Crash, crashes, look_at_each, steps_are_kept
from crash_strace import traced
from crash_trace import Op
from crash_writers import WRITERS

from kms_core.clock import SystemClock

CLOCK = SystemClock()
OF_A_DRILL = ("drill", "heal", "archive")
PROTOCOLS = (*WRITERS, *OF_A_DRILL, "apply")
Say = Callable[[str], object]


@dataclass(kw_only=True)
class Runs:
    """One run of the torture."""

    folder: Path
    seed: int
    drawn: int
    """Cuts of power drawn at each operation."""
    say: Say = print
    protocols: dict[str, Protocol] = field(default_factory=dict)

    def run(self, wanted: Sequence[str]) -> None:
        """Try each of `PROTOCOLS` that is wanted."""
        for name in [each for each in WRITERS if each in wanted]:
            with self._timed(name) as figures:
                self._writer(figures)
        if set(wanted) & set(OF_A_DRILL):
            with ground(self.folder / "ground") as here:
                self._of_a_drill(here, wanted)
        if "apply" in wanted:
            with self._timed("apply") as figures:
                killed_at_each_change(self.folder / "apply", figures)

    def census(self) -> tuple[set[Site], set[Site]]:
        """Return the places in the code that change a disk or a Toxiproxy: those that were traced, and the others."""
        wanted = set(sites())
        came_by = reached(sorted(self.folder.rglob("*.lines")), sorted(wanted))
        return came_by, wanted - came_by

    @property
    def findings(self) -> list[str]:
        """All that was wrong, as far as it was kept."""
        return [finding for each in self.protocols.values() for finding in each.findings]

    @property
    def wrong(self) -> int:
        """How many crashes were not well."""
        return sum(each.wrong for each in self.protocols.values())

    def to_json(self) -> dict[str, Any]:
        """Return the figures for a file."""
        came_by, others = self.census()
        return {
            "schema": 1,
            "seed": self.seed,
            "drawn_each": self.drawn,
            "places_in_the_code": {"traced": len(came_by), "not_traced": sorted(map(str, others))},
            "protocols": {name: each.to_json() for name, each in self.protocols.items()},
        }

    @contextmanager
    def _timed(self, name: str) -> Iterator[Protocol]:
        figures = self.protocols.setdefault(name, Protocol(name=name))
        began = CLOCK.monotonic()
        yield figures
        figures.seconds += CLOCK.monotonic() - began
        self.say(
            f"{name}: {figures.operations.total()} sites, {figures.crashes.total()} crashes, {figures.wrong} wrong"
        )

    def _crashes(
        self, ops: Sequence[Op], begins_with: Tree, figures: Protocol, *, apart: bool = False
    ) -> Iterator[Crash]:
        return crashes(ops, begins_with, figures, drawn=self.drawn, seed=self.seed, kills_apart=apart)

    def _writer(self, figures: Protocol) -> None:
        name, writer = figures.name, WRITERS[figures.name]
        folder = self.folder / name
        put(writer.begins_with, folder)
        script = str(Path(__file__).with_name("crash_writers.py"))
        ops, code = traced(
            [script, name, str(folder)],
            folder,
            log=self.folder / f"{name}.strace",
            lines=self.folder / f"{name}.lines",
        )
        if code:
            figures.find("traced", [f"exit code {code}"])
        rmtree(folder)
        found = self._crashes(ops, writer.begins_with, figures, apart=not writer.survives_power)
        look_at_each(found, steps_are_kept(writer, ops), folder, figures)

    def _of_a_drill(self, here: Ground, wanted: Sequence[str]) -> None:
        begins_with = tree_of(here.folder)
        arguments = ("kms_chaos", "run", str(here.folder / "drill.toml"), "--run-id", RUN_ID, "--arm")
        ops, code = here.traced("drill", *arguments)
        self.say(f"the traced drill ended with exit code {code}")  # 0: it held, and what is lost may not make it hold
        over = tree_of(here.folder)
        rmtree(here.folder)
        figures = Protocol(name="drill")
        found = list(crashes(ops, begins_with, figures, drawn=0, seed=self.seed))
        if "drill" in wanted:
            with self._timed("drill") as figures:
                if code not in {0, 1, 3}:
                    figures.find("traced", [f"exit code {code}"])
                look_at_each(self._crashes(ops, begins_with, figures), lambda _, c: look(here, c), here.folder, figures)
        if "heal" in wanted:
            for name, died in deaths(found).items():
                with self._timed("heal") as figures:
                    self._command(here, f"heal-{name}", died, ("kms_chaos", "heal"), figures)
        if "archive" in wanted:
            with self._timed("archive") as figures:
                self._command(here, "push", closed(found), ("kms_chaos", "evidence", "push"), figures)
                self._archive(here, over, figures)

    def _command(self, here: Ground, name: str, died: Crash, arguments: Sequence[str], figures: Protocol) -> None:
        """Trace what works on a dead drill's folder, and crash it everywhere."""
        put(died.tree, here.folder)
        before = whole(here.run)
        here.asked = list(died.requests)
        here.ask_again(here.asked)
        ops, code = here.traced(name, *arguments)
        rmtree(here.folder)
        if code:
            figures.find(f"traced on {died}", [f"exit code {code}"])
        found = self._crashes(ops, died.tree, figures)
        look_at_each(found, lambda _, crash: look(here, crash, before), here.folder, figures)
        here.asked = []

    def _archive(self, here: Ground, over: Tree, figures: Protocol) -> None:
        """Trace the archive for auditors being made where an older one is."""
        old = b"an older archive"
        begins_with = {**over, ARCHIVE: old}
        put(begins_with, here.folder)
        period = ("--period", f"{CLOCK.now_utc():%Y}", "--output", str(here.folder / ARCHIVE))
        ops, code = here.traced("archive", "kms_chaos", "evidence", "archive", *period)
        rmtree(here.folder)
        if code:
            figures.find("traced", [f"exit code {code}"])
        look_at = partial(_looked_at, look_at_archive, here, old)
        look_at_each(self._crashes(ops, begins_with, figures), look_at, here.folder, figures)


def _looked_at(how: Callable[..., list[str]], here: Ground, old: bytes, _folder: Path, crash: Crash) -> list[str]:
    return how(here, crash, old)


def deaths(found: Sequence[Crash]) -> dict[str, Crash]:
    """Return crashes of a drill from which to heal: in its first line, in a line of its fault, in its report."""
    folder = f"state/drills/{RUN_ID}"

    def in_a_line(crash: Crash) -> bool:
        return crash.model == "torn" and not (crash.tree.get(f"{folder}/journal.ndjson") or b"\n").endswith(b"\n")

    def in_the_report(crash: Crash) -> bool:
        return crash.model == "torn" and any(path.startswith(f"{folder}/.report.html.") for path in crash.tree)

    def hurts(crash: Crash) -> bool:
        return any("toxics" in each.path for each in crash.requests)

    return {
        "early": next(crash for crash in found if in_a_line(crash)),
        "fault": next(crash for crash in found if in_a_line(crash) and hurts(crash)),
        "report": next(crash for crash in found if in_the_report(crash)),
    }


def closed(found: Sequence[Crash]) -> Crash:
    """Return the first crash that left a closed journal, with nothing sealed yet."""
    journal = f"state/drills/{RUN_ID}/journal.ndjson"
    return next(
        crash for crash in found if b'"event":"closed"' in (crash.tree.get(journal) or b"") and crash.model == "kill"
    )
