"""The one place in the product that reads a clock; everybody else takes a `Clock`."""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time as the product sees it: `SystemClock` in production, `kms_core.testing.ManualClock` in tests."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin; never goes back, says nothing about the date."""
        ...

    def now_utc(self) -> dt.datetime:
        """Return the date and time, aware, in UTC; may jump when the machine's clock is set."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set, at most `seconds`; return whether it is set. The only way to sleep."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()  # noqa: TID251 - the clock is read here, so that it is read nowhere else

    def now_utc(self) -> dt.datetime:
        """Return the machine's date and time, aware, in UTC."""
        return dt.datetime.now(dt.UTC)  # noqa: TID251 - as above

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set, at most `seconds`; return whether it is set."""
        return event.wait(max(seconds, 0.0))
