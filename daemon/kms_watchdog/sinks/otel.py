"""The exposition's metrics by OTLP over HTTP: the only door to OpenTelemetry's SDK and exporter (extra `otel`).

Nothing is counted a second time: what `/metrics` shows is exported, so every place tells the same numbers. Names are
those which a collector turns back into ours when it hands them to Prometheus: `kms_watchdog.canary_duration` in `s` is
`kms_watchdog_canary_duration_seconds` there.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from kms_watchdog import metrics
from kms_watchdog.config import Otel
from kms_watchdog.sinks.prometheus import Family, Sample

_UNITS = {"seconds": "s", "ratio": "1", "": ""}
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_NANOSECONDS = 1_000_000_000


class OtlpExporter:
    """Sends all metrics in one request; made once, used from one thread at a time."""

    def __init__(self, settings: Otel, *, instance: str, version: str, started_at: float) -> None:
        """`started_at` is Unix time: since when the counters count."""
        self._error = _LastError()
        headers = {name: secret.get_secret_value() for name, secret in settings.headers.items()}
        self._exporter = OTLPMetricExporter(
            endpoint=settings.endpoint, headers=headers or None, timeout=settings.timeout_seconds
        )
        self._resource = Resource.create(
            {"service.name": "kms-watchdog", "service.version": version, "service.instance.id": instance}
        )
        self._scope = InstrumentationScope("kms_watchdog", version)
        self._started_ns = _nanoseconds(started_at)

    def export(self, families: Iterable[Family], now: float) -> str:
        """Send `families` as they are at Unix time `now`; return why that failed, empty when it did not.

        Takes `timeout_seconds` at most, trying again within that.
        """
        found = tuple(as_otlp(families, started_ns=self._started_ns, now_ns=_nanoseconds(now)))
        scope = ScopeMetrics(scope=self._scope, metrics=found, schema_url="")
        resource = ResourceMetrics(resource=self._resource, scope_metrics=[scope], schema_url="")
        self._error.text = ""
        if self._exporter.export(MetricsData(resource_metrics=[resource])) is MetricExportResult.SUCCESS:
            return ""
        return self._error.text or "not exported"

    def close(self) -> None:
        """End the tries that are under way, and let go of the connection."""
        self._exporter.shutdown()


class _LastError(logging.Handler):
    """Keeps what the exporter would log at each failure: its own result says no more than that it failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""
        logger = logging.getLogger("opentelemetry.exporter")
        logger.propagate = False  # whoever calls `export` says it, when it begins and when it ends
        logger.handlers[:] = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.text = record.getMessage()[:200]


def otel_name(metric: metrics.Metric) -> str:
    """Return the metric's name without what OpenTelemetry says by kind and unit."""
    name = metric.name.removesuffix("_total").removesuffix(f"_{metric.unit}" if metric.unit else "")
    return f"{metrics.PREFIX.rstrip('_')}.{name}"


def as_otlp(families: Iterable[Family], *, started_ns: int, now_ns: int) -> Iterator[Metric]:
    """Return what `families` say as OpenTelemetry's values; a metric without a series is left out."""
    declared = {metric.full_name.removesuffix("_total"): metric for metric in metrics.PROMETHEUS}
    for family in families:
        metric = declared[family.name]
        if family.samples:
            data = _data(metric, family.samples, started_ns, now_ns)
            yield Metric(name=otel_name(metric), description=metric.help, unit=_UNITS[metric.unit], data=data)


def _data(metric: metrics.Metric, samples: Sequence[Sample], started_ns: int, now_ns: int) -> Sum | Gauge | Histogram:
    if metric.kind == "histogram":
        points = [_histogram(metric, labels, of, started_ns, now_ns) for labels, of in _by_labels(samples)]
        return Histogram(data_points=points, aggregation_temporality=_CUMULATIVE)
    numbers = [NumberDataPoint(dict(s.labels), started_ns, now_ns, s.value) for s in samples]
    if metric.kind == "counter":
        return Sum(data_points=numbers, aggregation_temporality=_CUMULATIVE, is_monotonic=True)
    return Gauge(data_points=numbers)


def _by_labels(samples: Sequence[Sample]) -> Iterator[tuple[Mapping[str, str], list[Sample]]]:
    """Return each histogram's samples; those of one series come together."""

    def labels(sample: Sample) -> dict[str, str]:
        return {name: value for name, value in sample.labels.items() if name != "le"}

    for key, of in itertools.groupby(samples, labels):
        yield key, list(of)


def _histogram(
    metric: metrics.Metric, labels: Mapping[str, str], samples: Sequence[Sample], started_ns: int, now_ns: int
) -> HistogramDataPoint:
    """Return one histogram; Prometheus counts up to each bound, OpenTelemetry between them."""
    up_to = [int(s.value) for s in samples if s.name.endswith("_bucket")]
    (total,) = (s.value for s in samples if s.name.endswith("_sum"))
    unknown: Any = None  # Prometheus keeps neither; the SDK's type leaves them no way out, the protocol does
    return HistogramDataPoint(
        attributes=dict(labels),
        start_time_unix_nano=started_ns,
        time_unix_nano=now_ns,
        count=up_to[-1],
        sum=total,
        bucket_counts=[up_to[0], *(after - before for before, after in itertools.pairwise(up_to))],
        explicit_bounds=list(metric.buckets),
        min=unknown,
        max=unknown,
    )


def _nanoseconds(at: float) -> int:
    return int(at * _NANOSECONDS)
