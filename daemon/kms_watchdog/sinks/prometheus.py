"""Results, events and states as Prometheus metrics: the only door to prometheus_client."""

from __future__ import annotations

import itertools
import threading
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    push_to_gateway,
    write_to_textfile,
)
from prometheus_client.exposition import basic_auth_handler, choose_encoder, default_handler
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from kms_core.events import (
    Attempt,
    BreakerMoved,
    CacheLookup,
    FailedOver,
    KeyQuarantined,
    OverridesUnreadable,
    StaleKeyUsed,
)
from kms_watchdog import metrics
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.health import Board, Health, Status, regions_down
from kms_watchdog.metrics import PLACE, Metric
from kms_watchdog.results import PAIR, CanaryResult, Kind, Mode, Outcome
from kms_watchdog.scheduler import Job, JobResult
from kms_watchdog.sinks import facts
from kms_watchdog.sinks.series import (
    BREAKER_STATES,
    CLOUDWATCH,
    TIMED_KINDS,
    Series,
    attempt_error,
    counted_key,
    declared,
    drill_series,
    error_type,
    result_label,
)
from kms_watchdog.sinks.sink import AlarmMoved, DrillChange, Seen

__all__ = ["Exposition", "Family", "PrometheusSink", "Sample"]

log = structlog.get_logger("metrics")


