"""The ledger of scheduled drills on disk: every change is synced before anything is started (scale.md §3.1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from kms_core.clock import Clock
from kms_watchdog.drills.slots import Row, Slot, SlotState
from kms_watchdog.sqlite_file import SqliteFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS slot (
    id TEXT PRIMARY KEY,
    due_at REAL NOT NULL,
    state TEXT NOT NULL,
    run_id TEXT NOT NULL,
    note TEXT NOT NULL,
    changed_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS plan (
    name TEXT PRIMARY KEY,
    since REAL NOT NULL
);
"""
_COLUMNS = "id, due_at, state, run_id, note, changed_at"


class SlotLedger:
    """Slots and what became of them; kept for ever, a few hundred bytes a month."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open or make the file.

        Raises:
            StateError: it cannot be used.
        """
        self._clock = clock
        self._file = SqliteFile(path, schema=_SCHEMA, version=1, clock=clock, durable=True)

    def planned_since(self, names: Iterable[str]) -> dict[str, datetime]:
        """Return since when each plan has been planned, from now on for a new one; forget the others."""
        wanted, now = list(names), self._clock.now_utc().timestamp()

        def note(db: sqlite3.Connection) -> dict[str, datetime]:
            known = dict(db.execute("SELECT name, since FROM plan").fetchall())
            db.executemany("DELETE FROM plan WHERE name = ?", [(name,) for name in known if name not in wanted])
            db.executemany("INSERT OR IGNORE INTO plan VALUES (?, ?)", [(name, now) for name in wanted])
            return {name: _utc(known.get(name, now)) for name in wanted}

        return self._file.call(note)

    def rows(self) -> tuple[Row, ...]:
        """Return all rows, in the order in which they were due."""
        found = self._file.call(lambda db: db.execute(f"SELECT {_COLUMNS} FROM slot ORDER BY due_at, id").fetchall())  # noqa: S608 - a constant
        return tuple(
            Row(
                id=name,
                due_utc=_utc(due_at),
                state=SlotState(state),
                run_id=run_id,
                note=note,
                changed_at_utc=_utc(changed_at),
            )
            for name, due_at, state, run_id, note, changed_at in found
        )

    def claim(self, slot: Slot, run_id: str) -> bool:
        """Claim a slot for a run, on disk before this returns; return whether it was ours to claim."""
        return self._write(slot, SlotState.CLAIMED, run_id, "", only_from=(SlotState.REFUSED, SlotState.ABORTED))

    def miss(self, slot: Slot) -> bool:
        """Write a slot down as missed; return whether that is news."""
        return self._write(slot, SlotState.MISSED, "", "", only_from=(SlotState.REFUSED,))

    def credit(self, slot: Slot, run_id: str, note: str) -> bool:
        """Write a slot down as another machine's; return whether that is news."""
        states = (SlotState.REFUSED, SlotState.MISSED)
        return self._write(slot, SlotState.ELSEWHERE, run_id, note, only_from=states)

    def settle(self, row: Row, state: SlotState, note: str) -> None:
        """Write down what became of a run."""
        values = (str(state), note, self._now(), row.id, row.run_id)
        self._file.call(
            lambda db: (
                db.execute(
                    "UPDATE slot SET state = ?, note = ?, changed_at = ? WHERE id = ? AND run_id = ?", values
                ).rowcount
            )
        )

    def forget(self, row: Row) -> None:
        """Strike a slot out."""
        self._file.call(lambda db: db.execute("DELETE FROM slot WHERE id = ?", (row.id,)).rowcount)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, slot: Slot, state: SlotState, run_id: str, note: str, *, only_from: tuple[SlotState, ...]) -> bool:
        values = (slot.id, slot.due_utc.timestamp(), str(state), run_id, note, self._now())
        marks = ", ".join("?" * len(only_from))

        def write(db: sqlite3.Connection) -> bool:
            changed = db.execute(
                f"INSERT INTO slot ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "  # noqa: S608 - constants
                "state = excluded.state, run_id = excluded.run_id, note = excluded.note, "
                f"changed_at = excluded.changed_at WHERE state IN ({marks})",
                (*values, *map(str, only_from)),
            ).rowcount
            return changed == 1

        return self._file.call(write)

    def _now(self) -> float:
        return self._clock.now_utc().timestamp()


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
