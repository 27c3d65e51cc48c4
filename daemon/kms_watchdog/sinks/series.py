"""Which Prometheus series exist: all that can, from the first scrape on, and not one more. Pure.

A series that appears with its first failure hides that failure from `rate()` and `increase()`; one that a server's
answer can name makes the number of series somebody else's choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kms_core.events import Attempt
from kms_watchdog import metrics
from kms_watchdog.health import USE_KINDS, Status, Subject
from kms_watchdog.logs import LEVELS
from kms_watchdog.metrics import Metric
from kms_watchdog.readiness.tasks import BY_ID
from kms_watchdog.results import PAIR, CanaryResult, Kind, Mode, Outcome, Reason
from kms_watchdog.sinks import facts

Series = tuple[Metric, tuple[str, ...]]

OTHER = "_OTHER"
ERROR_TYPES = (
    "",  # success
    "ConnectTimeout",
    "ReadTimeout",
    "Deadline",
    "ConnectionRefused",
    "ConnectionReset",
    "DnsFailure",
    "TlsError",
    "Truncated",
    "ThrottlingException",
    "AccessDeniedException",
    "DisabledException",
    "KMSInvalidStateException",
    "NotFoundException",
    "KMSInternalException",
    "InvalidCiphertextException",
    "IncorrectKeyException",
    OTHER,
)
WANTED_REFUSALS = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
"""What KMS answers a must-fail canary when all is well."""
KMS_OPERATIONS = ("GenerateDataKey", "Decrypt", "DescribeKey")
_OF_THE_CORE = (Reason.THROTTLED, Reason.DENIED, Reason.MISMATCH)
_REASONS: Mapping[str, tuple[Reason, ...]] = {
    Kind.ROUND_TRIP: _OF_THE_CORE,
    Kind.CROSS_REGION: _OF_THE_CORE,
    Kind.FAILOVER_PATH: _OF_THE_CORE,
    Kind.GOLDEN: _OF_THE_CORE,
    Kind.MUST_FAIL_CORE: (Reason.ACCEPTED_MUST_REFUSE, Reason.WRONG_REFUSAL, Reason.ASKED_KMS, *_OF_THE_CORE),
    Kind.MUST_FAIL_KMS: (Reason.ACCEPTED_MUST_REFUSE, Reason.WRONG_REFUSAL, *_OF_THE_CORE),
    Kind.APPLICATION_ACCESS: (Reason.ACCESS_MISSING, Reason.ACCESS_EXCESS),
    Kind.COLD_CONNECTION: (Reason.DNS, Reason.CONNECT, Reason.TLS, Reason.CERTIFICATE_EXPIRES),
    Kind.CLOCK_OFFSET: (Reason.CLOCK_OFF,),
    Kind.ALARM_PATH: (
        Reason.ALARM_MISSING,
        Reason.ALARM_DIFFERS,
        Reason.TOPIC_MISSING,
        Reason.TOPIC_REFUSES,
        Reason.NO_SUBSCRIBER,
    ),
    Kind.KEY_STATE: (Reason.KEY_UNUSABLE, Reason.PENDING_DELETION, Reason.ALIAS_WRONG, Reason.ROTATION_OFF),
    Kind.REPLICA_DRIFT: (Reason.DRIFT,),
    Kind.HEADROOM: (Reason.HEADROOM_LOW,),
}
TIMED_KINDS = frozenset({Kind.ROUND_TRIP, Kind.CROSS_REGION, Kind.FAILOVER_PATH, Kind.COLD_CONNECTION})
"""Kinds whose duration says something; a histogram is 17 series."""
DRILL_KINDS = frozenset({Kind.ROUND_TRIP, Kind.FAILOVER_PATH, Kind.MUST_FAIL_KMS})
"""Kinds that drills run: others have no series with mode="drill"."""
CACHE_RESULTS = ("hit", "miss")
CACHE_EVICTIONS = ("expired", "used_up", "full")
CLOUDWATCH = "cloudwatch"
"""The `system` whose alarms a drill reads."""
EXPORT_RESULTS = ("success", "failure")
STATE_FILES = ("history", "cloudwatch")
BREAKER_STATES = tuple(metrics.BREAKER_VALUES)
DRILL_RESULTS = ("held", "broke", "inconclusive")
JOB_RESULTS = ("executed", "missed", "skipped_overlap", "error")
PING_RESULTS = ("success", "refused", "unreachable")
PUBLISH_RESULTS = ("success", "throttled", "denied", "refused", "unreachable")
DROP_REASONS = ("queue_full", "too_old", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cardinality:
    """What label values there are in this installation."""

    subjects: Sequence[Subject]
    regions: Sequence[str]
    publish_regions: Sequence[str]
    job_kinds: Sequence[str]
    otel: bool = False
    counted_by_key: bool = True
    """Whether each key has counters and a histogram of its own, or all keys of a region have them together."""


def samples(series: Iterable[Series]) -> int:
    """Return how many series Prometheus sees of `series`: a histogram is one for each bucket, the sum and the count."""
    return sum(len(metric.buckets) + 3 if metric.kind == "histogram" else 1 for metric, _ in series)


def counted_key(key: str, *, by_key: bool) -> str:
    """Return the `key` label of counters and histograms; empty when they are of all keys together."""
    return key if by_key else ""


def results_of(kind: str) -> tuple[str, ...]:
    """Return the values that `result` can have for a kind of canary: success, blind, why it can fail.

    `error` is always one: a reason that is not on the kind's list is counted as that (`result_label`). So is `timeout`:
    every canary has a deadline.
    """
    return ("success", "blind", Reason.ERROR, Reason.TIMEOUT, *_REASONS.get(kind, ()))


def declared(result: CanaryResult) -> bool:
    """Return whether the list of its kind knows this result."""
    return result.outcome is not Outcome.FAILED or result.reason in results_of(result.canary)


def result_label(result: CanaryResult) -> str:
    """Return the `result` label: success, blind, or the reason of a failure."""
    if result.outcome is Outcome.FAILED:
        return str(result.reason) if declared(result) else str(Reason.ERROR)
    return "success" if result.outcome is Outcome.OK else "blind"


def modes_of(kind: str) -> tuple[Mode, ...]:
    """Return in whose traffic a kind of canary is seen."""
    return (Mode.LIVE, Mode.DRILL) if kind in DRILL_KINDS else (Mode.LIVE,)


def attempt_error(attempt: Attempt) -> str:
    """Return the attempt's error code; empty for success, and for the refusal that a canary asked for."""
    wanted = attempt.refusal_wanted and attempt.error_code in WANTED_REFUSALS
    return "" if wanted else attempt.error_code


