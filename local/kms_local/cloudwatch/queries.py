"""Metric data queries: the elements of GetMetricData's `MetricDataQueries` and of PutMetricAlarm's `Metrics`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kms_alarms.evaluate import Expression, MetricMathError, MetricStat, Window, parse
from kms_local.cloudwatch.fields import bad_combination, bad_value, dimensions, missing, namespace, required_text
from kms_local.cloudwatch.ingest import UNITS
from kms_local.cloudwatch.statistics import is_statistic, series_of, why_not
from kms_local.cloudwatch.store import MetricKey, MetricStore
from kms_local.wire.params import Params

LONGEST_PERIOD = 86_400 * 365
_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")
_SHORT_PERIODS = frozenset({1, 5, 10, 20, 30})


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query."""

    name: str
    asked: MetricStat | Expression
    period_seconds: int | None  # None: an expression has that of its metrics
    returned: bool
    label: str


def metric_key(stat: MetricStat) -> MetricKey:
    """Return the identity of the metric that a query asks for."""
    return MetricKey(stat.namespace, stat.name, stat.dimensions)


def statistics_in(store: MetricStore, stat: MetricStat, looked_at: Window) -> dict[float, float]:
    """Return one statistic of one metric over a window, by start of period."""
    buckets = store.merged(
        metric_key(stat),
        unit=stat.unit,
        start=looked_at.start,
        end=looked_at.end,
        period_seconds=looked_at.period_seconds,
    )
    return series_of(buckets, stat.statistic)


def check_period(period: int, name: str = "Period") -> int:
    """Return a period that metrics can have: 1, 5, 10, 20, 30 or a multiple of 60 seconds."""
    if period in _SHORT_PERIODS or (period > 0 and period % 60 == 0):
        return period
    raise bad_value(f"The parameter {name} must be 1, 5, 10, 20, 30 or a multiple of 60.")


def check_unit(params: Params, name: str = "Unit") -> str | None:
    """Return a unit, or None when it was not given."""
    unit = params.optional_text("Unit")
    if unit is not None and unit not in UNITS:
        raise bad_value(f"The value {unit} for parameter {name} is invalid.")
    return unit


def parse_queries(given: list[Params], *, limit: int, where: str) -> dict[str, Query]:
    """Read and check metric data queries, by id, in their order."""
    if not given:
        raise missing(where)
    if len(given) > limit:
        raise bad_value(f"The collection {where} must not have a size greater than {limit}.")
    queries: dict[str, Query] = {}
    for item in given:
        query = _query(item)
        if query.name in queries:
            raise bad_value(f"The values for parameter id in {where} are not unique.")
        queries[query.name] = query
    for query in queries.values():
        if isinstance(query.asked, Expression) and not query.asked.ids <= queries.keys():
            unknown = ", ".join(sorted(query.asked.ids - queries.keys()))
            raise bad_value(f"Error in expression '{query.name}': undefined id {unknown}")
    return queries


def _query(item: Params) -> Query:
    name = item.optional_text("Id") or ""
    if not _ID.fullmatch(name):
        raise bad_value(f"The value {name!r} for parameter Id is invalid: it begins with a lower-case letter.")
    stat, text = item.object("MetricStat"), item.optional_text("Expression")
    if (stat is None) == (text is None):
        raise bad_combination(f"Exactly one of MetricStat and Expression is required for {name}.")
    returned = not item.given("ReturnData") or item.flag("ReturnData")
    if stat is not None:
        asked, period = _metric_stat(stat)
        label = item.optional_text("Label") or asked.name
        return Query(name=name, asked=asked, period_seconds=period, returned=returned, label=label)
    given = item.integer("Period", low=1, high=LONGEST_PERIOD)
    return Query(
        name=name,
        asked=_expression(text or "", name),
        period_seconds=None if given is None else check_period(given),
        returned=returned,
        label=item.optional_text("Label") or name,
    )


def _metric_stat(given: Params) -> tuple[MetricStat, int]:
    metric = given.object("Metric")
    if metric is None:
        raise missing("MetricStat.Metric")
    name = required_text(given, "Stat", "MetricStat.")
    if not is_statistic(name):
        raise bad_value(why_not(name, "MetricStat.Stat"))
    period = given.integer("Period", low=1, high=LONGEST_PERIOD)
    if period is None:
        raise missing("MetricStat.Period")
    stat = MetricStat(
        namespace=namespace(metric),
        name=required_text(metric, "MetricName"),
        dimensions=dimensions(metric),
        statistic=name,
        unit=check_unit(given, "MetricStat.Unit"),
    )
    return stat, check_period(period, "MetricStat.Period")


def _expression(text: str, name: str) -> Expression:
    try:
        return parse(text)
    except MetricMathError as e:
        raise bad_value(f"Error in expression '{name}': {e}") from e
