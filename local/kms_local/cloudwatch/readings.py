"""GetMetricData, GetMetricStatistics and ListMetrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kms_alarms.evaluate import Expression, MetricMathError, MetricStat, Series, Window, parse, resolve
from kms_local.cloudwatch.fields import (
    bad_combination,
    bad_value,
    dimension_list,
    dimensions,
    missing,
    page,
    required_text,
    required_timestamp,
)
from kms_local.cloudwatch.ingest import UNITS
from kms_local.cloudwatch.statistics import SIMPLE, is_percentile, is_statistic, series_of, statistic
from kms_local.cloudwatch.store import MetricKey, MetricStore
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

_MAX_QUERIES = 500
_MAX_POINTS = 100_800
_MAX_STATISTICS_POINTS = 1440
_LIST_PAGE = 500
_ACTIVE_SECONDS = 3 * 3600
_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")
_SHORT_PERIODS = frozenset({1, 5, 10, 20, 30})


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One element of `MetricDataQueries` (GetMetricData) or of `Metrics` (PutMetricAlarm)."""

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


def parse_queries(given: list[Params], *, limit: int) -> dict[str, Query]:
    """Read and check metric data queries, by id, in their order."""
    if not given or len(given) > limit:
        raise bad_value(f"1 to {limit} metric data queries are needed.")
    queries: dict[str, Query] = {}
    for item in given:
        query = _query(item)
        if query.name in queries:
            raise bad_value(f"The id {query.name} is used twice.")
        queries[query.name] = query
    for query in queries.values():
        if isinstance(query.asked, Expression) and not query.asked.ids <= queries.keys():
            unknown = ", ".join(sorted(query.asked.ids - queries.keys()))
            raise bad_value(f"Error in expression '{query.name}': undefined id {unknown}")
    return queries


def get_metric_data(store: MetricStore, params: Params, now: float) -> JsonObject:
    """Return the series that were asked for, newest first unless told otherwise."""
    del now
    queries = parse_queries(params.objects("MetricDataQueries"), limit=_MAX_QUERIES)
    start, end = _range(params)
    ascending = params.optional_text("ScanBy") == "TimestampAscending"
    results = []
    for query in queries.values():
        if query.returned:
            series = _series(store, queries, query, start, end)
            times = [at for at in sorted(series, reverse=not ascending) if at < end]
            results.append(_result(query, times, series))
    return {"MetricDataResults": results, "Messages": []}


def get_metric_statistics(store: MetricStore, params: Params, now: float) -> JsonObject:
    """Return statistics of one metric, by period."""
    del now
    name = required_text(params, "MetricName")
    key = MetricKey(required_text(params, "Namespace"), name, dimensions(params))
    start, end = _range(params)
    period = check_period(params.integer("Period", low=1, high=86_400 * 365) or 0)
    looked_at = _aligned(start, end, period)
    if len(looked_at.times) > _MAX_STATISTICS_POINTS:
        raise bad_combination(f"You have requested up to {len(looked_at.times):,} datapoints, which exceeds 1,440.")
    wanted, percentiles = _asked_statistics(params)
    asked_unit = params.optional_text("Unit")
    points = []
    for unit in [asked_unit] if asked_unit else store.units(key):
        buckets = store.merged(key, unit=unit, start=looked_at.start, end=end, period_seconds=period)
        for at, bucket in sorted(buckets.items()):
            values = {stat: statistic(bucket, stat) for stat in wanted}
            extended = {stat: statistic(bucket, stat) for stat in percentiles}
            points.append({"Timestamp": at, "Unit": unit, **values, **_extended(extended)})
    return {"Label": name, "Datapoints": points}


