"""The score: of all that drills could prove about an estate, how much was proven lately. Pure.

A cell is a drill (with the kinds of its faults), a region that it hits, and a key; and an alarm in a region. A cell
counts 1 when a run that HELD covers it and ended within the window, else 0: never run, expired, INCONCLUSIVE and BROKE
are all 0, and the denominator is what was declared, not what was tried.

Beside it stands how many of the table's alarms were seen to fire lately, by a drill or by `kms-alarms prove`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from kms_chaos.alarm_sights import AlarmSight, coverage, of_proof
from kms_chaos.drill import Drill
from kms_chaos.proofs import Doubt, Proof
from kms_watchdog.alarm_proofs import AlarmProof
from kms_watchdog.drills.verdict import Verdict

SCHEMA = 1
WINDOW = timedelta(days=35)
"""A month and some days: a monthly drill that is made up within its window has not expired."""
TREND_MONTHS = 12
TREND = timedelta(days=31 * TREND_MONTHS)
"""What the trend goes back at the most."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One thing that can be proven."""

    kind: str
    """`fault` or `alarm`."""
    name: str
    """The drill's name, or the alarm's."""
    region: str
    purpose: str = ""
    """The key; empty for an alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """All that an estate has undertaken to prove."""

    cells: tuple[Cell, ...]
    faults: dict[str, tuple[str, ...]]
    """The kinds of faults of each drill, by its name."""


class State(StrEnum):
    """How a cell stands."""

    PROVEN = "proven"
    EXPIRED = "expired"  # it held, too long ago
    BROKE = "broke"  # the last run that covers it did not hold, later than any that did
    INCONCLUSIVE = "inconclusive"
    NEVER = "never run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One cell, and how it stands."""

    cell: Cell
    state: State
    days: float | None
    """Since it was last proven; None: never."""
    run_id: str
    """The run that the state rests on; empty when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How an estate stands at one instant."""

    at_utc: datetime
    window: timedelta
    standings: tuple[Standing, ...]
    faults: dict[str, tuple[str, ...]]
    trend: tuple[tuple[str, float | None], ...]
    """Month, and the share of cells that were proven at its end; None before the first run."""
    doubts: tuple[Doubt, ...]
    alarms: tuple[AlarmSight, ...] = ()
    """Every alarm of the table, in each system, live and as a twin."""

    @property
    def alarms_seen(self) -> int:
        """How many of the table's alarms were seen to fire within the window."""
        return sum(sight.lately for sight in self.alarms)

    @property
    def proven(self) -> int:
        """How many cells were proven in time."""
        return sum(s.state is State.PROVEN for s in self.standings)

    @property
    def share(self) -> float | None:
        """Proven of declared, 0 to 1; None when nothing was declared."""
        return self.proven / len(self.standings) if self.standings else None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "schema": SCHEMA,
            "at_utc": self.at_utc.isoformat(),
            "window_days": self.window / timedelta(days=1),
            "declared": len(self.standings),
            "proven": self.proven,
            "score": self.share,
            "cells": [
                {
                    "kind": s.cell.kind,
                    "name": s.cell.name,
                    "faults": list(self.faults.get(s.cell.name, ())) if s.cell.kind == "fault" else [],
                    "region": s.cell.region,
                    "purpose": s.cell.purpose,
                    "state": str(s.state),
                    "days": s.days,
                    "run_id": s.run_id,
                }
                for s in self.standings
            ],
            "trend": [{"month": month, "score": share} for month, share in self.trend],
            "alarms_declared": len(self.alarms),
            "alarms_seen": self.alarms_seen,
            "alarms": [sight.to_json() for sight in self.alarms],
            "not_counted": [{"run_id": doubt.run_id, "why": doubt.why} for doubt in self.doubts],
        }


