"""The time a canary's steps take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kms_core.clock import Clock


class Steps:
    """A stopwatch over one run; a step that fails is timed too. A step of a name that was there adds to it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started_at_utc = clock.now_utc()
        self._started = clock.monotonic()
        self.seconds: dict[str, float] = {}
        """Seconds by step."""
        self.current = ""
        """The step that began last: where a run that failed has stopped."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside as `name`."""
        self.current = name
        began = self._clock.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock.monotonic() - began

    def elapsed_seconds(self) -> float:
        """Return the seconds since the run began."""
        return self._clock.monotonic() - self._started
