"""Events as OpenTelemetry metrics; needs the extra `otel`, and an SDK that the application has set up."""

from __future__ import annotations

from opentelemetry import metrics
from opentelemetry.util.types import AttributeValue

from kms_core.events import Attempt, BreakerMoved, CacheLookup, Event, FailedOver, StaleKeyUsed
from kms_core.observers import BREAKER_VALUES


class OtelObserver:
    """Records events with `meter`; the API's own batching keeps it from blocking.

    Instruments: `kms.operation.duration` (ms; region, operation, success: the setup guide's `KMSOperationDuration`),
    `kms.circuit_breaker.state` (0 closed, 1 half open, 2 open; region), `kms.failovers`, `kms.cache.lookups`,
    `kms.stale_key_uses`.
    """

    def __init__(self, meter: metrics.Meter | None = None) -> None:
        meter = meter or metrics.get_meter("kms_core")
        self._duration = meter.create_histogram(
            "kms.operation.duration", unit="ms", description="Duration of one request to KMS."
        )
        self._breaker = meter.create_gauge("kms.circuit_breaker.state", description="0 closed, 1 half open, 2 open.")
        self._failovers = meter.create_counter("kms.failovers", description="Calls that went on in another region.")
        self._lookups = meter.create_counter("kms.cache.lookups", description="Looks into the data-key cache.")
        self._stale = meter.create_counter("kms.stale_key_uses", description="Data keys used beyond their time.")

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
            case StaleKeyUsed():
                self._stale.add(1, {"purpose": event.purpose, "operation": event.operation})
            case _:
                pass
