"""A second request beside one that is late, to another region: off by default, rare, and never hidden from the breaker.

What it costs is about one request in twenty; what it cuts is the tail. Whoever loses counts as slow, else a region
that is always late would never be left, at double load.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from kms_core._breakers import Breakers
from kms_core._budget import full
from kms_core._observe import Emit
from kms_core._regions import A, AttemptFailedError, Flight, Regions, Request
from kms_core._timing import Timings
from kms_core.clock import Clock
from kms_core.events import Hedged
from kms_core.kms import DESCRIBE_KEY

SHARE = 0.05
BURST = 5.0
_LEAST_DELAY_SECONDS = 0.05
_USUAL_DELAY_SECONDS = 0.25


def delay_seconds(usual: float | None) -> float:
    """Return how long to wait before a hedge: what 95 of 100 answers need, or 250 ms while too few are known."""
    return _USUAL_DELAY_SECONDS if usual is None else max(_LEAST_DELAY_SECONDS, usual)


@dataclass(frozen=True, slots=True)
class Won(Generic[A]):
    """The answer, and the region that gave it."""

    answer: A
    region: str
    beside: tuple[AttemptFailedError, ...] = ()
    """What failed while this was answered."""


class Hedging:
    """Sends hedges. Safe to call from any thread."""

    def __init__(
        self, regions: Regions, breakers: Breakers, timings: Timings, *, clock: Clock, emit: Emit | None
    ) -> None:
        self._regions = regions
        self._breakers = breakers
        self._timings = timings
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._budget = full(BURST)

    def finish(
        self,
        request: Request[A],
        flight: Flight[A],
        region: str,
        others: Sequence[str],
        seconds: float,
        *,
        final: Callable[[AttemptFailedError], bool],
    ) -> Won[A]:
        """Return the answer of `flight`, or of a hedge to the first of `others` that is well, within `seconds`.

        What `flight` failed with ends both when it is `final`: no other region may be asked then.

        Raises:
            AttemptFailedError: both failed, or took longer.
        """
        ends_at = self._clock.monotonic() + seconds
        delay = min(seconds, delay_seconds(self._timings.percentile(region, 0.95)))
        other = next((name for name in others if self._breakers.closed(name)), None)
        if request.operation == DESCRIBE_KEY or flight.ready(delay) or other is None or not self._pays():
            return Won(flight.finish(self._left(ends_at)), region)
        admission = self._breakers.admit(other)
        if admission is None:
            return Won(flight.finish(self._left(ends_at)), region)
        hedge = self._regions.begin(request, other, admission)
        return self._race(request, (flight, region), (hedge, other), ends_at, final)

    def _race(
        self,
        request: Request[A],
        first: tuple[Flight[A], str],
        second: tuple[Flight[A], str],
        ends_at: float,
        final: Callable[[AttemptFailedError], bool],
    ) -> Won[A]:
        landed = threading.Event()
        first[0].then(landed.set)
        second[0].then(landed.set)
        self._clock.wait(landed, self._left(ends_at))
        ahead, behind = (first, second) if first[0].ready(0) or not second[0].ready(0) else (second, first)
        try:
            answer = ahead[0].finish(self._left(ends_at))
        except AttemptFailedError as e:
            if ahead is first and final(e):
                second[0].leave()
                raise
            return self._other(request, behind, first, second, e, ends_at)
        if behind is first:
            first[0].lose()
        else:
            second[0].leave()
        self._tell(request, first[1], second[1], won=ahead is second)
        return Won(answer, ahead[1])

    def _other(
        self,
        request: Request[A],
        behind: tuple[Flight[A], str],
        first: tuple[Flight[A], str],
        second: tuple[Flight[A], str],
        failed: AttemptFailedError,
        ends_at: float,
    ) -> Won[A]:
        """Return the answer of who is left after the other `failed`."""
        try:
            answer = behind[0].finish(self._left(ends_at))
        except AttemptFailedError as e:
            e.before = (failed,)
            raise
        self._tell(request, first[1], second[1], won=behind is second)
        return Won(answer, behind[1], beside=(failed,))

    def _pays(self) -> bool:
        with self._lock:
            affords = self._budget.affords(1.0)
            if affords:
                self._budget = self._budget.paid(1.0)
            return affords

    def called(self) -> None:
        """A call begins: it brings its share of a later hedge."""
        with self._lock:
            self._budget = self._budget.refilled(SHARE)

    def _left(self, ends_at: float) -> float:
        return max(0.0, ends_at - self._clock.monotonic())

    def _tell(self, request: Request[A], region: str, other: str, *, won: bool) -> None:
        if self._emit is not None:
            self._emit(
                Hedged(region=region, other=other, operation=request.operation, purpose=request.purpose, won=won)
            )
