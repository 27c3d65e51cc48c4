"""Which Prometheus series a configuration makes, and that they are not too many: checked before any of them exists."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from kms_core import ConfigurationError
from kms_watchdog.alarm_proofs import to_be_proven
from kms_watchdog.canaries.canary import Canary
from kms_watchdog.config import Settings
from kms_watchdog.health import Subject
from kms_watchdog.sinks.cloudwatch_path import CLOSE_KIND, SEND_KIND
from kms_watchdog.sinks.otel_path import EXPORT_KIND
from kms_watchdog.sinks.series import Cardinality, Series, alarm_series, all_series, samples

DEADMAN = "deadman"
ELSEWHERE = "drills.elsewhere"
DRILL_JOBS = ("alarms.proofs", "drills.follow", "drills.slots", "drills.watch", "tasks")


def subject_of(canary: Canary) -> Subject:
    """Return what `canary` looks at."""
    return Subject(canary.kind, canary.region, canary.purpose)


def job_kind(canary: Canary) -> str:
    """Return what metrics call the job that lets `canary` look."""
    return f"canary.{canary.kind}"


def series_of(settings: Settings, canaries: Collection[Canary]) -> frozenset[Series]:
    """Return every series that there will be, but for those of drills, whose names are not known before they run.

    Raises:
        kms_core.errors.ConfigurationError: more than `[prometheus] max_series`.
    """
    installation = cardinality(settings, canaries)
    alarms = tuple(alarm_series(to_be_proven(settings)))
    found = frozenset((*all_series(installation), *alarms))
    most, number = settings.prometheus.max_series, samples(found)
    if number > most:
        fewer = samples({*all_series(replace(installation, counted_by_key=False)), *alarms})
        raise ConfigurationError(_too_many(settings, number, most, fewer=fewer if fewer < number else None))
    return found


def cardinality(settings: Settings, canaries: Iterable[Canary]) -> Cardinality:
    """Return what label values the configuration makes."""
    subjects = tuple(subject_of(canary) for canary in canaries)
    kinds = {job_kind(canary) for canary in canaries} | {"heartbeat", *DRILL_JOBS}
    if settings.cloudwatch.enabled:
        kinds |= {CLOSE_KIND, SEND_KIND}
    if settings.otel.enabled:
        kinds |= {EXPORT_KIND}
    if settings.health.deadman_url is not None:
        kinds.add(DEADMAN)
    if settings.drills.evidence.store is not None:
        kinds.add(ELSEWHERE)
    return Cardinality(
        subjects=subjects,
        regions=settings.estate.regions,
        publish_regions=settings.publish_regions if settings.cloudwatch.enabled else (),
        job_kinds=sorted(kinds),
        otel=settings.otel.enabled,
        counted_by_key=settings.prometheus.counted_by_key,
    )


def _too_many(settings: Settings, number: int, most: int, *, fewer: int | None) -> str:
    """Return what is too much, and what can be done about it; `fewer` are there when keys are counted together."""
    said = f"prometheus.max_series: {len(settings.keys):,} keys would make {number:,} series, more than {most:,}"
    together = f"set prometheus.counted_by_key = false ({fewer:,} series), " if fewer is not None else ""
    return f"{said}: {together}watch fewer keys or kinds of canaries in this process, or raise prometheus.max_series"
