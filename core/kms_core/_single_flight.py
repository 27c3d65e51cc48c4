"""Many callers who want the same thing at the same time: one of them fetches it, the others wait for that."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from kms_core._deadline import Deadline
from kms_core.clock import Clock
from kms_core.errors import ClosedError, KmsCoreError, KmsUnavailableError

K = TypeVar("K", bound=Hashable)
_GRACE_SECONDS = 0.1
"""Who waits began a little later than who fetches, and has a deadline of the same length: what comes in its last
moment, an answer or the list of what failed where, is worth waiting for."""


class _Flight:
    def __init__(self) -> None:
        self.landed = threading.Event()
        self.error: KmsCoreError | None = None


class SingleFlight(Generic[K]):
    """At most one `fetch` for a key at a time. Nothing is remembered once it has landed, errors least of all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._flights: dict[K, _Flight] = {}

    def join(self, key: K, fetch: Callable[[], None], deadline: Deadline) -> None:
        """Run `fetch`, or wait until the caller who is running it for `key` is done; it keeps what it got itself.

        Raises:
            KmsCoreError: what `fetch` raised, in every caller that waited for it.
            KmsUnavailableError: the caller's own deadline passed first.
        """
        with self._lock:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if leads:
            self._lead(key, flight, fetch)
            return
        if not self._clock.wait(flight.landed, deadline.left() + _GRACE_SECONDS):
            raise KmsUnavailableError("no time was left to wait for another caller's request")
        if flight.error is not None and not isinstance(flight.error, ClosedError):
            raise copy.copy(flight.error) from flight.error  # one exception raised in many threads mixes their traces

    def _lead(self, key: K, flight: _Flight, fetch: Callable[[], None]) -> None:
        try:
            fetch()
        except KmsCoreError as e:
            flight.error = e
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()
