"""How long a region takes to answer, as a pure value: for the slow rule, the order of regions and the hedge's delay."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_WINDOW = 256
_ENOUGH = 100
"""Below so many answers, a high percentile is a single answer, and says nothing."""
_WEIGHT = 0.2
_SLOW_FACTOR = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The recent good answers of one region. Slow ones are left out, else slowness would become the measure."""

    seconds: tuple[float, ...] = ()
    """The newest last."""
    smoothed_seconds: float | None = None
    """None: the region has not answered yet."""


def measured(timing: Timing, seconds: float) -> Timing:
    """Return `timing` with one more good answer."""
    old = timing.smoothed_seconds
    smoothed = seconds if old is None else old + _WEIGHT * (seconds - old)
    return Timing(seconds=(*timing.seconds[1 - _WINDOW :], seconds), smoothed_seconds=smoothed)


def percentile(timing: Timing, share: float) -> float | None:
    """Return the time within which `share` of the answers came (nearest rank); None with too few of them."""
    count = len(timing.seconds)
    if count < _ENOUGH:
        return None
    return sorted(timing.seconds)[min(count - 1, int(share * count))]


def slow_limit(timing: Timing, *, floor_seconds: float, ceiling_seconds: float) -> float:
    """Return above how many seconds an answer counts as slow: the floor, or 4 times what 99 of 100 need.

    Never above the ceiling, where an attempt is given up anyway: the limit cannot creep away with the times, and an
    attempt that was given its whole time and gave no answer always counts.
    """
    usual = percentile(timing, 0.99) or 0.0
    return min(ceiling_seconds, max(floor_seconds, _SLOW_FACTOR * usual))


class Timings:
    """The timing of every region. Safe to call from any thread."""

    def __init__(self, regions: Iterable[str], *, slow_seconds: float, attempt_seconds: float) -> None:
        self._slow_seconds = slow_seconds
        self._attempt_seconds = attempt_seconds
        self._lock = threading.Lock()
        self._timings = dict.fromkeys(regions, Timing())

    def slow_after(self, region: str) -> float:
        """Return above how many seconds an answer of `region` is slow."""
        ceiling = self._attempt_seconds
        return slow_limit(self._timings[region], floor_seconds=self._slow_seconds, ceiling_seconds=ceiling)

    def answered(self, region: str, seconds: float) -> bool:
        """Take note of a good answer, and return whether it was a slow one."""
        slow = seconds > self.slow_after(region)
        if not slow:
            with self._lock:
                self._timings[region] = measured(self._timings[region], seconds)
        return slow

    def smoothed(self) -> Mapping[str, float]:
        """Return the smoothed seconds of the regions that have answered."""
        seen = {region: timing.smoothed_seconds for region, timing in self._timings.items()}
        return {region: seconds for region, seconds in seen.items() if seconds is not None}

    def percentile(self, region: str, share: float) -> float | None:
        """Return the time within which `share` of the recent answers of `region` came; None with too few."""
        return percentile(self._timings[region], share)
