"""End this process when the one that started it is gone, however it went: `make` killed with SIGKILL tells nobody."""

from __future__ import annotations

import os
import signal
import threading

from kms_core.clock import SystemClock

_LOOK_SECONDS = 0.3


def end_with_parent() -> None:
    """Send this process SIGTERM once its parent is no longer the one it has now."""
    parent = os.getppid()
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    clock, never = SystemClock(), threading.Event()
    while os.getppid() == parent:
        clock.wait(never, _LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