def error_type(error_code: str) -> str:
    """Return the `error_type` label for a code: itself if it is on the list."""
    return error_code if error_code in ERROR_TYPES else OTHER


def all_series(installation: Cardinality) -> Iterator[Series]:
    """Return every series that can exist, but for those of drills, whose names are not known before they run."""
    yield from _canaries(installation.subjects, by_key=installation.counted_by_key)
    yield from _regions(installation)
    yield from _keys(installation)
    yield from _cloudwatch(installation.publish_regions)
    for status in Status:
        yield metrics.HEALTH_STATUS, (status,)
    for task in BY_ID:
        yield metrics.TASK_LAST_DONE, (task,)
        yield metrics.TASK_DUE, (task,)
    for kind in installation.job_kinds:
        yield metrics.SCHEDULER_LAG, (kind,)
        yield from _over(metrics.SCHEDULER_JOBS, (kind,), JOB_RESULTS)
    yield from _over(metrics.DEADMAN_PINGS, (), PING_RESULTS if "deadman" in installation.job_kinds else ())
    yield from _over(metrics.LOG_MESSAGES, (), LEVELS)
    yield from _over(metrics.STATE_WRITE_FAILURES, (), STATE_FILES)
    yield from _over(metrics.OTEL_EXPORTS, (), EXPORT_RESULTS if installation.otel else ())


def round_series(
    subjects: Iterable[Subject], regions: Sequence[str], *, counted_by_key: bool = True
) -> Iterator[Series]:
    """Return the series of one round of live canaries, as `once` pushes them: nothing of a daemon's or a drill's."""
    for subject in subjects:
        yield from _canary(subject, Mode.LIVE, by_key=counted_by_key)
        yield from facts.series_of(subject)
    yield from _kms(regions)


def drill_series(drill: str) -> Iterator[Series]:
    """Return the series of one drill."""
    for metric in (
        metrics.DRILL_ACTIVE,
        metrics.DRILL_LAST_RUN,
        metrics.DRILL_LAST_SUCCESS,
        metrics.DRILL_DETECTION,
        metrics.DRILL_RECOVERY,
    ):
        yield metric, (drill,)
    yield from _over(metrics.DRILL_RUNS, (drill,), DRILL_RESULTS)
    yield from _over(metrics.FAULTS_HEALED, (drill,), ("owner_dead", "expired"))


