"""What this process asks of KMS in each region: requests and refusals for load, over a moving window.

Counts come from the crypto core's events and from the canaries' own management calls. Drills are left out: their
throttling is made, and their requests are not the watchdog's.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from kms_core.clock import Clock
from kms_core.events import Attempt
from kms_watchdog.canaries.finding import THROTTLING_CODES
from kms_watchdog.results import Mode
from kms_watchdog.sinks.sink import Seen

SLOTS = 60
"""Into how many parts the window is cut: it moves by one of them, and memory is bounded by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One region's traffic in the window."""

    cryptographic: int
    """Requests that use a key: they share one quota (aws.md §3)."""
    management: int
    throttled: int
    seconds: float
    """How long was counted: the window, or less since the start."""


@dataclass(slots=True)
class _Slot:
    number: int
    cryptographic: int = 0
    management: int = 0
    throttled: int = 0


class Traffic:
    """An `EventSink` that counts; any thread may call any method."""

    def __init__(self, clock: Clock, *, window_seconds: float) -> None:
        self._clock, self._window_seconds = clock, window_seconds
        self._slot_seconds = window_seconds / SLOTS
        self._began = clock.monotonic()
        self._lock = threading.Lock()
        self._slots: dict[str, deque[_Slot]] = {}

    def on_event(self, seen: Seen) -> None:
        """Count an attempt of the daemon's own core."""
        event = seen.event
        if isinstance(event, Attempt) and seen.mode is Mode.LIVE:
            self._count(event.region, event.error_code, cryptographic=event.operation in _CRYPTOGRAPHIC)

    def on_call(self, region: str, error_code: str) -> None:
        """Count a management call (`kms_admin.OnCall`)."""
        self._count(region, error_code, cryptographic=False)

    def load(self, region: str) -> Load:
        """Return what there was in the window up to now."""
        now = self._clock.monotonic()
        with self._lock:
            slots = [slot for slot in self._slots.get(region, ()) if slot.number > self._number(now) - SLOTS]
        return Load(
            cryptographic=sum(slot.cryptographic for slot in slots),
            management=sum(slot.management for slot in slots),
            throttled=sum(slot.throttled for slot in slots),
            seconds=min(self._window_seconds, now - self._began),
        )

    def _count(self, region: str, error_code: str, *, cryptographic: bool) -> None:
        number = self._number(self._clock.monotonic())
        with self._lock:
            slots = self._slots.setdefault(region, deque(maxlen=SLOTS))
            if not slots or slots[-1].number < number:
                slots.append(_Slot(number))
            slot = slots[-1]
            slot.cryptographic += cryptographic
            slot.management += not cryptographic
            slot.throttled += error_code in THROTTLING_CODES

    def _number(self, now: float) -> int:
        return int(now / self._slot_seconds)


_CRYPTOGRAPHIC = frozenset({"GenerateDataKey", "Decrypt"})
