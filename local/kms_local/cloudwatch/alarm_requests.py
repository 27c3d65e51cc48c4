"""The operations on alarms."""

from __future__ import annotations

from kms_alarms.evaluate import (
    AlarmState,
)
from kms_local.cloudwatch.alarm_definitions import METRIC_MEMBERS, parse_definition
from kms_local.cloudwatch.alarms import Alarm, AlarmBook, HistoryItem
from kms_local.cloudwatch.fields import (
    bad_combination,
    bad_value,
    missing,
    page,
    required_text,
    timestamp,
)
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

_MAX_ACTIONS = 5
_MAX_PAGE = 100
_ECHOED = (
    "AlarmDescription",
    "ActionsEnabled",
    "OKActions",
    "AlarmActions",
    "InsufficientDataActions",
    "EvaluateLowSampleCountPercentile",
    "Metrics",
    *METRIC_MEMBERS,
)


def put_metric_alarm(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Make or replace an alarm."""
    definition = parse_definition(params)
    for name in ("OKActions", "AlarmActions", "InsufficientDataActions"):
        if len(params.texts(name)) > _MAX_ACTIONS:
            raise bad_value(f"The collection {name} must not have a size greater than {_MAX_ACTIONS}.")
    book.put(definition, params.as_dict(), now)
    return {}


def describe_alarms(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Describe alarms by name, prefix, state or action prefix."""
    del now
    names, prefix = params.texts("AlarmNames"), params.optional_text("AlarmNamePrefix") or ""
    if names and prefix:
        raise bad_combination("AlarmNames and AlarmNamePrefix may not be given together.")
    state, action = params.optional_text("StateValue"), params.optional_text("ActionPrefix")
    kinds = params.texts("AlarmTypes")
    found = [
        _shown(alarm)
        for name, alarm in sorted(book.alarms.items())
        if (not names or name in names)
        and name.startswith(prefix)
        and state in {None, alarm.state.value}
        and (action is None or any(arn.startswith(action) for arn in _all_actions(alarm)))
        and (not kinds or "MetricAlarm" in kinds)
    ]
    size = params.integer("MaxRecords", low=1, high=_MAX_PAGE, default=50) or 50
    return {"CompositeAlarms": [], **page(params, "MetricAlarms", found, size=size)}


def describe_alarm_history(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Return what happened to one alarm, or to all, newest first unless told otherwise."""
    del now
    name, kind = params.optional_text("AlarmName"), params.optional_text("HistoryItemType")
    start, end = timestamp(params, "StartDate"), timestamp(params, "EndDate")
    items = [
        (item, alarm)
        for alarm in book.alarms.values()
        if name in {None, alarm.definition.name}
        for item in alarm.history
        if kind in {None, item.kind} and (start is None or item.at >= start) and (end is None or item.at <= end)
    ]
    ascending = params.optional_text("ScanBy") == "TimestampAscending"
    items.sort(key=lambda pair: pair[0].at)
    shown = [_shown_item(item, alarm) for item, alarm in (items if ascending else reversed(items))]
    size = params.integer("MaxRecords", low=1, high=_MAX_PAGE, default=_MAX_PAGE) or _MAX_PAGE
    return page(params, "AlarmHistoryItems", shown, size=size)


def set_alarm_state(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Give an alarm a state by hand; its actions run, and the next evaluation may take it back."""
    alarm = _existing(book, required_text(params, "AlarmName"))
    value = required_text(params, "StateValue")
    if value not in set(AlarmState):
        raise bad_value("The parameter StateValue must be a value in the set [ INSUFFICIENT_DATA, ALARM, OK ].")
    reason = params.optional_text("StateReason")
    if reason is None:
        raise missing("StateReason")
    book.move(alarm, AlarmState(value), reason, params.optional_text("StateReasonData") or "", now)
    return {}


def delete_alarms(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Delete alarms: all of those named, or none if one does not exist."""
    del now
    names = params.texts("AlarmNames")
    for name in names:
        _existing(book, name)
    for name in names:
        book.alarms.pop(name, None)
    return {}


def enable_alarm_actions(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Let changes of state run actions again."""
    del now
    return _switch_actions(book, params, enabled=True)


def disable_alarm_actions(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Keep changes of state from running actions."""
    del now
    return _switch_actions(book, params, enabled=False)


def list_tags_for_resource(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Return the tags that an alarm was made with."""
    del now
    arn = required_text(params, "ResourceARN", limit=1024)
    for alarm in book.alarms.values():
        if alarm.arn == arn:
            return {"Tags": alarm.request.get("Tags", [])}
    raise ServiceError("ResourceNotFoundException", "Unknown", status=404)


def _switch_actions(book: AlarmBook, params: Params, *, enabled: bool) -> JsonObject:
    for name in params.texts("AlarmNames"):
        if name in book.alarms:
            book.alarms[name].request["ActionsEnabled"] = enabled
    return {}


def _existing(book: AlarmBook, name: str) -> Alarm:
    if name not in book.alarms:
        raise ServiceError("ResourceNotFound", f"Alarm {name} does not exist", status=404)
    return book.alarms[name]


def _all_actions(alarm: Alarm) -> list[str]:
    names = ("OKActions", "AlarmActions", "InsufficientDataActions")
    return [arn for name in names for arn in alarm.request.get(name, [])]


def _shown(alarm: Alarm) -> JsonObject:
    definition = alarm.definition
    shown: JsonObject = {
        "AlarmName": definition.name,
        "AlarmArn": alarm.arn,
        "AlarmConfigurationUpdatedTimestamp": alarm.configured_at,
        "ActionsEnabled": True,
        "OKActions": [],
        "AlarmActions": [],
        "InsufficientDataActions": [],
        "Dimensions": [],
        "StateValue": alarm.state.value,
        "StateReason": alarm.reason,
        "StateUpdatedTimestamp": alarm.state_at,
        "StateTransitionedTimestamp": alarm.state_at,
        "EvaluationPeriods": definition.evaluation_periods,
        "DatapointsToAlarm": definition.datapoints_to_alarm,
        "Threshold": definition.threshold,
        "ComparisonOperator": definition.comparison,
        "TreatMissingData": definition.missing.value,
    }
    if alarm.reason_data:
        shown["StateReasonData"] = alarm.reason_data
    return shown | {name: alarm.request[name] for name in _ECHOED if name in alarm.request}


def _shown_item(item: HistoryItem, alarm: Alarm) -> JsonObject:
    return {
        "AlarmName": alarm.definition.name,
        "AlarmType": "MetricAlarm",
        "Timestamp": item.at,
        "HistoryItemType": item.kind,
        "HistorySummary": item.summary,
        "HistoryData": item.data,
    }
