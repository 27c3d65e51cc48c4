"""Results, events and states as Prometheus metrics: the only door to prometheus_client."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from kms_core.events import Attempt, BreakerMoved, FailedOver
from kms_watchdog import metrics
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.health import Board, Health, Status, regions_down
from kms_watchdog.metrics import Metric
from kms_watchdog.results import CanaryResult, Mode, Outcome
from kms_watchdog.scheduler import Job, JobResult
from kms_watchdog.sinks.series import BREAKER_STATES, Series, drill_series, error_type, result_label
from kms_watchdog.sinks.sink import DrillChange, Seen


class Exposition:
    """The metrics that `metrics.py` declares, in a registry of their own, without `_created` series."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each counter and histogram, which nobody reads
        self._registry = CollectorRegistry()
        self._metrics: Mapping[str, Any] = {m.name: self._declare(m) for m in metrics.PROMETHEUS}

    def create(self, series: Iterable[Series]) -> None:
        """Make series exist, at 0."""
        for metric, labels in series:
            self._child(metric, labels)

    def add(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        self._child(metric, labels).inc(by)

    def put(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge."""
        self._child(metric, labels).set(value)

    def observe(self, metric: Metric, *labels: str, seconds: float) -> None:
        """Add to a histogram."""
        self._child(metric, labels).observe(seconds)

    def remove(self, metric: Metric, *labels: str) -> None:
        """Make a series vanish, whose label value is gone for good."""
        self._metrics[metric.name].remove(*labels)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition that the `Accept` header asks for (text or OpenMetrics), and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _declare(self, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind == "histogram":
            return Histogram(
                metric.full_name, metric.help, metric.labels, buckets=metric.buckets, registry=self._registry
            )
        kind = Counter if metric.kind == "counter" else Gauge
        return kind(metric.full_name, metric.help, metric.labels, registry=self._registry)

    def _child(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        parent = self._metrics[metric.name]
        return parent.labels(*labels) if labels else parent


class PrometheusSink:
    """Takes what happens; any thread may call any method."""

    def __init__(self, exposition: Exposition, *, regions: Sequence[str]) -> None:
        self.exposition, self._regions = exposition, tuple(regions)
        for region, mode in itertools.product(regions, Mode):
            self.breaker(region, "closed", mode)
            exposition.put(metrics.REGION_HEALTHY, region, Mode.DRILL, value=1)

    def write(self, result: CanaryResult) -> None:
        """Count one look."""
        labels = (result.canary, result.region, result.key, str(result.mode))
        ended_at = result.started_at_utc.timestamp() + result.duration_seconds
        ok = result.outcome is Outcome.OK
        self.exposition.add(metrics.CANARY_RUNS, *labels, result_label(result))
        self.exposition.observe(metrics.CANARY_DURATION, *labels, seconds=result.duration_seconds)
        self.exposition.put(metrics.CANARY_UP, *labels, value=ok)
        self.exposition.put(metrics.CANARY_LAST_RUN, *labels, value=ended_at)
        if ok:
            self.exposition.put(metrics.CANARY_LAST_SUCCESS, *labels, value=ended_at)

    def on_event(self, seen: Seen) -> None:
        """Count an event of a core; attempts of a drill stay in its journal."""
        match seen.event:
            case Attempt() as attempt if seen.mode is Mode.LIVE:
                self._attempt(attempt)
            case FailedOver(from_region=left, to_region=taken):
                self.exposition.add(metrics.FAILOVERS, left, taken, seen.mode)
            case BreakerMoved(region=region, new=state):
                self.exposition.add(metrics.BREAKER_TRANSITIONS, region, state, seen.mode)
                self.breaker(region, state, seen.mode)
            case _:
                pass

    def breaker(self, region: str, state: str, mode: Mode) -> None:
        """Show a breaker's state; exactly one of the three series is 1."""
        for each in BREAKER_STATES:
            self.exposition.put(metrics.BREAKER_STATE, region, each, mode, value=each == state)

    def on_health(self, health: Health) -> None:
        """Show the live health."""
        for status in Status:
            self.exposition.put(metrics.HEALTH_STATUS, status, value=status is health.status)
        for region, well in health.regions.items():
            self.exposition.put(metrics.REGION_HEALTHY, region, Mode.LIVE, value=well)

    def on_board(self, board: Board, mode: Mode) -> None:
        """Show failures in a row, and a drill's regions, which have no other health than that."""
        for s, canary in board.canaries.items():
            labels = (s.canary, s.region, s.key, mode)
            self.exposition.put(metrics.CANARY_CONSECUTIVE_FAILURES, *labels, value=canary.failures)
        if mode is Mode.DRILL:
            down = regions_down(board)
            for region in {s.region for s in board.canaries}:
                self.exposition.put(metrics.REGION_HEALTHY, region, Mode.DRILL, value=region not in down)

    def on_drill(self, change: DrillChange) -> None:
        """Show that a drill runs, or how it ended."""
        self.exposition.create(drill_series(change.drill))
        self.exposition.put(metrics.DRILL_ACTIVE, change.drill, value=change.active)
        for region in self._regions:
            self.breaker(region, "closed", Mode.DRILL)  # each drill has breakers of its own, and takes them along
        if change.active:
            return
        verdict = change.verdict or Verdict.INCONCLUSIVE  # ended without a verdict: nobody can tell
        self.exposition.add(metrics.DRILL_RUNS, change.drill, verdict.lower())
        ended_at = change.at_utc.timestamp()
        self.exposition.put(metrics.DRILL_LAST_RUN, change.drill, value=ended_at)
        if verdict is Verdict.HELD:
            self.exposition.put(metrics.DRILL_LAST_SUCCESS, change.drill, value=ended_at)

    def on_job(self, job: Job, result: JobResult, lag_seconds: float | None) -> None:
        """Count a job's run."""
        self.exposition.add(metrics.SCHEDULER_JOBS, job.kind, result)
        if lag_seconds is not None:
            self.exposition.observe(metrics.SCHEDULER_LAG, job.kind, seconds=lag_seconds)

    def heartbeat(self, now_utc: datetime) -> None:
        """Show that the scheduler dispatches jobs."""
        self.exposition.put(metrics.SCHEDULER_HEARTBEAT, value=now_utc.timestamp())

    def _attempt(self, event: Attempt) -> None:
        self.exposition.add(metrics.KMS_REQUESTS, event.region, event.operation, error_type(event.error_code))
        self.exposition.observe(metrics.KMS_REQUEST_DURATION, event.region, event.operation, seconds=event.seconds)
