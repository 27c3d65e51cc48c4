"""The operations that change alarms, and their tags."""

from __future__ import annotations

import json

from kms_alarms.evaluate import AlarmState
from kms_local.cloudwatch.alarm import Alarm, CompositeAlarm
from kms_local.cloudwatch.alarm_definitions import check_tag_count, parse_composite, parse_definition, parse_tags
from kms_local.cloudwatch.alarm_messages import MAX_REASON, MAX_REASON_DATA
from kms_local.cloudwatch.alarms import AlarmBook
from kms_local.cloudwatch.fields import bad_request, bad_value, missing, one_of, required_text
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

_MAX_NAMES = 100


def put_metric_alarm(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Make or replace an alarm on a metric or on metric math."""
    book.put(parse_definition(params), params.as_dict(), parse_tags(params), now)
    return {}


def put_composite_alarm(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Make or replace an alarm on other alarms."""
    name, rule, suppressor = parse_composite(params)
    book.put_composite(name, rule, suppressor, params.as_dict(), parse_tags(params), now)
    return {}


def set_alarm_state(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Give an alarm a state by hand; its actions run, and the next evaluation may take it back."""
    alarm = _existing(book, required_text(params, "AlarmName"))
    value = one_of(params, "StateValue", set(AlarmState))
    if value is None:
        raise missing("StateValue")
    reason, data = params.optional_text("StateReason"), params.optional_text("StateReasonData") or ""
    if reason is None:
        raise missing("StateReason")
    if len(reason) > MAX_REASON or len(data) > MAX_REASON_DATA:
        raise bad_value("The parameter StateReason or StateReasonData is too long.")
    if data and not _is_json(data):
        raise ServiceError("InvalidFormat", "StateReasonData is not valid JSON.")
    book.set_state(alarm, AlarmState(value), reason, data, now)
    return {}


def delete_alarms(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Delete alarms, of which one may be a composite, and none may be one that a composite alarm rests on.

    If a name is wrong, the others are deleted all the same, as documented.
    """
    names = list(dict.fromkeys(_names(params)))
    present = [name for name in names if name in book.alarms]
    if sum(isinstance(book.alarms[name], CompositeAlarm) for name in present) > 1:
        raise bad_request("Only one composite alarm can be deleted in one request.")
    needed = [name for name in present if book.dependents(name)]
    if needed:
        whom = "it" if len(needed) == 1 else "them"
        raise bad_request(f"Cannot delete {','.join(needed)} as there are composite alarm(s) depending on {whom}.")
    for name in present:
        book.delete(name, now)
    for name in names:
        if name not in present:
            raise _unknown(name)
    return {}


def enable_alarm_actions(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Let changes of state run actions again."""
    return _switch_actions(book, params, now, enabled=True)


def disable_alarm_actions(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Keep changes of state from running actions."""
    return _switch_actions(book, params, now, enabled=False)


def list_tags_for_resource(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Return an alarm's tags."""
    del now
    tags = _by_arn(book, params).tags
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def tag_resource(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Add tags to an alarm, or give new values to those that it has."""
    del now
    alarm = _by_arn(book, params)
    if not params.given("Tags"):
        raise missing("Tags")
    tags = {**alarm.tags, **parse_tags(params)}
    check_tag_count(tags)
    alarm.tags = tags
    return {}


def untag_resource(book: AlarmBook, params: Params, now: float) -> JsonObject:
    """Take tags from an alarm; one that is not there is no error."""
    del now
    alarm = _by_arn(book, params)
    if not params.given("TagKeys"):
        raise missing("TagKeys")
    for key in params.texts("TagKeys"):
        alarm.tags.pop(key, None)
    return {}


def _names(params: Params) -> list[str]:
    if not params.given("AlarmNames"):
        raise missing("AlarmNames")
    names = params.texts("AlarmNames")
    if len(names) > _MAX_NAMES:
        raise bad_value(f"The collection AlarmNames must not have a size greater than {_MAX_NAMES}.")
    return names


def _switch_actions(book: AlarmBook, params: Params, now: float, *, enabled: bool) -> JsonObject:
    for name in _names(params):
        alarm = book.alarms.get(name)
        if alarm is not None:
            alarm.request = {**alarm.request, "ActionsEnabled": enabled}
            alarm.configured_at = now
    return {}


def _existing(book: AlarmBook, name: str) -> Alarm:
    if name not in book.alarms:
        raise _unknown(name)
    return book.alarms[name]


def _unknown(name: str) -> ServiceError:
    return ServiceError("ResourceNotFound", f"Alarm {name} does not exist", status=404)


def _by_arn(book: AlarmBook, params: Params) -> Alarm:
    arn = required_text(params, "ResourceARN", limit=1024)
    alarm = book.alarms.get(book.name(arn))
    if alarm is None or alarm.arn != arn:
        raise ServiceError("ResourceNotFoundException", "Unknown", status=404)
    return alarm


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
