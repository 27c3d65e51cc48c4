"""What is promised of each step, how soon, and where that stands. Pure.

No time is made up here. An alarm's is what `kms_alarms.bounds` adds up for this configuration; what a drill proves each
month is that drill's own declaration; the rest is arithmetic of the settings that bring it about.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from kms_alarms import bounds, prometheus
from kms_alarms.cloudwatch import alarm_name
from kms_alarms.parts import Alarm, NoneBecause, Rule
from kms_alarms.table import alarm
from kms_chaos import drill as drills
from kms_chaos.drill import Drill
from kms_core import CoreConfig
from kms_watchdog.config import Settings
from kms_watchdog.health import DOWN_AFTER_FAILURES, UP_AFTER_SUCCESSES
from kms_watchdog.results import Kind, Mode

Since = Literal["lost", "ordered", "back", "taken back"]

DRILL = "region-blackhole"
"""What the catalogue calls this fault; its objectives are those of each month's drill."""
ROWS = ("HighErrorRate", "CircuitBreakerOpen", "RegionUnhealthy")
"""The rows of the table that speak of a region that is lost."""
OVERRIDES_SECONDS = 15.0
"""How often a core reads people's orders (`kms_core.Core`, `override_interval_seconds`)."""
READING_SECONDS = 1.0
"""What the reading itself may take."""
GROUP_INTERVAL_SECONDS = 60
"""Alertmanager's `group_interval` in `alarms/prometheus/alertmanager.example.yml`: how soon it tells of an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """How a step is recognised among the moments."""

    what: str
    who: str
    name: str
    """A regular expression that the whole name matches."""
    state: str
    all_of: tuple[str, ...] = ()
    """Names that must all have come; empty: the first is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One step that must come in time."""

    key: str
    title: str
    since: Since
    within_seconds: float
    where: str
    """Where the promise stands."""
    sight: Sight
    needs: Literal["", "prometheus"] = ""
    """What must be installed for it."""
    row: str = ""
    """The alarm whose page this is, by its name in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the application's customers may feel of it."""

    failed: int
    p99_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that is promised of one game day."""

    region: str
    timed: tuple[Timed, ...]
    limits: Limits


def plan(settings: Settings, region: str, *, rate: float, scale: float) -> Plan:
    """Return what is promised when `region` is lost.

    Args:
        settings: the daemon's.
        region: which is lost.
        rate: requests a second to the application.
        scale: by how much Prometheus's and Alertmanager's times are shortened; 1: not at all.
    """
    drill = drills.find(DRILL)
    return Plan(
        region=region,
        timed=(
            *_lost(settings, region, rate),
            *_alarms(settings, region, scale),
            *_orders(region),
            *_recovered(settings, region, drill),
            *_cleared(settings, region, drill, scale),
        ),
        limits=Limits(
            failed=drill.objectives.failed_operations,
            p99_seconds=drill.objectives.p99_seconds,
            longest_seconds=_of_core("deadline_seconds"),
        ),
    )


def _of_core(setting: str) -> Any:
    """Return the core's default, which the application runs with."""
    return next(field.default for field in dataclasses.fields(CoreConfig) if field.name == setting)