def alarm_series(names: Iterable[str]) -> Iterator[Series]:
    """Return the series of CloudWatch's alarms that have to be seen to fire; 0 is never."""
    for name in names:
        for metric in (metrics.ALARM_LAST_FIRED, metrics.ALARM_LAST_CLEARED):
            yield metric, (name, CLOUDWATCH)


def _canaries(subjects: Iterable[Subject], *, by_key: bool) -> Iterator[Series]:
    for subject in subjects:
        for mode in modes_of(subject.canary):
            yield from _canary(subject, mode, by_key=by_key)
        yield from facts.series_of(subject)


def _canary(subject: Subject, mode: Mode, *, by_key: bool) -> Iterator[Series]:
    for metric in (
        metrics.CANARY_UP,
        metrics.CANARY_LAST_RUN,
        metrics.CANARY_LAST_SUCCESS,
        metrics.CANARY_CONSECUTIVE_FAILURES,
    ):
        yield metric, (subject.canary, subject.region, subject.key, mode)
    key = counted_key(subject.key, by_key=by_key)
    labels = (subject.canary, subject.region, key, mode)
    if subject.canary in TIMED_KINDS:
        yield metrics.CANARY_DURATION, labels
    yield from _over(metrics.CANARY_RUNS, labels, results_of(subject.canary))
    if subject.canary == Kind.CROSS_REGION:
        sealed_in, _, opened_in = subject.region.partition(PAIR)
        yield from _over(metrics.CROSS_REGION_RUNS, (sealed_in, opened_in, key, mode), results_of(subject.canary))


def _regions(installation: Cardinality) -> Iterator[Series]:
    """Return what is told of regions; that one is healthy only where round trips look: 0 would say that it is not."""
    regions = installation.regions
    seen = {subject.region for subject in installation.subjects if subject.canary in USE_KINDS}
    yield from _kms(regions)
    yield from _over(metrics.CACHE_REQUESTS, (), CACHE_RESULTS)
    yield from _over(metrics.CACHE_EVICTIONS, (), CACHE_EVICTIONS)
    for region in regions:
        for mode, state in itertools.product(Mode, BREAKER_STATES):
            yield metrics.BREAKER_STATE, (region, state, mode)
            yield metrics.BREAKER_TRANSITIONS, (region, state, mode)
        yield from _over(metrics.REGION_HEALTHY, (region,), Mode if region in seen else (Mode.DRILL,))
        yield metrics.REGION_EVACUATED, (region,)
    for pair, mode in itertools.product(itertools.permutations(regions, 2), Mode):
        yield metrics.FAILOVERS, (*pair, mode)


def _keys(installation: Cardinality) -> Iterator[Series]:
    """Return what the core says of keys, and of orders about regions."""
    keys = sorted({subject.key for subject in installation.subjects} - {""})
    for key in keys:
        yield metrics.STALE_DATA_KEYS_USED, (key,)
        yield from ((metrics.KEYS_QUARANTINED, (region, key)) for region in installation.regions)
    yield metrics.OVERRIDES_UNREADABLE, ()
    yield metrics.ORDERS_UNREADABLE, ()


def _kms(regions: Sequence[str]) -> Iterator[Series]:
    for region in regions:
        for operation in KMS_OPERATIONS:
            yield metrics.KMS_REQUEST_DURATION, (region, operation)
            yield metrics.KMS_RETRIES, (region, operation)
            yield from _over(metrics.KMS_REQUESTS, (region, operation), ERROR_TYPES)


def _cloudwatch(regions: Sequence[str]) -> Iterator[Series]:
    for region in regions:
        for metric in (metrics.CLOUDWATCH_DATUMS, metrics.CLOUDWATCH_QUEUE, metrics.CLOUDWATCH_LAST_SUCCESS):
            yield metric, (region,)
        yield from _over(metrics.CLOUDWATCH_PUBLISH, (region,), PUBLISH_RESULTS)
        yield from _over(metrics.CLOUDWATCH_DROPPED, (region,), DROP_REASONS)


def _over(metric: Metric, labels: tuple[str, ...], last: Iterable[str]) -> Iterator[Series]:
    for value in last:
        yield metric, (*labels, value)
