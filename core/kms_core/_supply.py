"""Where data keys come from when the cache has none to give.

From KMS, ahead of time where possible; in an outage of every region, when that was asked for, a key that has expired.

Only `Supply` knows of time-outs, refreshes and stale keys; the cache itself counts and keeps.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kms_core._breakers import Breakers
from kms_core._bulkhead import Lane
from kms_core._cache import DataKeyCache
from kms_core._deadline import Deadline
from kms_core._keyring import KeyRing
from kms_core._observe import Emit
from kms_core.clock import Clock
from kms_core.config import CoreConfig
from kms_core.errors import ClosedError, KmsCoreError, KmsDeniedError, KmsUnavailableError
from kms_core.events import CacheRefreshed, CoreOperation, StaleKeyUsed

V = TypeVar("V")
REFRESH_LANE = "refresh"
OUTAGE_SECONDS = 5.0
"""After every region failed, stale keys are given at once for so long, before anybody waits for KMS again."""
_REVOKED = frozenset({"AccessDeniedException", "DisabledException", "KMSInvalidStateException", "NotFoundException"})


class Supply:
    """Fetches data keys into caches. Safe to call from any thread."""

    def __init__(
        self, config: CoreConfig, keyring: KeyRing, breakers: Breakers, lane: Lane, *, clock: Clock, emit: Emit | None
    ) -> None:
        self._config = config
        self._keyring = keyring
        self._breakers = breakers
        self._lane = lane
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._outage_until: dict[str, float] = {}
        self._stale_uses: dict[str, int] = {}

    def fetch(
        self,
        cache: DataKeyCache[Any, V],
        entry: tuple[Any, ...],
        make: Callable[[Deadline], V],
        *,
        operation: CoreOperation,
        size: int = 0,
    ) -> V:
        """Return a data key for `entry`, whose first member is its purpose, with one use for `size` bytes counted.

        Raises:
            KmsCoreError: what `make` raised, when no stale key may help out.
        """
        purpose: str = entry[0]
        if self._in_outage(purpose) and (stale := self._stale(cache, entry, operation, size)) is not None:
            return stale
        deadline = Deadline(self._clock, self._config.deadline_seconds)
        try:
            return cache.reserve_or_fetch(entry, lambda: make(deadline), deadline, size=size, again=make)
        except KmsUnavailableError as e:
            if not self._may_use_stale(purpose) or not self._everywhere(purpose, e):
                raise
            if (stale := self._stale(cache, entry, operation, size)) is None:
                raise
            with self._lock:
                self._outage_until[purpose] = self._clock.monotonic() + OUTAGE_SECONDS
            return stale
        except KmsDeniedError as e:
            self._revoke(cache, purpose, e)
            raise

    def refresh(self, cache: DataKeyCache[Any, V], entry: tuple[Any, ...], operation: CoreOperation) -> None:
        """Fetch the successor of `entry` in the background; the present key serves meanwhile."""
        with contextlib.suppress(ClosedError):
            self._lane.submit(lambda: self._refreshed(cache, entry, operation))

    def stale_uses(self) -> Mapping[str, int]:
        """Return purpose to how often an expired key was used."""
        with self._lock:
            return dict(self._stale_uses)

    def close(self) -> None:
        """End the threads that refresh."""
        self._lane.close()

    def _refreshed(self, cache: DataKeyCache[Any, V], entry: tuple[Any, ...], operation: CoreOperation) -> None:
        error_code = ""
        try:
            cache.fetch_next(entry, Deadline(self._clock, self._config.deadline_seconds))
        except ClosedError:
            return
        except KmsCoreError as e:  # the key that is there serves on, until its own time ends
            error_code = e.error_code or type(e).__name__
            if isinstance(e, KmsDeniedError):
                self._revoke(cache, entry[0], e)
        if self._emit is not None:
            self._emit(CacheRefreshed(purpose=entry[0], operation=operation, error_code=error_code))

    def _stale(
        self, cache: DataKeyCache[Any, V], entry: tuple[Any, ...], operation: CoreOperation, size: int
    ) -> V | None:
        found = cache.reserve_stale(entry, size)
        if found is None:
            return None
        value, age_seconds = found
        with self._lock:
            self._stale_uses[entry[0]] = self._stale_uses.get(entry[0], 0) + 1
        if self._emit is not None:
            self._emit(StaleKeyUsed(purpose=entry[0], operation=operation, age_seconds=age_seconds))
        return value

    def _may_use_stale(self, purpose: str) -> bool:
        strict = purpose == "payment" or self._config.strict(purpose)
        return self._config.stale_if_unavailable and not strict

    def _in_outage(self, purpose: str) -> bool:
        return self._clock.monotonic() < self._outage_until.get(purpose, 0.0)

    def _everywhere(self, purpose: str, error: KmsUnavailableError) -> bool:
        """Return whether every region that has the key failed now, or is known by its breaker to fail."""
        failed = {attempt.region for attempt in error.attempts}
        regions = self._keyring.regions(purpose)
        return bool(failed) and all(region in failed or not self._breakers.closed(region) for region in regions)

    def _revoke(self, cache: DataKeyCache[Any, V], purpose: str, error: KmsDeniedError) -> None:
        """Let no key of `purpose` outlive its time when KMS itself said that it shall not be used."""
        if error.error_code in _REVOKED:
            cache.revoke(lambda entry: entry[0] == purpose)
            with self._lock:
                self._outage_until.pop(purpose, None)
