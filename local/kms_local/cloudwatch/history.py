"""What happened to the alarms of one region: kept for 30 days as in CloudWatch, also of alarms that are gone."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kms_local.wire.params import JsonObject

_KEPT_SECONDS = 30 * 86_400
_KEPT_ITEMS = 500  # an alarm: one that flutters must not fill the memory
_KEPT_ALARMS = 10_000
_MAX_SUMMARY = 255


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One line of an alarm's history."""

    alarm: str
    alarm_type: str  # MetricAlarm or CompositeAlarm
    at: float
    kind: str  # ConfigurationUpdate, StateUpdate or Action
    summary: str
    data: str


class AlarmHistory:
    """The newest lines of each alarm's history."""

    def __init__(self) -> None:
        # By name; the alarm that has been quiet for longest comes first.
        self._items: OrderedDict[str, deque[HistoryItem]] = OrderedDict()

    def __len__(self) -> int:
        """How many lines are kept, of all alarms."""
        return sum(map(len, self._items.values()))

    def note(
        self, alarm: str, alarm_type: str, at: float, kind: str, summary: str, data: JsonObject | None = None
    ) -> None:
        """Add a line."""
        text = json.dumps({"version": "1.0", **(data or {})})
        self._add(HistoryItem(alarm, alarm_type, at, kind, summary[:_MAX_SUMMARY], text))
        self.forget(at)

    def take_up(self, items: Iterable[HistoryItem]) -> None:
        """Add lines that an earlier run has written, as `all` returned them."""
        for item in items:
            self._add(item)

    def all(self) -> Iterator[HistoryItem]:
        """Return every line that is kept: alarm by alarm, each oldest first."""
        for items in self._items.values():
            yield from items

    def forget(self, now: float) -> None:
        """Drop the alarms that nothing has happened to for 30 days before POSIX time `now`."""
        while self._items:
            alarm, items = next(iter(self._items.items()))
            if items[-1].at >= now - _KEPT_SECONDS and len(self._items) <= _KEPT_ALARMS:
                return
            del self._items[alarm]

    def items(self, alarm: str | None, now: float) -> list[HistoryItem]:
        """Return the lines of one alarm, or of all, of the 30 days before POSIX time `now`, oldest first."""
        chosen = self._items.values() if alarm is None else [self._items.get(alarm, deque())]
        found = [item for items in chosen for item in items if item.at >= now - _KEPT_SECONDS]
        return sorted(found, key=lambda item: item.at)

    def _add(self, item: HistoryItem) -> None:
        self._items.setdefault(item.alarm, deque(maxlen=_KEPT_ITEMS)).append(item)
        self._items.move_to_end(item.alarm)
