"""Events as Prometheus metrics; needs the extra `prometheus`.

`kms_core_operation_duration_seconds{region,operation,success}` is the setup guide's `KMSOperationDuration` in
Prometheus's own unit, `kms_core_circuit_breaker_state{region}` its `CircuitBreakerState`: 0 closed, 1 half open, 2
open.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from kms_core.events import (
    Attempt,
    BreakerMoved,
    CacheLookup,
    CacheRefreshed,
    Event,
    FailedOver,
    Hedged,
    KeyQuarantined,
    OverridesUnreadable,
    StaleKeyUsed,
)
from kms_core.observers import BREAKER_VALUES

_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class PrometheusObserver:
    """Counts events in `registry`: in memory, so that a call never waits for the network.

    Nothing leaves the process by itself: the application exposes the registry.

    Args:
        regions: shown with a closed breaker from the start, not only after their first event.
        registry: the client library's default when not given; a second observer for the same one is a `ValueError`.
    """

    def __init__(self, regions: Iterable[str] = (), *, registry: CollectorRegistry = REGISTRY) -> None:
        self._seconds = Histogram(
            "kms_core_operation_duration_seconds",
            "Duration of one request to KMS.",
            ("region", "operation", "success"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._breaker = Gauge(
            "kms_core_circuit_breaker_state",
            "0 closed, 1 half open, 2 open.",
            ("region",),
            registry=registry,
        )
        self._failures = Counter(
            "kms_core_request_failures",
            "Requests to KMS that failed, by error code.",
            ("region", "operation", "error_code"),
            registry=registry,
        )
        self._failovers = Counter(
            "kms_core_failovers",
            "Calls that went on in another region.",
            ("from_region", "to_region"),
            registry=registry,
        )
        self._lookups = Counter(
            "kms_core_cache_lookups",
            "Looks into the data-key cache.",
            ("purpose", "operation", "hit"),
            registry=registry,
        )
        self._quarantines = Counter(
            "kms_core_key_quarantines",
            "Keys left out in one region because of their state there.",
            ("region", "purpose"),
            registry=registry,
        )
        self._refreshes = Counter(
            "kms_core_cache_refreshes",
            "Data keys fetched ahead of time, or not; error_code is empty on success.",
            ("purpose", "operation", "error_code"),
            registry=registry,
        )
        self._stale = Counter(
            "kms_core_stale_key_uses",
            "Data keys used beyond their time, because no region was available.",
            ("purpose", "operation"),
            registry=registry,
        )
        self._hedges = Counter(
            "kms_core_hedges",
            "Requests that were late and asked of another region too.",
            ("region", "other", "won"),
            registry=registry,
        )
        self._unreadable = Counter(
            "kms_core_overrides_unreadable",
            "Times that what people say about regions could not be read any more.",
            ("source",),
            registry=registry,
        )
        for region in regions:
            self._breaker.labels(region).set(BREAKER_VALUES["closed"])

    def on_event(self, event: Event) -> None:  # noqa: C901 - a line for each kind of event
        """Count `event`."""
        match event:
            case CacheLookup():
                self._lookups.labels(event.purpose, event.operation, str(event.hit).lower()).inc()
            case Attempt():
                success = str(not event.error_code).lower()
                self._seconds.labels(event.region, event.operation, success).observe(event.seconds)
                if event.error_code:
                    self._failures.labels(event.region, event.operation, event.error_code).inc()
            case BreakerMoved():
                self._breaker.labels(event.region).set(BREAKER_VALUES[event.new])
            case FailedOver():
                self._failovers.labels(event.from_region, event.to_region).inc()
            case CacheRefreshed():
                self._refreshes.labels(event.purpose, event.operation, event.error_code).inc()
            case StaleKeyUsed():
                self._stale.labels(event.purpose, event.operation).inc()
            case Hedged():
                self._hedges.labels(event.region, event.other, str(event.won).lower()).inc()
            case OverridesUnreadable():
                self._unreadable.labels(event.source).inc()
            case KeyQuarantined():
                self._quarantines.labels(event.region, event.purpose).inc()
            case _:
                pass
