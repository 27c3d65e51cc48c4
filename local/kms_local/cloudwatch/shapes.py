"""What the members of CloudWatch's requests are, for the query protocol; and which members of its answers are times.

The JSON protocol needs neither: its numbers are numbers, and its times are numbers, too.

Source: Amazon CloudWatch API Reference. Timestamps are text here, as the operations read them in ISO 8601.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kms_local.clock import iso_utc
from kms_local.wire.cbor import Time
from kms_local.wire.params import JsonObject
from kms_local.wire.query_front import Entries, ListOf, MapOf, Shape, XmlValue

_TEXTS = ListOf(str)
_DIMENSIONS = ListOf({"Name": str, "Value": str})
_TAGS = ListOf({"Key": str, "Value": str})
_STATISTIC_SET: Mapping[str, Shape] = {"SampleCount": float, "Sum": float, "Minimum": float, "Maximum": float}
_DATA = ListOf(
    {
        "MetricName": str,
        "Dimensions": _DIMENSIONS,
        "Timestamp": str,
        "Value": float,
        "StatisticValues": _STATISTIC_SET,
        "Values": ListOf(float),
        "Counts": ListOf(float),
        "Unit": str,
        "StorageResolution": int,
    }
)
_METRIC: Mapping[str, Shape] = {"Namespace": str, "MetricName": str, "Dimensions": _DIMENSIONS}
_QUERIES = ListOf(
    {
        "Id": str,
        "MetricStat": {"Metric": _METRIC, "Period": int, "Stat": str, "Unit": str},
        "Expression": str,
        "Label": str,
        "ReturnData": bool,
        "Period": int,
        "AccountId": str,
    }
)
_ALARM: Mapping[str, Shape] = {
    "AlarmName": str,
    "AlarmDescription": str,
    "ActionsEnabled": bool,
    "OKActions": _TEXTS,
    "AlarmActions": _TEXTS,
    "InsufficientDataActions": _TEXTS,
    "Tags": _TAGS,
}
_NAMES: Mapping[str, Shape] = {"AlarmNames": _TEXTS}

INPUTS: Mapping[str, Mapping[str, Shape]] = {
    "PutMetricData": {
        "Namespace": str,
        "MetricData": _DATA,
        "EntityMetricData": ListOf(
            {"Entity": {"KeyAttributes": MapOf(str), "Attributes": MapOf(str)}, "MetricData": _DATA}
        ),
        "StrictEntityValidation": bool,
    },
    "GetMetricData": {
        "MetricDataQueries": _QUERIES,
        "StartTime": str,
        "EndTime": str,
        "NextToken": str,
        "ScanBy": str,
        "MaxDatapoints": int,
        "LabelOptions": {"Timezone": str},
    },
    "GetMetricStatistics": {
        **_METRIC,
        "StartTime": str,
        "EndTime": str,
        "Period": int,
        "Statistics": _TEXTS,
        "ExtendedStatistics": _TEXTS,
        "Unit": str,
    },
    "ListMetrics": {
        **_METRIC,
        "NextToken": str,
        "RecentlyActive": str,
        "IncludeLinkedAccounts": bool,
        "OwningAccount": str,
    },
    "PutMetricAlarm": {
        **_ALARM,
        **_METRIC,
        "Statistic": str,
        "ExtendedStatistic": str,
        "Period": int,
        "Unit": str,
        "EvaluationPeriods": int,
        "DatapointsToAlarm": int,
        "Threshold": float,
        "ComparisonOperator": str,
        "TreatMissingData": str,
        "EvaluateLowSampleCountPercentile": str,
        "Metrics": _QUERIES,
        "ThresholdMetricId": str,
    },
    "PutCompositeAlarm": {
        **_ALARM,
        "AlarmRule": str,
        "ActionsSuppressor": str,
        "ActionsSuppressorWaitPeriod": int,
        "ActionsSuppressorExtensionPeriod": int,
    },
    "DescribeAlarms": {
        **_NAMES,
        "AlarmNamePrefix": str,
        "AlarmTypes": _TEXTS,
        "ChildrenOfAlarmName": str,
        "ParentsOfAlarmName": str,
        "StateValue": str,
        "ActionPrefix": str,
        "MaxRecords": int,
        "NextToken": str,
    },
    "DescribeAlarmsForMetric": {**_METRIC, "Statistic": str, "ExtendedStatistic": str, "Period": int, "Unit": str},
    "DescribeAlarmHistory": {
        "AlarmName": str,
        "AlarmTypes": _TEXTS,
        "HistoryItemType": str,
        "StartDate": str,
        "EndDate": str,
        "MaxRecords": int,
        "NextToken": str,
        "ScanBy": str,
    },
    "SetAlarmState": {"AlarmName": str, "StateValue": str, "StateReason": str, "StateReasonData": str},
    "DeleteAlarms": _NAMES,
    "EnableAlarmActions": _NAMES,
    "DisableAlarmActions": _NAMES,
    "TagResource": {"ResourceARN": str, "Tags": _TAGS},
    "UntagResource": {"ResourceARN": str, "TagKeys": _TEXTS},
    "ListTagsForResource": {"ResourceARN": str},
}
"""The members of each operation's request."""

WITHOUT_RESULT = frozenset(
    {
        "PutMetricData",
        "PutMetricAlarm",
        "PutCompositeAlarm",
        "SetAlarmState",
        "DeleteAlarms",
        "EnableAlarmActions",
        "DisableAlarmActions",
    }
)
"""Operations whose answer has no result, not even an empty one."""
_TIMES = frozenset(
    {
        "Timestamp",
        "Timestamps",
        "AlarmConfigurationUpdatedTimestamp",
        "StateUpdatedTimestamp",
        "StateTransitionedTimestamp",
    }
)


def cbor_of(members: JsonObject) -> JsonObject:
    """Return an answer of an operation with its times marked as such."""
    return {name: _marked(name, value) for name, value in members.items()}


def _marked(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {inner: _marked(inner, item) for inner, item in value.items()}
    if isinstance(value, list):
        return [_marked(name, item) for item in value]
    return Time(value) if name in _TIMES and isinstance(value, int | float) else value


def xml_of(members: JsonObject) -> XmlValue:
    """Return an answer of an operation as XML has it: numbers and booleans as text, times in ISO 8601."""
    return {name: _xml(name, value) for name, value in members.items()}


def _xml(name: str, value: object) -> XmlValue:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return iso_utc(value) if name in _TIMES else repr(value)
    if isinstance(value, list):
        return [_xml(name, item) for item in value]
    if isinstance(value, Mapping):
        if name == "ExtendedStatistics":
            return Entries({key: repr(number) for key, number in value.items()})
        return {inner: _xml(inner, item) for inner, item in value.items()}
    return None if value is None else str(value)