def _lost(settings: Settings, region: str, rate: float) -> tuple[Timed, ...]:
    attempt, threshold = _of_core("attempt_timeout_seconds"), _of_core("circuit_breaker_threshold")
    look = settings.canaries.timing(Kind.ROUND_TRIP)
    core = "docs/core.md: the limit on an attempt"
    return (
        Timed(
            key="attempt-failed",
            title=f"the application's first request to KMS in {region} fails",
            since="lost",
            within_seconds=1 / rate + attempt,
            where=f"{core}, {attempt:g} s, after the next request",
            sight=Sight(what="attempt", who="application", name=region, state="failed"),
        ),
        Timed(
            key="breaker-open",
            title="the application's breaker opens: requests go past",
            since="lost",
            within_seconds=threshold * (1 / rate + attempt),
            where=f"{core}, {threshold} times in a row",
            sight=Sight(what="breaker", who="application", name=region, state="open"),
        ),
        Timed(
            key="canary-failed",
            title=f"a canary of {region} is FAILED",
            since="lost",
            within_seconds=look.interval_seconds + look.deadline_seconds,
            where=f"[canaries]: a look each {look.interval_seconds:g} s, of {look.deadline_seconds:g} s at the most",
            sight=Sight(what="canary", who="watchdog", name=f"{region}:.*", state="failed"),
        ),
        Timed(
            key="health-degraded",
            title="the watchdog's /health is degraded, not unhealthy",
            since="lost",
            within_seconds=DOWN_AFTER_FAILURES * look.interval_seconds + look.deadline_seconds,
            where=f"alarms/runbooks/region-unhealthy.md: {DOWN_AFTER_FAILURES} failures in a row",
            sight=Sight(what="health", who="watchdog", name="", state="degraded"),
        ),
    )


def _alarms(settings: Settings, region: str, scale: float) -> tuple[Timed, ...]:
    found = []
    for name in ROWS:
        row = alarm(name)
        if not isinstance(row.cloudwatch, NoneBecause):
            found += _in_cloudwatch(settings, row, region)
        found += _in_prometheus(settings, row, region, scale)
    return tuple(sorted(found, key=lambda timed: timed.within_seconds))


def _in_cloudwatch(settings: Settings, row: Alarm, region: str) -> list[Timed]:
    name, seconds = alarm_name(settings, row.name, region, Mode.LIVE), bounds.cloudwatch(settings, row)
    where = (
        f"alarm table, {row.name} in CloudWatch at [cloudwatch] period_seconds = {settings.cloudwatch.period_seconds}"
    )
    alarmed = Timed(
        key=f"cloudwatch-{row.name}",
        title=f"CloudWatch: {name} is ALARM",
        since="lost",
        within_seconds=seconds,
        where=where,
        sight=Sight(what="alarm", who="CloudWatch", name=name, state="ALARM"),
    )
    paged = dataclasses.replace(
        alarmed,
        key=f"{'page' if row.severity == 'critical' else 'ticket'}-sns-{row.name}",
        title=f"SNS tells of it: {name}",
        sight=Sight(what="page", who="SNS", name=name, state="ALARM"),
        row=row.name,
    )
    return [alarmed, paged]


def _in_prometheus(settings: Settings, row: Alarm, region: str, scale: float) -> list[Timed]:
    """Only the region's own alert is told: it keeps the two that follow from it quiet (`inhibit_rules`)."""
    name, seen = prometheus.alert_name(row, Mode.LIVE), bounds.seen_seconds(settings, row)
    whole = min(bounds.prometheus(settings, row, rule) for rule in _rules(row))
    alarmed = Timed(
        key=f"prometheus-{row.name}",
        title=f"Prometheus: {name} fires",
        since="lost",
        within_seconds=seen + (whole - seen) * scale,
        where=f"alarm table, {row.name} in Prometheus{_scaled(scale)}",
        sight=Sight(what="alarm", who="Prometheus", name=f"{name} {region}", state="firing"),
        needs="prometheus",
    )
    if row.name != "RegionUnhealthy":
        return [alarmed]
    paged = dataclasses.replace(
        alarmed,
        key=f"page-alertmanager-{row.name}",
        title=f"Alertmanager tells the pager: {name}",
        sight=Sight(what="page", who="pager", name=name, state="ALARM"),
        row=row.name,
    )
    return [alarmed, paged]


def _rules(row: Alarm) -> tuple[Rule, ...]:
    return () if isinstance(row.prometheus, NoneBecause) else row.prometheus


def _scaled(scale: float) -> str:
    return "" if scale == 1 else f", its waits times {scale:.3g} as CloudWatch's periods are"


def _orders(region: str) -> tuple[Timed, ...]:
    where = f"daemon/README.md: each process reads the order within some {OVERRIDES_SECONDS:.0f} s"
    return tuple(
        Timed(
            key=f"{key}-{who}",
            title=title.format(who=who, region=region),
            since=since,
            within_seconds=OVERRIDES_SECONDS + READING_SECONDS,
            where=where,
            sight=Sight(what="orders", who=who, name="", state=state),
        )
        for since, key, state, title in _order_steps(region)
        for who in ("application", "watchdog")
    )


