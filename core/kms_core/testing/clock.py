"""A clock that stands still until it is told to move."""

from __future__ import annotations

import datetime as dt
import threading

_POLL_SECONDS = 0.005
_MAX_POLLS = 12_000
"""One real minute: a test that waits longer than this for somebody to move the clock has a bug."""

EPOCH_UTC = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class ManualClock:
    """A `Clock` for tests: time moves by `advance` alone, or, with `auto_advance`, by whoever waits.

    Without `auto_advance`, `wait` really blocks its thread until the event is set or another thread has moved the
    clock far enough: for loops in threads. With it, `wait` moves the clock itself and returns at once: for code
    that pauses in the test's own thread.
    """

    def __init__(self, *, start_utc: dt.datetime = EPOCH_UTC, auto_advance: bool = False) -> None:
        self._lock = threading.Lock()
        self._start_utc = start_utc
        self._elapsed = 0.0
        self._waiting = 0
        self._auto_advance = auto_advance

    @property
    def waiting(self) -> int:
        """How many threads are in `wait` now."""
        return self._waiting

    def monotonic(self) -> float:
        """Return 1000 seconds and all that was added by `advance`."""
        return 1000.0 + self._elapsed

    def now_utc(self) -> dt.datetime:
        """Return the start and all that was added by `advance`."""
        return self._start_utc + dt.timedelta(seconds=self._elapsed)

    def advance(self, seconds: float) -> None:
        """Move time forward.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        with self._lock:
            self._elapsed += seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or the clock has moved by `seconds`; return whether the event is set.

        Raises:
            AssertionError: a real minute went by and nobody moved the clock.
        """
        due = self.monotonic() + max(seconds, 0.0)
        if self._auto_advance:
            if not event.is_set():
                self.advance(max(seconds, 0.0))
            return event.is_set()
        with self._lock:
            self._waiting += 1
        try:
            return self._until(event, due)
        finally:
            with self._lock:
                self._waiting -= 1

    def _until(self, event: threading.Event, due: float) -> bool:
        for _ in range(_MAX_POLLS):
            if event.is_set() or self.monotonic() >= due:
                return event.is_set()
            event.wait(_POLL_SECONDS)
        raise AssertionError("a real minute went by, and nobody moved the clock")
