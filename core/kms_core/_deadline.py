"""How long a call of the application may still take, and how many requests."""

from __future__ import annotations

from kms_core.clock import Clock


class Deadline:
    """An end for all that one call does: in time, and in requests where `attempts` is given. For one thread."""

    __slots__ = ("_clock", "_ends_at", "attempts")

    def __init__(self, clock: Clock, seconds: float, *, attempts: int | None = None) -> None:
        self._clock = clock
        self._ends_at = clock.monotonic() + seconds
        self.attempts = attempts
        """How many requests for a data key may still go out; None: as many as one failover makes."""

    def left(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self._ends_at - self._clock.monotonic())
