"""What is the case right now: a fold over the drill's own events, for the conductor's decisions and the display."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kms_chaos.faults.plans import Bite
from kms_watchdog.results import Outcome

AlarmKey = tuple[str, str, str]
"""Alarm, region, mode."""

_RECENT_OPERATIONS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryView:
    """The last look of one canary."""

    at: float
    """When it ended, in the journal's seconds."""
    began: float
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """One operation of the workload."""

    at: float
    seconds: float
    ok: bool
    lane: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultView:
    """One fault in one region."""

    id: str
    region: str
    since: float
    until: float | None = None
    """None while it is on."""
    bite: Bite
    bitten: int
    """Attempts that began while it was on, and showed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The scene at one instant; every time is in the journal's seconds."""

    at: float
    phase: str
    phase_since: float
    canaries: Mapping[tuple[str, str], CanaryView]
    """By region and purpose."""
    breakers: Mapping[str, str]
    alarms: Mapping[AlarmKey, str]
    faults: tuple[FaultView, ...]
    """All that there were, those that are on included."""
    operations: int
    failed: int
    failed_over: int
    recent: tuple[OperationView, ...]
    verdict: str

    @property
    def fault_regions(self) -> tuple[str, ...]:
        """The regions that a fault hits now."""
        return tuple(dict.fromkeys(fault.region for fault in self.faults if fault.until is None))

    @property
    def fault_since(self) -> float | None:
        """Since when there has been one; None while there is none."""
        return min((fault.since for fault in self.faults if fault.until is None), default=None)

    @property
    def every_fault_bit(self) -> bool:
        """Whether an attempt has shown each fault that is on; there is one at least."""
        on = [fault for fault in self.faults if fault.until is None]
        return bool(on) and all(fault.bitten for fault in on)


@dataclass(slots=True)
class _State:
    phase: str = "start"
    phase_since: float = 0.0
    canaries: dict[tuple[str, str], CanaryView] = field(default_factory=dict)
    breakers: dict[str, str] = field(default_factory=dict)
    alarms: dict[AlarmKey, str] = field(default_factory=dict)
    faults: dict[str, FaultView] = field(default_factory=dict)
    operations: int = 0
    failed: int = 0
    failed_over: int = 0
    recent: deque[OperationView] = field(default_factory=lambda: deque(maxlen=_RECENT_OPERATIONS))
    verdict: str = ""


class Scene:
    """The fold's state, for any thread."""

    def __init__(self, regions: tuple[str, ...]) -> None:
        self._lock = threading.Lock()
        self._state = _State(breakers=dict.fromkeys(regions, "closed"))

    def take(self, event: str, t: float, fields: Mapping[str, Any]) -> None:
        """Fold one event in; events that change nothing here are fine."""
        fold = _FOLDS.get(event)
        if fold is not None:
            with self._lock:
                fold(self._state, t, fields)

    def view(self, now: float) -> View:
        """Return what is the case at `now`."""
        with self._lock:
            s = self._state
            return View(
                at=now,
                phase=s.phase,
                phase_since=s.phase_since,
                canaries=dict(s.canaries),
                breakers=dict(s.breakers),
                alarms=dict(s.alarms),
                faults=tuple(s.faults.values()),
                operations=s.operations,
                failed=s.failed,
                failed_over=s.failed_over,
                recent=tuple(s.recent),
                verdict=s.verdict,
            )


def _phase(s: _State, t: float, fields: Mapping[str, Any]) -> None:
    s.phase, s.phase_since = fields["phase"], t


def _canary(s: _State, t: float, fields: Mapping[str, Any]) -> None:
    result = fields["result"]
    s.canaries[result["region"], result["key"]] = CanaryView(
        at=t,
        began=t - result["duration_seconds"],
        outcome=Outcome(result["outcome"]),
        reason=result["error_code"] or result["reason"] or "",
    )


def _operation(s: _State, t: float, fields: Mapping[str, Any]) -> None:
    s.operations += 1
    s.failed += not fields["ok"]
    s.recent.append(
        OperationView(at=t, seconds=fields["seconds"], ok=fields["ok"], lane=fields["lane"], region=fields["region"])
    )


def _attempt(s: _State, t: float, fields: Mapping[str, Any]) -> None:
    seconds = fields["seconds"]
    for fault in tuple(s.faults.values()):
        hit = fault.until is None and fault.region == fields["region"] and t - seconds >= fault.since
        if hit and fault.bite.shown_by(error_code=fields["error_code"], seconds=seconds, operation=fields["operation"]):
            s.faults[fault.id] = replace(fault, bitten=fault.bitten + 1)


def _service_attempt(s: _State, t: float, fields: Mapping[str, Any]) -> None:
    _attempt(s, t, {**fields, "operation": fields["service"]})  # by which `Bite.operations` knows it


def _failed_over(s: _State, _t: float, _fields: Mapping[str, Any]) -> None:
    s.failed_over += 1


def _breaker(s: _State, _t: float, fields: Mapping[str, Any]) -> None:
    s.breakers[fields["region"]] = fields["new"]


def _alarm(s: _State, _t: float, fields: Mapping[str, Any]) -> None:
    s.alarms[fields["alarm"], fields["region"], fields["mode"]] = fields["state"]


def _injected(s: _State, t: float, fields: Mapping[str, Any]) -> None:
    number, sign = fields["fault_id"], Bite.of_json(fields["bite"])
    shown = int(sign.quiet)  # that nobody asks is shown by nothing: the judge counts who did
    s.faults[number] = FaultView(id=number, region=fields["region"], since=t, bite=sign, bitten=shown)


def _removed(s: _State, t: float, fields: Mapping[str, Any]) -> None:
    s.faults[fields["fault_id"]] = replace(s.faults[fields["fault_id"]], until=t)


def _verdict(s: _State, _t: float, fields: Mapping[str, Any]) -> None:
    s.verdict = fields["verdict"]


_FOLDS = {
    "phase-started": _phase,
    "canary-result": _canary,
    "operation": _operation,
    "attempt": _attempt,
    "service-attempt": _service_attempt,
    "failed-over": _failed_over,
    "breaker-moved": _breaker,
    "alarm-state": _alarm,
    "fault-injected": _injected,
    "fault-removed": _removed,
    "verdict": _verdict,
}


def steady(view: View, *, since: float, expected: frozenset[tuple[str, str]]) -> bool:
    """Return whether each canary of `expected` (region, purpose) was OK in its last look, begun after `since`."""
    seen = {where: canary for where, canary in view.canaries.items() if canary.began >= since}
    return expected <= seen.keys() and all(canary.outcome is Outcome.OK for canary in seen.values())


def both_lanes_serve(view: View, *, since: float) -> bool:
    """Return whether operations of both lanes succeeded after `since`, and none failed."""
    seen = [operation for operation in view.recent if operation.at - operation.seconds >= since]
    return {o.lane for o in seen} == {"warm", "cold"} and all(o.ok for o in seen)


def all_closed(view: View) -> bool:
    """Return whether every breaker of the drill's own core is closed."""
    return all(state == "closed" for state in view.breakers.values())


def in_state(view: View, keys: frozenset[AlarmKey], state: str) -> bool:
    """Return whether all alarms of `keys` are in `state`."""
    return all(view.alarms.get(key) == state for key in keys)
