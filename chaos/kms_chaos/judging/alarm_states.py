"""Claim 5: alarms that must fire fired in time, cleared in time, and the others stayed quiet.

`INSUFFICIENT_DATA` is not OK, and an alarm that nobody could read proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from kms_chaos.drill_parts import AlarmRule
from kms_chaos.judging.findings import Finding, broke, claim, gather, held, missing, unclear
from kms_chaos.judging.history import History
from kms_watchdog.drills.journal import Record
from kms_watchdog.drills.verdict import Claim

Key = tuple[str, str, str]
"""Alarm, region, mode."""
_UNREADABLE = "UNREADABLE"


def alarms(h: History) -> Claim:
    """Whether the alarms told the truth, in time."""
    return claim("alarms", "The alarms fired, stayed quiet and cleared as they must", _alarms(h))


def _alarms(h: History) -> Iterator[Finding]:
    if h.injected is None:
        yield unclear("no fault was injected")
        return
    plan = h.drill.alarms
    for rule in plan.must_fire:
        for key in _keys(h, rule):
            yield _fired(h, key, _within_seconds(rule), h.injected)
    for rule in plan.must_clear:
        for key in _keys(h, rule):
            yield _cleared(h, key, _within_seconds(rule))
    yield from gather((_named(key), _stayed_quiet(h, key)) for rule in plan.must_not_fire for key in _keys(h, rule))


def _within_seconds(rule: AlarmRule) -> float:
    return rule.within_seconds or 0.0  # a drill file whose rule does not say it is refused


def _keys(h: History, rule: AlarmRule) -> list[Key]:
    return [(rule.alarm, region, rule.mode) for region in rule.regions(h.targets, h.regions)]


def readings(h: History, key: Key) -> tuple[Record, ...]:
    """Return what the drill read of one alarm, in order."""
    alarm, region, mode = key
    return h.of_event("alarm-state", alarm=alarm, region=region, mode=mode)


def _named(key: Key) -> str:
    alarm, region, mode = key
    return f"{alarm} of {region} ({mode})"


def was_quiet(h: History, key: Key, injected: Record) -> Finding:
    """Return whether the alarm was OK when the fault began: else its firing proves nothing."""
    before = [r for r in readings(h, key) if r.seq < injected.seq]
    if not before:
        return unclear(f"{_named(key)} was not read before the fault")
    state = before[-1].fields["state"]
    if state != "OK":
        return unclear(f"{_named(key)} was {state} when the fault began, not OK", before[-1:])
    return held(f"{_named(key)} was OK", before[-1:])


def fired(h: History, key: Key) -> Record | None:
    """Return the first reading of ALARM after the fault began, or None."""
    if h.injected is None:
        return None
    seq = h.injected.seq
    return next((r for r in readings(h, key) if r.seq > seq and r.fields["state"] == "ALARM"), None)


def _fired(h: History, key: Key, within_seconds: float, injected: Record) -> Finding:
    alarm = fired(h, key)
    if alarm is None:
        blind = [r for r in readings(h, key) if r.fields["state"] == _UNREADABLE]
        if blind or not readings(h, key):
            return unclear(f"{_named(key)} could not be read", blind)
        return missing(h, f"{_named(key)} did not fire", readings(h, key))
    took = alarm.t - injected.t
    if took > within_seconds:
        return broke(f"{_named(key)} fired after {took:.1f} s, not within {within_seconds:g} s", [injected, alarm])
    return held(f"{_named(key)} fired after {took:.1f} s (within {within_seconds:g} s)", [injected, alarm])


def cleared(h: History, key: Key) -> Record | None:
    """Return the reading from which on the alarm was OK to the end, after it had fired; None when it was not."""
    if fired(h, key) is None:
        return None
    found = None
    for record in readings(h, key):  # that it was OK before is forgotten where it fires
        found = (found or record) if record.fields["state"] == "OK" else None
    return found


def _cleared(h: History, key: Key, within_seconds: float) -> Finding:
    if h.removed is None:
        return unclear(f"{_named(key)}: the fault was not removed by the drill")
    if fired(h, key) is None:
        return unclear(f"{_named(key)} had nothing to clear: it did not fire")
    ok = cleared(h, key)
    if ok is None:
        return _not_cleared(h, key, readings(h, key)[-1])
    if ok.seq < h.removed.seq:
        return unclear(f"{_named(key)} was OK again while the fault was still on", [ok, h.removed])
    took = ok.t - h.removed.t
    if took > within_seconds:
        return broke(f"{_named(key)} cleared after {took:.1f} s, not within {within_seconds:g} s", [h.removed, ok])
    return held(f"{_named(key)} cleared after {took:.1f} s (within {within_seconds:g} s)", [h.removed, ok])


def _not_cleared(h: History, key: Key, last: Record) -> Finding:
    if last.fields["state"] == _UNREADABLE:
        return unclear(f"{_named(key)} could not be read any more", [last])
    return missing(h, f"{_named(key)} did not clear", [last])


def _stayed_quiet(h: History, key: Key) -> Finding:
    seen = readings(h, key)
    loud = [r for r in seen if r.fields["state"] == "ALARM"]
    if loud:
        return broke("{} fired, which must not be", loud)
    if not seen or seen[-1].fields.get("last") is not True:
        return unclear("not read to the end: {}", seen[-1:])
    if seen[-1].fields["state"] != "OK":
        return unclear(f"{seen[-1].fields['state']} in the end, not OK: {{}}", seen[-1:])
    if gap := _unbridged(seen):
        return unclear("could not be read for a while: {}", [gap])
    return held("stayed quiet: {}", [seen[0], seen[-1]])


def _unbridged(seen: tuple[Record, ...]) -> Record | None:
    """Return a reading that failed and that no later one covers, by telling since when the state has been OK.

    The last of `seen` must be OK.
    """
    for number, record in enumerate(seen):
        if record.fields["state"] != _UNREADABLE:
            continue
        since = next(r for r in seen[number:] if r.fields["state"] != _UNREADABLE).fields["since_utc"]
        if not since or datetime.fromisoformat(since) > record.at_utc:
            return record
    return None