def list_metrics(store: MetricStore, params: Params, now: float) -> JsonObject:
    """List metrics; dimensions are a filter here, nowhere else."""
    namespace, name = params.optional_text("Namespace"), params.optional_text("MetricName")
    filters = [(item.text("Name"), item.optional_text("Value")) for item in params.objects("Dimensions")]
    since = now - _ACTIVE_SECONDS if params.optional_text("RecentlyActive") == "PT3H" else 0.0
    items = [
        {"Namespace": key.namespace, "MetricName": key.name, "Dimensions": dimension_list(key.dimensions)}
        for key in store.metrics(active_since=since)
        if namespace in {None, key.namespace} and name in {None, key.name} and _passes(key.dimensions, filters)
    ]
    return page(params, "Metrics", items, size=_LIST_PAGE)


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
    given = item.integer("Period", low=1, high=86_400 * 365)
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
    name = given.optional_text("Stat") or ""
    if not is_statistic(name):
        raise bad_value(f"The value {name!r} for parameter MetricStat.Stat is not supported.")
    unit = given.optional_text("Unit")
    if unit is not None and unit not in UNITS:
        raise bad_value(f"The value {unit} for parameter MetricStat.Unit is invalid.")
    stat = MetricStat(
        namespace=required_text(metric, "Namespace"),
        name=required_text(metric, "MetricName"),
        dimensions=dimensions(metric),
        statistic=name,
        unit=unit,
    )
    return stat, check_period(given.integer("Period", low=1, high=86_400 * 365) or 0, "MetricStat.Period")


def _expression(text: str, name: str) -> Expression:
    try:
        return parse(text)
    except MetricMathError as e:
        raise bad_value(f"Error in expression '{name}': {e}") from e


def _series(
    store: MetricStore, queries: Mapping[str, Query], query: Query, start: float, end: float
) -> dict[float, float]:
    needed = {name: queries[name] for name in _needed(queries, query.name, frozenset())}
    periods = {one.period_seconds for one in needed.values() if isinstance(one.asked, MetricStat)}
    if len(periods) > 1:
        raise bad_combination(f"The metrics of expression '{query.name}' must have one period.")
    period = next(iter(periods), None) or query.period_seconds
    if period is None:
        raise missing("Period")
    looked_at = _aligned(start, end, period)
    if len(looked_at.times) > _MAX_POINTS:
        raise bad_combination(f"The requested range has more than {_MAX_POINTS} periods.")
    statistics: dict[str, Series] = {
        name: statistics_in(store, one.asked, looked_at)
        for name, one in needed.items()
        if isinstance(one.asked, MetricStat)
    }
    try:
        return resolve({name: one.asked for name, one in needed.items()}, statistics, looked_at, query.name)
    except MetricMathError as e:
        raise ServiceError("ValidationError", f"Error in expression '{query.name}': {e}") from e


def _needed(queries: Mapping[str, Query], name: str, seen: frozenset[str]) -> list[str]:
    """Return the ids that a query rests on, itself included; METRICS() rests on every metric."""
    if name in seen:
        return []
    asked = queries[name].asked
    if isinstance(asked, MetricStat):
        return [name]
    ids = set(asked.ids)
    if "METRICS" in asked.text:
        ids |= {other for other, query in queries.items() if isinstance(query.asked, MetricStat)}
    found = [needed for other in sorted(ids) for needed in _needed(queries, other, seen | {name})]
    return list(dict.fromkeys([*found, name]))


def _result(query: Query, times: list[float], series: Mapping[float, float]) -> JsonObject:
    return {
        "Id": query.name,
        "Label": query.label,
        "Timestamps": times,
        "Values": [series[at] for at in times],
        "StatusCode": "Complete",
    }


def _range(params: Params) -> tuple[float, float]:
    start, end = required_timestamp(params, "StartTime"), required_timestamp(params, "EndTime")
    if start >= end:
        raise bad_value("The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def _aligned(start: float, end: float, period: int) -> Window:
    first = math.floor(start / period) * period
    return Window(start=first, end=math.ceil(end / period) * period, period_seconds=period)


def _asked_statistics(params: Params) -> tuple[list[str], list[str]]:
    wanted, percentiles = params.texts("Statistics"), params.texts("ExtendedStatistics")
    if not wanted and not percentiles:
        raise missing("Statistics")
    for name in wanted:
        if name not in SIMPLE:
            raise bad_value(f"The value {name} for parameter Statistics is invalid.")
    for name in percentiles:
        if not is_percentile(name):
            raise bad_value(f"The value {name} for parameter ExtendedStatistics is not supported.")
    return wanted, percentiles


def _extended(values: Mapping[str, float | None]) -> JsonObject:
    known = {name: value for name, value in values.items() if value is not None}
    return {"ExtendedStatistics": known} if known else {}


def _passes(dimensions_of: frozenset[tuple[str, str]], filters: list[tuple[str, str | None]]) -> bool:
    return all(
        any(name == wanted and value in {None, given} for name, given in dimensions_of) for wanted, value in filters
    )
