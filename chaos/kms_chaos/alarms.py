"""The states of the alarms that a drill speaks of, read from CloudWatch as they change."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kms_alarms.cloudwatch import alarm_name, slowest_seconds
from kms_chaos.drill import Drill, DrillError
from kms_chaos.drill_parts import AlarmRule
from kms_chaos.scene import AlarmKey
from kms_chaos.tape import Tape
from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.results import Mode

UNREADABLE = "UNREADABLE"
"""CloudWatch did not answer, or knows no such alarm: that is neither OK nor ALARM."""
_TYPES = ("MetricAlarm", "CompositeAlarm")
_EVERY_SECONDS = 1.0
_END_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One alarm's state as CloudWatch tells it."""

    state: str
    since_utc: str = ""
    reason: str = ""


def keys_of(rules: tuple[AlarmRule, ...], targets: tuple[str, ...], regions: tuple[str, ...]) -> frozenset[AlarmKey]:
    """Return which alarms `rules` speak of: alarm, region, mode."""
    return frozenset((rule.alarm, region, rule.mode) for rule in rules for region in rule.regions(targets, regions))


def check_times(drill: Drill, period_seconds: int) -> None:
    """Return if every alarm of `drill` exists, and can fire before the fault must end.

    Raises:
        DrillError: there is no such alarm, or the drill does not hold its fault long enough for it.
    """
    plan, most = drill.alarms, drill.timing.hold_at_most_seconds
    for rule in (*plan.must_fire, *plan.must_clear, *plan.must_not_fire):
        try:
            slowest = slowest_seconds(rule.alarm, rule.region, period_seconds)
        except KeyError as e:
            raise DrillError(f"{drill.name}: there is no alarm {rule.alarm!r} of {rule.region}") from e
        if rule in plan.must_fire and slowest >= most:
            raise DrillError(
                f"{drill.name}: {rule.alarm} may take {slowest} s to fire, the fault ends after {most:g} s"
            )


def all_keys(drill: Drill, targets: tuple[str, ...], regions: tuple[str, ...]) -> frozenset[AlarmKey]:
    """Return every alarm that `drill` speaks of."""
    plan = drill.alarms
    return keys_of((*plan.must_fire, *plan.must_clear, *plan.must_not_fire), targets, regions)


def reading_region(settings: Settings, hurt: tuple[str, ...]) -> str:
    """Return the publish region to read alarms in: one that no fault hits, if there is one."""
    regions = settings.publish_regions
    return next((region for region in regions if region not in hurt), regions[0])


class AlarmBoard:
    """CloudWatch's alarms, in one region. Make it in the main thread (boto3's rule); then use it from any."""

    def __init__(self, settings: Settings, region: str, keys: frozenset[AlarmKey]) -> None:
        self.region = region
        self._client = aws.client(settings, "cloudwatch", region)
        self.names: Mapping[AlarmKey, str] = {
            key: alarm_name(settings, key[0], key[1], Mode(key[2])) for key in sorted(keys)
        }

    def read(self) -> dict[AlarmKey, Reading]:
        """Return the state of every alarm; what cannot be read is `UNREADABLE`, with the reason."""
        if not self.names:
            return {}
        asked = {"AlarmNames": sorted(set(self.names.values())), "AlarmTypes": list(_TYPES), "MaxRecords": 100}
        try:
            answer = self._client.describe_alarms(**asked)
        except aws.AwsError as e:
            failure = Reading(state=UNREADABLE, reason=f"CloudWatch in {self.region}: {aws.error_code(e)}")
            return dict.fromkeys(self.names, failure)
        found = {alarm["AlarmName"]: alarm for kind in _TYPES for alarm in answer.get(f"{kind}s", [])}
        return {key: _reading(found.get(name), name, self.region) for key, name in self.names.items()}

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def _reading(alarm: Mapping[str, Any] | None, name: str, region: str) -> Reading:
    if alarm is None:
        return Reading(state=UNREADABLE, reason=f"CloudWatch in {region} knows no alarm {name}")
    since = alarm.get("StateUpdatedTimestamp")
    return Reading(
        state=str(alarm["StateValue"]),
        since_utc=since.isoformat() if since else "",
        reason=str(alarm.get("StateReason", ""))[:500],
    )


class AlarmWatch:
    """Puts every change of state onto the tape, and each alarm's state at the end once more."""

    def __init__(self, board: AlarmBoard, tape: Tape, clock: Clock) -> None:
        self._board, self._tape, self._clock = board, tape, clock
        self._stop = threading.Event()
        self._known: dict[AlarmKey, Reading] = {}
        self._thread = threading.Thread(target=self._go_round, name="alarms", daemon=True)

    def start(self) -> None:
        """Begin, with one reading before this returns."""
        self._look(last=False)
        self._thread.start()

    def stop(self) -> None:
        """End, with one reading more, which the journal marks as the last. Twice is harmless."""
        if self._stop.is_set() or not self._thread.is_alive():
            return
        self._stop.set()
        self._thread.join(_END_SECONDS)
        self._look(last=True)

    def _go_round(self) -> None:
        while not self._clock.wait(self._stop, _EVERY_SECONDS):
            self._look(last=False)

    def _look(self, *, last: bool) -> None:
        for key, reading in self._board.read().items():
            before = self._known.get(key)
            if last or before is None or (reading.state, reading.since_utc) != (before.state, before.since_utc):
                self._known[key] = reading
                self._note(key, reading, last=last)

    def _note(self, key: AlarmKey, reading: Reading, *, last: bool) -> None:
        alarm, region, mode = key
        self._tape.record_now(
            "alarm-state",
            alarm=alarm,
            region=region,
            mode=mode,
            state=reading.state,
            since_utc=reading.since_utc,
            reason=reading.reason,
            name=self._board.names[key],
            read_in=self._board.region,
            last=last,
        )
