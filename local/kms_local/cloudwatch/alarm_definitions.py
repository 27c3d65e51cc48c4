"""The requests of PutMetricAlarm and PutCompositeAlarm, read and checked."""

from __future__ import annotations

import math

from kms_alarms.composite import AlarmRuleError, Rule, Suppressor, parse_rule
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
from kms_local.cloudwatch.alarm import ACTION_MEMBERS
from kms_local.cloudwatch.fields import (
    bad_combination,
    bad_request,
    bad_value,
    dimensions,
    missing,
    namespace,
    one_of,
    required_text,
)
from kms_local.cloudwatch.queries import Query, check_unit, parse_queries
from kms_local.cloudwatch.statistics import SIMPLE, is_percentile, why_not
from kms_local.wire.params import Params

_MAX_METRICS = 10
_MAX_QUERIES = 20
_HIGH_RESOLUTION = frozenset({10, 20, 30})
_HOUR, _DAY = 3600, 86_400
_MAX_DESCRIPTION, _MAX_ARN, _MAX_SUPPRESSOR = 1024, 1024, 1600
_MAX_ACTIONS = 5
_MAX_TAGS, _MAX_TAG_KEY, _MAX_TAG_VALUE = 50, 128, 256
_NOT_OF_COMPOSITES = ("arn:aws:automate:", "arn:aws:autoscaling:", "arn:aws:swf:")  # EC2 and Auto Scaling
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
    if not math.isfinite(threshold):
        raise bad_value(f"The value {threshold} for parameter Threshold is invalid.")
    return AlarmDefinition(
        name=_check_common(params),
        queries=queries,
        result=result,
        period_seconds=period,
        evaluation_periods=evaluation_periods,
        datapoints_to_alarm=datapoints or evaluation_periods,
        comparison=_comparison(params),
        threshold=float(threshold),
        missing=_missing_treatment(params),
        ignores_low_samples=_ignores_low_samples(params),
    )


def parse_composite(params: Params) -> tuple[str, Rule, Suppressor | None]:
    """Read what a composite alarm rests on: its name, its rule, and what suppresses its actions.

    Raises:
        ServiceError: MissingParameter, InvalidParameterValue or ValidationError.
    """
    name = _check_common(params)
    for member in ACTION_MEMBERS:
        for arn in params.texts(member):
            if arn.startswith(_NOT_OF_COMPOSITES):
                raise bad_request(f"The action {arn} is not supported for composite alarms.")
    text = params.optional_text("AlarmRule")
    if text is None:
        raise missing("AlarmRule")
    if not text or text != text.strip():
        raise bad_request("AlarmRule must not contain leading or trailing whitespace or be null")
    try:
        return name, parse_rule(text), _suppressor(params)
    except AlarmRuleError as e:
        raise bad_request(f"Error in AlarmRule [{e}]") from e


def parse_tags(params: Params) -> dict[str, str]:
    """Read tags, by key.

    Raises:
        ServiceError: MissingParameter or InvalidParameterValue.
    """
    tags: dict[str, str] = {}
    for number, item in enumerate(params.objects("Tags"), 1):
        key = required_text(item, "Key", f"Tags.member.{number}.", limit=_MAX_TAG_KEY)
        value = item.optional_text("Value")
        if value is None:
            raise missing(f"Tags.member.{number}.Value")
        if len(value) > _MAX_TAG_VALUE or key.lower().startswith("aws:") or key in tags:
            raise bad_value(f"The parameter Tags.member.{number} is invalid.")
        tags[key] = value
    check_tag_count(tags)
    return tags


def check_tag_count(tags: dict[str, str]) -> None:
    """Refuse more tags than a resource may have."""
    if len(tags) > _MAX_TAGS:
        raise bad_value(f"The collection Tags must not have a size greater than {_MAX_TAGS}.")


def _check_common(params: Params) -> str:
    """Check what both kinds of alarms have, and return the name."""
    name = required_text(params, "AlarmName")
    if not name.isprintable():
        raise bad_value("The parameter AlarmName must not contain control characters.")
    if len(params.optional_text("AlarmDescription") or "") > _MAX_DESCRIPTION:
        raise bad_value(f"The parameter AlarmDescription must be at most {_MAX_DESCRIPTION} characters long.")
    for member in ACTION_MEMBERS:
        arns = params.texts(member)
        if len(arns) > _MAX_ACTIONS:
            raise bad_value(f"The collection {member} must not have a size greater than {_MAX_ACTIONS}.")
        if not all(1 <= len(arn) <= _MAX_ARN for arn in arns):
            raise bad_value(f"The collection {member} must have ARNs of 1 to {_MAX_ARN} characters.")
    params.flag("ActionsEnabled")
    return name


def _suppressor(params: Params) -> Suppressor | None:
    if not params.given("ActionsSuppressor"):
        return None
    periods = {
        name: params.integer(name, low=0, high=2**31 - 1)
        for name in ("ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod")
    }
    wait, extension = periods.values()
    if wait is None or extension is None:
        raise bad_request(f"{' and '.join(periods)} are required when ActionsSuppressor is specified.")
    return Suppressor(
        alarm=required_text(params, "ActionsSuppressor", limit=_MAX_SUPPRESSOR),
        wait_seconds=wait,
        extension_seconds=extension,
    )


def _missing_treatment(params: Params) -> Missing:
    value = params.optional_text("TreatMissingData") or Missing.MISSING.value
    if value not in set(Missing):
        raise bad_request(
            f"The value {value} is not supported for TreatMissingData parameter. "
            "Supported values are [breaching, notBreaching, ignore, missing]."
        )
    return Missing(value)


def _ignores_low_samples(params: Params) -> bool:
    value = params.optional_text("EvaluateLowSampleCountPercentile")
    if value not in {None, "evaluate", "ignore"}:
        raise bad_request(
            f"Option {value} is not supported. "
            "Supported options for parameter EvaluateLowSampleCountPercentile are evaluate and ignore."
        )
    statistic = params.optional_text("Statistic")
    if value is not None and statistic is not None:
        raise bad_request(f"Option evaluateLowSampleCountPercentile can not be applied with statistic {statistic}.")
    return value == "ignore"


def _comparison(params: Params) -> str:
    value = one_of(params, "ComparisonOperator", COMPARISON_OPERATORS)
    if value is None:
        raise missing("ComparisonOperator")
    return value


def _single(params: Params) -> tuple[dict[str, MetricStat | Expression], str, int]:
    """Read an alarm on one metric."""
    statistic, extended = params.optional_text("Statistic"), params.optional_text("ExtendedStatistic")
    if (statistic is None) == (extended is None):
        raise bad_combination("Exactly one of Statistic and ExtendedStatistic must be specified.")
    if statistic is not None and statistic not in SIMPLE:
        raise bad_value(f"The value {statistic} for parameter Statistic is invalid.")
    if extended is not None and not is_percentile(extended):
        raise bad_value(why_not(extended, "ExtendedStatistic"))
    stat = MetricStat(
        namespace=namespace(params),
        name=required_text(params, "MetricName"),
        dimensions=dimensions(params),
        statistic=statistic or extended or "",
        unit=check_unit(params),
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
    queries = parse_queries(params.objects("Metrics"), limit=_MAX_QUERIES, where="Metrics")
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
        raise bad_request(f"Error in expression '{result}': {e}") from e


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
