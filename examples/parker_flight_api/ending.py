"""That somebody has asked the process to end: noted from its first moment on, so a stop in the start is clean too."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self


class Ending:
    """Whether SIGTERM or SIGINT has come. The handler takes no lock: it may interrupt anything."""

    def __init__(self) -> None:
        self.asked = False

    @classmethod
    @contextmanager
    def by_signals(cls) -> Iterator[Self]:
        """Listen while the block runs, and as PID 1 too, which has no default handlers. Main thread only."""
        made = cls()
        before = {number: signal.signal(number, made.note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield made
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """Take note."""
        self.asked = True
