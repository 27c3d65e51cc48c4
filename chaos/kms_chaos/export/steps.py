"""What was done to a system, step by step, as a journal tells it: touched, and undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kms_chaos.judging.history import History, fault_id

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was done."""

    t: float
    """Seconds since the drill began."""
    what: str
    detail: str
    seq: int
    """The journal's line."""
    bad: bool = False
    """Whether it shows that something was left behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """One thing that the undo record names: it was on disk before anything was broken."""

    name: str
    region: str
    way: str
    """From where to where it led."""
    toxics: tuple[str, ...]
    undone: str
    """How it was seen to be as it was; empty: nobody saw it."""


def steps(h: History) -> tuple[Step, ...]:
    """Return the steps in order."""
    return tuple(_steps(h))


def _steps(h: History) -> Iterator[Step]:
    for record in h.records:
        if tell := _TELLERS.get(record.event):
            what, detail, bad = tell(record.fields)
            yield Step(t=record.t, what=what, detail=detail, seq=record.seq, bad=bad)


def touched(h: History) -> tuple[Touched, ...]:
    """Return what the last undo record names, and how each was undone; nothing when nothing was going to be touched."""
    recorded = h.of_event("undo-recorded")
    return tuple(_touched(h, recorded[-1].fields["undo"])) if recorded else ()


def _touched(h: History, undo: Fields) -> Iterator[Touched]:
    verified = h.of_event("restore-verified")
    left = set(verified[-1].fields["proxies_left"]) if verified else set()
    for proxy in undo.get("proxies", ()):
        name = str(proxy["name"])
        gone = bool(verified) and name not in left
        how = "deleted" if proxy.get("made_by_drill", True) else "as it was"
        yield Touched(
            name=name,
            region=str(proxy.get("region", "")),
            way=" → ".join(str(proxy[end]) for end in ("listen", "upstream") if end in proxy),
            toxics=tuple(map(str, proxy.get("toxics", ()))),
            undone=f"{how}, read back in line {verified[-1].seq}" if gone else "",
        )


def _undo_recorded(f: Fields) -> tuple[str, str, bool]:
    names = ", ".join(str(proxy["name"]) for proxy in f["undo"].get("proxies", ()))
    return "Undo record on disk", f"until {f['undo']['expires_at_utc']}: {names}", False


def _injected(f: Fields) -> tuple[str, str, bool]:
    toxics = ", ".join(f"{t['type']} on {t['stream']} ({_numbers(t['attributes'])})" for t in f.get("toxics", ()))
    where = f"{f['region']} through {f['proxy']}" if f.get("proxy") else str(f["region"])
    return f"Fault on: {f['fault']}", f"{where}: {toxics or _rest(f)}", False


def _numbers(attributes: Fields) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(attributes.items()))


def _removed(f: Fields) -> tuple[str, str, bool]:
    left = ", ".join(map(str, f.get("toxics_left") or ()))
    where = f"{f['region']} through {f['proxy']}" if f.get("proxy") else str(f["region"])
    said = f"; other toxics still there: {left}" if left else ""
    return f"Fault off, read back: {f.get('fault', 'found there')}", f"{where}, by the {f['by']}{said}", False


def _rest(f: Fields) -> str:
    """Return what a fault that needs no toxics shows of itself."""
    known = {"fault", "fault_id", "region", "bite", "proxy", "toxics"}
    return ", ".join(f"{name} {value}" for name, value in sorted(f.items()) if name not in known) or "no toxics"


def _verified(f: Fields) -> tuple[str, str, bool]:
    left = ", ".join(map(str, f["proxies_left"]))
    what = "Restore failed" if left else "Restore verified"
    return what, f"{left or 'nothing'} left on the server, by the {f['by']}: {f.get('finding', '')}", bool(left)


def _interrupted(f: Fields) -> tuple[str, str, bool]:
    return "Cut short", str(f["reason"]), False


def _healed(f: Fields) -> tuple[str, str, bool]:
    return "Healed", f"{f['reason']}: {', '.join(map(str, f['proxies'])) or 'nothing was left'}", False


def _cold_start(f: Fields) -> tuple[str, str, bool]:
    came = f"served {len(f['purposes'])} keys" if f["ok"] else f"failed: {f['error']}"
    return "A new core started", f"{came} after {f['seconds']:.2f} s", False


def _watchdog_started(f: Fields) -> tuple[str, str, bool]:
    return "A watchdog of the drill's own started", f"process {f['pid']}", False


def _watchdog_killed(f: Fields) -> tuple[str, str, bool]:
    return "The drill's own watchdog killed", f"process {f['pid']}, exit code {f['code']}", False


def _watchdog_ended(f: Fields) -> tuple[str, str, bool]:
    return "The drill's own watchdog ended", f"process {f['pid']}, exit code {f['code']}", False


_TELLERS: Mapping[str, Callable[[Fields], tuple[str, str, bool]]] = {
    "undo-recorded": _undo_recorded,
    "fault-injected": _injected,
    "fault-removed": _removed,
    "restore-verified": _verified,
    "interrupted": _interrupted,
    "healed": _healed,
    "cold-start": _cold_start,
    "watchdog-started": _watchdog_started,
    "watchdog-killed": _watchdog_killed,
    "watchdog-ended": _watchdog_ended,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shade:
    """One fault, and when it was on for certain."""

    fault: str
    region: str
    began: float
    ended: float
    """Where nobody took it off: the end of the journal."""
    lifted: bool


def shades(h: History) -> tuple[Shade, ...]:
    """Return every fault that was on, in the order of the drill file."""
    return tuple(_ordered(h)) or tuple(_unordered(h))


def _ordered(h: History) -> Iterator[Shade]:
    for order in h.orders:
        if window := h.window(order):
            lifted = h.taken_off(order) is not None
            ended = window[1] if lifted else h.records[-1].t
            yield Shade(fault=order.kind, region=order.region, began=window[0], ended=ended, lifted=lifted)


def _unordered(h: History) -> Iterator[Shade]:
    """Yield faults that no drill file ordered, as when another tool conducts."""
    for r in h.of_event("fault-injected"):
        off = next((o for o in h.of_event("fault-removed") if o.seq > r.seq and fault_id(o) == fault_id(r)), None)
        ended = off.t if off else h.records[-1].t
        yield Shade(
            fault=str(r.fields["fault"]), region=str(r.fields["region"]), began=r.t, ended=ended, lifted=bool(off)
        )
