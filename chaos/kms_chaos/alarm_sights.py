"""When each alarm of the table was last seen to fire and to clear: by a drill, or by a proof. Pure.

Every row counts, in both systems, live and as a drill's twin: an alarm that nobody has seen fire is a rumour. A drill
sees CloudWatch's alarms fire by what they read; a proof sees that a live one reaches a subscriber. Nothing here sees
Prometheus's alerts fire, so they are `never` until something records it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from kms_alarms.parts import Alarm, NoneBecause
from kms_alarms.table import ALARMS
from kms_watchdog.alarm_proofs import CLOUDWATCH, AlarmProof
from kms_watchdog.drills.journal import Journal
from kms_watchdog.drills.runs import moved_after
from kms_watchdog.results import Mode
from kms_watchdog.sinks.sink import AlarmMoved

System = Literal["prometheus", "cloudwatch"]
SYSTEMS: tuple[System, ...] = ("prometheus", "cloudwatch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Somebody saw an alarm fire once."""

    alarm: str
    """The table's row."""
    system: str
    mode: str
    fired_at_utc: datetime
    cleared_at_utc: datetime | None
    """None: that was not seen."""
    run_id: str
    """The drill's or the proof's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSight:
    """One alarm of the table in one system, and when it was last seen to fire."""

    alarm: str
    system: System
    mode: Mode
    last: Sighting | None
    """None: never."""
    days: float | None
    """Since it fired."""
    lately: bool
    """Whether that is within the window."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        last = self.last
        return {
            "alarm": self.alarm,
            "system": self.system,
            "mode": str(self.mode),
            "fired_at_utc": last.fired_at_utc.isoformat() if last else None,
            "cleared_at_utc": last.cleared_at_utc.isoformat() if last and last.cleared_at_utc else None,
            "by": last.run_id if last else "",
            "days": self.days,
            "lately": self.lately,
        }


def of_drill(run_id: str, journal: Journal) -> tuple[Sighting, ...]:
    """Return the alarms that a drill's journal saw fire, live ones too."""
    moved: dict[tuple[str, str, str], AlarmMoved] = {}
    for record in journal.records:
        if record.event == "alarm-state":
            key = (str(record.fields["alarm"]), str(record.fields["mode"]), str(record.fields["region"]))
            if after := moved_after(moved.get(key), record):
                moved[key] = after
    return tuple(
        Sighting(
            alarm=alarm,
            system=CLOUDWATCH,
            mode=mode,
            fired_at_utc=datetime.fromtimestamp(seen.fired_at, UTC),
            cleared_at_utc=None if seen.cleared_at is None else datetime.fromtimestamp(seen.cleared_at, UTC),
            run_id=run_id,
        )
        for (alarm, mode, _), seen in moved.items()
    )


def of_proof(proof: AlarmProof) -> Iterator[Sighting]:
    """Yield what a proof has seen: nothing, when no subscriber was told."""
    if proof.told_at_utc is not None:
        yield Sighting(
            alarm=proof.alarm,
            system=proof.system,
            mode=str(Mode.LIVE),
            fired_at_utc=proof.fired_at_utc,
            cleared_at_utc=proof.restored_at_utc,
            run_id=proof.run_id,
        )


def coverage(sightings: Iterable[Sighting], *, at_utc: datetime, window: timedelta) -> tuple[AlarmSight, ...]:
    """Return how every alarm of the table stands at `at_utc`; what fired later is not seen."""
    newest: dict[tuple[str, str, str], Sighting] = {}
    for one in sorted(sightings, key=lambda sighting: sighting.fired_at_utc):
        if one.fired_at_utc <= at_utc:
            newest[one.alarm, one.system, one.mode] = one
    return tuple(
        _sight(row, system, mode, newest.get((row.name, system, str(mode))), at_utc, window)
        for row in ALARMS
        for system in SYSTEMS
        if not isinstance(row.prometheus if system == "prometheus" else row.cloudwatch, NoneBecause)
        for mode in row.modes
    )


def _sight(
    row: Alarm, system: System, mode: Mode, last: Sighting | None, at_utc: datetime, window: timedelta
) -> AlarmSight:
    age = at_utc - last.fired_at_utc if last else None
    return AlarmSight(
        alarm=row.name,
        system=system,
        mode=mode,
        last=last,
        days=None if age is None else round(age / timedelta(days=1), 2),
        lately=age is not None and age <= window,
    )
