"""One alarm: what it is, how it stands, and whom it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from kms_alarms.composite import Held, Rule, Suppressor
from kms_alarms.evaluate import AlarmDefinition, AlarmState
from kms_local.wire.params import JsonObject

_ACTIONS = {
    AlarmState.OK: "OKActions",
    AlarmState.ALARM: "AlarmActions",
    AlarmState.INSUFFICIENT_DATA: "InsufficientDataActions",
}
ACTION_MEMBERS = tuple(_ACTIONS.values())


@dataclass(slots=True, kw_only=True)
class AlarmBase:
    """What metric alarms and composite alarms have in common."""

    kind: ClassVar[str]
    name: str
    arn: str
    request: JsonObject  # the members of the Put request, to be shown again
    tags: dict[str, str]
    configured_at: float
    state: AlarmState = AlarmState.INSUFFICIENT_DATA
    state_before: AlarmState = AlarmState.INSUFFICIENT_DATA
    reason: str = "Unchecked: Initial alarm creation"
    reason_data: str = ""
    updated_at: float = 0.0  # when the state was last set, also to what it was before
    transitioned_at: float = 0.0  # when it last changed

    @property
    def actions_enabled(self) -> bool:
        """Whether a change of state runs the alarm's actions."""
        return bool(self.request.get("ActionsEnabled", True))

    def actions(self) -> list[str]:
        """Return the ARNs that the present state is told to."""
        return list(self.request.get(_ACTIONS[self.state], [])) if self.actions_enabled else []

    def all_actions(self) -> list[str]:
        """Return the ARNs that any state is told to."""
        return [arn for name in ACTION_MEMBERS for arn in self.request.get(name, [])]


@dataclass(slots=True, kw_only=True)
class MetricAlarm(AlarmBase):
    """An alarm on a metric or on metric math."""

    kind: ClassVar[str] = "MetricAlarm"
    definition: AlarmDefinition
    evaluation_state: str | None = None
    """`EVALUATION_ERROR` while its expression does not give one series."""
    seen: tuple[float, ...] | None = None
    """What the last evaluation looked at: it would come to the same again. None: look in any case."""


@dataclass(slots=True, kw_only=True)
class CompositeAlarm(AlarmBase):
    """An alarm on other alarms' states."""

    kind: ClassVar[str] = "CompositeAlarm"
    rule: Rule
    children: dict[str, str]
    """The names of the alarms it rests on, by the name or ARN in its rule."""
    suppressor: Suppressor | None = None
    suppressor_name: str = ""
    held: Held | None = None
    """What holds back the actions that are due."""
    due: str | None = "created"
    """Why its rule has to be looked at again: `created`, `updated`, or the child that changed as `alarm:NAME`."""
    triggered_by: tuple[str, ...] = field(default_factory=tuple)

    def rests_on(self, name: str) -> bool:
        """Say whether this alarm needs the alarm `name`, for its rule or to suppress its actions."""
        return name in self.children.values() or name == self.suppressor_name


Alarm = MetricAlarm | CompositeAlarm
