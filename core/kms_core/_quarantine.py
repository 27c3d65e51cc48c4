"""Keys that are left out in one region for a while because of their state there, which is not the region's fault."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from kms_core._observe import Emit
from kms_core.clock import Clock
from kms_core.events import KeyQuarantined

QUARANTINE_SECONDS = 30.0


class Quarantine:
    """Remembers (region, purpose) pairs, each for 30 seconds. Safe to call from any thread."""

    def __init__(self, *, clock: Clock, emit: Emit | None) -> None:
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._until: dict[tuple[str, str], float] = {}

    def add(self, region: str, purpose: str, error_code: str) -> None:
        """Leave the key of `purpose` out in `region` from now on."""
        with self._lock:
            self._until[region, purpose] = self._clock.monotonic() + QUARANTINE_SECONDS
        if self._emit is not None:
            self._emit(
                KeyQuarantined(region=region, purpose=purpose, error_code=error_code, seconds=QUARANTINE_SECONDS)
            )

    def without(self, regions: Iterable[str], purpose: str) -> tuple[str, ...]:
        """Return those of `regions` in which the key of `purpose` may be used."""
        if not self._until:
            return tuple(regions)
        now = self._clock.monotonic()
        with self._lock:
            self._until = {pair: until for pair, until in self._until.items() if until > now}
            return tuple(region for region in regions if (region, purpose) not in self._until)
