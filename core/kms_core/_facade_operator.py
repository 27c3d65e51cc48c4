"""What a person or a drill may do to a running core, always for a time: force a breaker, override the order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kms_core._breakers import Breakers
from kms_core._forced import ForcedState
from kms_core._observe import Emit
from kms_core._order import Order
from kms_core._override_watch import OverrideWatch
from kms_core.clock import Clock
from kms_core.config import CoreConfig
from kms_core.errors import ConfigurationError
from kms_core.overrides import OverrideSource, RegionOverride


class OperatorFacade:
    """The operator's part of `Core`."""

    _config: CoreConfig
    _breakers: Breakers
    _clock: Clock
    _closing: threading.Event
    _overrides: OverrideWatch | None = None

    if TYPE_CHECKING:

        def _refuse_if_forked(self) -> None: ...

    def overrides(self) -> tuple[RegionOverride, ...]:
        """Return people's overrides that are in force now."""
        return self._overrides.current() if self._overrides is not None else ()

    def overrides_unreadable(self) -> str:
        """Return why people's overrides cannot be read now, and what was read last is in force; empty if they can."""
        return self._overrides.unreadable() if self._overrides is not None else ""

    def read_overrides(self) -> None:
        """Read the overrides now, in this thread, and not only when the interval has passed."""
        if self._overrides is not None:
            self._overrides.read()

    def force(self, region: str, state: ForcedState, *, for_seconds: float, reason: str) -> None:
        """Hold the breaker of `region` `open` or `closed`; afterwards it goes on as it was before.

        Forced open, the region is asked only when every other one is refused too. Whoever forces may crash: the time
        ends by itself, after a day at most.

        Raises:
            ConfigurationError: no such region or state, no reason, or a time that is not within a day.
        """
        self._refuse_unknown(region)
        self._breakers.force(region, state, for_seconds, reason)

    def unforce(self, region: str) -> None:
        """Let the breaker of `region` go its own way again; it may not have been forced at all.

        Raises:
            ConfigurationError: no such region is configured.
        """
        self._refuse_unknown(region)
        self._breakers.unforce(region)

    def _watch_overrides(self, source: OverrideSource | None, order: Order, emit: Emit | None) -> None:
        if source is not None:
            self._overrides = OverrideWatch(source, clock=self._clock, emit=emit)
            order.overrides = self._overrides.regions

    def _start_watch(self, interval_seconds: float | None) -> None:
        if self._overrides is not None and interval_seconds is not None:
            self._overrides.start(interval_seconds, self._closing)

    def _join_watch(self) -> None:
        if self._overrides is not None:
            self._overrides.join()

    def _refuse_unknown(self, region: str) -> None:
        self._refuse_if_forked()
        if region not in self._config.regions:
            raise ConfigurationError(f"region {region!r} is not configured; {', '.join(self._config.regions)} are")
