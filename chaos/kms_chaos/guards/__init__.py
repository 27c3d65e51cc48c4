"""What must be true before a drill may touch anything, and while a fault is on. Guards fail closed."""

from __future__ import annotations

from kms_chaos.guards.before import (
    alarms_are_quiet,
    daemon_watches,
    nobody_halts,
    nothing_is_left_over,
    only_drill,
    window_is_open,
)
from kms_chaos.guards.checking import CannotTellError, Guard, GuardResult, NotHeldError, RefusedError, check
from kms_chaos.guards.watch import GuardWatch

__all__ = [
    "CannotTellError",
    "Guard",
    "GuardResult",
    "GuardWatch",
    "NotHeldError",
    "RefusedError",
    "alarms_are_quiet",
    "check",
    "daemon_watches",
    "nobody_halts",
    "nothing_is_left_over",
    "only_drill",
    "window_is_open",
]
