"""How much may be asked again: token buckets as pure values, and those of every region under one lock.

A retry in the same region multiplies load that may be what broke it, so it is paid for by earlier successes (about
one in ten). The first hop to another region is free: that moves load and does not multiply it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

RETRY_CAPACITY = 100.0
RETRY_COST = 10.0
THROTTLED_RETRY_COST = 5.0
SPILL_CAPACITY = 10.0
SPILL_SHARE = 0.1
"""A throttled region sends at most about so much of its load to the next one, which would be throttled too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Tokens, from 0 to `capacity`."""

    capacity: float
    tokens: float

    def __post_init__(self) -> None:
        if not 0 <= self.tokens <= self.capacity:
            raise ValueError(f"tokens must be from 0 to {self.capacity}, not {self.tokens}")

    def affords(self, cost: float) -> bool:
        """Return whether `cost` can be paid; what is owed by rounding alone is forgiven."""
        return self.tokens >= cost - 1e-9

    def paid(self, cost: float) -> Bucket:
        """Return what is left after `cost`, never below nothing."""
        return replace(self, tokens=max(0.0, self.tokens - cost))

    def refilled(self, tokens: float) -> Bucket:
        """Return the bucket with `tokens` more, never above its capacity."""
        return replace(self, tokens=min(self.capacity, self.tokens + tokens))


def full(capacity: float) -> Bucket:
    """Return a bucket with all that it can hold."""
    return Bucket(capacity=capacity, tokens=capacity)


class Budgets:
    """Each region's retries, and its throttled calls' hops to the next region. Safe to call from any thread."""

    def __init__(self, regions: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._retries = dict.fromkeys(regions, full(RETRY_CAPACITY))
        self._spills = dict.fromkeys(self._retries, full(SPILL_CAPACITY))

    def called(self, region: str) -> None:
        """A call begins in `region`: it brings its share of a later spill."""
        with self._lock:
            self._spills[region] = self._spills[region].refilled(SPILL_SHARE)

    def succeeded(self, region: str) -> None:
        """`region` has answered well: it has earned a tenth of a retry."""
        with self._lock:
            self._retries[region] = self._retries[region].refilled(1.0)

    def retry(self, region: str, *, throttled: bool) -> bool:
        """Pay for asking `region` again, and return whether that was possible."""
        return self._pay(self._retries, region, THROTTLED_RETRY_COST if throttled else RETRY_COST)

    def spill(self, region: str) -> bool:
        """Pay for one throttled call of `region` to go on elsewhere, and return whether that was possible."""
        return self._pay(self._spills, region, 1.0)

    def retries_left(self) -> Mapping[str, float]:
        """Return each region's tokens for retries."""
        return {region: bucket.tokens for region, bucket in self._retries.items()}

    def _pay(self, buckets: dict[str, Bucket], region: str, cost: float) -> bool:
        with self._lock:
            if not buckets[region].affords(cost):
                return False
            buckets[region] = buckets[region].paid(cost)
            return True
