"""The operations that describe alarms and their history."""

from __future__ import annotations

from collections.abc import Callable

from kms_alarms.evaluate import AlarmState
from kms_local.cloudwatch.alarm import ACTION_MEMBERS, Alarm, CompositeAlarm, MetricAlarm
from kms_local.cloudwatch.alarm_definitions import METRIC_MEMBERS
from kms_local.cloudwatch.alarms import AlarmBook, suppressed_reason
from kms_local.cloudwatch.fields import (
    bad_combination,
    bad_request,
    bad_value,
    dimensions,
    namespace,
    one_of,
    page,
    required_text,
    timestamp,
)
from kms_local.cloudwatch.history import HistoryItem
from kms_local.wire.params import JsonObject, Params

_MAX_PAGE = 100
_MAX_NAMES = 100
_DEFAULT_PAGE = 50
_TYPES = ("MetricAlarm", "CompositeAlarm", "LogAlarm")
_HISTORY_KINDS = (
    "ConfigurationUpdate",
    "StateUpdate",
    "Action",
    "AlarmContributorStateUpdate",
    "AlarmContributorAction",
)
_SCANS = ("TimestampAscending", "TimestampDescending")
_ECHOED_BY_BOTH = ("AlarmDescription", "ActionsEnabled", *ACTION_MEMBERS)
_ECHOED_BY_METRIC = (
    *_ECHOED_BY_BOTH,
    "DatapointsToAlarm",
    "TreatMissingData",
    "EvaluateLowSampleCountPercentile",
    "Metrics",
    *METRIC_MEMBERS,
)
_ECHOED_BY_COMPOSITE = (
    *_ECHOED_BY_BOTH,
    "AlarmRule",
    "ActionsSuppressor",
    "ActionsSuppressorWaitPeriod",
    "ActionsSuppressorExtensionPeriod",
)
_OF_CHILDREN = ("AlarmName", "AlarmArn", "StateValue", "StateUpdatedTimestamp")
_OF_PARENTS = ("AlarmName", "AlarmArn")


