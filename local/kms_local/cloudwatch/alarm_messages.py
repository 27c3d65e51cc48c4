"""What alarms say: the reasons of a change of state, and the notification that goes to a topic."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from kms_alarms.evaluate import AlarmDefinition, AlarmState, Evaluation, MetricStat
from kms_local.clock import iso_utc
from kms_local.cloudwatch.alarm import Alarm, CompositeAlarm, MetricAlarm
from kms_local.wire.params import JsonObject

MAX_REASON, MAX_REASON_DATA = 1023, 4000
_SHOWN_POINTS = 60
_SHOWN_CHILDREN = 10
_REGION_NAMES = {  # what notifications call a region
    "us-east-1": "US East (N. Virginia)",
    "us-east-2": "US East (Ohio)",
    "us-west-1": "US West (N. California)",
    "us-west-2": "US West (Oregon)",
    "eu-west-1": "EU (Ireland)",
    "eu-west-2": "EU (London)",
    "eu-central-1": "EU (Frankfurt)",
    "ap-southeast-1": "Asia Pacific (Singapore)",
    "ap-southeast-2": "Asia Pacific (Sydney)",
    "ap-northeast-1": "Asia Pacific (Tokyo)",
}


def aws_time(at: float) -> str:
    """Return POSIX time `at` as CloudWatch writes it into its texts: `2026-11-24T03:15:07.123+0000`."""
    return f"{iso_utc(at).removesuffix('Z')}+0000"


def region_name(region: str) -> str:
    """Return what notifications call a region."""
    return _REGION_NAMES.get(region, region)


def metric_reason_data(definition: AlarmDefinition, found: Evaluation, now: float) -> str:
    """Return what an evaluation looked at, as the JSON of `StateReasonData`."""

    def text(number: int) -> str:
        points = found.points[-number:] if number else ()
        data: JsonObject = {
            "version": "1.0",
            "queryDate": aws_time(now),
            **_what(definition),
            "period": definition.period_seconds,
            "threshold": definition.threshold,
            "recentDatapoints": [point.value for point in points if point.value is not None],
            "evaluatedDatapoints": [
                {"timestamp": aws_time(point.at), **({} if point.value is None else {"value": point.value})}
                for point in reversed(points)
            ],
        }
        return json.dumps(data)

    return _longest(text, min(_SHOWN_POINTS, definition.evaluation_periods))


def _what(definition: AlarmDefinition) -> JsonObject:
    """Return unit and statistic of an alarm on one metric."""
    watched = definition.queries[definition.result]
    if not isinstance(watched, MetricStat):
        return {}
    return {**({"unit": watched.unit} if watched.unit else {}), "statistic": watched.statistic}


def composite_reason(alarm: CompositeAlarm, state: AlarmState, trigger: Alarm | str) -> str:
    """Return why a composite alarm changed its state.

    Args:
        alarm: the composite alarm.
        state: its new state.
        trigger: the child whose change it follows, or what was done to the alarm itself: `created`, `updated`.
    """
    if isinstance(trigger, str):
        return f"{alarm.arn} was {trigger} and its alarm rule evaluates to {state}"
    day = datetime.fromtimestamp(trigger.transitioned_at, tz=UTC)
    return f"{trigger.arn} transitioned to {trigger.state} at {day:%A %d %B, %Y %H:%M:%S} UTC"


def composite_reason_data(children: Iterable[Alarm]) -> str:
    """Return which children's states led to a composite alarm's, as the JSON of `StateReasonData`."""
    triggering = [
        {"arn": child.arn, "state": {"value": child.state, "timestamp": aws_time(child.transitioned_at)}}
        for child in children
    ]
    return _longest(lambda number: json.dumps({"triggeringAlarms": triggering[:number]}), len(triggering))


def _longest(text: Callable[[int], str], most: int) -> str:
    """Return the longest text that `StateReasonData` has room for, of `most` items at most."""
    return next(shown for number in range(most, -1, -1) if len(shown := text(number)) <= MAX_REASON_DATA)


def notification(
    alarm: Alarm, alarms: Mapping[str, Alarm], *, account_id: str, region: str, now: float
) -> dict[str, Any]:
    """Return what CloudWatch sends to a topic about an alarm's present state.

    Args:
        alarm: the alarm.
        alarms: every alarm of the region, by name.
        account_id: the account.
        region: the region.
        now: POSIX seconds.
    """
    message: dict[str, Any] = {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.request.get("AlarmDescription"),
        "AWSAccountId": account_id,
        "AlarmConfigurationUpdatedTimestamp": aws_time(alarm.configured_at),
        "NewStateValue": alarm.state,
        "NewStateReason": alarm.reason,
        "StateChangeTime": aws_time(now),
        "Region": region_name(region),
        "AlarmArn": alarm.arn,
        "OldStateValue": alarm.state_before,
        "OKActions": alarm.request.get("OKActions", []),
        "AlarmActions": alarm.request.get("AlarmActions", []),
        "InsufficientDataActions": alarm.request.get("InsufficientDataActions", []),
    }
    if isinstance(alarm, MetricAlarm):
        return message | {"Trigger": _trigger(alarm)}
    children = [alarms[name] for name in alarm.triggered_by if name in alarms]
    return message | {
        "AlarmRule": alarm.request["AlarmRule"],
        "TriggeringChildren": [
            {"Arn": child.arn, "State": {"Value": child.state, "Timestamp": aws_time(child.transitioned_at)}}
            for child in children[:_SHOWN_CHILDREN]
        ],
    }


def _trigger(alarm: MetricAlarm) -> JsonObject:
    """Return what the alarm watches, in the peculiar spelling of notifications."""
    definition, request = alarm.definition, alarm.request
    trigger: JsonObject = {
        "Period": definition.period_seconds,
        "EvaluationPeriods": definition.evaluation_periods,
        **({"DatapointsToAlarm": request["DatapointsToAlarm"]} if request.get("DatapointsToAlarm") else {}),
        "ComparisonOperator": definition.comparison,
        "Threshold": definition.threshold,
        "TreatMissingData": definition.missing,
        "EvaluateLowSampleCountPercentile": request.get("EvaluateLowSampleCountPercentile") or "",
    }
    if "Metrics" in request:
        return {**trigger, "Metrics": request["Metrics"]}
    extended = request.get("ExtendedStatistic")
    return {
        **trigger,
        "MetricName": request["MetricName"],
        "Namespace": request["Namespace"],
        "StatisticType": "ExtendedStatistic" if extended else "Statistic",
        "Statistic": extended or request["Statistic"].upper(),
        "Unit": request.get("Unit"),
        "Dimensions": [{"name": one["Name"], "value": one["Value"]} for one in request.get("Dimensions") or []],
    }
