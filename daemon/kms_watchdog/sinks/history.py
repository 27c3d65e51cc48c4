"""What happened lately: the last results of each canary in memory, all of some days in SQLite.

Failures have rings of their own, live and drill apart, so that a flood of others does not wash them out.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path

import structlog

from kms_core.clock import Clock
from kms_watchdog.health import Subject
from kms_watchdog.results import CanaryResult, Mode, Outcome
from kms_watchdog.sqlite_file import SqliteFile

log = structlog.get_logger("history")

TICKS = 60
"""Results of each canary on the status page."""
FAILURES = 50
KEEP = timedelta(days=14)
MAX_ROWS = 1_000_000  # some 200 MB; bounds what a short interval can write
_TRIM_EVERY = 500  # writes

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    id INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    canary TEXT NOT NULL,
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    mode TEXT NOT NULL,
    outcome TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_time ON results (started_at);
CREATE INDEX IF NOT EXISTS by_outcome ON results (outcome, id) WHERE outcome != 'OK';
"""


class HistorySink:
    """Keeps results; any thread may call any method, and reading never waits for the disk."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._file = SqliteFile(path, schema=_SCHEMA, version=1, clock=clock)
        self._lock = threading.Lock()
        self._ticks: dict[Subject, deque[CanaryResult]] = {}
        self._failures: dict[Mode, deque[CanaryResult]] = {mode: deque(maxlen=FAILURES) for mode in Mode}
        self._writes = 0
        self._failing = False
        for result in self._file.call(_recent):
            self._tick(result)
        for mode, failures in self._failures.items():
            failures.extend(self._file.call(functools.partial(_last_failures, mode=mode)))

    def write(self, result: CanaryResult) -> None:
        """Keep one result."""
        with self._lock:
            self._remember(result)
            self._writes += 1
            trim = self._writes % _TRIM_EVERY == 0
        self._submit(functools.partial(_insert, result=result))
        if trim:
            oldest = (self._clock.now_utc() - KEEP).timestamp()
            self._submit(functools.partial(_trim, oldest=oldest))

    def ticks(self) -> dict[Subject, tuple[CanaryResult, ...]]:
        """Return the last live results by canary, oldest first."""
        with self._lock:
            return {subject: tuple(results) for subject, results in self._ticks.items()}

    def failures(self) -> tuple[CanaryResult, ...]:
        """Return the last results that were not OK, live and drill, newest first."""
        with self._lock:
            kept = [result for failures in self._failures.values() for result in failures]
        return tuple(sorted(kept, key=lambda result: result.started_at_utc, reverse=True))

    def close(self) -> None:
        """Write what is waiting and close the file."""
        self._file.close()

    def _submit(self, work: Callable[[sqlite3.Connection], None]) -> None:
        self._file.submit(work).add_done_callback(self._written)

    def _written(self, done: Future[None]) -> None:
        """Say when writing begins to fail, and when it works again; the page lives from memory meanwhile."""
        error = done.exception()
        was_failing, self._failing = self._failing, error is not None
        if error is not None and not was_failing:
            log.error("history.failed", error=str(error))
        elif error is None and was_failing:
            log.info("history.recovered")

    def _remember(self, result: CanaryResult) -> None:
        if result.outcome is not Outcome.OK:
            self._failures[result.mode].append(result)
        self._tick(result)

    def _tick(self, result: CanaryResult) -> None:
        if result.mode is Mode.LIVE:
            subject = Subject(result.canary, result.region, result.key)
            self._ticks.setdefault(subject, deque(maxlen=TICKS)).append(result)


def _insert(db: sqlite3.Connection, result: CanaryResult) -> None:
    db.execute(
        "INSERT INTO results (started_at, canary, region, key, mode, outcome, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            result.started_at_utc.timestamp(),
            result.canary,
            result.region,
            result.key,
            str(result.mode),
            str(result.outcome),
            json.dumps(result.to_json(), separators=(",", ":")),
        ),
    )


def _trim(db: sqlite3.Connection, oldest: float) -> None:
    db.execute("DELETE FROM results WHERE started_at < ?", (oldest,))
    db.execute("DELETE FROM results WHERE id <= (SELECT max(id) FROM results) - ?", (MAX_ROWS,))


def _recent(db: sqlite3.Connection) -> list[CanaryResult]:
    rows = db.execute("SELECT body FROM results ORDER BY id DESC LIMIT 2000").fetchall()
    return [CanaryResult.from_json(json.loads(body)) for (body,) in reversed(rows)]


def _last_failures(db: sqlite3.Connection, mode: Mode) -> list[CanaryResult]:
    rows = db.execute(
        "SELECT body FROM results WHERE outcome != 'OK' AND mode = ? ORDER BY id DESC LIMIT ?", (str(mode), FAILURES)
    ).fetchall()
    return [CanaryResult.from_json(json.loads(body)) for (body,) in reversed(rows)]
