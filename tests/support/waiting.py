"""Waiting for what happens in another thread or process, which nobody can hurry."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kms_core import SystemClock


def wait_until(what: Callable[[], object], *, says: str, seconds: float = 60.0) -> None:
    """Wait for a condition, with a deadline that is generous on purpose: the machine is slow at times."""
    clock, never = SystemClock(), threading.Event()
    until = clock.monotonic() + seconds
    while not what():
        assert clock.monotonic() < until, f"not within {seconds:.0f} s: {says}"
        clock.wait(never, 0.01)
