"""The table as CloudWatch alarms: parameters of PutMetricAlarm, live and drill, and what differs from what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kms_alarms.table import ALARMS, Alarm, alarm_name
from kms_watchdog.config import Settings
from kms_watchdog.metrics import CloudWatchMetric
from kms_watchdog.results import Mode

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One alarm that is missing, or differs in the parameters named."""

    name: str
    differs: tuple[str, ...]
    """Empty: the alarm is not there at all."""
    wanted: Parameters


def topic_arn(settings: Settings, topic: str, region: str) -> str:
    """Return the topic's ARN in `region`: an alarm's topic is in the alarm's own region."""
    return f"arn:aws:sns:{region}:{settings.estate.account_id}:{topic}"


def topics(settings: Settings) -> tuple[str, ...]:
    """Return the names of all topics that alarms speak to."""
    wanted = settings.cloudwatch
    return (wanted.alerts_topic, wanted.critical_topic, wanted.drills_topic)


def render(settings: Settings, *, alarm_region: str) -> tuple[Parameters, ...]:
    """Return every alarm that lives in `alarm_region`: each row for each watched region, live and drill."""
    return tuple(
        _render(settings, row, region, mode, alarm_region)
        for row in ALARMS
        for region in settings.estate.regions
        for mode in Mode
    )


def changes(wanted: Iterable[Parameters], present: Iterable[Parameters]) -> tuple[Change, ...]:
    """Return which of `wanted` are not in `present` as they should be. Pure; alarms of others are left alone."""
    there = {alarm["AlarmName"]: alarm for alarm in present}
    found = []
    for alarm in wanted:
        old = there.get(alarm["AlarmName"])
        differs = tuple(name for name in alarm if old is not None and _plain(old.get(name)) != _plain(alarm[name]))
        if old is None or differs:
            found.append(Change(name=alarm["AlarmName"], differs=differs, wanted=alarm))
    return tuple(found)


def _plain(value: Any) -> Any:
    """Return `value` as a thing to compare: CloudWatch does not keep the order of dimensions and metrics."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return sorted((_plain(item) for item in value), key=repr)
    return value


def _render(settings: Settings, row: Alarm, region: str, mode: Mode, alarm_region: str) -> Parameters:
    action = topic_arn(settings, _topic(settings, row, mode), alarm_region)
    return {
        "AlarmName": alarm_name(settings, row.name, region, mode),
        "AlarmDescription": f"{row.title}: {region}. {row.severity}, runbook {row.runbook}, owner {row.owner}.",
        "ActionsEnabled": True,
        "AlarmActions": [action],
        "OKActions": [action],
        "InsufficientDataActions": [],
        "Metrics": [
            *(
                _input(settings, name, metric, statistic, region, mode)
                for name, (metric, statistic) in row.inputs.items()
            ),
            {"Id": "rate", "Expression": row.expression, "Label": f"{row.name} {region} (percent)", "ReturnData": True},
        ],
        "ComparisonOperator": row.comparison,
        "Threshold": row.threshold,
        "EvaluationPeriods": row.evaluation_periods,
        "DatapointsToAlarm": row.datapoints_to_alarm,
        "TreatMissingData": row.missing,
    }


def _input(
    settings: Settings, name: str, metric: CloudWatchMetric, statistic: str, region: str, mode: Mode
) -> dict[str, Any]:
    cloudwatch = settings.cloudwatch
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {
                "Namespace": cloudwatch.drill_namespace if mode is Mode.DRILL else cloudwatch.namespace,
                "MetricName": metric.name,
                "Dimensions": [{"Name": "Region", "Value": region}],
            },
            "Period": cloudwatch.period_seconds,
            "Stat": statistic,
        },
        "ReturnData": False,
    }


def _topic(settings: Settings, row: Alarm, mode: Mode) -> str:
    """Return whom the alarm tells; a drill's twin never speaks to a pager (DESIGN §6)."""
    if mode is Mode.DRILL:
        return settings.cloudwatch.drills_topic
    return settings.cloudwatch.critical_topic if row.severity == "critical" else settings.cloudwatch.alerts_topic
