"""The table as CloudWatch alarms: parameters of PutMetricAlarm, live and drill."""

from __future__ import annotations

from typing import Any

from kms_alarms.table import ALARMS, Alarm, alarm_name
from kms_watchdog.alarm_definitions import Parameters, topic_arn
from kms_watchdog.config import Settings
from kms_watchdog.metrics import CloudWatchMetric
from kms_watchdog.results import Mode


def render(settings: Settings, *, alarm_region: str) -> tuple[Parameters, ...]:
    """Return every alarm that lives in `alarm_region`: each row for each watched region, live and drill."""
    return tuple(
        _render(settings, row, region, mode, alarm_region)
        for row in ALARMS
        for region in settings.estate.regions
        for mode in Mode
    )


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
