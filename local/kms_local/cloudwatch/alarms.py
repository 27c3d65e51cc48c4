"""The alarms of one region: their evaluation, and what happens when a state changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from kms_alarms.composite import Held, Rule, Suppressor, evaluation_order, hold_back
from kms_alarms.evaluate import (
    AlarmDefinition,
    AlarmState,
    MetricMathError,
    MetricStat,
    evaluate,
    evaluation_window,
    window,
)
from kms_local.cloudwatch.alarm import Alarm, AlarmBase, CompositeAlarm, MetricAlarm
from kms_local.cloudwatch.alarm_messages import (
    MAX_REASON,
    composite_reason,
    composite_reason_data,
    metric_reason_data,
    notification,
    region_name,
)
from kms_local.cloudwatch.history import AlarmHistory, HistoryItem
from kms_local.cloudwatch.queries import metric_key, statistics_in
from kms_local.cloudwatch.store import MetricStore
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject

_MAX_ALARMS = 5000
_MAX_PARENTS = 150
_MAX_SUBJECT = 100
_CHILD = "alarm:"

_Kind = TypeVar("_Kind", bound=AlarmBase)
Publish = Callable[[str, str, str], bool]
"""Sends (topic ARN, subject, message); False if there is no such topic here."""


class AlarmBook:
    """The alarms of one region."""

    def __init__(self, *, account_id: str, region: str, store: MetricStore, publish: Publish) -> None:
        self.alarms: dict[str, Alarm] = {}
        self.history = AlarmHistory()
        self._account_id = account_id
        self._region = region
        self._store = store
        self._publish = publish
        self._order: tuple[str, ...] = ()  # composite alarms, children first, without those in a circle

    def arn(self, name: str) -> str:
        """Return the ARN that the alarm `name` has here."""
        return f"arn:aws:cloudwatch:{self._region}:{self._account_id}:alarm:{name}"

    def name(self, reference: str) -> str:
        """Return the name of the alarm that a rule refers to, by name or ARN."""
        return reference.removeprefix(self.arn(""))

    def put(self, definition: AlarmDefinition, request: JsonObject, tags: dict[str, str], now: float) -> None:
        """Make a metric alarm, or replace one's definition; state and tags of an existing alarm stay.

        Raises:
            ServiceError: ValidationError: the name is a composite alarm's; LimitExceeded: there are too many alarms.
        """
        existing = self._present(definition.name, MetricAlarm)
        if existing is None:
            alarm = MetricAlarm(
                name=definition.name,
                arn=self.arn(definition.name),
                request=request,
                tags=tags,
                configured_at=now,
                updated_at=now,
                transitioned_at=now,
                definition=definition,
            )
            self._add(alarm, now)
            return
        existing.definition, existing.seen = definition, None
        self._update(existing, request, now)

    def put_composite(
        self,
        name: str,
        rule: Rule,
        suppressor: Suppressor | None,
        request: JsonObject,
        tags: dict[str, str],
        now: float,
    ) -> None:
        """Make a composite alarm, or replace one's rule; state and tags of an existing alarm stay.

        A rule may close a circle, as in CloudWatch: the alarms that lead into it are not evaluated until it is broken.

        Raises:
            ServiceError: ValidationError: the name is a metric alarm's, or an alarm in the rule does not exist;
                LimitExceeded: there are too many alarms.
        """
        existing = self._present(name, CompositeAlarm)
        children = {reference: self.name(reference) for reference in rule.alarms}
        suppressor_name = "" if suppressor is None else self.name(suppressor.alarm)
        self._check_children(name, children.values(), suppressor_name)
        if existing is None:
            alarm = CompositeAlarm(
                name=name,
                arn=self.arn(name),
                request=request,
                tags=tags,
                configured_at=now,
                updated_at=now,
                transitioned_at=now,
                rule=rule,
                children=children,
                suppressor=suppressor,
                suppressor_name=suppressor_name,
            )
            self._add(alarm, now)
        else:
            if suppressor_name != existing.suppressor_name:
                existing.held = None  # "if you replace the suppressor alarm, any active period is discarded"
            existing.rule, existing.children = rule, children
            existing.suppressor, existing.suppressor_name = suppressor, suppressor_name
            existing.due = "updated"
            self._update(existing, request, now)
        self._arrange()

    def take_up(self, alarms: Iterable[Alarm], history: Iterable[HistoryItem]) -> None:
        """Add what an earlier run has left."""
        self.alarms.update((alarm.name, alarm) for alarm in alarms)
        self.history.take_up(history)
        self._arrange()

    def delete(self, name: str, now: float) -> None:
        """Delete an alarm; its history stays."""
        alarm = self.alarms.pop(name)
        self.history.note(name, alarm.kind, now, "ConfigurationUpdate", f'Alarm "{name}" deleted', {"type": "Delete"})
        self._arrange()

    def parents(self, name: str) -> list[CompositeAlarm]:
        """Return the composite alarms whose rule names the alarm `name`."""
        return [alarm for alarm in self._composites() if name in alarm.children.values()]

    def dependents(self, name: str) -> list[CompositeAlarm]:
        """Return the composite alarms that need the alarm `name`, be it to suppress their actions."""
        return [alarm for alarm in self._composites() if alarm.rests_on(name)]

    def evaluate_all(self, now: float) -> None:
        """Look at what every alarm rests on, and change what must change; metric alarms first."""
        self._store.forget(now)
        self.history.forget(now)
        for alarm in list(self.alarms.values()):
            if isinstance(alarm, MetricAlarm):
                self._evaluate(alarm, now)
        self._settle(now)
        for composite in self._composites():
            if composite.held is not None:
                self._act_or_hold(composite, now, changed=False)

    def set_state(self, alarm: Alarm, state: AlarmState, reason: str, reason_data: str, now: float) -> None:
        """Give an alarm a state by hand, until something makes it look again; composite alarms on it follow at once.

        A metric alarm looks again at once. A composite alarm looks when one of its children changes, or when its rule
        is put again: it may not come back by itself.
        """
        if isinstance(alarm, MetricAlarm):
            alarm.seen = None
        if state is alarm.state:
            alarm.reason, alarm.reason_data, alarm.updated_at = reason, reason_data, now
        else:
            self._move(alarm, state, reason, reason_data, now)
            self._settle(now)

    def _settle(self, now: float) -> None:
        """Look at the composite alarms that have a reason to look again, children first."""
        for name in self._order:
            composite = self.alarms[name]
            if isinstance(composite, CompositeAlarm) and composite.due is not None:
                self._evaluate_composite(composite, composite.due, now)

    def _present(self, name: str, kind: type[_Kind]) -> _Kind | None:
        existing = self.alarms.get(name)
        if existing is None:
            if len(self.alarms) >= _MAX_ALARMS:
                raise ServiceError("LimitExceeded", f"There may be {_MAX_ALARMS} alarms in a region.")
            return None
        if not isinstance(existing, kind):
            raise ServiceError("ValidationError", f"The alarm {name} exists already, and is a {existing.kind}.")
        return existing

    def _check_children(self, name: str, children: Collection[str], suppressor_name: str) -> None:
        unknown = sorted(set(children) - self.alarms.keys())
        if unknown:
            shown = ", ".join(unknown)
            raise ServiceError(
                "ValidationError",
                f"Could not save the composite alarm as alarms [{shown}] in the alarm rule do not exist",
            )
        if suppressor_name and suppressor_name not in self.alarms:
            raise ServiceError(
                "ValidationError",
                f"Could not save the composite alarm as the suppressor {suppressor_name} does not exist",
            )
        for child in children:
            if sum(parent.name != name for parent in self.parents(child)) >= _MAX_PARENTS:
                message = f"The alarm {child} is in the rules of {_MAX_PARENTS} composite alarms already."
                raise ServiceError("LimitExceeded", message)

    def _add(self, alarm: Alarm, now: float) -> None:
        self.alarms[alarm.name] = alarm
        self._note(alarm, now, "ConfigurationUpdate", f'Alarm "{alarm.name}" created', {"type": "Create"})

    def _update(self, alarm: Alarm, request: JsonObject, now: float) -> None:
        alarm.request, alarm.configured_at = request, now
        self._note(alarm, now, "ConfigurationUpdate", f'Alarm "{alarm.name}" updated', {"type": "Update"})

    def _composites(self) -> list[CompositeAlarm]:
        return [alarm for alarm in self.alarms.values() if isinstance(alarm, CompositeAlarm)]

    def _arrange(self) -> None:
        self._order = evaluation_order({alarm.name: alarm.children.values() for alarm in self._composites()})

    def _evaluate(self, alarm: MetricAlarm, now: float) -> None:
        definition = alarm.definition
        looked_at = evaluation_window(definition, now)
        stats = {name: query for name, query in definition.queries.items() if isinstance(query, MetricStat)}
        seen = (looked_at.end, *(self._store.version(metric_key(stat)) for stat in stats.values()))
        if seen == alarm.seen:
            return
        alarm.seen = seen
        statistics = {name: statistics_in(self._store, stat, looked_at) for name, stat in stats.items()}
        samples = self._samples(definition, now)
        try:
            found = evaluate(definition, statistics, now=now, previous=alarm.state, samples=samples)
        except MetricMathError as e:  # seen only with data of a certain shape; PutMetricAlarm refuses the rest
            self._fail(alarm, f"Evaluation failed: {e}", now)
            return
        if alarm.evaluation_state is not None:
            alarm.evaluation_state, alarm.updated_at = None, now
        if found.state is not alarm.state:
            self._move(alarm, found.state, found.reason, metric_reason_data(definition, found, now), now)

    def _samples(self, definition: AlarmDefinition, now: float) -> float:
        """Return how many samples a percentile rests on, where that matters."""
        watched = definition.queries[definition.result]
        if not definition.samples_needed or not isinstance(watched, MetricStat):
            return 0.0
        periods = window(now=now, period_seconds=definition.period_seconds, periods=definition.evaluation_periods)
        buckets = self._store.merged(
            metric_key(watched),
            unit=watched.unit,
            start=periods.start,
            end=periods.end,
            period_seconds=periods.period_seconds,
        )
        return sum(bucket.count for bucket in buckets.values())

    def _fail(self, alarm: MetricAlarm, reason: str, now: float) -> None:
        if alarm.evaluation_state is None:
            alarm.evaluation_state, alarm.updated_at = "EVALUATION_ERROR", now
        if alarm.state is not AlarmState.INSUFFICIENT_DATA:
            self._move(alarm, AlarmState.INSUFFICIENT_DATA, reason, "", now)

    def _evaluate_composite(self, alarm: CompositeAlarm, due: str, now: float) -> None:
        alarm.due = None
        holds = alarm.rule.holds(lambda reference: self.alarms[alarm.children[reference]].state)
        state = AlarmState.ALARM if holds else AlarmState.OK
        if state is alarm.state:
            return
        child = self.alarms.get(due.removeprefix(_CHILD)) if due.startswith(_CHILD) else None
        alarm.triggered_by = tuple(alarm.children.values()) if child is None else (child.name,)
        reason = composite_reason(alarm, state, due if child is None else child)
        self._move(alarm, state, reason, composite_reason_data(self.alarms[name] for name in alarm.triggered_by), now)

    def _move(self, alarm: Alarm, state: AlarmState, reason: str, reason_data: str, now: float) -> None:
        """Change an alarm's state: into its history, to those who rest on it, and to its actions."""
        before, reason_before = alarm.state, alarm.reason
        alarm.state, alarm.state_before = state, before
        alarm.reason, alarm.reason_data = reason[:MAX_REASON], reason_data
        alarm.updated_at = alarm.transitioned_at = now
        change: JsonObject = {
            "oldState": {"stateValue": before, "stateReason": reason_before},
            "newState": {"stateValue": state, "stateReason": alarm.reason},
        }
        self._note(alarm, now, "StateUpdate", f"Alarm updated from {before} to {state}", change)
        for parent in self.parents(alarm.name):
            parent.due = f"{_CHILD}{alarm.name}"
        if isinstance(alarm, CompositeAlarm):
            self._act_or_hold(alarm, now, changed=True)
        else:
            self._act(alarm, now)

    def _act_or_hold(self, alarm: CompositeAlarm, now: float, *, changed: bool) -> None:
        """Run the actions that are due, unless the suppressor alarm holds them back."""
        before = alarm.held
        if alarm.suppressor is not None:
            suppressing = self.alarms[alarm.suppressor_name].state is AlarmState.ALARM
            alarm.held = hold_back(alarm.suppressor, before, changed=changed, suppressing=suppressing, now=now)
        else:
            alarm.held = None
        if alarm.held is None:
            self._act(alarm, now)
        elif before is None or before.by is not alarm.held.by:
            self._note(alarm, now, "Action", suppressed_reason(alarm.held), {"actionState": "Suppressed"})

    def _act(self, alarm: Alarm, now: float) -> None:
        subject = f'{alarm.state}: "{alarm.name}" in {region_name(self._region)}'[:_MAX_SUBJECT]
        for action in alarm.actions():
            message = notification(alarm, self.alarms, account_id=self._account_id, region=self._region, now=now)
            sent = self._publish(action, subject, json.dumps(message))
            outcome = "Successfully executed action" if sent else "Failed to execute action"
            state = "Succeeded" if sent else "Failed"
            self._note(alarm, now, "Action", f"{outcome} {action}", {"actionState": state})

    def _note(self, alarm: Alarm, now: float, kind: str, summary: str, data: JsonObject) -> None:
        self.history.note(alarm.name, alarm.kind, now, kind, summary, data)


def suppressed_reason(held: Held) -> str:
    """Return in CloudWatch's words what holds actions back."""
    return f"Actions suppressed by {held.by}"
