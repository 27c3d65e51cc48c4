"""What takes results: a sink has one method for each kind of value, and one that fails hurts nobody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from kms_core.clock import Clock
from kms_core.events import Event
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.results import CanaryResult, Mode

log = structlog.get_logger("sinks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An event of the daemon's own core (live), or of a drill's (from its journal)."""

    event: Event
    mode: Mode
    at_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmMoved:
    """When a drill saw an alarm fire, and clear after that; Unix time."""

    fired_at: float
    cleared_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillChange:
    """A drill began or ended, as its journal says."""

    run_id: str
    drill: str
    region: str
    active: bool
    verdict: Verdict | None
    """None while it runs, and when nobody judged."""
    at_utc: datetime
    detection_seconds: float | None = None
    """From the fault to the open breaker; None while it runs, and when that was not seen."""
    recovery_seconds: float | None = None
    """From the fault's removal to the steady state; None likewise."""
    alarms: Mapping[str, AlarmMoved] = field(default_factory=dict)
    """By the alarm's name; those that fired."""
    elsewhere: bool = False
    """Another machine ran it and has told of it itself; here it is only news of when it was done and held."""
    orphaned: bool = False
    """It has not ended, but its owner is dead or past its time: nobody runs it, and its faults are to be undone."""


class Sink(Protocol):
    """Takes canary results, from any thread."""

    def write(self, result: CanaryResult) -> None:
        """Take one result; quickly, as the canary's thread waits."""


class EventSink(Protocol):
    """Takes the crypto core's events, from any thread."""

    def on_event(self, seen: Seen) -> None:
        """Take one event."""


class DrillSink(Protocol):
    """Takes the beginnings and ends of drills, and that one is orphaned."""

    def on_drill(self, change: DrillChange) -> None:
        """Take one change."""


def write_to_all(sinks: Iterable[Sink], result: CanaryResult) -> None:
    """Give `result` to each sink."""
    for sink in sinks:
        try:
            sink.write(result)
        except Exception:  # a sink's outermost border: a full disk must not blind the other sinks
            log.exception("sink.failed", sink=type(sink).__name__)


def tell_event(sinks: Iterable[EventSink], seen: Seen) -> None:
    """Give an event to each sink."""
    for sink in sinks:
        try:
            sink.on_event(seen)
        except Exception:  # as in write_to_all
            log.exception("sink.failed", sink=type(sink).__name__)


def tell_drill(sinks: Iterable[DrillSink], change: DrillChange) -> None:
    """Give a drill's beginning or end to each sink."""
    for sink in sinks:
        try:
            sink.on_drill(change)
        except Exception:  # as in write_to_all
            log.exception("sink.failed", sink=type(sink).__name__)


@dataclass(frozen=True, slots=True)
class LiveEvents:
    """The observer of the daemon's own core (`kms_core.events.Observer`): hands its events to the sinks."""

    sinks: tuple[EventSink, ...]
    clock: Clock

    def on_event(self, event: Event) -> None:
        """Give `event` to each sink."""
        tell_event(self.sinks, Seen(event=event, mode=Mode.LIVE, at_utc=self.clock.now_utc()))
