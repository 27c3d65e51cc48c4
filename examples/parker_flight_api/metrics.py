"""What is counted: the core's events, for Prometheus and, where it is wanted, for CloudWatch; and the service's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import boto3
from botocore.config import Config
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from kms_core import SelfCheck
from kms_core.events import Observer
from kms_core.observers import FanOut
from kms_core.observers.cloudwatch import CloudWatchObserver
from kms_core.observers.logging import LoggingObserver
from kms_core.observers.prometheus import PrometheusObserver
from parker_flight_api.readiness import usable_regions
from parker_flight_api.settings import Settings

_IN_TIME = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 1})
"""A region that is silent must not hold up the end; the observer itself tries again in the next period."""
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The service's own series, and the registry that all are in."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "parker_flight_requests", "Requests, by what was asked and how it was answered.", ("route", "status"),
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "parker_flight_request_duration_seconds", "From a request's head to its answer.", ("route",),
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._usable = Gauge(
            "parker_flight_key_usable_regions", "Regions that do a key's work; 0: bookings are refused.", ("purpose",),
            registry=self.registry,
        )  # fmt: skip

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def looked(self, check: SelfCheck) -> None:
        """Show what was seen of the keys."""
        for purpose, regions in usable_regions(check).items():
            self._usable.labels(purpose).set(len(regions))

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


@contextmanager
def observing(settings: Settings, metrics: Metrics) -> Iterator[Observer]:
    """Give what the core tells its events to; leaving the block sends what CloudWatch has not had yet."""
    regions = settings.core.regions
    with ExitStack() as stack:
        observers: list[Observer] = [LoggingObserver(), PrometheusObserver(regions, registry=metrics.registry)]
        if settings.cloudwatch_regions:
            clients = {region: _cloudwatch(settings, region) for region in settings.cloudwatch_regions}
            for client in clients.values():
                stack.callback(client.close)
            observers.append(stack.enter_context(CloudWatchObserver(clients, regions)))
        yield FanOut(*observers)


def _cloudwatch(settings: Settings, region: str) -> Any:
    return boto3.client(
        "cloudwatch",
        region_name=region,
        endpoint_url=settings.cloudwatch_endpoints.get(region),
        verify=settings.core.ca_bundle,
        config=_IN_TIME,
    )
