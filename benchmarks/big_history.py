"""A daemon's history of a given size, as a long outage of many canaries leaves it: in the tables of the product."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from kms_core.clock import SystemClock
from kms_watchdog.history import tables

_ROWS_AT_ONCE = 100_000
_SPAN_SECONDS = 13 * 86_400.0
"""Inside what is kept, so that no trim makes it smaller."""
_HOURS = 2_300
_CANARIES_AT_ONCE = 50
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)"


def make(path: Path, size_bytes: int) -> None:
    """Write failed looks, at most as many as a history keeps, and sums by the hour for the rest of the size."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")
        db.executescript(tables.SCHEMA)
        db.execute(f"PRAGMA user_version={tables.VERSION:d}")
        rows = canaries = 0
        while _size(db, path) < size_bytes:
            if rows < tables.MAX_ROWS - _ROWS_AT_ONCE:
                _add_looks(db, rows)
                rows += _ROWS_AT_ONCE
            else:
                _add_hours(db, canaries)
                canaries += _CANARIES_AT_ONCE


def _size(db: sqlite3.Connection, path: Path) -> int:
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def _add_looks(db: sqlite3.Connection, after: int) -> None:
    now = SystemClock().now_utc()
    body = {
        "canary": "round_trip",
        "region": "us-east-1",
        "key": "general",
        "mode": "live",
        "outcome": "FAILED",
        "reason": "timeout",
        "error_code": "ReadTimeout",
        "request_id": "0" * 36,
        "started_at_utc": now.isoformat(),
        "duration_seconds": 8.000123,
        "steps": {"seal": 4.000061, "open": 4.000062},
        "facts": {},
        "detail": "no answer within the deadline of the look",
        "run_id": "",
    }
    step = _SPAN_SECONDS / tables.MAX_ROWS
    db.execute(
        f"{_NUMBERS} INSERT INTO results (started_at, canary, region, key, mode, outcome, body, summed) "  # noqa: S608 - a constant
        "SELECT ? + i * ?, 'round_trip', 'us-east-1', 'general', 'live', 'FAILED', ?, 1 FROM n",
        (_ROWS_AT_ONCE, now.timestamp() - _SPAN_SECONDS + after * step, step, json.dumps(body, separators=(",", ":"))),
    )


def _add_hours(db: sqlite3.Connection, after: int) -> None:
    first = tables.hour_of(SystemClock().now_utc()) - _HOURS * tables.HOUR_SECONDS
    buckets = json.dumps(dict.fromkeys(range(30, 40), 12), separators=(",", ":"))
    for canary in range(after, after + _CANARIES_AT_ONCE):
        db.execute(
            f"{_NUMBERS} INSERT INTO hourly SELECT ? + i * ?, 'round_trip', 'us-east-1', ?, 'live', "  # noqa: S608 - a constant
            "120, 0, 0, 1.2, 0.008, 0.05, ?, '{}' FROM n",
            (_HOURS, first, tables.HOUR_SECONDS, f"old{canary}", buckets),
        )
