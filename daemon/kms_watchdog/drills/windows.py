"""When a drill may run: windows of the week and dates that are blocked, all in UTC. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

DayName = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAY_NAMES: tuple[DayName, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""In the order of `datetime.weekday`."""
MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of the day on some days of the week."""

    days: frozenset[int]
    """As `datetime.weekday` counts them: Monday is 0."""
    begins_minute: int
    """Of the day; within the window."""
    ends_minute: int
    """Of the day, at most 1440; no longer within it, and later than `begins_minute`."""

    def holds(self, moment: datetime) -> bool:
        """Return whether `moment`, in UTC, is within it."""
        minute = moment.hour * 60 + moment.minute
        return moment.weekday() in self.days and self.begins_minute <= minute < self.ends_minute

    def __str__(self) -> str:
        days = ", ".join(DAY_NAMES[day] for day in sorted(self.days))
        return f"{days} {_clock(self.begins_minute)}-{_clock(self.ends_minute)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Days on which there is no drill, both ends included."""

    first: date
    last: date

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}/{self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """When a drill may run. Without windows: at any time that is not blocked."""

    windows: tuple[Window, ...] = ()
    blocked: tuple[Blocked, ...] = ()

    def why_not(self, now_utc: datetime) -> str:
        """Return why there may be no drill now; empty: there may be one."""
        now = now_utc.astimezone(UTC)
        if blocked := next((one for one in self.blocked if one.first <= now.date() <= one.last), None):
            return f"{now:%Y-%m-%d} is blocked ({blocked})"
        if self.windows and not any(window.holds(now) for window in self.windows):
            return f"{now:%a %H:%M} UTC is in no window ({_listed(self.windows)})"
        return ""


def parse_blocked(text: str) -> Blocked:
    """Return what `2026-12-24` or `2026-12-24/2027-01-02` says.

    Raises:
        ValueError: it says nothing of the kind, or ends before it begins.
    """
    first, _, last = text.partition("/")
    try:
        found = Blocked(first=date.fromisoformat(first), last=date.fromisoformat(last or first))
    except ValueError as e:
        raise ValueError(f"should be YYYY-MM-DD or YYYY-MM-DD/YYYY-MM-DD, both days included, not {text!r}") from e
    if found.last < found.first:
        raise ValueError(f"{text!r} ends before it begins")
    return found


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _listed(windows: Iterable[Window]) -> str:
    return "; ".join(str(window) for window in windows)
