"""The month's estimate, line by line, from the configuration and from what was found in the account. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kms_watchdog import metrics
from kms_watchdog.alarm_definitions import Parameters
from kms_watchdog.config import Settings
from kms_watchdog.costs.prices import Priced, Prices
from kms_watchdog.costs.requests import MONTH_SECONDS, kms_requests_per_month, looks
from kms_watchdog.results import Kind

Basis = Literal["configuration", "account"]
BILLED_ROTATIONS = 2
"""Of a key, the first two rotated versions are billed, and no more."""
STANDARD_SECONDS = 60
"""An alarm with a shorter period is one of high resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that costs; without a count nobody could tell."""

    what: str
    priced: Priced
    basis: Basis
    count: float | None
    usd: float | None
    note: str = ""
    """What the count leaves out, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why something could not be counted in the account."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What was found in the account; each may be in trouble by itself."""

    rotations: Mapping[str, int | Trouble]
    """By purpose, how often its key was rotated."""
    metrics: Mapping[str, int | Trouble]
    """By region, custom metrics of our namespaces that CloudWatch knows."""
    alarms: Mapping[str, Sequence[Parameters] | Trouble]
    """By region, alarms that begin with our prefix."""
    dashboards: int | Trouble
    """Those that show our namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmMetrics:
    """How many metrics alarms are billed for."""

    counts: Mapping[Priced, int] = field(default_factory=dict)

    @classmethod
    def of(cls, alarms: Iterable[Parameters]) -> AlarmMetrics:
        """Count those of `alarms`."""
        counts = dict.fromkeys((Priced.ALARM, Priced.HIGH_RESOLUTION_ALARM, Priced.COMPOSITE_ALARM), 0)
        for alarm in alarms:
            kind, billed = _billed(alarm)
            counts[kind] += billed
        return cls(counts=counts)


def estimate(
    settings: Settings, prices: Prices, account: Account | None, defined: Mapping[str, Sequence[Parameters]]
) -> tuple[Line, ...]:
    """Return the lines; `account` is None where nobody asked AWS, `defined` the rendered alarms by region, if any."""
    made = _Lines(prices)
    keys = len(settings.keys) * len(settings.estate.regions)
    return (
        made.line(f"KMS keys: {len(settings.keys)} in {len(settings.estate.regions)} regions", Priced.KMS_KEY, keys),
        *_rotations(settings, made, account),
        *_canaries(settings, made),
        *_metrics(settings, made, account),
        *_alarms(made, account, defined),
        *_dashboards(made, account),
    )


class _Lines:
    """Makes lines by one table of prices."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def line(
        self, what: str, priced: Priced, count: float | None, basis: Basis = "configuration", note: str = ""
    ) -> Line:
        usd = None if count is None else self._prices.of(priced, count)
        return Line(what=what, priced=priced, basis=basis, count=count, usd=usd, note=note)

    def unknown(self, what: str, priced: Priced, trouble: Trouble) -> Line:
        return self.line(what, priced, None, "account", trouble.why)


def _rotations(settings: Settings, made: _Lines, account: Account | None) -> Iterator[Line]:
    if account is None:
        return
    for purpose, found in account.rotations.items():
        what = f"KMS rotated versions of {purpose}"
        if isinstance(found, Trouble):
            yield made.unknown(what, Priced.KMS_ROTATION, found)
        else:
            count = min(BILLED_ROTATIONS, found) * len(settings.estate.regions)
            yield made.line(what, Priced.KMS_ROTATION, count, "account", f"rotated {found} times")


def _canaries(settings: Settings, made: _Lines) -> Iterator[Line]:
    for kind, requests in kms_requests_per_month(settings).items():
        if requests:
            every = settings.canaries.timing(kind).interval_seconds
            what = f"KMS requests of {kind}: {looks(settings, kind)} canaries every {every:g} s"
            yield made.line(what, Priced.KMS_REQUEST, requests)