def declared(drills: Iterable[Drill], *, regions: Sequence[str], purposes: Sequence[str]) -> Declared:
    """Return what `drills` can prove of an estate: each in every region, for every key that it uses; and its alarms."""
    cells: set[Cell] = set()
    faults = {}
    for drill in drills:
        faults[drill.name] = tuple(dict.fromkeys(str(getattr(fault, "kind", "fault")) for fault in drill.faults))
        keys = [p for p in purposes if p in drill.workload.purposes] if drill.workload.purposes else list(purposes)
        cells.update(Cell("fault", drill.name, region, purpose) for region in regions for purpose in keys)
        cells.update(
            Cell("alarm", rule.alarm, region)
            for rule in drill.alarms.must_fire
            for region in _alarm_regions(rule.region, regions)
        )
    return Declared(cells=tuple(sorted(cells)), faults=faults)


def _alarm_regions(region: str, regions: Sequence[str]) -> Sequence[str]:
    """Return where an alarm of a drill can be proven: `target` may be any region, by and by."""
    return regions if region in {"target", "others", "all"} else (region,)


def score(
    wanted: Declared,
    proofs: Sequence[Proof],
    doubts: Sequence[Doubt],
    *,
    at_utc: datetime,
    window: timedelta = WINDOW,
    alarm_proofs: Sequence[AlarmProof] = (),
) -> Score:
    """Return how the estate stands at `at_utc`; runs that ended later are not seen."""
    sightings = (
        *(sighting for proof in proofs if proof.ended_at_utc <= at_utc for sighting in proof.sightings),
        *(sighting for proof in alarm_proofs for sighting in of_proof(proof)),
    )
    return Score(
        at_utc=at_utc,
        window=window,
        standings=tuple(_standing(cell, proofs, at_utc, window) for cell in wanted.cells),
        faults=wanted.faults,
        trend=tuple(_trend(wanted, proofs, at_utc, window)),
        doubts=tuple(doubts),
        alarms=coverage(sightings, at_utc=at_utc, window=window),
    )


def _standing(cell: Cell, proofs: Sequence[Proof], at_utc: datetime, window: timedelta) -> Standing:
    covering = sorted(
        (p for p in proofs if p.ended_at_utc <= at_utc and _covers(p, cell)), key=lambda p: p.ended_at_utc
    )
    held = [p for p in covering if p.verdict is Verdict.HELD]
    if not covering:
        return Standing(cell=cell, state=State.NEVER, days=None, run_id="")
    age = at_utc - held[-1].ended_at_utc if held else None
    days = round(age / timedelta(days=1), 2) if age is not None else None
    last = covering[-1]
    if last.verdict is Verdict.BROKE:  # what broke since is broken, whatever held before
        return Standing(cell=cell, state=State.BROKE, days=days, run_id=last.run_id)
    if age is None:
        return Standing(cell=cell, state=State.INCONCLUSIVE, days=None, run_id=last.run_id)
    state = State.PROVEN if age <= window else State.EXPIRED
    return Standing(cell=cell, state=state, days=days, run_id=held[-1].run_id)


def _covers(proof: Proof, cell: Cell) -> bool:
    if cell.kind == "alarm":
        return (cell.name, cell.region) in proof.alarms
    return proof.drill.name == cell.name and cell.region in proof.hurt and cell.purpose in proof.purposes


def _trend(
    wanted: Declared, proofs: Sequence[Proof], at_utc: datetime, window: timedelta
) -> Iterator[tuple[str, float | None]]:
    """Yield the last twelve months, the oldest first; the current one as it stands now."""
    first = min((p.ended_at_utc for p in proofs), default=None)
    for back in range(TREND_MONTHS - 1, -1, -1):
        began = _month(at_utc, back)
        at = min(at_utc, _month(at_utc, back - 1))
        if first is None or first > at or not wanted.cells:
            yield f"{began:%Y-%m}", None
            continue
        found = (_standing(cell, proofs, at, window).state is State.PROVEN for cell in wanted.cells)
        yield f"{began:%Y-%m}", round(sum(found) / len(wanted.cells), 4)


def _month(at_utc: datetime, back: int) -> datetime:
    """Return the first instant of the month that is `back` months before that of `at_utc`."""
    months = at_utc.year * 12 + at_utc.month - 1 - back
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
