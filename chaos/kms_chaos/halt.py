"""One way to stop a drill: a halt that every wait looks at, called by a signal or by the second timer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kms_core.clock import Clock
from kms_watchdog.signals import told_by_signals


class HaltedError(Exception):
    """The drill was told to stop; the message says by whom. Whoever waits lets go, and what was broken is restored."""


class Halt:
    """Set once, with a reason; waited on by all."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._lock = threading.Lock()
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why; empty while nobody has called."""
        return self._reason

    def call(self, reason: str) -> None:
        """Stop the drill; the first reason stands. Not for signal handlers, which must not take locks."""
        with self._lock:
            self._reason = self._reason or reason
        self.event.set()

    def pause(self, clock: Clock, seconds: float) -> None:
        """Wait for `seconds`.

        Raises:
            HaltedError: at once when somebody calls a halt.
        """
        if clock.wait(self.event, seconds):
            raise HaltedError(self.reason)


@contextmanager
def on_signals(halt: Halt) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP call `halt` while the block runs, as often as they come. Main thread only."""
    with told_by_signals(halt.call):
        yield


@contextmanager
def second_timer(clock: Clock, seconds: float, ring: threading.Event, on_time_up: threading.Thread) -> Iterator[None]:
    """Start `on_time_up` when `seconds` have passed and the block is still running; `ring` ends the wait."""

    def watch() -> None:
        if not clock.wait(ring, seconds):
            on_time_up.start()

    timer = threading.Thread(target=watch, name="second-timer", daemon=True)
    timer.start()
    try:
        yield
    finally:
        ring.set()
        timer.join()
        if on_time_up.ident is not None:
            on_time_up.join()