class Exposition:
    """The metrics that `metrics.py` declares, in a registry of their own, without `_created` series."""

    def __init__(self, metrics_declared: Iterable[Metric] = metrics.PROMETHEUS, *, place: str | None = None) -> None:
        """`metrics_declared`: those of them that this process can tell; one without labels is there from the start.

        `place`: which of several watchdogs this is: a label of every series then. None: it is the only one.
        """
        self._place = (place,) if place else ()
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each counter and histogram, which nobody reads
        self._registry = CollectorRegistry()
        self._metrics: Mapping[str, Any] = {m.name: self._declare(m) for m in metrics_declared}
        self._children: dict[tuple[str, tuple[str, ...]], Any] = {}
        """Each series: the library's own way to it takes a lock and a string of each label."""
        self._lock = threading.Lock()
        if place:
            self.create((m, ()) for m in metrics_declared if not m.labels)

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

    def raise_to(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge that only grows, such as a time, unless it is further already."""
        named = dict(zip((*metric.labels, PLACE), (*labels, *self._place), strict=False))
        if value > (self._registry.get_sample_value(metric.full_name, named) or 0):
            self.put(metric, *labels, value=value)

    def observe(self, metric: Metric, *labels: str, seconds: float) -> None:
        """Add to a histogram."""
        self._child(metric, labels).observe(seconds)

    def remove(self, metric: Metric, *labels: str) -> None:
        """Make a series vanish, whose label value is gone for good."""
        with self._lock:
            self._metrics[metric.name].remove(*labels, *self._place)
            self._children.pop((metric.name, labels), None)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition that the `Accept` header asks for (text or OpenMetrics), and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def families(self) -> Iterable[Family]:
        """Return all metrics with their values now."""
        return self._registry.collect()

    def push(self, url: str, *, job: str, grouping: Mapping[str, str], timeout_seconds: float) -> None:
        """Put all metrics into a Pushgateway, in the place of what it has under `job` and `grouping`.

        `url` may carry a user and a password. Each wait for the network ends after `timeout_seconds`.

        Raises:
            OSError: it was not reached or refused; the message has no credentials.
        """
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        bare = urlunsplit((parts.scheme, host, parts.path, "", ""))

        def handler(url: str, method: str, timeout: float | None, headers: Any, data: bytes) -> Callable[[], None]:
            if parts.username is None:
                return default_handler(url, method, timeout, headers, data)
            user, password = unquote(parts.username), unquote(parts.password or "")
            return basic_auth_handler(url, method, timeout, headers, data, user, password)

        push_to_gateway(bare, job, self._registry, dict(grouping), timeout_seconds, handler)

    def write_textfile(self, path: Path) -> None:
        """Write all metrics for node_exporter's textfile collector, whole or not at all.

        Raises:
            OSError: it cannot be written; what was there is as it was.
        """
        write_to_textfile(str(path), self._registry)

    def _declare(self, metric: Metric) -> Counter | Gauge | Histogram:
        labels = (*metric.labels, *([PLACE] if self._place else ()))
        if metric.kind == "histogram":
            return Histogram(
                metric.full_name,
                metric.help,
                labels,
                unit=metric.unit,
                buckets=metric.buckets,
                registry=self._registry,
            )
        kind = Counter if metric.kind == "counter" else Gauge
        return kind(metric.full_name, metric.help, labels, unit=metric.unit, registry=self._registry)

    def _child(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        found = self._children.get((metric.name, labels))
        if found is None:
            with self._lock:  # else a series removed meanwhile would be kept, and never shown again
                parent = self._metrics[metric.name]
                whole = (*labels, *self._place)
                found = self._children[metric.name, labels] = parent.labels(*whole) if whole else parent
        return found


class PrometheusSink:
    """Takes what happens; any thread may call any method."""

    def __init__(
        self,
        exposition: Exposition,
        *,
        regions: Sequence[str],
        modes: Iterable[Mode] = tuple(Mode),
        counted_by_key: bool = True,
    ) -> None:
        """Nothing is shown before `begin`.

        Args:
            exposition: where all is shown.
            regions: of the estate.
            modes: whose traffic this process tells of.
            counted_by_key: whether each key has counters and histograms of its own, or all keys have them together.
        """
        self.exposition, self._regions, self._modes = exposition, tuple(regions), tuple(modes)
        self._counted_by_key = counted_by_key
        self._lock = threading.Lock()
        self._failures: Tally[tuple[str, ...]] = Tally()
        self._key_info: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._undeclared: set[tuple[str, str]] = set()
        self._evicted: Tally[str] = Tally()
        self._alarms: dict[str, AlarmMoved] = {}

    def begin(self, before: PrometheusSink | None = None) -> None:
        """Show what holds at the start; `before` told the same exposition up to now, as before a reload.

        Breakers begin closed, as those of a new core do; what a key's state is comes with the next look. A drill that
        runs has breakers of its own, and regions that are down: those stay what they are.
        """
        told: tuple[str, ...] = ()
        if before is not None:
            told = before._regions  # noqa: SLF001 - of the same class
            with before._lock:  # noqa: SLF001 - as above
                self._alarms = dict(before._alarms)  # noqa: SLF001 - as above
                self._failures = Tally({of: n for of, n in before._failures.items() if self._knows(of[1])})  # noqa: SLF001 - as above
                for info in before._key_info.values():  # noqa: SLF001 - as above
                    self.exposition.remove(metrics.KEY_INFO, *info)
        for region, mode in itertools.product(self._regions, self._modes):
            if mode is Mode.DRILL and region in told:
                continue
            self.breaker(region, "closed", mode)
            if mode is Mode.DRILL:
                self.exposition.put(metrics.REGION_HEALTHY, region, mode, value=1)

    def _knows(self, region: str) -> bool:
        return set(region.split(PAIR)) <= set(self._regions)

    def write(self, result: CanaryResult) -> None:
        """Count one look."""
        labels = (result.canary, result.region, result.key, str(result.mode))
        ended_at = result.started_at_utc.timestamp() + result.duration_seconds
        ok = result.outcome is Outcome.OK
        counted = counted_key(result.key, by_key=self._counted_by_key)
        self._count(result, counted)
        if result.canary in TIMED_KINDS:
            where = (result.canary, result.region, counted, str(result.mode))
            self.exposition.observe(metrics.CANARY_DURATION, *where, seconds=result.duration_seconds)
        self.exposition.put(metrics.CANARY_UP, *labels, value=ok)
        self.exposition.put(metrics.CANARY_LAST_RUN, *labels, value=ended_at)
        if ok:
            self.exposition.put(metrics.CANARY_LAST_SUCCESS, *labels, value=ended_at)
        self._count_failures(result, labels)
        for metric, of_fact, value in facts.gauges(result):
            self.exposition.put(metric, *of_fact, value=value)
        if info := facts.key_info(result):
            self._tell_key(info)

    def _count(self, result: CanaryResult, key: str) -> None:
        said = result_label(result)
        self.exposition.add(metrics.CANARY_RUNS, result.canary, result.region, key, str(result.mode), said)
        if result.canary == Kind.CROSS_REGION:
            sealed_in, _, opened_in = result.region.partition(PAIR)
            self.exposition.add(metrics.CROSS_REGION_RUNS, sealed_in, opened_in, key, result.mode, said)
        if not declared(result) and (unknown := (result.canary, str(result.reason))) not in self._undeclared:
            self._undeclared.add(unknown)
            log.error("metrics.reason_undeclared", canary=result.canary, reason=str(result.reason))

    def _count_failures(self, result: CanaryResult, labels: tuple[str, ...]) -> None:
        """Show the failures in a row; a BLIND look neither adds to them nor ends them."""
        with self._lock:
            if result.outcome is Outcome.OK:
                self._failures[labels] = 0
            elif result.outcome is Outcome.FAILED:
                self._failures[labels] += 1
            self.exposition.put(metrics.CANARY_CONSECUTIVE_FAILURES, *labels, value=self._failures[labels])

    def _tell_key(self, info: tuple[str, ...]) -> None:
        """Show one `key_info` for each region and key: the one before would join twice."""
        with self._lock:
            before = self._key_info.get(info[:2])
            self._key_info[info[:2]] = info
            if before is not None and before != info:
                self.exposition.remove(metrics.KEY_INFO, *before)
            self.exposition.put(metrics.KEY_INFO, *info, value=1)

    def on_event(self, seen: Seen) -> None:
        """Count an event of a core; attempts of a drill stay in its journal."""
        match seen.event:
            case Attempt() as attempt if seen.mode is Mode.LIVE:
                self._attempt(attempt)
            case CacheLookup(hit=hit) if seen.mode is Mode.LIVE:
                self.exposition.add(metrics.CACHE_REQUESTS, "hit" if hit else "miss")
            case FailedOver(from_region=left, to_region=taken):
                self.exposition.add(metrics.FAILOVERS, left, taken, seen.mode)
            case StaleKeyUsed(purpose=key) if seen.mode is Mode.LIVE:
                self.exposition.add(metrics.STALE_DATA_KEYS_USED, key)
            case KeyQuarantined(region=region, purpose=key) if seen.mode is Mode.LIVE:
                self.exposition.add(metrics.KEYS_QUARANTINED, region, key)
            case OverridesUnreadable() if seen.mode is Mode.LIVE:
                self.exposition.add(metrics.OVERRIDES_UNREADABLE)
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

    def on_evacuated(self, evacuated: Collection[str]) -> None:
        """Show which regions are asked last, by people's word that is in force now."""
        for region in self._regions:
            self.exposition.put(metrics.REGION_EVACUATED, region, value=region in evacuated)

    def on_orders_unreadable(self, why: str) -> None:
        """Show whether people's orders about regions cannot be read now."""
        self.exposition.put(metrics.ORDERS_UNREADABLE, value=bool(why))

    def on_board(self, board: Board, mode: Mode) -> None:
        """Show a drill's regions, which have no other health than this; the live ones come with `on_health`."""
        if mode is Mode.DRILL:
            down = regions_down(board)
            for region in self._regions:
                self.exposition.put(metrics.REGION_HEALTHY, region, Mode.DRILL, value=region not in down)

    def on_drill(self, change: DrillChange) -> None:
        """Show that a drill runs, or how it ended."""
        self.exposition.create(drill_series(change.drill))
        if change.elsewhere:
            self._tell_when(change, self.exposition.raise_to)  # what it tells may be older than our own last run
            return
        self.exposition.put(metrics.DRILL_ACTIVE, change.drill, value=change.active)
        if change.orphaned:
            return
        for region in self._regions:
            self.breaker(region, "closed", Mode.DRILL)  # each drill has breakers of its own, and takes them along
        self._forget_failures_of_drills()
        if change.active:
            return
        verdict = change.verdict or Verdict.INCONCLUSIVE  # ended without a verdict: nobody can tell
        self.exposition.add(metrics.DRILL_RUNS, change.drill, verdict.lower())
        self._tell_when(change, self.exposition.put)
        self._tell_figures(change)

    def _tell_when(self, change: DrillChange, tell: Callable[..., None]) -> None:
        ended_at = change.at_utc.timestamp()
        tell(metrics.DRILL_LAST_RUN, change.drill, value=ended_at)
        if change.verdict is Verdict.HELD:
            tell(metrics.DRILL_LAST_SUCCESS, change.drill, value=ended_at)

    def _forget_failures_of_drills(self) -> None:
        with self._lock:
            for labels in [labels for labels in self._failures if labels[-1] == Mode.DRILL]:
                del self._failures[labels]
                self.exposition.put(metrics.CANARY_CONSECUTIVE_FAILURES, *labels, value=0)

    def _tell_figures(self, change: DrillChange) -> None:
        """Show what the drill measured, and when it saw alarms move."""
        if change.detection_seconds is not None:
            self.exposition.put(metrics.DRILL_DETECTION, change.drill, value=change.detection_seconds)
        if change.recovery_seconds is not None:
            self.exposition.put(metrics.DRILL_RECOVERY, change.drill, value=change.recovery_seconds)
        self.on_alarms(change.alarms)

    def on_alarms(self, moved: Mapping[str, AlarmMoved]) -> None:
        """Show when a drill or a proof last saw alarms fire and clear; what is older than what is shown is no news."""
        with self._lock:
            for name, one in moved.items():
                known = self._alarms.get(name)
                if known is not None and known.fired_at > one.fired_at:
                    continue
                self._alarms[name] = one
                self.exposition.put(metrics.ALARM_LAST_FIRED, name, CLOUDWATCH, value=one.fired_at)
                if one.cleared_at is not None:
                    self.exposition.put(metrics.ALARM_LAST_CLEARED, name, CLOUDWATCH, value=one.cleared_at)

    def on_job(self, job: Job, result: JobResult, lag_seconds: float | None) -> None:
        """Count a job's run."""
        self.exposition.add(metrics.SCHEDULER_JOBS, job.kind, result)
        if lag_seconds is not None:
            self.exposition.observe(metrics.SCHEDULER_LAG, job.kind, seconds=lag_seconds)

    def heartbeat(self, now_utc: datetime) -> None:
        """Show that the scheduler dispatches jobs."""
        self.exposition.put(metrics.SCHEDULER_HEARTBEAT, value=now_utc.timestamp())

    def on_core(self, entries: int, evicted: Mapping[str, int]) -> None:
        """Show the data-key cache: how many it holds, and how many it has let go of by reason since the start."""
        self.exposition.put(metrics.CACHE_ENTRIES, value=entries)
        with self._lock:
            for reason, total in evicted.items():
                before, self._evicted[reason] = self._evicted[reason], total
                self.exposition.add(metrics.CACHE_EVICTIONS, reason, by=total - before)

    def _attempt(self, event: Attempt) -> None:
        said = error_type(attempt_error(event))
        self.exposition.add(metrics.KMS_REQUESTS, event.region, event.operation, said)
        if event.retry:
            self.exposition.add(metrics.KMS_RETRIES, event.region, event.operation)
        self.exposition.observe(metrics.KMS_REQUEST_DURATION, event.region, event.operation, seconds=event.seconds)
