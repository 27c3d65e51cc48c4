"""The recovery time in its parts, and the recovery point for keys, from the journal alone. Pure.

Each part carries its error of measurement: the longest distance between two neighbouring samples of the kind that it
was measured by. Nothing can be told finer than that, however many digits a number has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

from kms_chaos.drill_parts import AlarmRule
from kms_chaos.judging import alarm_states
from kms_chaos.judging.after import steady_again
from kms_chaos.judging.history import History, Operation
from kms_watchdog.drills.journal import Record

LANES = ("warm", "cold")
"""Operations that the data-key cache may answer, and those that it cannot: kept apart, or the cache would hide KMS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One part of the recovery time, in one region."""

    name: str
    """`detect`, `divert`, `undo`, `breaker-closed`, `traffic-home`, `steady-state`, `alarm-fired`, `alarm-cleared`."""
    title: str
    """From what to what."""
    region: str
    lane: str = ""
    """`warm` or `cold`; empty where it makes no difference."""
    seconds: float | None
    """None: it did not happen, or nobody saw it; `note` says which."""
    error_seconds: float | None = None
    """How much it may be off: the spacing of the samples; None where there is nothing to be off."""
    note: str = ""
    evidence: tuple[int, ...] = ()
    """Numbers of the journal's lines that it was measured between."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "region": self.region,
            "lane": self.lane,
            "seconds": self.seconds,
            "error_seconds": self.error_seconds,
            "note": self.note,
            "evidence": list(self.evidence),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLoss:
    """The recovery point for keys, counted in messages: how many of those sealed could not be opened again."""

    sealed: int
    """Messages that the drill sealed, up to its last check."""
    sealed_in_fault: int
    """Those of them that were sealed while a fault was on."""
    lost: tuple[int, ...]
    """Numbers of messages that did not open in some region that was asked."""
    untried: int
    """Messages that some region was not asked for at the end: neither lost nor safe."""
    regions: tuple[str, ...]
    """Where all were tried at the end."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "sealed": self.sealed,
            "sealed_in_fault": self.sealed_in_fault,
            "lost": list(self.lost),
            "untried": self.untried,
            "regions": list(self.regions),
        }


def timings(h: History) -> tuple[Timing, ...]:
    """Return the parts in the order in which they happen, region by region; none when no fault was on."""
    return tuple(_timings(h))


def _timings(h: History) -> Iterator[Timing]:
    for region in dict.fromkeys(order.region for order in h.orders):
        began, ended = _on(h, region), _off(h, region)
        if began is not None:
            yield _detect(h, region, began)
            yield from (_divert(h, region, lane, began) for lane in LANES)
            yield _undo(h, region, ended)
            yield _closed(h, region, ended)
            yield from (_home(h, region, lane, ended) for lane in LANES)
    if h.injected is not None:
        yield _steady(h)
        plan = h.drill.alarms
        yield from (_fired(h, key, h.injected) for key in _keys(h, plan.must_fire))
        yield from (_cleared(h, key) for key in _keys(h, plan.must_clear))


def key_loss(h: History) -> KeyLoss | None:
    """Return how many messages were lost; None when nobody tried to open them at the end."""
    last = h.of_event("messages-checked", when="check")
    if not last:
        return None
    sealed = max(int(r.fields["sealed"]) for r in last)
    asked = {str(r.fields["region"]): _asked(r) for r in last}
    lost = {int(number) for r in h.of_event("messages-checked") for number in r.fields["wrong"]}
    return KeyLoss(
        sealed=sealed,
        sealed_in_fault=sum(o.ok and o.record.fields["operation"] == "encrypt" for o in h.during),
        lost=tuple(sorted(lost)),
        untried=max(sealed - asked.get(region, 0) for region in h.regions),
        regions=tuple(region for region, tried in asked.items() if tried >= sealed),
    )


def _asked(checked: Record) -> int:
    """Return how many messages a region was asked for; of many that are lost the journal names the first alone."""
    return int(checked.fields["opened"]) + max(int(checked.fields["refused"]), len(checked.fields["wrong"]))


def _on(h: History, region: str) -> Record | None:
    found = [r for order in h.orders if order.region == region and (r := h.put_on(order))]
    return min(found, key=lambda r: r.t, default=None)


def _off(h: History, region: str) -> Record | None:
    """Return when the region's last fault was off; None while one that was on is not."""
    found = [h.taken_off(order) for order in h.orders if order.region == region and h.put_on(order)]
    gone = [r for r in found if r is not None]
    return max(gone, key=lambda r: r.t, default=None) if len(gone) == len(found) else None


def _attempts(h: History, region: str) -> list[float]:
    return [r.t - r.fields["seconds"] for r in h.of_event("attempt", region=region)]


def _first_error(h: History, region: str, began: Record) -> Record | None:
    after = (r for r in h.of_event("attempt", region=region) if r.t - r.fields["seconds"] >= began.t)
    return next((r for r in after if r.fields["error_code"]), None)


def _detect(h: History, region: str, began: Record) -> Timing:
    title, samples = "fault on → breaker open", _attempts(h, region)
    moves = h.of_event("breaker-moved", region=region, new="open")
    opened = next((r for r in moves if r.seq > began.seq), None)
    if opened is not None:
        return _between("detect", title, region, began, opened, samples)
    error = _first_error(h, region, began)
    if error is None:
        return Timing(name="detect", title=title, region=region, seconds=None, note="no request failed")
    note = "the breaker stayed closed: to the first failed request"
    return _between("detect", "fault on → first error", region, began, error, samples, note=note)


