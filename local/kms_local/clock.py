"""The only module of `kms_local` that reads a clock; everything else is handed the time."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Where a server gets the time from; a test moves it by hand."""

    def now(self) -> float:
        """Return POSIX time, in seconds: what answers, alarms and signatures are stamped with."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary instant, never going back: what durations are measured with."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return POSIX time, in seconds."""
        return time.time()  # noqa: TID251  the one place that reads it

    def monotonic(self) -> float:
        """Return seconds since an arbitrary instant, never going back."""
        return time.monotonic()  # noqa: TID251  the one place that reads it


def iso_utc(now: float) -> str:
    """Return POSIX time `now` as `2026-11-24T03:15:07.123Z`."""
    return f"{_iso_second(int(now))}.{int(now * 1000) % 1000:03d}Z"


def http_date(now: float) -> str:
    """Return POSIX time `now` as an HTTP date (RFC 9110, section 5.6.7)."""
    return _http_second(int(now))


@lru_cache(maxsize=8)  # a server asks thousands of times a second for the same one
def _iso_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@lru_cache(maxsize=8)
def _http_second(second: int) -> str:
    moment = time.gmtime(second)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.tm_wday]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    month = months[moment.tm_mon - 1]  # not strftime: a locale may not change the wire
    return f"{day}, {moment.tm_mday:02d} {month} {moment.tm_year} " + time.strftime("%H:%M:%S GMT", moment)
