"""One way to stop a drill: a halt that every wait looks at, called by a signal or by the second timer."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kms_core.clock import Clock


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
    """Let Ctrl-C, SIGTERM and SIGHUP call `halt` while the block runs, again and again without harm. Main thread only.

    The handler only puts a number into a SimpleQueue, which is made for that; a thread does the rest.
    """
    received: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(number: int, _frame: FrameType | None) -> None:
        received.put(number)

    def tell() -> None:
        while number := received.get():
            halt.call(signal.Signals(number).name)

    teller = threading.Thread(target=tell, name="signals", daemon=True)
    teller.start()
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        received.put(0)
        teller.join()


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
