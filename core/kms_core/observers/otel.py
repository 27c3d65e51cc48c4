"""Events as OpenTelemetry metrics; needs the extra `otel`, and an SDK that the application has set up."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry import metrics
from opentelemetry.util.types import AttributeValue

from kms_core.events import (
    Attempt,
    BreakerMoved,
    CacheLookup,
    CacheRefreshed,
    Event,
    FailedOver,
    Hedged,
    KeyQuarantined,
    StaleKeyUsed,
)
from kms_core.observers import BREAKER_VALUES


class OtelObserver:
    """Records events with `meter`.

    The SDK adds them up in memory, and its readers export them from threads of their own: a call never waits for the
    network. Set the SDK up before this is made: until then the API takes everything and keeps nothing.

    Instruments: `kms.operation.duration` (ms; region, operation, success: the setup guide's `KMSOperationDuration`),
    `kms.circuit_breaker.state` (0 closed, 1 half open, 2 open; region), `kms.failovers`, `kms.cache.lookups`,
    `kms.cache.refreshes`, `kms.stale_key_uses`, `kms.hedges`, `kms.key_quarantines`. A reader with delta temporality
    exports the breaker's state only when it was told anew.

    Args:
        meter: named `kms_core`, of the SDK's global provider, when not given.
        regions: recorded with a closed breaker from the start, not only after their first event.
    """

    def __init__(self, meter: metrics.Meter | None = None, *, regions: Iterable[str] = ()) -> None:
        meter = meter or metrics.get_meter("kms_core")
        self._duration = meter.create_histogram(
            "kms.operation.duration", unit="ms", description="Duration of one request to KMS."
        )
        self._breaker = meter.create_gauge("kms.circuit_breaker.state", description="0 closed, 1 half open, 2 open.")
        self._failovers = meter.create_counter("kms.failovers", description="Calls that went on in another region.")
        self._lookups = meter.create_counter("kms.cache.lookups", description="Looks into the data-key cache.")
        self._refreshes = meter.create_counter(
            "kms.cache.refreshes",
            description="Data keys fetched ahead of time, or not; error_code is empty on success.",
        )
        self._stale = meter.create_counter("kms.stale_key_uses", description="Data keys used beyond their time.")
        self._hedges = meter.create_counter(
            "kms.hedges", description="Requests that were late and asked of another region too."
        )
        self._quarantines = meter.create_counter(
            "kms.key_quarantines", description="Keys left out in one region because of their state there."
        )
        for region in regions:
            self._breaker.set(BREAKER_VALUES["closed"], {"region": region})

    def on_event(self, event: Event) -> None:
        """Record `event`."""
        match event:
            case CacheLookup():
                labels: dict[str, AttributeValue] = {
                    "purpose": event.purpose,
                    "operation": event.operation,
                    "hit": event.hit,
                }
                self._lookups.add(1, labels)
            case Attempt():
                where: dict[str, AttributeValue] = {
                    "region": event.region,
                    "operation": event.operation,
                    "success": not event.error_code,
                }
                self._duration.record(event.seconds * 1000, where)
            case BreakerMoved():
                self._breaker.set(BREAKER_VALUES[event.new], {"region": event.region})
            case FailedOver():
                self._failovers.add(1, {"from_region": event.from_region, "to_region": event.to_region})
            case CacheRefreshed():
                self._refreshes.add(
                    1, {"purpose": event.purpose, "operation": event.operation, "error_code": event.error_code}
                )
            case Hedged():
                self._hedges.add(1, {"region": event.region, "other": event.other, "won": event.won})
            case KeyQuarantined():
                self._quarantines.add(1, {"region": event.region, "purpose": event.purpose})
            case StaleKeyUsed():
                self._stale.add(1, {"purpose": event.purpose, "operation": event.operation})
            case _:
                pass
