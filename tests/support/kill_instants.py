"""The instants at which a drill is killed: drawn at random, and so that no part of its life is left out."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self, get_args

from counting_api import Moment

from kms_core.clock import SystemClock

SECTIONS = ("begun", "baseline", "inject", "hold", "restore", "recover", "check", "verdict", "closed")
"""What a journal tells of a drill's life: its phases, and what is before and behind them."""
LEASE = "lease.json"
FILES = (
    f"drills/{LEASE}",
    "drills/{run}",
    "drills/{run}/journal.ndjson",
    "drills/{run}/undo.json",
    "drills/{run}/verdict.json",
    "drills/{run}/report.html",
    "drills/{run}/signature.json",
    "drills/{run}/manifest.json",
    "../kept/runs/{run}/segments",
    "../kept/runs/{run}/journal.ndjson",
)
"""What a drill leaves one after the other, from the state folder on."""
_CLOCK = SystemClock()
_MARKS = re.compile(rb'"event":"(run-started|phase-started|verdict|closed)"')
_MOMENTS: tuple[Moment, ...] = get_args(Moment)


@dataclass
class Progress:
    """How far a drill has come."""

    state: Path
    run_id: str
    started: float = field(default_factory=_CLOCK.monotonic)
    section: str = ""
    """Empty before the journal's first line."""
    lines: Counter[str] = field(default_factory=Counter)
    """How many lines each section has."""
    _read: int = 0

    @property
    def seconds(self) -> float:
        return _CLOCK.monotonic() - self.started

    @property
    def journal(self) -> Path:
        return self.state / "drills" / self.run_id / "journal.ndjson"

    def exists(self, file: str) -> bool:
        """Whether a file of this run is there; the lease's is when it names the run."""
        path = self.state / file.format(run=self.run_id)
        return path.exists() and (path.name != LEASE or self.run_id in path.read_text(encoding="utf-8"))

    def look(self) -> Self:
        """Read what has been written since."""
        if not self.journal.exists():
            return self
        with self.journal.open("rb") as grown:
            grown.seek(self._read)
            whole, newline, _ = grown.read().rpartition(b"\n")
        self._read += len(whole + newline)
        for line in whole.split(b"\n") if newline else ():
            self.section = _section(line) or self.section
            self.lines[self.section] += 1
        return self

    def is_past(self, section: str) -> bool:
        return bool(self.section) and SECTIONS.index(self.section) > SECTIONS.index(section)


def _section(line: bytes) -> str | None:
    found = _MARKS.search(line)
    if found is None:
        return None
    match found.group(1):
        case b"run-started":
            return "begun"
        case b"phase-started":
            return str(json.loads(line)["phase"])
        case event:
            return event.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """The life of a drill that nobody killed."""

    seconds: float
    lines: Mapping[str, int]
    requests: int
    """How often it asked Toxiproxy's API something."""


class Instant(Protocol):
    """When to kill."""

    def reached(self, now: Progress, whole: Whole) -> bool:
        """Whether this is it."""

    def earlier(self) -> Instant:
        """Another one, because the drill was over before this one came."""


@dataclass(frozen=True, slots=True)
class AtShare:
    """So far into its life, by the clock."""

    share: float

    def reached(self, now: Progress, whole: Whole) -> bool:
        return now.seconds >= self.share * whole.seconds

    def earlier(self) -> Instant:
        return AtShare(self.share * 0.6)  # its life may have been measured while the machine was busy


@dataclass(frozen=True, slots=True)
class AtLine:
    """So many lines after a section of the journal began."""

    section: str
    share: float

    def reached(self, now: Progress, whole: Whole) -> bool:
        wanted = 1 + int(self.share * whole.lines[self.section])
        return now.is_past(self.section) or now.lines[self.section] >= wanted

    def earlier(self) -> Instant:
        return AtLine(self.section, 0.0)


@dataclass(frozen=True, slots=True)
class AtRequest:
    """At one of its requests to Toxiproxy's API; whoever counts those does the killing."""

    share: float
    moment: Moment

    def number(self, whole: Whole) -> int:
        """The first is 1."""
        return 1 + int(self.share * whole.requests)

    def reached(self, _now: Progress, _whole: Whole) -> bool:
        return False

    def earlier(self) -> Instant:
        return replace(self, share=self.share * 0.8)


@dataclass(frozen=True, slots=True)
class AtFile:
    """As soon as a file is there."""

    name: str

    def reached(self, now: Progress, _whole: Whole) -> bool:
        return now.exists(self.name)

    def earlier(self) -> Instant:
        return self


def draw(rng: random.Random, count: int) -> list[Instant]:
    """Return `count` instants in an order of chance: of 20, 9 are in the journal's sections, each section alike."""
    found: list[Instant] = []
    for number in range(count):
        turn, group = number % 20, number // 20
        if turn < len(SECTIONS):
            found.append(AtLine(SECTIONS[turn], rng.random()))
        elif turn < 13:
            found.append(AtRequest((group % 5 + rng.random()) / 5, rng.choice(_MOMENTS)))
        elif turn < 18:
            found.append(AtShare((turn - 13 + rng.random()) / 5))
        else:
            found.append(AtFile(FILES[(2 * group + turn - 18) % len(FILES)]))
    rng.shuffle(found)
    return found
