"""Halt all drills, and resume: writes the order that every drill looks for, at its start and while it runs."""

from __future__ import annotations

from pathlib import Path

from kms_chaos import durable
from kms_core.clock import Clock
from kms_watchdog.drills import halt_order, journal
from kms_watchdog.drills.halt_order import HaltOrder
from kms_watchdog.durable import make_folders, sync_folder


def engage(state_dir: Path, clock: Clock, *, by: str, reason: str) -> HaltOrder:
    """Halt all drills of the state folder until `resume`; on disk when this returns. Return the order in force.

    One that is in force already stays, whoever gave it; one that nobody can read is written anew.
    """
    try:
        known = halt_order.read(state_dir)
    except halt_order.HaltOrderError:
        known = None
    if known is not None:
        return known
    order = HaltOrder(by=by, at_utc=clock.now_utc(), reason=reason)
    path = halt_order.path(state_dir)
    make_folders(path.parent)
    sync_folder(state_dir)  # whoever made it may have died before it was on disk
    durable.write(path, journal.canonical(order.to_json()) + b"\n")
    return order


def resume(state_dir: Path, clock: Clock, *, by: str, reason: str) -> bool:
    """Let drills start again; return whether a halt was engaged.

    The order, with who ended it and why, is kept as STATE/drills/halt-ended.json, until the next one ends.
    """
    path = halt_order.path(state_dir)
    if not path.exists():
        return False
    try:
        order = halt_order.read(state_dir)
    except halt_order.HaltOrderError:
        order = None
    ended = {
        "schema": halt_order.SCHEMA,
        "halt": order.to_json() if order else None,
        "ended_by": by,
        "ended_at_utc": clock.now_utc().isoformat(),
        "reason": reason,
    }
    durable.write(path.with_name("halt-ended.json"), journal.canonical(ended) + b"\n")
    path.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True
