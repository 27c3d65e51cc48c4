"""What a benchmark declares: how large it can be, what it is to reach, and which of its figures are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

T = TypeVar("T")


class Size(StrEnum):
    """How much is measured: in seconds, in a minute, or in the sizes that the goals are stated for."""

    QUICK = "quick"
    NORMAL = "normal"
    FULL = "full"

    def pick(self, *, quick: T, normal: T, full: T) -> T:
        """Return what belongs to this size."""
        return {Size.QUICK: quick, Size.NORMAL: normal, Size.FULL: full}[self]


class Section(StrEnum):
    """The chapters of the page, in order."""

    CORE = "The crypto core"
    DAEMON = "The watchdog daemon"
    DRILLS = "Drills"
    LOCAL = "The local AWS and the local Toxiproxy"


THRICE: Mapping[Size, int] = MappingProxyType({Size.QUICK: 1, Size.NORMAL: 1, Size.FULL: 3})
ONCE: Mapping[Size, int] = MappingProxyType(dict.fromkeys(Size, 1))
"""For what takes many minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A column of a table that is drawn: a bar for each row, its spread on it, and its way through the history."""

    table: int
    """Which of the tables."""
    labels: tuple[int, ...]
    """The columns that name a row."""
    value: int
    """The column that is drawn; rows without a number there are left out."""
    title: str
    """Of the picture, with the unit."""
    ours: str = ""
    """What stands in the labels of our own rows; empty: all are ours."""
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One module's declaration; `run(size)` beside it measures once and returns the tables."""

    title: str
    section: Section
    goals: tuple[str, ...] = ()
    """Each in a sentence; empty: figures to know, which nothing depends on."""
    least: Size = Size.QUICK
    """The smallest size that it takes part in when nobody names it."""
    runs: Mapping[Size, int] = field(default_factory=lambda: THRICE)
    """How often it is measured: medians and spread are over these."""
    bars: tuple[Bars, ...] = ()