def _order_steps(region: str) -> tuple[tuple[Since, str, str, str], ...]:
    return (
        ("ordered", "order", f"avoid {region}", "the {who} follows the order: {region} is asked last"),
        ("taken back", "return", "", "the {who} has seen it taken back: {region} is asked as before"),
    )


def _recovered(settings: Settings, region: str, drill: Drill) -> tuple[Timed, ...]:
    look, rto = settings.canaries.timing(Kind.ROUND_TRIP), drill.objectives.rto_seconds
    by_drill = f"drill {DRILL}: rto_seconds"
    return (
        Timed(
            key="canary-ok",
            title=f"every key's canary of {region} is OK",
            since="back",
            within_seconds=look.interval_seconds + look.deadline_seconds,
            where=f"[canaries]: a look each {look.interval_seconds:g} s",
            sight=Sight(
                what="canary",
                who="watchdog",
                name=f"{region}:.*",
                state="recovered",
                all_of=tuple(f"{region}:{purpose}" for purpose in settings.keys),
            ),
        ),
        Timed(
            key="breaker-closed",
            title="the application's breaker is closed",
            since="back",
            within_seconds=rto,
            where=by_drill,
            sight=Sight(what="breaker", who="application", name=region, state="closed"),
        ),
        Timed(
            key="health-healthy",
            title="the watchdog's /health is healthy",
            since="back",
            within_seconds=rto + (UP_AFTER_SUCCESSES - 1) * look.interval_seconds,
            where=f"{by_drill}, and one good look more",
            sight=Sight(what="health", who="watchdog", name="", state="healthy"),
        ),
    )


def _cleared(settings: Settings, region: str, drill: Drill, scale: float) -> tuple[Timed, ...]:
    found = [
        Timed(
            key=f"cloudwatch-ok-{row}",
            title=f"CloudWatch: {alarm_name(settings, row, region, Mode.LIVE)} is OK",
            since="back",
            within_seconds=within * settings.cloudwatch.period_seconds / drill.timing.alarm_period_seconds,
            where=f"drill {by}: must_clear",
            sight=Sight(what="alarm", who="CloudWatch", name=alarm_name(settings, row, region, Mode.LIVE), state="OK"),
        )
        for row, (by, within) in _must_clear().items()
    ]
    return (*found, _resolved(settings, scale))


def _must_clear() -> dict[str, tuple[str, float]]:
    """Return for each of CloudWatch's rows which drill says within how many seconds it must clear."""
    rows = [name for name in ROWS if not isinstance(alarm(name).cloudwatch, NoneBecause)]
    return {
        row: next(
            (one.name, rule.within_seconds)
            for one in (drills.find(DRILL), *drills.every())
            for rule in one.alarms.must_clear
            if rule.alarm == row and rule.within_seconds is not None
        )
        for row in rows
    }


def _resolved(settings: Settings, scale: float) -> Timed:
    row = alarm("RegionUnhealthy")
    look = settings.canaries.timing(Kind.ROUND_TRIP)
    kept = max(rule.keep_seconds for rule in _rules(row))
    waits = kept + 60 + bounds.SCRAPE_SECONDS + bounds.EVALUATION_SECONDS + GROUP_INTERVAL_SECONDS
    return Timed(
        key="page-over",
        title=f"Alertmanager tells that it is over: {prometheus.alert_name(row, Mode.LIVE)}",
        since="back",
        within_seconds=UP_AFTER_SUCCESSES * look.interval_seconds + look.deadline_seconds + waits * scale,
        where=f"alarms/runbooks/region-unhealthy.md: two good looks, then {kept / 60:g} minutes{_scaled(scale)}",
        sight=Sight(what="page", who="pager", name=prometheus.alert_name(row, Mode.LIVE), state="OK"),
        needs="prometheus",
    )
