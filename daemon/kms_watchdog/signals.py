"""Signals that ask a process to end, handed to something that may take locks."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def told_by_signals(tell: Callable[[str], object]) -> Iterator[None]:
    """Have `tell` called with the name of each SIGINT, SIGTERM and SIGHUP while the block runs. Main thread only.

    The handler only puts a number into a SimpleQueue, which is made for that; a thread does the rest.
    """
    received: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(number: int, _frame: FrameType | None) -> None:
        received.put(number)

    def hand_on() -> None:
        while number := received.get():
            tell(signal.Signals(number).name)

    teller = threading.Thread(target=hand_on, name="signals", daemon=True)
    teller.start()
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        received.put(0)
        teller.join()
