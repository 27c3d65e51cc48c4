"""What a run's journal has said so far, record by record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kms_watchdog.drills.journal import Record
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.sinks.sink import AlarmMoved, DrillChange


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What a run's journal has said so far."""

    run_id: str
    drill: str = ""
    region: str = ""
    started_at_utc: datetime | None = None
    ended_at_utc: datetime | None = None
    phase: str = ""
    restored: bool = False
    """Whether somebody has verified that its faults are gone."""
    healed_by_reason: str = ""
    """Why a healer had to; empty when none did."""
    verdict: Verdict | None = None
    closed: bool = False
    broken: str = ""
    """Why the journal is not believed; empty when it is."""
    slot: str = ""
    """The turn of a schedule that it filled; empty: somebody began it by hand."""
    host: str = ""
    """The name of the machine that ran it."""
    elsewhere: bool = False
    """Whether another machine ran it, and the evidence store told of it."""
    abandoned: bool = False
    """Whether its owner died before it was going to break anything."""
    orphaned: bool = False
    """Whether it was seen without an owner, or past its time, before anybody closed it."""
    figures: Mapping[str, float | None] = field(default_factory=dict)
    """What its judge measured, by names with the unit in them."""
    alarms: Mapping[str, AlarmMoved] = field(default_factory=dict)
    """Those it saw fire, by CloudWatch's name."""

    @property
    def ended(self) -> bool:
        """Whether its journal says no more that counts."""
        return self.closed or self.abandoned or bool(self.broken)

    @property
    def active(self) -> bool:
        """Whether it began and nobody has closed it."""
        return self.started_at_utc is not None and not self.ended


def view_after(view: RunView, record: Record) -> RunView:
    """Return the view after one more record. Pure.

    Raises:
        KeyError, ValueError: the record lacks what its event promises.
    """
    fields = record.fields
    changes: dict[str, Any] = {}
    match record.event:
        case "run-started":
            changes = {
                "drill": str(fields["drill"]),
                "region": str(fields["region"]),
                "slot": str(fields.get("slot") or ""),
                "host": str((fields.get("owner") or {}).get("host") or ""),
                "started_at_utc": record.at_utc,
            }
        case "phase-started":
            changes = {"phase": str(fields["phase"])}
        case "fault-injected":
            changes = {"restored": False}
        case "restore-verified":
            changes = {"restored": True}
        case "healed":
            changes = {"healed_by_reason": str(fields["reason"])}
        case "alarm-state":
            changes = {"alarms": _alarms_after(view.alarms, record)}
        case "verdict":
            changes = {"verdict": Verdict(fields["verdict"]), "figures": dict(fields.get("figures") or {})}
        case "closed":
            verdict = Verdict(fields["verdict"]) if fields.get("verdict") else None
            changes = {"closed": True, "ended_at_utc": record.at_utc, "verdict": verdict or view.verdict}
        case _:
            return view  # most records: what happened to one operation
    return replace(view, **changes)


def _alarms_after(alarms: Mapping[str, AlarmMoved], record: Record) -> Mapping[str, AlarmMoved]:
    """Return when alarms fired and cleared, by CloudWatch's name, after one more reading."""
    name = str(record.fields["name"])
    moved = moved_after(alarms.get(name), record)
    return alarms if moved is None else {**alarms, name: moved}


def moved_after(before: AlarmMoved | None, record: Record) -> AlarmMoved | None:
    """Return when an alarm fired and cleared, by CloudWatch's own time, after one more `alarm-state`. Pure.

    None: it has not fired.
    """
    since = record.fields.get("since_utc")
    at = (datetime.fromisoformat(since) if since else record.at_utc).timestamp()
    match record.fields["state"]:
        case "ALARM":
            return AlarmMoved(fired_at=at)
        case "OK" if before is not None and before.cleared_at is None:
            return replace(before, cleared_at=at)
        case _:
            return before


def drill_change(view: RunView, *, active: bool, at_utc: datetime | None) -> DrillChange:
    """Return the beginning or the end of the run in `view`."""
    if at_utc is None:
        raise ValueError("a drill that never began does not change")
    return DrillChange(
        run_id=view.run_id,
        drill=view.drill,
        region=view.region,
        active=active,
        verdict=None if active else view.verdict,
        at_utc=at_utc,
        detection_seconds=view.figures.get("detect_seconds"),
        recovery_seconds=view.figures.get("recover_seconds"),
        alarms=view.alarms,
        elsewhere=view.elsewhere,
    )
