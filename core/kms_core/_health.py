"""What a process knows of its regions and keys, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kms_core._breakers import Breakers
from kms_core._budget import Budgets
from kms_core._order import Order
from kms_core._regions import Regions
from kms_core._timing import Timings
from kms_core.events import BreakerState


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionHealth:
    """One region as this process sees it."""

    region: str
    breaker: BreakerState
    since_seconds: float
    """How long the breaker has been in this state."""
    joined: bool
    """Whether the region has answered this process yet."""
    requests: int = 0
    """How many this process has sent there."""
    smoothed_seconds: float | None = None
    """How long it takes to answer, of late; None before its first answer."""
    retry_tokens: float = 0.0
    """What is left of its budget for retries, of 100; a retry costs 10."""
    forced_reason: str = ""
    """Why somebody has forced the breaker; empty when nobody has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreHealth:
    """All regions, in the order in which they are tried, and the key ids that are known."""

    regions: Mapping[str, RegionHealth]
    keys: Mapping[str, str | None]
    """Purpose to key id; None while its alias could not be resolved."""
    cross_region_requests: int = 0
    """Requests to other regions than the one where the process runs."""
    stale_uses: Mapping[str, int] = field(default_factory=dict)
    """Purpose to how often a data key was used beyond its time, since no region was available."""
    cached_keys: int = 0
    """Data keys in the cache."""
    evicted_keys: Mapping[str, int] = field(default_factory=dict)
    """How many it has let go of: `expired`, `used_up` (uses or bytes), `full` (others needed the room)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Where health is read from; asks nobody."""

    home: str
    regions: Regions
    breakers: Breakers
    timings: Timings
    budgets: Budgets
    order: Order

    def health(
        self,
        keys: Mapping[str, str | None],
        stale_uses: Mapping[str, int],
        *,
        cached_keys: int = 0,
        evicted_keys: Mapping[str, int] | None = None,
    ) -> CoreHealth:
        """Return all that is known now."""
        seen, requests = self.breakers.view(), self.regions.requests()
        smoothed, tokens = self.timings.smoothed(), self.budgets.retries_left()
        regions = {
            region: RegionHealth(
                region=region,
                breaker=seen[region].state,
                since_seconds=seen[region].since_seconds,
                joined=self.regions.joined(region),
                requests=requests[region],
                smoothed_seconds=smoothed.get(region),
                retry_tokens=tokens[region],
                forced_reason=seen[region].forced_reason,
            )
            for region in self.order.now()
        }
        return CoreHealth(
            regions=MappingProxyType(regions),
            keys=MappingProxyType(dict(keys)),
            cross_region_requests=sum(count for region, count in requests.items() if region != self.home),
            stale_uses=MappingProxyType(dict(stale_uses)),
            cached_keys=cached_keys,
            evicted_keys=MappingProxyType(dict(evicted_keys or {})),
        )
