"""The request of PutMetricAlarm, read and checked."""

from __future__ import annotations

from kms_alarms.evaluate import (
    COMPARISON_OPERATORS,
    AlarmDefinition,
    Expression,
    MetricMathError,
    MetricStat,
    Missing,
    Window,
    resolve,
)
from kms_local.cloudwatch.fields import bad_combination, bad_value, dimensions, missing, required_text
from kms_local.cloudwatch.readings import Query, parse_queries
from kms_local.cloudwatch.statistics import SIMPLE, is_percentile
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import Params

_MAX_METRICS = 10
_MAX_QUERIES = 20
_HIGH_RESOLUTION = frozenset({10, 20, 30})
_HOUR, _DAY = 3600, 86_400
METRIC_MEMBERS = ("MetricName", "Namespace", "Dimensions", "Period", "Unit", "Statistic", "ExtendedStatistic")
"""What describes an alarm's single metric."""


def parse_definition(params: Params) -> AlarmDefinition:
    """Read what an alarm watches.

    Raises:
        ServiceError: MissingParameter, InvalidParameterValue, InvalidParameterCombination or ValidationError.
    """
    queries, result, period = _math(params) if params.given("Metrics") else _single(params)
    evaluation_periods = params.integer("EvaluationPeriods", low=1, high=_DAY)
    if evaluation_periods is None:
        raise missing("EvaluationPeriods")
    datapoints = params.integer("DatapointsToAlarm", low=1, high=_DAY, default=evaluation_periods)
    _check_span(period, evaluation_periods, datapoints or evaluation_periods)
    threshold = params.number("Threshold")
    if threshold is None:
        raise missing("Threshold")
    return AlarmDefinition(
        name=required_text(params, "AlarmName"),
        queries=queries,
        result=result,
        period_seconds=period,
        evaluation_periods=evaluation_periods,
        datapoints_to_alarm=datapoints or evaluation_periods,
        comparison=_one_of(params, "ComparisonOperator", COMPARISON_OPERATORS),
        threshold=float(threshold),
        missing=_missing_treatment(params),
    )


def _single(params: Params) -> tuple[dict[str, MetricStat | Expression], str, int]:
    """Read an alarm on one metric."""
    statistic, extended = params.optional_text("Statistic"), params.optional_text("ExtendedStatistic")
    if (statistic is None) == (extended is None):
        raise bad_combination("Exactly one of Statistic and ExtendedStatistic must be specified.")
    if statistic is not None and statistic not in SIMPLE:
        raise bad_value(f"The value {statistic} for parameter Statistic is invalid.")
    if extended is not None and not is_percentile(extended):
        raise bad_value(f"The value {extended} for parameter ExtendedStatistic is not supported.")
    stat = MetricStat(
        namespace=required_text(params, "Namespace"),
        name=required_text(params, "MetricName"),
        dimensions=dimensions(params),
        statistic=statistic or extended or "",
        unit=params.optional_text("Unit"),
    )
    period = params.integer("Period", low=1, high=_DAY * 7)
    if period is None:
        raise missing("Period")
    return {"m1": stat}, "m1", _alarm_period(period)


def _math(params: Params) -> tuple[dict[str, MetricStat | Expression], str, int]:
    """Read an alarm on an expression."""
    for name in METRIC_MEMBERS:
        if params.given(name):
            raise bad_combination(f"{name} may not be given together with Metrics.")
    queries = parse_queries(params.objects("Metrics"), limit=_MAX_QUERIES)
    if sum(isinstance(query.asked, MetricStat) for query in queries.values()) > _MAX_METRICS:
        raise bad_value(f"The expression may rest on {_MAX_METRICS} metrics at most.")
    returned = [query for query in queries.values() if query.returned]
    if len(returned) != 1:
        raise bad_value("Exactly one element of the metrics list must return data.")
    asked = {name: query.asked for name, query in queries.items()}
    _check_one_series(asked, returned[0].name)
    return asked, returned[0].name, _alarm_period(_common_period(queries))


def _check_one_series(asked: dict[str, MetricStat | Expression], result: str) -> None:
    """Refuse a result that is not one series, by computing it from metrics without data."""
    nothing: dict[str, dict[float, float]] = {
        name: {} for name, query in asked.items() if isinstance(query, MetricStat)
    }
    try:
        resolve(asked, nothing, Window(start=0.0, end=60.0, period_seconds=60), result)
    except MetricMathError as e:
        raise ServiceError("ValidationError", f"Error in expression '{result}': {e}") from e


def _common_period(queries: dict[str, Query]) -> int:
    periods = {query.period_seconds for query in queries.values() if query.period_seconds is not None}
    if len(periods) != 1:
        raise bad_value("All metrics of an alarm must have one period.")
    return periods.pop()


def _alarm_period(period: int) -> int:
    if period not in _HIGH_RESOLUTION and period % 60:
        raise bad_value("The parameter Period must be 10, 20, 30 or a multiple of 60.")
    return period


def _check_span(period: int, evaluation_periods: int, datapoints: int) -> None:
    if datapoints > evaluation_periods:
        raise bad_value("The parameter DatapointsToAlarm must be less than or equal to EvaluationPeriods.")
    span, limit = period * evaluation_periods, _DAY if period < _HOUR else 7 * _DAY
    if span > limit:
        raise bad_value(
            f"Metrics cannot be checked across more than {limit // _DAY} day(s) (EvaluationPeriods * Period)."
        )


def _one_of(params: Params, name: str, allowed: frozenset[str]) -> str:
    value = required_text(params, name)
    if value not in allowed:
        raise bad_value(f"The parameter {name} must be a value in the set [ {', '.join(sorted(allowed))} ].")
    return value


def _missing_treatment(params: Params) -> Missing:
    value = params.optional_text("TreatMissingData") or Missing.MISSING.value
    if value not in set(Missing):
        allowed = ", ".join(sorted(Missing))
        raise bad_value(f"The parameter TreatMissingData must be a value in the set [ {allowed} ].")
    return Missing(value)