def describe_alarms(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Describe alarms by name, prefix, state, action prefix or kinship; metric alarms only unless told otherwise."""
    del now
    kin = _kin(book, params)
    if kin is not None:
        return _described(params, *kin)
    names, prefix = params.texts("AlarmNames"), params.optional_text("AlarmNamePrefix")
    if names and prefix is not None:
        raise bad_combination("AlarmNames and AlarmNamePrefix may not be given together.")
    if len(names) > _MAX_NAMES:
        raise bad_value(f"The collection AlarmNames must not have a size greater than {_MAX_NAMES}.")
    state, action = one_of(params, "StateValue", set(AlarmState)), params.optional_text("ActionPrefix")
    types = _types(params)
    found = [
        alarm
        for name, alarm in sorted(book.alarms.items())
        if (not names or name in names)
        and name.startswith(prefix or "")
        and state in {None, alarm.state.value}
        and (action is None or any(arn.startswith(action) for arn in alarm.all_actions()))
        and alarm.kind in types
    ]
    return _described(params, found, ())


def describe_alarms_for_metric(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Describe the alarms on one metric, by its exact dimensions; alarms on expressions are not among them."""
    del now
    wanted = {"Namespace": namespace(params), "MetricName": required_text(params, "MetricName")}
    for name in ("Statistic", "ExtendedStatistic", "Unit"):
        if params.given(name):
            wanted[name] = params.optional_text(name) or ""
    period = params.integer("Period", low=1, high=2**31 - 1)
    exactly = dimensions(params)
    found = [
        alarm
        for _, alarm in sorted(book.alarms.items())
        if isinstance(alarm, MetricAlarm)
        and all(alarm.request.get(name) == value for name, value in wanted.items())
        and period in {None, alarm.definition.period_seconds}
        and dimensions(Params(alarm.request)) == exactly
    ]
    return {"MetricAlarms": [_metric(alarm) for alarm in found]}


def describe_alarm_history(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Return what happened to one alarm, or to all, newest first unless told otherwise."""
    kind, types = one_of(params, "HistoryItemType", _HISTORY_KINDS), _types(params)
    start, end = timestamp(params, "StartDate"), timestamp(params, "EndDate")
    items = [
        item
        for item in book.history.items(params.optional_text("AlarmName"), now)
        if item.alarm_type in types
        and kind in {None, item.kind}
        and (start is None or item.at >= start)
        and (end is None or item.at <= end)
    ]
    if one_of(params, "ScanBy", _SCANS) != "TimestampAscending":
        items.reverse()
    size = params.integer("MaxRecords", low=1, high=_MAX_PAGE, default=_MAX_PAGE) or _MAX_PAGE
    return page(params, "AlarmHistoryItems", [_shown_item(item) for item in items], size=size)


def _kin(book: AlarmBook, params: Params) -> tuple[list[Alarm], tuple[str, ...]] | None:
    """Return the children or parents that were asked for, and the members to show of them."""
    asked: tuple[tuple[str, tuple[str, ...], Callable[[str], list[Alarm]]], ...] = (
        ("ChildrenOfAlarmName", _OF_CHILDREN, lambda name: _children(book, name)),
        ("ParentsOfAlarmName", _OF_PARENTS, lambda name: list(book.parents(name))),
    )
    for member, shown, find in asked:
        if params.given(member):
            others = params.as_dict().keys() - {member, "MaxRecords", "NextToken"}
            if others:
                raise bad_request(f"{member} may not be given together with {min(others)}.")
            return sorted(find(required_text(params, member)), key=lambda alarm: alarm.name), shown
    return None


def _children(book: AlarmBook, name: str) -> list[Alarm]:
    alarm = book.alarms.get(name)
    children = set(alarm.children.values()) if isinstance(alarm, CompositeAlarm) else set()
    return [book.alarms[child] for child in children]


def _described(params: Params, found: list[Alarm], shown: tuple[str, ...]) -> JsonObject:
    """Return one page of alarms; `shown` are the members to show, all if there are none."""
    size = params.integer("MaxRecords", low=1, high=_MAX_PAGE, default=_DEFAULT_PAGE) or _DEFAULT_PAGE
    whole = [_metric(alarm) if isinstance(alarm, MetricAlarm) else _composite(alarm) for alarm in found]
    described = [{name: one[name] for name in shown} if shown else one for one in whole]
    answer = page(params, "All", described, size=size)
    kinds = {alarm.name: alarm.kind for alarm in found}
    here = answer.pop("All")
    return {
        "CompositeAlarms": [one for one in here if kinds[one["AlarmName"]] == "CompositeAlarm"],
        "MetricAlarms": [one for one in here if kinds[one["AlarmName"]] == "MetricAlarm"],
        **answer,
    }


def _types(params: Params) -> list[str]:
    types = params.texts("AlarmTypes") or ["MetricAlarm"]
    for name in types:
        if name not in _TYPES:
            raise bad_value(f"The value {name} for parameter AlarmTypes is invalid.")
    return types


def _common(alarm: Alarm) -> JsonObject:
    shown: JsonObject = {
        "AlarmName": alarm.name,
        "AlarmArn": alarm.arn,
        "AlarmConfigurationUpdatedTimestamp": alarm.configured_at,
        "ActionsEnabled": True,
        "OKActions": [],
        "AlarmActions": [],
        "InsufficientDataActions": [],
        "StateValue": alarm.state.value,
        "StateReason": alarm.reason,
        "StateUpdatedTimestamp": alarm.updated_at,
        "StateTransitionedTimestamp": alarm.transitioned_at,
    }
    return {**shown, "StateReasonData": alarm.reason_data} if alarm.reason_data else shown


def _metric(alarm: MetricAlarm) -> JsonObject:
    definition = alarm.definition
    shown: JsonObject = {
        **_common(alarm),
        "Dimensions": [],
        "EvaluationPeriods": definition.evaluation_periods,
        "Threshold": definition.threshold,
        "ComparisonOperator": definition.comparison,
        **{name: alarm.request[name] for name in _ECHOED_BY_METRIC if alarm.request.get(name) is not None},
    }
    return shown if alarm.evaluation_state is None else {**shown, "EvaluationState": alarm.evaluation_state}


def _composite(alarm: CompositeAlarm) -> JsonObject:
    shown = {
        **_common(alarm),
        **{name: alarm.request[name] for name in _ECHOED_BY_COMPOSITE if alarm.request.get(name) is not None},
    }
    if alarm.held is not None:
        shown |= {"ActionsSuppressedBy": alarm.held.by, "ActionsSuppressedReason": suppressed_reason(alarm.held)}
    return shown


def _shown_item(item: HistoryItem) -> JsonObject:
    return {
        "AlarmName": item.alarm,
        "AlarmType": item.alarm_type,
        "Timestamp": item.at,
        "HistoryItemType": item.kind,
        "HistorySummary": item.summary,
        "HistoryData": item.data,
    }
