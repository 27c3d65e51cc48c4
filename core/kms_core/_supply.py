"""Where data keys come from when the cache has none to give.

From KMS, ahead of time where possible; in an outage of every region, when that was asked for, a key that has expired.

Only `Supply` knows of time-outs, refreshes and stale keys; the cache itself counts and keeps.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kms_core._breakers import Breakers
from kms_core._bulkhead import CLOSE_SECONDS, Lane
from kms_core._cache import DataKeyCache
from kms_core._deadline import Deadline
from kms_core._keyring import KeyRing
from kms_core._observe import Emit
from kms_core.clock import Clock
from kms_core.config import CoreConfig
from kms_core.errors import AttemptFailure, ClosedError, KmsCoreError, KmsDeniedError, KmsUnavailableError
from kms_core.events import CacheRefreshed, CoreOperation, StaleKeyUsed
from kms_core.kms import KmsFailure
from kms_core.taxonomy import DEADLINE, SATURATED, classify

V = TypeVar("V")
BACKGROUND_LANE = "background"
OUTAGE_SECONDS = 5.0
"""While every region is away, one caller in so long asks KMS again; the others do not wait for that."""
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
        self._caches: list[DataKeyCache[Any, Any]] = []
        self._outages: dict[str, float] = {}
        """Purpose whose regions are all away, to when they are asked again."""
        self._stale_uses: dict[str, int] = {}

    def serve(self, *caches: DataKeyCache[Any, Any]) -> None:
        """Have revocation reach all of `caches`, whichever asked. Their entries' first member is the purpose."""
        self._caches.extend(caches)

    def fetch(
        self,
        cache: DataKeyCache[Any, V],
        entry: tuple[Any, ...],
        make: Callable[[Deadline], V],
        deadline: Deadline,
        *,
        operation: CoreOperation,
        size: int = 0,
    ) -> V:
        """Return a data key for `entry`, whose first member is its purpose, with one use for `size` bytes counted.

        Raises:
            KmsCoreError: what `make` raised, when no stale key may help out.
        """
        purpose: str = entry[0]
        known = purpose in self._outages and cache.has_stale(entry, size)
        if known:
            asking = self._shall_ask(purpose, deadline)
            if asking is None and (stale := self._stale(cache, entry, operation, size)) is not None:
                return stale
            deadline = asking or deadline
        try:
            value = cache.reserve_or_fetch(entry, lambda: make(deadline), deadline, size=size, again=make)
        except KmsUnavailableError as e:
            if not self._may_use_stale(purpose) or not self._everywhere(purpose, e, known=known):
                raise
            if (stale := self._stale(cache, entry, operation, size)) is None:
                raise
            with self._lock:
                self._outages[purpose] = self._clock.monotonic() + OUTAGE_SECONDS
            return stale
        except KmsDeniedError as e:
            self._revoke(purpose, e)
            raise
        self._outage_ended(purpose)
        return value

    def refresh(self, cache: DataKeyCache[Any, V], entry: tuple[Any, ...], operation: CoreOperation) -> None:
        """Fetch the successor of `entry` in the background; the present key serves meanwhile.

        Later, when no region would be asked now: background work makes no outage worse.
        """
        if self._may_ask(entry[0]):
            with contextlib.suppress(ClosedError):
                self._lane.submit(lambda: self._fetch_next(cache, entry, operation))
        else:
            cache.not_now(entry)

    def stale_uses(self) -> Mapping[str, int]:
        """Return purpose to how often an expired key was used."""
        with self._lock:
            return dict(self._stale_uses)

    def cached(self) -> int:
        """Return how many data keys are kept."""
        return sum(len(cache) for cache in self._caches)

    def evicted(self) -> Mapping[str, int]:
        """Return how many were let go of, by reason (`DataKeyCache.evicted`)."""
        total = Counter[str]()
        for cache in self._caches:
            total.update(cache.evicted())
        return total

    def close(self) -> None:
        """End the threads that refresh."""
        self._lane.close()
        self._lane.join(CLOSE_SECONDS)

    def _shall_ask(self, purpose: str, deadline: Deadline) -> Deadline | None:
        """Return how long KMS may be asked in a known outage; None: this caller does not ask.

        One caller at a time, once in a while, and for no longer than an attempt: the others use stale keys meanwhile.
        """
        now, seconds = self._clock.monotonic(), min(deadline.left(), self._config.attempt_timeout_seconds)
        with self._lock:
            if now < self._outages.get(purpose, now):
                return None
            self._outages[purpose] = now + seconds + OUTAGE_SECONDS
        return Deadline(self._clock, seconds, attempts=deadline.attempts)

    def _fetch_next(self, cache: DataKeyCache[Any, V], entry: tuple[Any, ...], operation: CoreOperation) -> None:
        if not self._may_ask(entry[0]):  # others of the same moment have found out
            cache.not_now(entry)
            return
        error_code = ""
        try:
            if not cache.fetch_next(entry, Deadline(self._clock, self._config.deadline_seconds)):
                return
        except ClosedError:
            return
        except KmsCoreError as e:  # the key that is there serves on, until its own time ends
            error_code = e.error_code or type(e).__name__
            if isinstance(e, KmsDeniedError):
                self._revoke(entry[0], e)
        else:
            self._outage_ended(entry[0])
        if self._emit is not None:
            self._emit(CacheRefreshed(purpose=entry[0], operation=operation, error_code=error_code))

    def _may_ask(self, purpose: str) -> bool:
        return any(self._breakers.admits(region) for region in self._keyring.regions(purpose))

    def _outage_ended(self, purpose: str) -> None:
        if purpose in self._outages:  # looked at without the lock: usually there is none
            with self._lock:
                self._outages.pop(purpose, None)

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

    def _everywhere(self, purpose: str, error: KmsUnavailableError, *, known: bool) -> bool:
        """Return whether every region that has the key failed now, or is known by its breaker to fail.

        One that throttles has answered; one that we had no worker or no time left for has said nothing. An outage that
        is `known` goes on until a region answers.
        """
        said = {attempt.region: set[bool | None]() for attempt in error.attempts}
        for attempt in error.attempts:
            said[attempt.region].add(self._says_outage(attempt))
        if known:
            return not any(False in words for words in said.values())
        away = {region for region, words in said.items() if True in words and False not in words}
        unasked = {region for region, words in said.items() if words == {None}}
        return bool(away) and all(
            region in away or ((region not in said or region in unasked) and not self._breakers.closed(region))
            for region in self._keyring.regions(purpose)
        )

    def _says_outage(self, attempt: AttemptFailure) -> bool | None:
        """Return whether `attempt` found its region away; None when it says nothing of it."""
        patience = min(self._config.slow_call_seconds, self._config.attempt_timeout_seconds)
        cut_short = attempt.error_code == DEADLINE and attempt.seconds < patience
        if cut_short or attempt.error_code == SATURATED:
            return None
        return classify(KmsFailure(attempt.error_code), attempt.operation).counts

    def _revoke(self, purpose: str, error: KmsDeniedError) -> None:
        """Let no key of `purpose` outlive its time when KMS itself said, in any region, that it shall not be used."""
        if any(attempt.error_code in _REVOKED for attempt in error.attempts):
            for cache in self._caches:
                cache.revoke(lambda entry: bool(entry[0] == purpose))
            self._outage_ended(purpose)
