"""The weekly review as values: availability, latency, worst hours, reasons, drills, costs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kms_watchdog import metrics
from kms_watchdog.config import Settings
from kms_watchdog.drills.runs import RunView
from kms_watchdog.health import USE_KINDS, Subject
from kms_watchdog.history.incidents import Incident
from kms_watchdog.history.tables import HOUR_SECONDS, Counted, HourOf
from kms_watchdog.history.tally import Tally, total
from kms_watchdog.results import Mode

WORST_HOURS = 8
LONGEST_INCIDENTS = 12
TOP_REASONS = 12
DAYS_PER_MONTH = 30.44

KMS_KEY_DOLLARS_PER_MONTH = 1.0
KMS_DOLLARS_PER_REQUEST = 0.03 / 10_000
METRIC_DOLLARS_PER_MONTH = 0.30
PUT_DOLLARS_PER_REQUEST = 0.01 / 1_000
"""List prices of us-east-1 (aws.amazon.com/kms/pricing, aws.amazon.com/cloudwatch/pricing), without free tiers."""

Hours = Sequence[tuple[HourOf, Tally]]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing's looks in the span."""

    name: tuple[str, ...]
    tally: Tally


@dataclass(frozen=True, slots=True)
class BadHour:
    """An hour in which something was not OK."""

    at_utc: datetime
    tally: Tally
    where: tuple[str, ...]
    """The regions concerned."""


@dataclass(frozen=True, slots=True)
class Why:
    """A reason, and how often and where it was given."""

    reason: str
    error_code: str
    count: int
    where: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """One item of the estimate, for the span."""

    what: str
    how_many: str
    dollars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """All that the review tells. Live looks alone, but for the drills."""

    estate: str
    since_utc: datetime
    until_utc: datetime
    hours_seen: int
    """Hours with a look at all."""
    hours_asked: int
    keys: tuple[Line, ...]
    """Round trips by region and key, which alone say whether a key can be used."""
    regions: tuple[Line, ...]
    """Round trips by region."""
    kinds: tuple[Line, ...]
    overall: Tally
    """All round trips."""
    worst_hours: tuple[BadHour, ...]
    reasons: tuple[Why, ...]
    incidents: tuple[Incident, ...]
    """The longest."""
    incident_count: int
    breakers: Mapping[str, int]
    """How often a region's breaker opened."""
    failovers: Mapping[tuple[str, str], int]
    requests: Mapping[str, int]
    """Requests to KMS by region."""
    drills: tuple[RunView, ...]
    costs: tuple[Cost, ...]
    by_hour: Mapping[str, Mapping[datetime, Tally]]
    """Round trips by region and hour: what the pictures show."""

    @property
    def dollars(self) -> float:
        """The whole estimate."""
        return sum(cost.dollars for cost in self.costs)


def digest(
    settings: Settings,
    *,
    since_utc: datetime,
    until_utc: datetime,
    hours: Hours,
    counted: Mapping[Counted, int],
    incidents: Sequence[Incident],
    drills: Iterable[RunView],
) -> Digest:
    """Return the review of the span, from what the history holds of it."""
    live = [(of, tally) for of, tally in hours if of.mode is Mode.LIVE]
    use = [(of, tally) for of, tally in live if of.subject.canary in USE_KINDS]
    requests = _counted(counted, "kms_request")
    return Digest(
        estate=settings.estate.name,
        since_utc=since_utc,
        until_utc=until_utc,
        hours_seen=len({of.hour for of, _ in live}),
        hours_asked=_hours_between(since_utc, until_utc),
        keys=_lines(use, lambda s: (s.region, s.key)),
        regions=_lines(use, lambda s: (s.region,)),
        kinds=_lines(live, lambda s: (s.canary,)),
        overall=total(tally for _, tally in use),
        worst_hours=_worst_hours(live),
        reasons=_reasons(live),
        incidents=tuple(sorted(incidents, key=lambda each: each.lasted(until_utc), reverse=True)[:LONGEST_INCIDENTS]),
        incident_count=len(incidents),
        breakers=_by_region(_counted(counted, "breaker_opened")),
        failovers=_counted(counted, "failed_over"),
        requests=_by_region(requests),
        drills=tuple(view for view in drills if _within(view, since_utc, until_utc)),
        costs=_costs(settings, until_utc - since_utc, sum(requests.values())),
        by_hour=_by_hour(use),
    )


