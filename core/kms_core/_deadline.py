"""How long a call of the application may still take."""

from __future__ import annotations

from kms_core.clock import Clock


class Deadline:
    """An end in time, for all that one call does."""

    __slots__ = ("_clock", "_ends_at")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._ends_at = clock.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self._ends_at - self._clock.monotonic())
