"""Which Prometheus series exist: all that can, from the first scrape on, and not one more. Pure.

A series that appears with its first failure hides that failure from `rate()` and `increase()`; one that a server's
answer can name makes the number of series somebody else's choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kms_watchdog import metrics
from kms_watchdog.health import Status, Subject
from kms_watchdog.metrics import Metric
from kms_watchdog.results import CanaryResult, Mode, Outcome, Reason

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
    OTHER,
)
KMS_OPERATIONS = ("GenerateDataKey", "Decrypt", "DescribeKey")
RESULTS = ("success", "blind", Reason.ERROR, Reason.TIMEOUT, Reason.THROTTLED, Reason.DENIED, Reason.MISMATCH)
BREAKER_STATES = tuple(metrics.BREAKER_VALUES)
DRILL_RESULTS = ("held", "broke", "inconclusive")
JOB_RESULTS = ("executed", "missed", "skipped_overlap", "error")
PUBLISH_RESULTS = ("success", "throttled", "denied", "refused", "unreachable")
DROP_REASONS = ("queue_full", "too_old", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cardinality:
    """What label values there are in this installation."""

    subjects: Sequence[Subject]
    regions: Sequence[str]
    publish_regions: Sequence[str]
    job_kinds: Sequence[str]


def result_label(result: CanaryResult) -> str:
    """Return the `result` label: success, blind, or the reason of a failure."""
    if result.outcome is Outcome.FAILED:
        return str(result.reason)
    return "success" if result.outcome is Outcome.OK else "blind"


def error_type(error_code: str) -> str:
    """Return the `error_type` label for a code: itself if it is on the list."""
    return error_code if error_code in ERROR_TYPES else OTHER


def all_series(installation: Cardinality) -> Iterator[Series]:
    """Return every series that can exist, but for those of drills, whose names are not known before they run."""
    yield from _canaries(installation.subjects)
    yield from _regions(installation.regions)
    yield from _cloudwatch(installation.publish_regions)
    for status in Status:
        yield metrics.HEALTH_STATUS, (status,)
    for kind in installation.job_kinds:
        yield metrics.SCHEDULER_LAG, (kind,)
        yield from _over(metrics.SCHEDULER_JOBS, (kind,), JOB_RESULTS)
    yield metrics.HEAL_FAILURES, ()
    yield metrics.SCHEDULER_HEARTBEAT, ()


def drill_series(drill: str) -> Iterator[Series]:
    """Return the series of one drill."""
    for metric in (metrics.DRILL_ACTIVE, metrics.DRILL_LAST_RUN, metrics.DRILL_LAST_SUCCESS):
        yield metric, (drill,)
    yield from _over(metrics.DRILL_RUNS, (drill,), DRILL_RESULTS)
    yield from _over(metrics.FAULTS_HEALED, (drill,), ("owner_dead", "expired"))


def _canaries(subjects: Iterable[Subject]) -> Iterator[Series]:
    for s, mode in itertools.product(subjects, Mode):
        labels = (s.canary, s.region, s.key, mode)
        for metric in (
            metrics.CANARY_DURATION,
            metrics.CANARY_UP,
            metrics.CANARY_LAST_RUN,
            metrics.CANARY_LAST_SUCCESS,
            metrics.CANARY_CONSECUTIVE_FAILURES,
        ):
            yield metric, labels
        yield from _over(metrics.CANARY_RUNS, labels, RESULTS)


def _regions(regions: Sequence[str]) -> Iterator[Series]:
    for region in regions:
        for operation in KMS_OPERATIONS:
            yield metrics.KMS_REQUEST_DURATION, (region, operation)
            yield from _over(metrics.KMS_REQUESTS, (region, operation), ERROR_TYPES)
        for mode, state in itertools.product(Mode, BREAKER_STATES):
            yield metrics.BREAKER_STATE, (region, state, mode)
            yield metrics.BREAKER_TRANSITIONS, (region, state, mode)
        yield from _over(metrics.REGION_HEALTHY, (region,), Mode)
    for pair, mode in itertools.product(itertools.permutations(regions, 2), Mode):
        yield metrics.FAILOVERS, (*pair, mode)


def _cloudwatch(regions: Sequence[str]) -> Iterator[Series]:
    for region in regions:
        for metric in (metrics.CLOUDWATCH_DATUMS, metrics.CLOUDWATCH_QUEUE, metrics.CLOUDWATCH_LAST_SUCCESS):
            yield metric, (region,)
        yield from _over(metrics.CLOUDWATCH_PUBLISH, (region,), PUBLISH_RESULTS)
        yield from _over(metrics.CLOUDWATCH_DROPPED, (region,), DROP_REASONS)


def _over(metric: Metric, labels: tuple[str, ...], last: Iterable[str]) -> Iterator[Series]:
    for value in last:
        yield metric, (*labels, value)