def _metrics(settings: Settings, made: _Lines, account: Account | None) -> Iterator[Line]:
    if not settings.cloudwatch.enabled:
        return
    for region in settings.publish_regions:
        what = f"CloudWatch metrics in {region}"
        if account is None:
            yield made.line(
                what, Priced.METRIC, series(settings), note="at most; a drill's own are extra while it runs"
            )
        elif isinstance(found := account.metrics[region], Trouble):
            yield made.unknown(what, Priced.METRIC, found)
        else:
            yield made.line(what, Priced.METRIC, found, "account", "those of the last two weeks, a drill's too")
    period_seconds = settings.cloudwatch.period_seconds
    puts = len(settings.publish_regions) * MONTH_SECONDS / period_seconds
    yield made.line(f"CloudWatch PutMetricData every {period_seconds} s", Priced.CLOUDWATCH_REQUEST, puts)
    if Kind.ALARM_PATH in settings.canaries.kinds:
        every = settings.canaries.timing(Kind.ALARM_PATH).interval_seconds
        asked = looks(settings, Kind.ALARM_PATH) * MONTH_SECONDS / every
        what = f"CloudWatch DescribeAlarms of alarm_path every {every:g} s"
        yield made.line(what, Priced.CLOUDWATCH_REQUEST, asked, note="one page a look: at most 100 alarms")


def series(settings: Settings) -> int:
    """Return how many metrics one region of CloudWatch can get: each by its dimensions' values; live ones."""
    values = {
        "Region": len(settings.estate.regions),
        "Operation": 2,
        "Success": 2,
        "Key": len(settings.keys),
        "Canary": len(settings.canaries.kinds),
        "Monitor": 1,
        "Drill": len({plan.label for plan in settings.drills.plans}),
    }
    found = 0
    for metric in metrics.CLOUDWATCH:
        of_metric = 1
        for dimension in metric.dimensions:
            of_metric *= values[dimension]
        found += of_metric
    return found


def _alarms(made: _Lines, account: Account | None, defined: Mapping[str, Sequence[Parameters]]) -> Iterator[Line]:
    found: Mapping[str, Sequence[Parameters] | Trouble] = defined if account is None else account.alarms
    basis: Basis = "configuration" if account is None else "account"
    words = {
        Priced.ALARM: "CloudWatch alarms",
        Priced.HIGH_RESOLUTION_ALARM: "CloudWatch alarms of high resolution",
        Priced.COMPOSITE_ALARM: "CloudWatch composite alarms",
    }
    for region, alarms in found.items():
        if isinstance(alarms, Trouble):
            yield made.unknown(f"CloudWatch alarms in {region}", Priced.ALARM, alarms)
            continue
        for priced, count in AlarmMetrics.of(alarms).counts.items():
            if count:
                yield made.line(f"{words[priced]} in {region}", priced, count, basis)


def _dashboards(made: _Lines, account: Account | None) -> Iterator[Line]:
    if account is None:
        return
    if isinstance(account.dashboards, Trouble):
        yield made.unknown("CloudWatch dashboards", Priced.DASHBOARD, account.dashboards)
    elif account.dashboards:
        yield made.line("CloudWatch dashboards", Priced.DASHBOARD, account.dashboards, "account")


def _billed(alarm: Parameters) -> tuple[Priced, int]:
    """Return what kind an alarm is billed as, and how many times: each metric of a math alarm is."""
    if "AlarmRule" in alarm:
        return Priced.COMPOSITE_ALARM, 1
    stats: list[Mapping[str, Any]] = [one["MetricStat"] for one in alarm.get("Metrics") or () if "MetricStat" in one]
    periods = [int(stat["Period"]) for stat in stats] or [int(alarm.get("Period", STANDARD_SECONDS))]
    kind = Priced.HIGH_RESOLUTION_ALARM if min(periods) < STANDARD_SECONDS else Priced.ALARM
    return kind, max(1, len(stats))


def total(lines: Iterable[Line]) -> float:
    """Return the dollars of all that could be counted."""
    return sum(line.usd for line in lines if line.usd is not None)
