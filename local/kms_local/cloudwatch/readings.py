"""GetMetricData, GetMetricStatistics and ListMetrics.

The time of start is rounded down as documented: to a whole minute, for periods of 5 to 30 s to a multiple of the
period, for data older than 15 days to 5 minutes; periods are counted from there. The time of end is exclusive.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kms_alarms.evaluate import Expression, MetricMathError, MetricStat, Series, Window, resolve
from kms_local.cloudwatch.fields import (
    bad_combination,
    bad_request,
    bad_value,
    dimension_list,
    dimensions,
    missing,
    namespace,
    one_of,
    page,
    position,
    required_text,
    required_timestamp,
    token_at,
)
from kms_local.cloudwatch.queries import (
    LONGEST_PERIOD,
    Query,
    check_period,
    check_unit,
    parse_queries,
    statistics_in,
)
from kms_local.cloudwatch.statistics import SIMPLE, is_percentile, statistic, why_not
from kms_local.cloudwatch.store import MetricKey, MetricStore
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

_MAX_QUERIES = 500
_MAX_POINTS = 100_800
_MAX_STATISTICS_POINTS = 1440
_MAX_STATISTICS, _MAX_PERCENTILES = 5, 10
_MAX_FILTERS = 10
_LIST_PAGE = 500
_RECENTLY_SECONDS = 3 * 3600
_LISTED_SECONDS = 14 * 86_400
_TOLD_APART = frozenset({"InvalidParameterValue", "InvalidParameterCombination", "MissingParameter"})
_SCANS = ("TimestampAscending", "TimestampDescending")
_ZONE = re.compile(r"[+-]\d{4}")
_MINUTE, _DAY = 60, 86_400


def get_metric_data(store: MetricStore, params: Params, now: float) -> JsonObject:
    """Return the series that were asked for, newest first unless told otherwise, in pages of `MaxDatapoints`.

    A request with an expression among its results is answered in one page, as CloudWatch's is. Whatever is wrong with a
    request is a ValidationError here, while the older operations tell kinds of mistakes apart.
    """
    try:
        return _metric_data(store, params, now)
    except ServiceError as error:
        if error.code in _TOLD_APART:
            raise bad_request(error.message or "") from error
        raise


def _metric_data(store: MetricStore, params: Params, now: float) -> JsonObject:
    queries = parse_queries(params.objects("MetricDataQueries"), limit=_MAX_QUERIES, where="MetricDataQueries")
    start, end = _range(params)
    ascending = one_of(params, "ScanBy", _SCANS) == "TimestampAscending"
    limit = params.integer("MaxDatapoints", low=1, high=_MAX_POINTS, default=_MAX_POINTS) or _MAX_POINTS
    _check_label_options(params)
    first = position(params.optional_text("NextToken"))
    returned = [query for query in queries.values() if query.returned]
    found = [_points(_series(store, queries, query, _Range(start, end, now)), end, ascending) for query in returned]
    if any(isinstance(query.asked, Expression) for query in returned):
        limit = max(limit, sum(map(len, found)))
    return _paged(returned, found, first, limit)


def get_metric_statistics(store: MetricStore, params: Params, now: float) -> JsonObject:
    """Return statistics of one metric, by period and unit."""
    name = required_text(params, "MetricName")
    key = MetricKey(namespace(params), name, dimensions(params))
    start, end = _range(params)
    asked_period = params.integer("Period", low=1, high=LONGEST_PERIOD)
    if asked_period is None:
        raise missing("Period")
    period = check_period(asked_period)
    wanted, percentiles = _asked_statistics(params)
    looked_at = _window(_Range(start, end, now), period)
    periods = _periods(looked_at)
    if periods > _MAX_STATISTICS_POINTS:
        raise bad_combination(
            f"You have requested up to {periods:,} datapoints, which exceeds the limit of {_MAX_STATISTICS_POINTS:,}. "
            "You may reduce the datapoints requested by increasing Period, or decreasing the time range."
        )
    asked_unit = check_unit(params)
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
    wanted_namespace, name = params.optional_text("Namespace"), params.optional_text("MetricName")
    filters = [(required_text(item, "Name"), item.optional_text("Value")) for item in params.objects("Dimensions")]
    if len(filters) > _MAX_FILTERS:
        raise bad_value(f"The collection Dimensions must not have a size greater than {_MAX_FILTERS}.")
    recently = one_of(params, "RecentlyActive", ("PT3H",)) is not None
    since = now - (_RECENTLY_SECONDS if recently else _LISTED_SECONDS)
    items = [
        {"Namespace": key.namespace, "MetricName": key.name, "Dimensions": dimension_list(key.dimensions)}
        for key in store.metrics(active_since=since)
        if wanted_namespace in {None, key.namespace} and name in {None, key.name} and _passes(key.dimensions, filters)
    ]
    return page(params, "Metrics", items, size=_LIST_PAGE)


@dataclass(frozen=True, slots=True)
class _Range:
    """What a request asks for, and when it asks."""

    start: float
    end: float
    now: float


def _series(store: MetricStore, queries: Mapping[str, Query], query: Query, asked: _Range) -> dict[float, float]:
    needed = {name: queries[name] for name in _needed(queries, query.name)}
    periods = {one.period_seconds for one in needed.values() if isinstance(one.asked, MetricStat)}
    if len(periods) > 1:
        raise bad_combination(f"The metrics of expression '{query.name}' must have one period.")
    period = next(iter(periods), None) or query.period_seconds
    if period is None:
        raise missing("Period")
    looked_at = _window(asked, period)
    if _periods(looked_at) > _MAX_POINTS:
        raise bad_request(f"The requested range has more than {_MAX_POINTS} periods.")
    statistics: dict[str, Series] = {
        name: statistics_in(store, one.asked, looked_at)
        for name, one in needed.items()
        if isinstance(one.asked, MetricStat)
    }
    try:
        return resolve({name: one.asked for name, one in needed.items()}, statistics, looked_at, query.name)
    except MetricMathError as e:
        raise bad_request(f"Error in expression '{query.name}': {e}") from e


def _needed(queries: Mapping[str, Query], name: str) -> list[str]:
    """Return the ids that a query rests on, itself included, in their order; METRICS() rests on every metric."""
    needed, waiting = {name}, [name]
    while waiting:
        asked = queries[waiting.pop()].asked
        if isinstance(asked, Expression):
            ids = set(asked.ids)
            if "METRICS" in asked.text:
                ids |= {other for other, query in queries.items() if isinstance(query.asked, MetricStat)}
            waiting += ids - needed
            needed |= ids
    return [other for other in queries if other in needed]


def _points(series: Mapping[float, float], end: float, ascending: bool) -> list[tuple[float, float]]:  # noqa: FBT001  private
    return [(at, series[at]) for at in sorted(series, reverse=not ascending) if at < end]


def _paged(
    returned: Sequence[Query], found: Sequence[Sequence[tuple[float, float]]], first: int, limit: int
) -> JsonObject:
    """Return the points from number `first` on, `limit` of them, all series counted through one after the other."""
    results, passed, last = [], 0, first + limit
    for query, points in zip(returned, found, strict=True):
        shown = points[max(0, first - passed) : max(0, last - passed)]
        passed += len(points)
        results.append(_result(query, shown, complete=passed <= last))
    answer: JsonObject = {"MetricDataResults": results, "Messages": []}
    if passed > last:
        answer["NextToken"] = token_at(last)
    return answer


def _result(query: Query, points: Sequence[tuple[float, float]], *, complete: bool) -> JsonObject:
    return {
        "Id": query.name,
        "Label": query.label,  # `${...}` in a label is shown as it was given
        "Timestamps": [at for at, _ in points],
        "Values": [value for _, value in points],
        "StatusCode": "Complete" if complete else "PartialData",
    }


def _check_label_options(params: Params) -> None:
    options = params.object("LabelOptions")
    zone = options.optional_text("Timezone") if options is not None else None
    if zone is not None and not _ZONE.fullmatch(zone):
        raise bad_value(f"The value {zone} for parameter LabelOptions.Timezone is invalid: +0130 would be one.")


def _range(params: Params) -> tuple[float, float]:
    start, end = required_timestamp(params, "StartTime"), required_timestamp(params, "EndTime")
    if start == end:
        raise bad_value("The parameter StartTime must not equal parameter EndTime.")
    if start > end:
        raise bad_value("The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def _window(asked: _Range, period: int) -> Window:
    """Return the periods that a request asks for: the start rounded, the last period perhaps not over."""
    age = asked.now - asked.start
    grain = min(_MINUTE, period)
    if period >= _MINUTE and age >= 15 * _DAY:
        grain = 5 * _MINUTE if age < 63 * _DAY else 60 * _MINUTE
    start = math.floor(asked.start / grain) * grain
    return Window(start=start, end=start + math.ceil((asked.end - start) / period) * period, period_seconds=period)


def _periods(looked_at: Window) -> int:
    return round((looked_at.end - looked_at.start) / looked_at.period_seconds)


def _asked_statistics(params: Params) -> tuple[list[str], list[str]]:
    wanted, percentiles = params.texts("Statistics"), params.texts("ExtendedStatistics")
    if not wanted and not percentiles:
        raise bad_combination("Must specify either Statistics or ExtendedStatistics")
    if wanted and percentiles:
        raise bad_combination("Must specify either Statistics or ExtendedStatistics, not both")
    for name, given, limit in (
        ("Statistics", wanted, _MAX_STATISTICS),
        ("ExtendedStatistics", percentiles, _MAX_PERCENTILES),
    ):
        if len(given) > limit:
            raise bad_value(f"The collection {name} must not have a size greater than {limit}.")
    for name in wanted:
        if name not in SIMPLE:
            raise bad_value(f"The value {name} for parameter Statistics is invalid.")
    for name in percentiles:
        if not is_percentile(name):
            raise bad_value(why_not(name, "ExtendedStatistics"))
    return wanted, percentiles


def _extended(values: Mapping[str, float | None]) -> JsonObject:
    known = {name: value for name, value in values.items() if value is not None}
    return {"ExtendedStatistics": known} if known else {}


def _passes(dimensions_of: frozenset[tuple[str, str]], filters: list[tuple[str, str | None]]) -> bool:
    return all(
        any(name == wanted and value in {None, given} for name, given in dimensions_of) for wanted, value in filters
    )
