"""The data-key cache: kept for a time, used so many times, forgotten when others are needed more.

Its limits are per process. A use is reserved before it happens, so no limit is ever passed by threads that look at
the same time. Buffers are not zeroed: another thread may be using them; references are dropped.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kms_core._deadline import Deadline
from kms_core._single_flight import SingleFlight
from kms_core.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRIES = 1000
MAX_BYTES = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how often an entry may be used."""

    ttl_seconds: float
    max_uses: int | None = None
    """None: no limit, as for opening, where using a key again adds no risk."""
    max_bytes: int = MAX_BYTES
    """Plaintext bytes under one key; a single message may be longer, and then has its key for itself."""
    entries: int = ENTRIES


class _Entry(Generic[V]):
    __slots__ = ("expires_at", "size", "uses", "value")

    def __init__(self, value: V, expires_at: float) -> None:
        self.value = value
        self.expires_at = expires_at
        self.uses = 0
        self.size = 0


class DataKeyCache(Generic[K, V]):
    """Values by key, fetched by one caller at a time for each key. Errors are never kept. Safe from any thread."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: collections.OrderedDict[K, _Entry[V]] = collections.OrderedDict()
        self._flights: SingleFlight[K] = SingleFlight(clock)

    def reserve(self, key: K, size: int = 0) -> V | None:
        """Return the value under `key`, with one use for `size` bytes already counted; None when there is none."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if not self._usable(entry, size):
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            entry.uses += 1
            entry.size += size
            return entry.value

    def reserve_or_fetch(self, key: K, fetch: Callable[[], V], deadline: Deadline, *, size: int = 0) -> V:
        """Return the value under `key`, with one use counted; fetch it first when there is none.

        Raises:
            KmsCoreError: what `fetch` raised; KmsUnavailableError when `deadline` passed while another fetched.
        """
        mine: list[V] = []

        def fetch_and_keep() -> None:
            if (value := self.reserve(key, size)) is not None:  # another caller's landed just now
                mine.append(value)
                return
            value = fetch()
            self._keep(key, value, size)
            mine.append(value)

        while not mine:
            self._flights.join(key, fetch_and_keep, deadline)
            if not mine and (value := self.reserve(key, size)) is not None:
                return value
        return mine[0]

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def _keep(self, key: K, value: V, size: int) -> None:
        entry = _Entry(value, self._clock.monotonic() + self._limits.ttl_seconds)
        entry.uses, entry.size = 1, size
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            while len(self._entries) > self._limits.entries:
                self._entries.popitem(last=False)

    def _usable(self, entry: _Entry[V], size: int) -> bool:
        limits = self._limits
        if limits.max_uses is not None and entry.uses >= limits.max_uses:
            return False
        return entry.size + size <= limits.max_bytes and self._clock.monotonic() < entry.expires_at
