"""In which order regions are tried when all are well: a pure decision, and who remembers the last one.

First what people said (an override, a configured preference, the region where the process runs), then what was
measured. Whether a region is well is not decided here: its breaker refuses, and the next in order is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence

_MARGIN = 0.75
_LEAST_SECONDS = 0.005
"""A region overtakes another only when it is faster by a quarter and by 5 ms: else two like ones would take turns."""


def by_time(current: Sequence[str], fixed: int, seconds: Mapping[str, float]) -> tuple[str, ...]:
    """Return `current` with the clearly faster regions before the slower ones; the first `fixed` stay where they are.

    A region that was never measured stays behind those it stood behind.
    """
    order = list(current)
    for end in range(len(order), fixed + 1, -1):
        for left in range(fixed, end - 1):
            if _overtakes(order[left + 1], order[left], seconds):
                order[left], order[left + 1] = order[left + 1], order[left]
    return tuple(order)


def with_overrides(order: Sequence[str], prefer: Collection[str], avoid: Collection[str]) -> tuple[str, ...]:
    """Return every region of `order`: the preferred ones first and the avoided ones last, so no last one is closed."""
    return tuple(sorted(order, key=lambda region: (region in avoid, region not in prefer)))


def _overtakes(later: str, earlier: str, seconds: Mapping[str, float]) -> bool:
    if later not in seconds or earlier not in seconds:
        return False
    return seconds[later] < min(seconds[earlier] * _MARGIN, seconds[earlier] - _LEAST_SECONDS)


class Order:
    """The order of all regions as it is now. Safe to call from any thread."""

    def __init__(self, configured: Sequence[str], fixed: int, seconds: Callable[[], Mapping[str, float]]) -> None:
        self._fixed = fixed
        self._seconds = seconds
        self._lock = threading.Lock()
        self._current = tuple(configured)
        self.overrides: Callable[[], tuple[Collection[str], Collection[str]]] = lambda: ((), ())
        """Returns the regions that people prefer and those that they avoid."""

    def now(self) -> tuple[str, ...]:
        """Return every region, the one to try first at the beginning."""
        with self._lock:
            self._current = by_time(self._current, self._fixed, self._seconds())
            current = self._current
        prefer, avoid = self.overrides()
        return with_overrides(current, prefer, avoid) if prefer or avoid else current

    def of(self, regions: Collection[str]) -> tuple[str, ...]:
        """Return `regions` in the order of now."""
        if len(regions) == 1:
            return tuple(regions)
        return tuple(region for region in self.now() if region in regions)
