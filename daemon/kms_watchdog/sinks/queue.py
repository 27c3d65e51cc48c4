"""The durable queue between counting and sending: what CloudWatch did not take yet outlives outage and restart."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kms_core.clock import Clock
from kms_watchdog.sinks.datum import Datum
from kms_watchdog.sqlite_file import SqliteFile

MAX_ROWS = 200_000
"""Of one region: a day at 10 s periods, four at 60 s, in the Parker Flight estate; about 60 MB."""

WAIT_SECONDS = 10.0
T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    id INTEGER PRIMARY KEY,
    region TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_region ON waiting (region, id);
"""


class QueueUnavailableError(Exception):
    """The queue's file cannot be written or read now, as on a full disk: nothing was changed, try again later."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A datum in the queue of one region."""

    id: int
    datum: Datum
    size: int
    """Bytes, about what it takes in a request."""


class MetricQueue:
    """One queue a region, oldest first, in one SQLite file. All but `close` raise `QueueUnavailableError`."""

    def __init__(self, path: Path, clock: Clock, *, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._file = SqliteFile(path, schema=_SCHEMA, version=1, clock=clock)
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._gone: set[int] = set()
        """Taken out by who sent them, yet still in the file, which could not be written: nobody may have them again."""

    @contextmanager
    def turn(self, region: str) -> Iterator[bool]:
        """Hold the turn to send what waits for `region`; give whether it was free: two senders would send all twice.

        Two there are after a reload, and at exit, while a slow request of the one before is under way.
        """
        with self._lock:
            turn = self._turns.setdefault(region, threading.Lock())
        mine = turn.acquire(blocking=False)
        try:
            yield mine
        finally:
            if mine:
                turn.release()

    def put(self, datums: Iterable[Datum], regions: Sequence[str]) -> dict[str, int]:
        """Add `datums` for each region; return how many of the oldest were dropped for it, by region."""
        rows = [(datum.period_start, datum.to_json()) for datum in datums]
        return self._call(lambda db: {region: self._put(db, region, rows) for region in regions})

    def oldest(self, region: str, limit: int) -> tuple[Waiting, ...]:
        """Return what has waited longest for `region`; nothing before all that was taken out is out of the file too."""
        if self._gone:
            self.remove(())
        rows = self._call(
            lambda db: db.execute(
                "SELECT id, body FROM waiting WHERE region = ? ORDER BY id LIMIT ?", (region, limit)
            ).fetchall()
        )
        return tuple(Waiting(number, Datum.from_json(body), len(body)) for number, body in rows)

    def remove(self, ids: Iterable[int]) -> None:
        """Take datums out, which were sent or given up: none of them is given to anybody again, even if this raises."""
        with self._lock:
            self._gone.update(ids)
            gone = tuple(self._gone)
        self._delete(gone)
        with self._lock:
            self._gone.difference_update(gone)

    def length(self, region: str) -> int:
        """Return how many datums wait for `region`."""
        return self._call(lambda db: _length(db, region))

    def close(self) -> None:
        """Close the file; what waits, waits for the next start."""
        self._file.close()

    def _delete(self, ids: Iterable[int]) -> None:
        rows = [(number,) for number in ids]
        self._call(lambda db: db.executemany("DELETE FROM waiting WHERE id = ?", rows).rowcount)

    def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` wholly or, as far as the caller can know, not at all: datums put twice would be counted twice."""
        try:
            done = self._file.submit(work)
            try:
                return done.result(WAIT_SECONDS)
            except TimeoutError:
                if done.cancel():
                    raise
                return done.result()  # it has begun: its end alone tells what became of it
        except (sqlite3.Error, TimeoutError, queue.Full) as e:
            raise QueueUnavailableError(str(e) or type(e).__name__) from e

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
