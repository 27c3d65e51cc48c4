"""Orders of a person to the drill's own core: which regions it is to ask last, for as long as the drill says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from kms_core.clock import Clock
from kms_core.overrides import RegionOverride

_HOURS = 1
"""How long an order would last if nobody took it back; the drill does, and dies sooner."""


class Orders:
    """An `OverrideSource` in memory: it ends with the drill's process. For any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._avoided: list[str] = []
        self.follow: Callable[[], None] = lambda: None
        """Has the core read the orders now; set once there is a core."""

    @property
    def name(self) -> str:
        """What an event calls it."""
        return "drill"

    def read(self) -> list[RegionOverride]:
        """Return all orders in force."""
        until = self._clock.now_utc() + timedelta(hours=_HOURS)
        with self._lock:
            regions = tuple(self._avoided)
        return [RegionOverride(region=r, kind="avoid", until_utc=until, reason="drill") for r in dict.fromkeys(regions)]

    @property
    def avoided(self) -> list[str]:
        """The regions that are to be asked last."""
        return [order.region for order in self.read()]

    @contextmanager
    def avoid(self, region: str) -> Iterator[None]:
        """Have the core ask `region` last during the block."""
        with self._lock:
            self._avoided.append(region)
        try:
            self.follow()
            yield
        finally:
            with self._lock:
                self._avoided.remove(region)
            self.follow()
