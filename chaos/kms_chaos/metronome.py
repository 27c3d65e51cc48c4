"""A thread that only wakes in time: how late it wakes is how long this machine, or this process, stood still.

All that a drill measures stands still with it, what the cache answers as much as what KMS does; whoever judges how long
something took must know of it.
"""

from __future__ import annotations

import threading

from kms_chaos.tape import Tape
from kms_core.clock import Clock

TICK_SECONDS = 0.05
LATE_SECONDS = 0.25
"""What a busy machine does all the time is not told."""


def keep_time(clock: Clock, tape: Tape, over: threading.Event) -> None:
    """Wake at every tick until `over` is set, and tell `tape` of each time that this came late."""
    before = clock.monotonic()
    while not clock.wait(over, TICK_SECONDS):
        now = clock.monotonic()
        late = now - before - TICK_SECONDS
        if late >= LATE_SECONDS:
            tape.record("machine-stalled", seconds=round(late, 6))
        before = now
