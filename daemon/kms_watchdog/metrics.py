"""Every metric this product exports, declared once: name, kind, unit, help, labels.

Sinks create what stands here and nothing else; alarms and dashboards are tested against it. Names follow Prometheus's
conventions (base units, `_total`, `_timestamp_seconds`); `key` is the purpose, never an ARN; every series that an alarm
reads carries `mode`, so that a drill's numbers never mix with live ones (DESIGN §6). Which label values there are:
`sinks/series.py`; which of a canary's facts becomes which gauge: `sinks/facts.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "kms_watchdog_"

PLACE = "place"
"""The label that every series has besides, where several watchdogs share an estate (`[replicas]`)."""
LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; cut for round trips of some tens of ms in a region and 60 to 160 ms across regions."""
LAG_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


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

    @property
    def unit(self) -> Literal["seconds", "ratio", ""]:
        """What a value is measured in, as the name's end says; empty for counts, states and the like."""
        match self.name.removesuffix("_total").rpartition("_")[2]:
            case ("seconds" | "ratio") as unit:
                return unit
            case _:
                return ""


_CANARY = ("canary", "region", "key", "mode")

CANARY_RUNS = Metric(
    "canary_runs_total", "counter", "Canary runs by result; success is OK, blind is BLIND.", (*_CANARY, "result")
)
CANARY_DURATION = Metric(
    "canary_duration_seconds",
    "histogram",
    "Duration of canary runs, failed ones too; of round_trip, cross_region, failover_path and cold_connection.",
    _CANARY,
    LATENCY_BUCKETS,
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
CROSS_REGION_RUNS = Metric(
    "cross_region_decrypt_runs_total",
    "counter",
    "Messages sealed in one region and opened in another, by result as in canary_runs_total.",
    ("encrypt_region", "decrypt_region", "key", "mode", "result"),
)
KEY_USABLE = Metric("key_usable", "gauge", "Whether the key's state there is Enabled.", ("region", "key"))
KEY_ROTATION = Metric("key_rotation_enabled", "gauge", "Whether the key rotates by itself.", ("region", "key"))
KEY_INFO = Metric(
    "key_info",
    "gauge",
    "1; the labels tell the key's state, id and role.",
    ("region", "key", "state", "key_id", "primary"),
)
KEY_DELETION = Metric(
    "key_deletion_timestamp_seconds", "gauge", "When the key will be deleted; 0 is not at all.", ("region", "key")
)
REPLICA_DRIFT = Metric(
    "replica_drift", "gauge", "Whether the field differs from the configuration.", ("region", "key", "field")
)
METADATA_CHECKED = Metric(
    "metadata_last_check_timestamp_seconds",
    "gauge",
    "When a canary last could read the keys' state or configuration there; 0 is never.",
    ("region",),
)
CERTIFICATE_EXPIRY = Metric(
    "certificate_expiry_timestamp_seconds",
    "gauge",
    "When the certificate of KMS there ends; 0 is not seen.",
    ("region",),
)
CONNECTION_STEP = Metric(
    "connection_step_seconds",
    "gauge",
    "What each step (dns, tcp, tls) of the last new connection to KMS took.",
    ("region", "step"),
)
CLOCK_OFFSET = Metric(
    "clock_offset_seconds", "gauge", "Our clock minus KMS's, to the second that its Date header allows.", ("region",)
)
GOLDEN_MESSAGES = Metric("golden_messages", "gauge", "Old messages that were opened.", ("region", "key"))
GOLDEN_OLDEST = Metric(
    "golden_oldest_message_timestamp_seconds",
    "gauge",
    "When the oldest of them was sealed; 0 is none.",
    ("region", "key"),
)
GOLDEN_ROTATIONS = Metric(
    "golden_rotations_spanned", "gauge", "Rotations of the key since the oldest of them was sealed.", ("region", "key")
)
HEADROOM_THROTTLES = Metric("headroom_throttles", "gauge", "Throttled requests in the last window.", ("region",))
HEADROOM_REQUESTS = Metric(
    "headroom_requests_per_second", "gauge", "Requests to KMS that this watchdog makes.", ("region",)
)
HEADROOM_QUOTA = Metric("headroom_quota_ratio", "gauge", "Their share of the account's request quota.", ("region",))
HEADROOM_COST = Metric("headroom_cost_usd_per_month", "gauge", "What they cost, by estimate.", ("region",))
ALARM_DEFINITIONS = Metric(
    "alarm_definitions_compared", "gauge", "Whether the alarms there are compared with rendered ones.", ("region",)
)
ALARM_LAST_FIRED = Metric(
    "alarm_last_fired_timestamp_seconds",
    "gauge",
    "When a drill or a proof last saw the alarm fire, 0 for never; system is where: cloudwatch or prometheus.",
    ("alarm", "system"),
)
ALARM_LAST_CLEARED = Metric(
    "alarm_last_cleared_timestamp_seconds",
    "gauge",
    "When it was last seen to clear after that; 0 is never.",
    ("alarm", "system"),
)
KMS_RETRIES = Metric(
    "kms_retries_total",
    "counter",
    "Attempts at KMS that followed a failed one of the same call, there or elsewhere.",
    ("region", "operation"),
)
CACHE_REQUESTS = Metric("data_key_cache_requests_total", "counter", "Looks into the data-key cache.", ("result",))
CACHE_ENTRIES = Metric("data_key_cache_entries", "gauge", "Data keys in the cache.")
CACHE_EVICTIONS = Metric("data_key_cache_evictions_total", "counter", "Data keys it let go of.", ("reason",))
STALE_DATA_KEYS_USED = Metric(
    "stale_data_key_uses_total",
    "counter",
    "Data keys used beyond their time, because no region was available.",
    ("key",),
)
KEYS_QUARANTINED = Metric(
    "key_quarantines_total", "counter", "Times the core left a key out in one region.", ("region", "key")
)
OVERRIDES_UNREADABLE = Metric(
    "overrides_unreadable_total", "counter", "Times that people's orders about regions could not be read any more."
)
ORDERS_UNREADABLE = Metric(
    "region_orders_unreadable", "gauge", "Whether people's orders about regions cannot be read now."
)
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
REGION_EVACUATED = Metric(
    "region_evacuated", "gauge", "Whether a person's order has the region asked last.", ("region",)
)
HEALTH_STATUS = Metric("health_status", "gauge", "1 for the overall status.", ("status",))
DRILL_RUNS = Metric("drill_runs_total", "counter", "Drills that ended, by verdict.", ("drill", "result"))
DRILL_ACTIVE = Metric("drill_active", "gauge", "Whether the drill runs now.", ("drill",))
DRILL_LAST_RUN = Metric("drill_last_run_timestamp_seconds", "gauge", "When the drill last ended.", ("drill",))
DRILL_LAST_SUCCESS = Metric("drill_last_success_timestamp_seconds", "gauge", "When it last held.", ("drill",))
DRILL_INTERVAL = Metric("drill_interval_seconds", "gauge", "How often the drill shall run.", ("drill",))
DRILL_SLOTS_MISSED = Metric(
    "drill_slots_missed_total", "counter", "Scheduled drills whose window closed without a run.", ("drill",)
)
DRILL_MISSED_SLOT = Metric(
    "drill_missed_slot_timestamp_seconds",
    "gauge",
    "When the drill was due last, if that slot's window closed without a run; else 0.",
    ("drill",),
)
DRILL_DETECTION = Metric(
    "drill_detection_seconds", "gauge", "Fault to open breaker, in the last drill that was judged.", ("drill",)
)
DRILL_RECOVERY = Metric(
    "drill_recovery_seconds", "gauge", "The fault's removal to steady state, in the same drill.", ("drill",)
)
DRILLS_HALTED = Metric("drills_halted", "gauge", "Whether a halt keeps every drill from running.")
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
TASK_LAST_DONE = Metric(
    "task_last_done_timestamp_seconds", "gauge", "When the regular task was last done; 0 is never.", ("task",)
)
TASK_DUE = Metric(
    "task_due_timestamp_seconds",
    "gauge",
    "When the regular task is to be done at the latest; 0 is that nobody can tell.",
    ("task",),
)
DEADMAN_PINGS = Metric(
    "deadman_pings_total", "counter", "Pings of the dead man's switch: success, refused, unreachable.", ("result",)
)
SCHEDULER_HEARTBEAT = Metric("scheduler_heartbeat_timestamp_seconds", "gauge", "Set by a job inside the scheduler.")
SCHEDULER_LAG = Metric(
    "scheduler_job_lag_seconds", "histogram", "Start of a job minus when it was due.", ("job",), LAG_BUCKETS
)
SCHEDULER_JOBS = Metric(
    "scheduler_jobs_total", "counter", "Jobs: executed, missed, skipped_overlap, error.", ("job", "result")
)
SCHEDULER_CLOCK_STEPS = Metric("scheduler_clock_steps_total", "counter", "Steps of the wall clock that were seen.")
SCHEDULER_RESTARTS = Metric(
    "scheduler_thread_restarts_total", "counter", "Times the scheduler's thread had died and was started anew."
)
SCHEDULER_FAILED_CYCLES = Metric("scheduler_failed_cycles", "gauge", "Cycles in a row that ended in an error.")
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
OTEL_EXPORTS = Metric("otel_exports_total", "counter", "Exports by OTLP.", ("result",))
STATE_WRITE_FAILURES = Metric(
    "state_write_failures_total", "counter", "Writes to a database of the state folder that failed.", ("file",)
)
LOG_MESSAGES = Metric("log_messages_total", "counter", "Lines of the log.", ("level",))
CONFIG_RELOAD_OK = Metric("config_last_reload_successful", "gauge", "Whether the last configuration given was taken.")
CONFIG_RELOADED = Metric(
    "config_last_reload_success_timestamp_seconds", "gauge", "When a configuration was last taken."
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
# By Region and in all: round trips alone, the objective's input. By Canary: each kind of canary.
CW_CANARY_RUNS = CloudWatchMetric("CanaryRuns", "Count", ("Region",))
CW_CANARY_FAILURES = CloudWatchMetric("CanaryFailures", "Count", ("Region",))
CW_CANARY_BLIND = CloudWatchMetric("CanaryBlind", "Count", ("Region",))
CW_ALL_RUNS = CloudWatchMetric("CanaryRuns", "Count", ())
CW_ALL_FAILURES = CloudWatchMetric("CanaryFailures", "Count", ())
CW_KIND_FAILURES = CloudWatchMetric("CanaryFailures", "Count", ("Canary",))
CW_KIND_BLIND = CloudWatchMetric("CanaryBlind", "Count", ("Canary",))
# What must never happen, counted over every kind of canary in the region: other bytes, or a refusal that was none.
CW_INTEGRITY_FAILURES = CloudWatchMetric("IntegrityFailures", "Count", ("Region",))
CW_CANARY_DURATION = CloudWatchMetric("CanaryDuration", "Milliseconds", ("Region",))
CW_HEARTBEAT = CloudWatchMetric("CanaryHeartbeat", "Count", ("Monitor",))
CW_BREAKER_STATE = CloudWatchMetric("CircuitBreakerState", "None", ("Region",))
CW_KEY_USABLE = CloudWatchMetric("KeyUsable", "None", ("Region", "Key"))
CW_REPLICA_DRIFT = CloudWatchMetric("ReplicaDrift", "Count", ("Key",))
CW_DRILL_ACTIVE = CloudWatchMetric("DrillActive", "None", ())
CW_DRILL_FAILED = CloudWatchMetric("DrillFailed", "Count", ("Drill",))
CW_FAULTS_ACTIVE = CloudWatchMetric("FaultsActive", "Count", ())

CLOUDWATCH: tuple[CloudWatchMetric, ...] = tuple(v for v in list(globals().values()) if isinstance(v, CloudWatchMetric))

BREAKER_VALUES = {"closed": 0, "half_open": 1, "open": 2}
"""What `CircuitBreakerState` says; alarms read the Maximum, so half-open alone does not page."""