def _divert(h: History, region: str, lane: str, began: Record) -> Timing:
    title = "first error → first answer without this region"
    inside = [o for o in h.during if o.lane == lane and o.began >= began.t]
    served = next((o for o in inside if o.ok and (not o.asked or o.region != region)), None)
    error = _first_error(h, region, began)
    if served is None or error is None:
        note = "no request failed" if error is None else f"no {lane} operation was served without it"
        return Timing(name="divert", title=title, region=region, lane=lane, seconds=None, note=note)
    how = f"answered by {served.region}" if served.asked else "from the cache"
    return _between("divert", title, region, error, served.record, _starts(inside), lane=lane, note=how)


def _undo(h: History, region: str, ended: Record | None) -> Timing:
    title = "decision → fault read back as gone"
    decided = h.first("phase-started", phase="restore")
    if ended is None:
        return Timing(name="undo", title=title, region=region, seconds=None, note="the fault was not removed")
    if decided is None or decided.t > ended.t:
        note = "the fault ended by itself, before the restore" if decided else "nobody decided: a healer removed it"
        return Timing(name="undo", title=title, region=region, seconds=None, note=note)
    return _between("undo", title, region, decided, ended, ())


def _closed(h: History, region: str, ended: Record | None) -> Timing:
    title = "fault off → breaker closed"
    moves = h.of_event("breaker-moved", region=region)
    if ended is None:
        return Timing(name="breaker-closed", title=title, region=region, seconds=None, note="the fault was not removed")
    if not any(r.fields["new"] == "open" for r in moves):
        return Timing(name="breaker-closed", title=title, region=region, seconds=None, note="it never opened")
    if moves[-1].fields["new"] != "closed":
        note = f"it was {moves[-1].fields['new']} in the end"
        return Timing(name="breaker-closed", title=title, region=region, seconds=None, note=note)
    return _between("breaker-closed", title, region, ended, moves[-1], _attempts(h, region))


def _home(h: History, region: str, lane: str, ended: Record | None) -> Timing:
    title = "fault off → the region serves the workload again"
    missed = partial(Timing, name="traffic-home", title=title, region=region, lane=lane, seconds=None)
    if ended is None:
        return missed(note="the fault was not removed")
    found = [o for o in h.operations if o.lane == lane and o.began >= ended.t]
    home = next((o for o in found if o.ok and o.asked and o.region == region), None)
    if home is None:
        return missed(note="no operation asked it again")
    return _between("traffic-home", title, region, ended, home.record, _starts(found), lane=lane)


def _steady(h: History) -> Timing:
    title = "fault off → every canary OK, for good"
    missed = partial(Timing, name="steady-state", title=title, region=h.target, seconds=None)
    if h.removed is None:
        return missed(note="the fault was not removed")
    back = steady_again(h)
    if back is None:
        return missed(note="it did not return")
    spacings = [_spacing(times, h.removed.t, back.t) for times in _looks(h)]
    longest = max((one for one in spacings if one is not None), default=None)  # None: each canary looked once
    return _between("steady-state", title, h.target, h.removed, back, (), error_seconds=longest)


def _looks(h: History) -> Iterator[list[float]]:
    for where in h.canaries:
        yield [look.began for look in h.looks if look.where == where]


def _keys(h: History, rules: Iterable[AlarmRule]) -> Iterator[alarm_states.Key]:
    for rule in rules:
        yield from ((rule.alarm, region, rule.mode) for region in rule.regions(h.targets, h.regions))


def _fired(h: History, key: alarm_states.Key, began: Record) -> Timing:
    return _alarm("alarm-fired", "fault on → {} fired", key, began, alarm_states.fired(h, key), "it did not fire")


def _cleared(h: History, key: alarm_states.Key) -> Timing:
    record = alarm_states.cleared(h, key)
    return _alarm("alarm-cleared", "fault off → {} cleared", key, h.removed, record, "it did not clear")


def _alarm(
    name: str, title: str, key: alarm_states.Key, since: Record | None, seen: Record | None, never: str
) -> Timing:
    alarm, region, _mode = key
    said = title.replace("{}", alarm)
    if since is None or seen is None:
        return Timing(name=name, title=said, region=region, seconds=None, note=never)
    return _between(name, said, region, since, seen, (), error_seconds=_read_late(seen))


def _read_late(seen: Record) -> float | None:
    """Return how long after CloudWatch's own change of state it was read; None when it does not say."""
    since = seen.fields.get("since_utc")
    return max(0.0, (seen.at_utc - datetime.fromisoformat(since)).total_seconds()) if since else None


def _starts(operations: Iterable[Operation]) -> list[float]:
    return [o.began for o in operations]


def _between(
    name: str,
    title: str,
    region: str,
    since: Record,
    until: Record,
    samples: Iterable[float],
    *,
    lane: str = "",
    note: str = "",
    error_seconds: float | None = None,
) -> Timing:
    spacing = error_seconds if error_seconds is not None else _spacing(samples, since.t, until.t)
    return Timing(
        name=name,
        title=title,
        region=region,
        lane=lane,
        seconds=round(max(0.0, until.t - since.t), 3),
        error_seconds=None if spacing is None else round(spacing, 3),
        note=note,
        evidence=(since.seq, until.seq),
    )


def _spacing(samples: Iterable[float], since: float, until: float) -> float | None:
    """Return the longest time between neighbouring samples from `since` to `until`, those around them included."""
    ordered = sorted(samples)
    first = max((number for number, t in enumerate(ordered) if t <= since), default=0)
    last = min((number for number, t in enumerate(ordered) if t >= until), default=len(ordered))
    gaps = [b - a for a, b in pairwise(ordered[first : last + 1])]
    return max(gaps, default=None)
