"""Alarms of one region: definition, state, history, and what happens when the state changes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kms_alarms.evaluate import (
    AlarmDefinition,
    AlarmState,
    Evaluation,
    MetricMathError,
    MetricStat,
    evaluate,
    evaluation_window,
)
from kms_local.clock import iso_utc
from kms_local.cloudwatch.readings import statistics_in
from kms_local.cloudwatch.store import MetricStore
from kms_local.wire.params import JsonObject

_KEPT_HISTORY = 500  # items an alarm; AWS keeps 30 days
_ACTIONS = {
    AlarmState.OK: "OKActions",
    AlarmState.ALARM: "AlarmActions",
    AlarmState.INSUFFICIENT_DATA: "InsufficientDataActions",
}

Publish = Callable[[str, str, str], bool]
"""Sends (topic ARN, subject, message); False if there is no such topic here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryItem:
    """One line of an alarm's history."""

    at: float
    kind: str  # ConfigurationUpdate, StateUpdate or Action
    summary: str
    data: str


@dataclass(slots=True, kw_only=True)
class Alarm:
    """One alarm; `request` holds the members of PutMetricAlarm, to be shown again."""

    arn: str
    definition: AlarmDefinition
    request: JsonObject
    configured_at: float
    state: AlarmState = AlarmState.INSUFFICIENT_DATA
    reason: str = "Unchecked: Initial alarm creation"
    reason_data: str = ""
    state_at: float = 0.0
    history: deque[HistoryItem] = field(default_factory=lambda: deque(maxlen=_KEPT_HISTORY))

    @property
    def actions_enabled(self) -> bool:
        """Whether a change of state runs the alarm's actions."""
        return bool(self.request.get("ActionsEnabled", True))

    def actions(self) -> list[str]:
        """Return the ARNs that the present state is told to."""
        return list(self.request.get(_ACTIONS[self.state], [])) if self.actions_enabled else []

    def note(self, at: float, kind: str, summary: str, data: JsonObject | None = None) -> None:
        """Add a line of history."""
        text = json.dumps({"version": "1.0", **(data or {})})
        self.history.append(HistoryItem(at=at, kind=kind, summary=summary, data=text))


class AlarmBook:
    """The alarms of one region."""

    def __init__(self, *, account_id: str, region: str, store: MetricStore, publish: Publish) -> None:
        self.alarms: dict[str, Alarm] = {}
        self._account_id = account_id
        self._region = region
        self._store = store
        self._publish = publish

    def put(self, definition: AlarmDefinition, request: JsonObject, now: float) -> None:
        """Make an alarm, or replace one's definition; the state of an existing alarm stays."""
        existing = self.alarms.get(definition.name)
        if existing is not None:
            existing.definition, existing.request, existing.configured_at = definition, request, now
            existing.note(now, "ConfigurationUpdate", f'Alarm "{definition.name}" updated', {"type": "Update"})
            return
        arn = f"arn:aws:cloudwatch:{self._region}:{self._account_id}:alarm:{definition.name}"
        alarm = Alarm(arn=arn, definition=definition, request=request, configured_at=now, state_at=now)
        alarm.note(now, "ConfigurationUpdate", f'Alarm "{definition.name}" created', {"type": "Create"})
        self.alarms[definition.name] = alarm

    def evaluate_all(self, now: float) -> None:
        """Look at every alarm's metrics, and change what must change."""
        for alarm in list(self.alarms.values()):
            self._evaluate(alarm, now)

    def move(self, alarm: Alarm, state: AlarmState, reason: str, reason_data: str, now: float) -> None:
        """Give an alarm a state; a change goes to its history and runs its actions."""
        before = alarm.state
        if state is before:
            return
        alarm.state, alarm.reason, alarm.reason_data, alarm.state_at = state, reason, reason_data, now
        change: JsonObject = {
            "oldState": {"stateValue": before},
            "newState": {"stateValue": state, "stateReason": reason},
        }
        alarm.note(now, "StateUpdate", f"Alarm updated from {before} to {state}", change)
        for action in alarm.actions():
            self._act(alarm, action, before, now)

    def _evaluate(self, alarm: Alarm, now: float) -> None:
        definition = alarm.definition
        looked_at = evaluation_window(definition, now)
        statistics = {
            name: statistics_in(self._store, query, looked_at)
            for name, query in definition.queries.items()
            if isinstance(query, MetricStat)
        }
        try:
            found = evaluate(definition, statistics, now=now, previous=alarm.state)
        except MetricMathError as e:  # seen only with data of a certain shape; PutMetricAlarm refuses the rest
            self.move(alarm, AlarmState.INSUFFICIENT_DATA, f"Evaluation failed: {e}", "", now)
            return
        if found.state is not alarm.state:
            self.move(alarm, found.state, found.reason, _reason_data(definition, found, now), now)

    def _act(self, alarm: Alarm, action: str, before: AlarmState, now: float) -> None:
        subject = f'{alarm.state}: "{alarm.definition.name}" in {self._region}'
        sent = self._publish(action, subject, json.dumps(self._message(alarm, before, now)))
        outcome = "Successfully executed action" if sent else "Failed to execute action"
        alarm.note(now, "Action", f"{outcome} {action}", {"actionState": "Succeeded" if sent else "Failed"})

    def _message(self, alarm: Alarm, before: AlarmState, now: float) -> dict[str, Any]:
        """Return what CloudWatch sends to a topic."""
        definition = alarm.definition
        trigger: JsonObject = {
            "Period": definition.period_seconds,
            "EvaluationPeriods": definition.evaluation_periods,
            "DatapointsToAlarm": definition.datapoints_to_alarm,
            "ComparisonOperator": definition.comparison,
            "Threshold": definition.threshold,
            "TreatMissingData": definition.missing,
            **{name: alarm.request[name] for name in ("MetricName", "Namespace", "Metrics") if name in alarm.request},
        }
        return {
            "AlarmName": definition.name,
            "AlarmDescription": alarm.request.get("AlarmDescription"),
            "AWSAccountId": self._account_id,
            "AlarmConfigurationUpdatedTimestamp": iso_utc(alarm.configured_at),
            "NewStateValue": alarm.state,
            "NewStateReason": alarm.reason,
            "StateChangeTime": iso_utc(now),
            "Region": self._region,
            "AlarmArn": alarm.arn,
            "OldStateValue": before,
            "OKActions": alarm.request.get("OKActions", []),
            "AlarmActions": alarm.request.get("AlarmActions", []),
            "InsufficientDataActions": alarm.request.get("InsufficientDataActions", []),
            "Trigger": trigger,
        }


def _reason_data(definition: AlarmDefinition, found: Evaluation, now: float) -> str:
    data: JsonObject = {
        "version": "1.0",
        "queryDate": iso_utc(now),
        "period": definition.period_seconds,
        "threshold": definition.threshold,
        "evaluatedDatapoints": [{"timestamp": iso_utc(point.at), "value": point.value} for point in found.points],
    }
    return json.dumps(data)