def _hours_between(since_utc: datetime, until_utc: datetime) -> int:
    """Return how many hours the span touches; the sums are of whole hours."""
    first, last = int(since_utc.timestamp()) // HOUR_SECONDS, -(-int(until_utc.timestamp()) // HOUR_SECONDS)
    return max(1, last - first)


def _lines(hours: Hours, name_of: Callable[[Subject], tuple[str, ...]]) -> tuple[Line, ...]:
    grouped: dict[tuple[str, ...], list[Tally]] = {}
    for of, tally in hours:
        grouped.setdefault(name_of(of.subject), []).append(tally)
    return tuple(Line(name, total(tallies)) for name, tallies in sorted(grouped.items()))


def _worst_hours(hours: Hours) -> tuple[BadHour, ...]:
    grouped: dict[datetime, Hours] = {}
    for of, tally in hours:
        if tally.failed or tally.blind:
            grouped[of.at_utc] = [*grouped.get(of.at_utc, ()), (of, tally)]
    found = [
        BadHour(at_utc, total(tally for _, tally in bad), tuple(sorted({of.subject.region for of, _ in bad})))
        for at_utc, bad in grouped.items()
    ]
    return tuple(sorted(found, key=lambda hour: (-hour.tally.failed, -hour.tally.blind, hour.at_utc))[:WORST_HOURS])


def _reasons(hours: Hours) -> tuple[Why, ...]:
    counts: Counter[str] = Counter()
    where: dict[str, set[str]] = {}
    for of, tally in hours:
        counts.update(tally.reasons)
        for reason in tally.reasons:
            where.setdefault(reason, set()).add(of.subject.region)
    found = []
    for text, count in counts.most_common(TOP_REASONS):
        reason, _, error_code = text.partition("|")
        found.append(Why(reason, error_code, count, tuple(sorted(where[text]))))
    return tuple(found)


def _counted(counted: Mapping[Counted, int], event: str) -> dict[tuple[str, str], int]:
    """Return the live events of that name, by region and label."""
    sums: Counter[tuple[str, str]] = Counter()
    for what, count in counted.items():
        if what.event == event and what.mode is Mode.LIVE:
            sums[what.region, what.label] += count
    return dict(sorted(sums.items()))


def _by_region(counted: Mapping[tuple[str, str], int]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for (region, _), count in counted.items():
        sums[region] += count
    return dict(sorted(sums.items()))


def _by_hour(hours: Hours) -> dict[str, dict[datetime, Tally]]:
    found: dict[str, dict[datetime, Tally]] = {}
    for of, tally in hours:
        found.setdefault(of.subject.region, {}).setdefault(of.at_utc, Tally()).merge(tally)
    return {region: dict(sorted(of_region.items())) for region, of_region in sorted(found.items())}


def _within(view: RunView, since_utc: datetime, until_utc: datetime) -> bool:
    return view.started_at_utc is not None and since_utc <= view.started_at_utc < until_utc


def _costs(settings: Settings, span: timedelta, requests: int) -> tuple[Cost, ...]:
    months = span / timedelta(days=DAYS_PER_MONTH)
    keys = len(settings.keys) * len(settings.estate.regions)
    found = [
        Cost("KMS keys, primaries and replicas", f"{keys} keys", keys * months * KMS_KEY_DOLLARS_PER_MONTH),
        Cost("KMS requests by the watchdog", f"{requests:,}", requests * KMS_DOLLARS_PER_REQUEST),
    ]
    if settings.cloudwatch.enabled:
        places = len(settings.publish_regions)
        series = places * _series(settings)
        puts = round(places * span.total_seconds() / settings.cloudwatch.period_seconds)
        found += [
            Cost("CloudWatch metrics", f"about {series} series", series * months * METRIC_DOLLARS_PER_MONTH),
            Cost("CloudWatch PutMetricData", f"about {puts:,} requests", puts * PUT_DOLLARS_PER_REQUEST),
        ]
    return tuple(found)


def _series(settings: Settings) -> int:
    """Return how many series one region of CloudWatch gets: each metric by its dimensions' values."""
    values = {"Region": len(settings.estate.regions), "Operation": 2, "Success": 2}
    found = 0
    for metric in metrics.CLOUDWATCH:
        series = 1
        for dimension in metric.dimensions:
            series *= values.get(dimension, 1)
        found += series
    return found
