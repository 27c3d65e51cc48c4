"""The data-key cache: kept for a time, used so many times, forgotten when others are needed more.

Its limits are per process. A use is reserved before it happens, so no limit is ever passed by threads that look at
the same time. A successor is fetched before the limits are reached, and takes over when they are. Buffers are not
zeroed: another thread may be using them; references are dropped.
"""

from __future__ import annotations

import collections
import random
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from kms_core._deadline import Deadline
from kms_core._single_flight import SingleFlight
from kms_core.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRIES = 1000
MAX_BYTES = 2**32
_REFRESH_SHARE = 0.8
_REFRESH_JITTER = 0.05
_NEVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how often an entry may be used."""

    ttl_seconds: float
    max_uses: int | None = None
    """None: no limit, as for opening, where using a key again adds no risk."""
    max_bytes: int = MAX_BYTES
    """Plaintext bytes under one key; a single message may be longer, and then has its key for itself."""
    entries: int = ENTRIES
    stale_seconds: float = 0.0
    """The age up to which `reserve_stale` gives an expired entry; 0: it never does."""


class _Entry(Generic[V]):
    __slots__ = (
        "again",
        "expires_at",
        "made_at",
        "refresh_at",
        "refresh_due",
        "refresh_uses",
        "revoked",
        "size",
        "successor",
        "uses",
        "value",
    )

    def __init__(self, value: V, made_at: float, expires_at: float, again: Callable[[Deadline], V] | None) -> None:
        self.value = value
        self.made_at = made_at
        self.expires_at = expires_at
        self.again = again
        """Makes a successor; None: none is wanted."""
        self.refresh_at = _NEVER
        self.refresh_uses = _NEVER
        self.refresh_due = False
        """Somebody was told to fetch a successor."""
        self.successor: _Entry[V] | None = None
        self.revoked = False
        self.uses = 0
        self.size = 0


class DataKeyCache(Generic[K, V]):
    """Values by key, fetched by one caller at a time for each key. Errors are never kept. Safe from any thread.

    Args:
        limits: of every entry.
        clock: its monotonic seconds count.
        refresh: called once with the key of an entry that has used up four fifths of its time or count, give or take;
            it shall have `fetch_next` called soon, in another thread. None: nothing is fetched ahead.
        rng: spreads those moments.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        *,
        refresh: Callable[[K], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._refresh = refresh
        self._rng = rng or random.SystemRandom()
        self._lock = threading.Lock()
        self._entries: collections.OrderedDict[K, _Entry[V]] = collections.OrderedDict()
        self._closed = False
        self._evicted = {"expired": 0, "used_up": 0, "full": 0}
        self._flights: SingleFlight[K] = SingleFlight(clock)

    def reserve(self, key: K, size: int = 0) -> V | None:
        """Return the value under `key`, with one use for `size` bytes already counted; None when there is none."""
        now = self._clock.monotonic()
        with self._lock:
            entry = self._usable(key, size, now)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            entry.uses += 1
            entry.size += size
            due = now >= entry.refresh_at or entry.uses >= entry.refresh_uses
            if due:
                entry.refresh_at = entry.refresh_uses = _NEVER
                entry.refresh_due = True
        if due and self._refresh is not None:
            self._refresh(key)
        return entry.value

    def reserve_or_fetch(
        self,
        key: K,
        fetch: Callable[[], V],
        deadline: Deadline,
        *,
        size: int = 0,
        again: Callable[[Deadline], V] | None = None,
    ) -> V:
        """Return the value under `key`, with one use counted; fetch it first when there is none.

        `again` is what `fetch_next` will fetch with.

        Raises:
            KmsCoreError: what `fetch` raised; KmsUnavailableError when `deadline` passed while another fetched.
        """
        mine: list[V] = []

        def fetch_and_keep() -> None:
            if (value := self.reserve(key, size)) is not None:  # another caller's landed just now
                mine.append(value)
                return
            value = fetch()
            entry = self._made(value, again)
            entry.uses, entry.size = 1, size
            self._keep(key, entry)
            mine.append(value)

        while not mine:
            self._flights.join(key, fetch_and_keep, deadline)
            if not mine and (value := self.reserve(key, size)) is not None:
                return value
        return mine[0]

    def fetch_next(self, key: K, deadline: Deadline) -> bool:
        """Fetch the value that follows the present one under `key`; who needs it before it is there waits for it.

        Only where `reserve` has asked for it. Returns whether it was fetched.

        Raises:
            KmsCoreError: the fetch failed; it is tried again a little later, when the entry is used.
        """
        entry = self._entries.get(key)
        if entry is None or entry.again is None or not entry.refresh_due or self._has_long(entry.successor):
            return False
        make, fetched = entry.again, []

        def fetch_and_keep() -> None:
            if self._entries.get(key) is not entry:  # somebody's miss was quicker
                return
            made = self._made(make(deadline), make)
            fetched.append(made)
            self._follow(key, entry, made)

        try:
            self._flights.join(key, fetch_and_keep, deadline)
        except BaseException:
            self._later(entry)
            raise
        return bool(fetched)

    def not_now(self, key: K) -> None:
        """Put off the refresh that `reserve` has asked for."""
        if (entry := self._entries.get(key)) is not None:
            self._later(entry)

    def _later(self, entry: _Entry[V]) -> None:
        entry.refresh_due = False
        entry.refresh_at = self._clock.monotonic() + self._limits.ttl_seconds * _REFRESH_JITTER

    def _follow(self, key: K, entry: _Entry[V], made: _Entry[V]) -> None:
        """Have `made` follow `entry`, or take its place when its time ended while `made` was fetched."""
        with self._lock:
            if self._closed:
                return
            if self._entries.get(key) is entry:
                entry.successor = made
            else:
                self._entries.setdefault(key, made)
                self._trim()

    def _has_long(self, entry: _Entry[V] | None) -> bool:
        return entry is not None and entry.expires_at - self._clock.monotonic() >= self._limits.ttl_seconds / 2

    def offer(self, key: K, value: V) -> None:
        """Keep a value that nobody waited for as what follows the present one under `key`, or as the first."""
        with self._lock:
            entry = self._entries.get(key)
            made = self._made(value, entry.again if entry is not None else None)
            if self._closed:
                return
            if entry is None:
                self._entries[key] = made
                self._trim()
            elif entry.successor is None:
                entry.successor = made

    def reserve_stale(self, key: K, size: int = 0) -> tuple[V, float] | None:
        """Return the expired value under `key` and its age in seconds, with one use counted; None when it may not be.

        Its age is limited, and its uses and bytes are limited as ever.
        """
        now = self._clock.monotonic()
        with self._lock:
            if (entry := self._stale(key, size, now)) is None:
                return None
            entry.uses += 1
            entry.size += size
            return entry.value, now - entry.made_at

    def has_stale(self, key: K, size: int = 0) -> bool:
        """Return whether `reserve_stale` would give a value now."""
        with self._lock:
            return self._stale(key, size, self._clock.monotonic()) is not None

    def _stale(self, key: K, size: int, now: float) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry is None or entry.revoked or now >= entry.made_at + self._limits.stale_seconds:
            return None
        return entry if self._has_room(entry, size) else None

    def revoke(self, matches: Callable[[K], bool]) -> None:
        """Let no entry whose key `matches` be used beyond its time."""
        now = self._clock.monotonic()
        with self._lock:
            for key in [key for key in self._entries if matches(key)]:
                entry: _Entry[V] | None = self._entries[key]
                if entry is not None and now >= entry.expires_at:
                    del self._entries[key]
                while entry is not None:
                    entry.revoked, entry = True, entry.successor

    def __len__(self) -> int:
        return len(self._entries)

    def evicted(self) -> Mapping[str, int]:
        """Return how many entries were let go of: for their time, for their uses or bytes, for want of room."""
        with self._lock:
            return dict(self._evicted)

    def close(self) -> None:
        """Forget everything, and keep nothing any more."""
        with self._lock:
            self._closed = True
            self._entries.clear()

    def _made(self, value: V, again: Callable[[Deadline], V] | None) -> _Entry[V]:
        now, limits = self._clock.monotonic(), self._limits
        entry = _Entry(value, now, now + limits.ttl_seconds, again)
        if self._refresh is not None and again is not None:
            share = _REFRESH_SHARE + self._rng.uniform(-_REFRESH_JITTER, _REFRESH_JITTER)
            entry.refresh_at = now + share * limits.ttl_seconds
            entry.refresh_uses = _NEVER if limits.max_uses is None else max(1, int(share * limits.max_uses))
        return entry

    def _keep(self, key: K, entry: _Entry[V]) -> None:
        with self._lock:
            if self._closed:
                return
            before = self._entries.get(key)
            if before is not None and not before.uses:
                entry.successor = before  # an offer came first
            elif before is not None:
                self._count_out(before, self._clock.monotonic())
            self._entries[key] = entry
            self._entries.move_to_end(key)
            self._trim()

    def _trim(self) -> None:
        while len(self._entries) > self._limits.entries:
            self._entries.popitem(last=False)
            self._evicted["full"] += 1

    def _count_out(self, entry: _Entry[V], now: float) -> None:
        self._evicted["expired" if now >= entry.expires_at else "used_up"] += 1

    def _usable(self, key: K, size: int, now: float) -> _Entry[V] | None:
        """Return the entry to use, its successor when its own limits are reached; forget what is of no more use."""
        entry = self._entries.get(key)
        if entry is None or (now < entry.expires_at and self._has_room(entry, size)):
            return entry
        if (after := entry.successor) is not None:
            self._count_out(entry, now)
            self._entries[key] = entry = after
            if now < after.expires_at:
                return after
        if entry.revoked or now >= entry.made_at + self._limits.stale_seconds:
            self._count_out(entry, now)
            del self._entries[key]
        return None

    def _has_room(self, entry: _Entry[V], size: int) -> bool:
        limits = self._limits
        if limits.max_uses is not None and entry.uses >= limits.max_uses:
            return False
        return entry.size + size <= limits.max_bytes
