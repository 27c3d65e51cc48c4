"""Every metric this product exports, declared once: name, kind, unit, help, labels.

Sinks create what stands here and nothing else; alarms and dashboards are tested against it. Names follow Prometheus's
conventions (base units, `_total`, `_timestamp_seconds`); `key` is the purpose, never an ARN; every series that an alarm
reads carries `mode`, so that a drill's numbers never mix with live ones (DESIGN §6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "kms_watchdog_"

LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; cut for round trips of some tens of ms in a region and 60 to 160 ms across regions."""
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One Prometheus metric; `name` is without the prefix."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as it is exported."""
        return PREFIX + self.name


_CANARY = ("canary", "region", "key", "mode")

CANARY_RUNS = Metric(
    "canary_runs_total", "counter", "Canary runs by result; success is OK, blind is BLIND.", (*_CANARY, "result")
)
CANARY_DURATION = Metric(
    "canary_duration_seconds", "histogram", "Duration of canary runs, failed ones too.", _CANARY, LATENCY_BUCKETS
)
CANARY_UP = Metric("canary_up", "gauge", "Whether the last run was OK.", _CANARY)
CANARY_LAST_RUN = Metric("canary_last_run_timestamp_seconds", "gauge", "When the canary last ran; 0 is never.", _CANARY)
CANARY_LAST_SUCCESS = Metric(
    "canary_last_success_timestamp_seconds", "gauge", "When the canary was last OK; 0 is never.", _CANARY
)
CANARY_CONSECUTIVE_FAILURES = Metric(
    "canary_consecutive_failures", "gauge", "Failures since the last OK; BLIND counts for neither.", _CANARY
)
CANARY_INTERVAL = Metric("canary_interval_seconds", "gauge", "Seconds between two runs of a canary.", ("canary",))
KMS_REQUESTS = Metric(
    "kms_requests_total",
    "counter",
    "Attempts at KMS; error_type is empty on success.",
    ("region", "operation", "error_type"),
)
KMS_REQUEST_DURATION = Metric(
    "kms_request_duration_seconds", "histogram", "Duration of one attempt.", ("region", "operation"), LATENCY_BUCKETS
)
FAILOVERS = Metric(
    "failovers_total", "counter", "Calls that went on in another region.", ("from_region", "to_region", "mode")
)
BREAKER_STATE = Metric(
    "circuit_breaker_state", "gauge", "1 for the state the breaker is in.", ("region", "state", "mode")
)
BREAKER_TRANSITIONS = Metric(
    "circuit_breaker_transitions_total", "counter", "Moves of the breaker, by new state.", ("region", "to", "mode")
)
REGION_HEALTHY = Metric(
    "region_healthy", "gauge", "Whether the region is healthy, after hysteresis.", ("region", "mode")
)
HEALTH_STATUS = Metric("health_status", "gauge", "1 for the overall status.", ("status",))
DRILL_RUNS = Metric("drill_runs_total", "counter", "Drills that ended, by verdict.", ("drill", "result"))
DRILL_ACTIVE = Metric("drill_active", "gauge", "Whether the drill runs now.", ("drill",))
DRILL_LAST_RUN = Metric("drill_last_run_timestamp_seconds", "gauge", "When the drill last ended.", ("drill",))
DRILL_LAST_SUCCESS = Metric("drill_last_success_timestamp_seconds", "gauge", "When it last held.", ("drill",))
FAULTS_ACTIVE = Metric(
    "faults_active", "gauge", "Proxies with a fault that nobody has undone yet, from undo records.", ("proxy",)
)
FAULTS_HEALED = Metric(
    "faults_healed_total",
    "counter",
    "Runs whose faults the healer undid because their owner was dead or their time was up.",
    ("drill", "reason"),
)
HEAL_FAILURES = Metric("heal_failures_total", "counter", "Attempts to heal that failed.")
SCHEDULER_HEARTBEAT = Metric("scheduler_heartbeat_timestamp_seconds", "gauge", "Set by a job inside the scheduler.")
SCHEDULER_LAG = Metric(
    "scheduler_job_lag_seconds", "histogram", "Start of a job minus when it was due.", ("job",), LAG_BUCKETS
)
SCHEDULER_JOBS = Metric(
    "scheduler_jobs_total", "counter", "Jobs: executed, missed, skipped_overlap, error.", ("job", "result")
)
CLOUDWATCH_PUBLISH = Metric(
    "cloudwatch_publish_total", "counter", "PutMetricData requests by result.", ("region", "result")
)
CLOUDWATCH_DATUMS = Metric("cloudwatch_datums_total", "counter", "Datums accepted by CloudWatch.", ("region",))
CLOUDWATCH_DROPPED = Metric(
    "cloudwatch_datums_dropped_total", "counter", "Datums given up, by reason.", ("region", "reason")
)
CLOUDWATCH_QUEUE = Metric("cloudwatch_queue_length", "gauge", "Datums waiting to be sent.", ("region",))
CLOUDWATCH_LAST_SUCCESS = Metric(
    "cloudwatch_last_success_timestamp_seconds", "gauge", "When CloudWatch last took our data; 0 is never.", ("region",)
)
BUILD_INFO = Metric("build_info", "gauge", "1; the labels tell the version.", ("version", "config_hash"))

PROMETHEUS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


@dataclass(frozen=True, slots=True)
class CloudWatchMetric:
    """One CloudWatch metric. `dimensions` are exact: CloudWatch never sums a custom metric over them."""

    name: str
    unit: Literal["Count", "Milliseconds", "None"]
    dimensions: tuple[str, ...]


CW_OPERATION_DURATION = CloudWatchMetric("KMSOperationDuration", "Milliseconds", ("Region", "Operation", "Success"))
CW_CANARY_RUNS = CloudWatchMetric("CanaryRuns", "Count", ("Region",))
CW_CANARY_FAILURES = CloudWatchMetric("CanaryFailures", "Count", ("Region",))
CW_CANARY_BLIND = CloudWatchMetric("CanaryBlind", "Count", ("Region",))
CW_CANARY_DURATION = CloudWatchMetric("CanaryDuration", "Milliseconds", ("Region",))
CW_HEARTBEAT = CloudWatchMetric("CanaryHeartbeat", "Count", ("Monitor",))
CW_BREAKER_STATE = CloudWatchMetric("CircuitBreakerState", "None", ("Region",))

CLOUDWATCH: tuple[CloudWatchMetric, ...] = tuple(v for v in list(globals().values()) if isinstance(v, CloudWatchMetric))

BREAKER_VALUES = {"closed": 0, "half_open": 1, "open": 2}
"""What `CircuitBreakerState` says; alarms read the Maximum, so half-open alone does not page."""
