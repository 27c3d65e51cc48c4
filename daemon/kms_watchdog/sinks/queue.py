"""The durable queue between counting and sending: what CloudWatch did not take yet outlives outage and restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kms_core.clock import Clock
from kms_watchdog.sinks.datum import Datum
from kms_watchdog.sqlite_file import SqliteFile

MAX_ROWS = 200_000
"""Of one region: a day at 10 s periods, four at 60 s, in the Parker Flight estate; about 60 MB."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    id INTEGER PRIMARY KEY,
    region TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_region ON waiting (region, id);
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A datum in the queue of one region."""

    id: int
    datum: Datum
    size: int
    """Bytes, about what it takes in a request."""


class MetricQueue:
    """One queue a region, oldest first, in one SQLite file."""

    def __init__(self, path: Path, clock: Clock, *, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._file = SqliteFile(path, schema=_SCHEMA, version=1, clock=clock)

    def put(self, datums: Iterable[Datum], regions: Sequence[str]) -> dict[str, int]:
        """Add `datums` for each region; return how many of the oldest were dropped for it, by region."""
        rows = [(datum.period_start, datum.to_json()) for datum in datums]
        return self._file.call(lambda db: {region: self._put(db, region, rows) for region in regions})

    def oldest(self, region: str, limit: int) -> tuple[Waiting, ...]:
        """Return what has waited longest for `region`."""
        rows = self._file.call(
            lambda db: db.execute(
                "SELECT id, body FROM waiting WHERE region = ? ORDER BY id LIMIT ?", (region, limit)
            ).fetchall()
        )
        return tuple(Waiting(number, Datum.from_json(body), len(body)) for number, body in rows)

    def remove(self, ids: Iterable[int]) -> None:
        """Take datums out: sent, or given up."""
        rows = [(number,) for number in ids]
        self._file.call(lambda db: db.executemany("DELETE FROM waiting WHERE id = ?", rows).rowcount)

    def length(self, region: str) -> int:
        """Return how many datums wait for `region`."""
        return self._file.call(lambda db: _length(db, region))

    def close(self) -> None:
        """Close the file; what waits, waits for the next start."""
        self._file.close()

    def _put(self, db: sqlite3.Connection, region: str, rows: Sequence[tuple[int, str]]) -> int:
        db.executemany(
            "INSERT INTO waiting (region, period_start, body) VALUES (?, ?, ?)", [(region, *row) for row in rows]
        )
        excess = max(0, _length(db, region) - self._max_rows)
        db.execute(
            "DELETE FROM waiting WHERE id IN (SELECT id FROM waiting WHERE region = ? ORDER BY id LIMIT ?)",
            (region, excess),
        )
        return excess


def _length(db: sqlite3.Connection, region: str) -> int:
    (count,) = db.execute("SELECT count(*) FROM waiting WHERE region = ?", (region,)).fetchone()
    return int(count)
