"""The alarms of one region and their history as plain JSON and back; metric data are not kept.

An alarm comes back in the state that it had, and goes on with the data that come: until then its treatment of missing
data decides, as after any gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kms_alarms.composite import Held, SuppressedBy
from kms_alarms.evaluate import AlarmState
from kms_local.cloudwatch.alarm import Alarm, CompositeAlarm, MetricAlarm
from kms_local.cloudwatch.alarm_definitions import parse_composite, parse_definition
from kms_local.cloudwatch.alarms import AlarmBook
from kms_local.cloudwatch.history import HistoryItem
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

_AS_THEY_ARE = (
    "name",
    "arn",
    "request",
    "tags",
    "configured_at",
    "reason",
    "reason_data",
    "updated_at",
    "transitioned_at",
)


def to_document(book: AlarmBook) -> JsonObject:
    """Return the alarms and their history, in values that JSON has."""
    return {
        "alarms": [_alarm_document(alarm) for alarm in book.alarms.values()],
        "history": [asdict(item) for item in book.history.all()],
    }


def restore(book: AlarmBook, document: Mapping[str, Any]) -> None:
    """Put the alarms and the history of a document into an empty book.

    Raises:
        ValueError: an alarm in it is none.
        KeyError, TypeError: it is not of the form that `to_document` gives.
    """
    try:
        alarms = [_alarm(book, one) for one in document["alarms"]]
    except ServiceError as e:
        raise ValueError(str(e)) from e
    book.take_up(alarms, [HistoryItem(**item) for item in document["history"]])


def _alarm_document(alarm: Alarm) -> JsonObject:
    document = {name: getattr(alarm, name) for name in _AS_THEY_ARE}
    document |= {"kind": alarm.kind, "state": alarm.state, "state_before": alarm.state_before}
    if isinstance(alarm, MetricAlarm):
        return {**document, "evaluation_state": alarm.evaluation_state}
    held = alarm.held and {"by": alarm.held.by, "until": alarm.held.until}
    return {**document, "held": held, "due": alarm.due, "triggered_by": list(alarm.triggered_by)}


def _alarm(book: AlarmBook, document: Mapping[str, Any]) -> Alarm:
    common: dict[str, Any] = {
        **{name: document[name] for name in _AS_THEY_ARE},
        "state": AlarmState(document["state"]),
        "state_before": AlarmState(document["state_before"]),
    }
    params = Params(document["request"])
    if document["kind"] == MetricAlarm.kind:
        state = document["evaluation_state"]
        return MetricAlarm(**common, definition=parse_definition(params), evaluation_state=state)
    _, rule, suppressor = parse_composite(params)
    held = document["held"]
    return CompositeAlarm(
        **common,
        rule=rule,
        children={reference: book.name(reference) for reference in rule.alarms},
        suppressor=suppressor,
        suppressor_name="" if suppressor is None else book.name(suppressor.alarm),
        held=held and Held(SuppressedBy(held["by"]), held["until"]),
        due=document["due"],
        triggered_by=tuple(document["triggered_by"]),
    )
