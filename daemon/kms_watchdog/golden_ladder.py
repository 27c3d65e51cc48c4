"""Which golden messages are kept, and which of them a look opens: pure, by their ages alone. Times are Unix times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
YEAR = 365 * DAY

LADDER = ((DAY, HOUR), (2 * WEEK, DAY), (YEAR, WEEK), (5 * YEAR, 30 * DAY), (math.inf, YEAR))
"""Up to this age, one message in each so many seconds: some 140 in five years, and one a year after that."""
STEP_SECONDS = HOUR
"""The distance at which messages are sealed: the ladder's finest."""


def is_due(created: Iterable[float], *, now: float) -> bool:
    """Return whether a new message is wanted: the newest is older than a step, or there is none.

    What a clock that was ahead has left in the future is no reason to wait for it.
    """
    return now - max((at for at in created if at <= now), default=-math.inf) >= STEP_SECONDS


def kept(created: Iterable[float], *, now: float) -> frozenset[float]:
    """Return which to keep: the oldest of each interval of the ladder, and so the oldest of all.

    Intervals stand still, so what is kept today and falls into a coarser one tomorrow is what is kept there too. In
    the future, where only a clock that was ahead has sealed, the ladder goes the same way.
    """
    first: dict[tuple[float, float], float] = {}
    for at in sorted(created):
        step = next(step for limit, step in LADDER if abs(now - at) < limit)
        first.setdefault((step, at // step), at)
    return frozenset(first.values())


def chosen(created: Sequence[float], *, now: float, rotations: Iterable[float] = ()) -> Mapping[str, float]:
    """Return which to open, each once, by what it stands for: `newest`, `day`, `weeks`, `rotation`, `oldest`.

    `day` is the newest that is a day old, `weeks` the newest of two weeks, `rotation` the newest from before the last
    of `rotations`. What there is none of is left out; of one that stands for several, the first counts.
    """
    last_rotation = max(rotations, default=-math.inf)
    limits = {"newest": math.inf, "day": now - DAY, "weeks": now - 2 * WEEK, "rotation": last_rotation}
    found: dict[str, float] = {}
    for name, limit in limits.items():
        _add(found, name, max((at for at in created if at < limit), default=None))
    _add(found, "oldest", min(created, default=None))
    return found


def spanned(oldest: float, rotations: Iterable[float]) -> int:
    """Return how many of `rotations` have happened since `oldest`."""
    return sum(at > oldest for at in rotations)


def _add(found: dict[str, float], name: str, at: float | None) -> None:
    if at is not None and at not in found.values():
        found[name] = at
