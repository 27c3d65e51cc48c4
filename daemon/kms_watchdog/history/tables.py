"""The history's tables, and every statement that writes or reads them.

`results` holds, whole, each look that was not OK and the first OK after one, for two weeks. `ticks` holds each
canary's last looks, a ring: the status page after a restart. `hourly` and `counted` hold every look and event, added
up by the hour, for a hundred days: what availability and percentiles are computed from.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from kms_watchdog.health import Subject
from kms_watchdog.history.tally import Tally
from kms_watchdog.results import CanaryResult, Mode, Outcome

VERSION = 2
TICKS = 60
"""Results of each canary on the status page, where there are not too many canaries."""
MAX_TICKS = 60_000
"""Of all canaries together in memory, each less than a kilobyte: of ten thousand canaries the last six."""
KEEP = timedelta(days=14)
KEEP_HOURS = timedelta(days=100)
MAX_ROWS = 1_000_000  # some 400 MB; bounds what a long outage can write
HOUR_SECONDS = 3600
_PAGE_ROWS = 5_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    id INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    canary TEXT NOT NULL,
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    mode TEXT NOT NULL,
    outcome TEXT NOT NULL,
    body TEXT NOT NULL,
    summed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS by_time ON results (started_at);
CREATE INDEX IF NOT EXISTS by_outcome ON results (outcome, id) WHERE outcome != 'OK';
CREATE INDEX IF NOT EXISTS not_summed ON results (id) WHERE summed = 0;
CREATE TABLE IF NOT EXISTS ticks (
    canary TEXT NOT NULL,
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    slot INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (canary, region, key, slot)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hourly (
    hour INTEGER NOT NULL,
    canary TEXT NOT NULL,
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    mode TEXT NOT NULL,
    ok INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    blind INTEGER NOT NULL,
    seconds_sum REAL NOT NULL,
    seconds_min REAL,
    seconds_max REAL NOT NULL,
    buckets TEXT NOT NULL,
    reasons TEXT NOT NULL,
    PRIMARY KEY (hour, canary, region, key, mode)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted (
    hour INTEGER NOT NULL,
    mode TEXT NOT NULL,
    event TEXT NOT NULL,
    region TEXT NOT NULL,
    label TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (hour, mode, event, region, label)
) WITHOUT ROWID;
"""
MIGRATIONS = {2: lambda db: db.execute("ALTER TABLE results ADD COLUMN summed INTEGER NOT NULL DEFAULT 0")}
"""Version 1 wrote every look to `results` and summed none; what it writes later, it leaves at the default."""
_TALLY = "ok, failed, blind, seconds_sum, seconds_min, seconds_max, buckets, reasons"


@dataclass(frozen=True, slots=True, order=True)
class HourOf:
    """Whose looks of which hour are added up."""

    hour: int
    """When it began, in seconds of Unix time."""
    subject: Subject
    mode: Mode

    @property
    def at_utc(self) -> datetime:
        """When it began."""
        return datetime.fromtimestamp(self.hour, UTC)


@dataclass(frozen=True, slots=True, order=True)
class Counted:
    """What kind of event of which hour is counted."""

    hour: int
    mode: Mode
    event: str
    """`kms_request` (label: operation), `failed_over` (label: to which region), `breaker_opened` (label: cause)."""
    region: str
    label: str


@dataclass(slots=True)
class Batch:
    """What is to be written in one transaction; it fills until it is."""

    rows: list[CanaryResult] = field(default_factory=list)
    ticks: dict[tuple[Subject, int], tuple[int, CanaryResult]] = field(default_factory=dict)
    """Canary and slot to the look's running number, and the look."""
    hours: dict[HourOf, Tally] = field(default_factory=dict)
    counted: Counter[Counted] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.hours or self.counted)

    def after(self, failed: Batch, *, max_rows: int) -> Batch:
        """Return the batch that also holds what could not be written before; sums whole, of the rows the newest."""
        hours = {key: tally.copy() for key, tally in failed.hours.items()}
        for key, tally in self.hours.items():
            hours.setdefault(key, Tally()).merge(tally)
        return Batch(
            rows=[*failed.rows, *self.rows][-max_rows:],
            ticks=failed.ticks | self.ticks,
            hours=hours,
            counted=failed.counted + self.counted,
        )


def hour_of(at_utc: datetime) -> int:
    """Return when the hour of `at_utc` began, in seconds of Unix time."""
    return int(at_utc.timestamp()) // HOUR_SECONDS * HOUR_SECONDS


def write(db: sqlite3.Connection, batch: Batch, trim_at_utc: datetime | None = None) -> None:
    """Write a batch: rows are added, sums are added to. Then delete what is old at `trim_at_utc`, unless None."""
    db.executemany(
        "INSERT INTO results (started_at, canary, region, key, mode, outcome, body, summed) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
        [_result_row(result) for result in batch.rows],
    )
    db.executemany(
        "REPLACE INTO ticks (canary, region, key, slot, number, body) VALUES (?, ?, ?, ?, ?, ?)",
        [(s.canary, s.region, s.key, slot, n, _body(result)) for (s, slot), (n, result) in batch.ticks.items()],
    )
    for key, tally in batch.hours.items():
        _add_hour(db, key, tally)
    db.executemany(
        "INSERT INTO counted (hour, mode, event, region, label, count) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET count = count + excluded.count",
        [(c.hour, str(c.mode), c.event, c.region, c.label, count) for c, count in batch.counted.items()],
    )
    if trim_at_utc is not None:
        trim(db, trim_at_utc)


def trim(db: sqlite3.Connection, now_utc: datetime) -> None:
    """Delete what is too old, or too much."""
    db.execute("DELETE FROM results WHERE started_at < ?", ((now_utc - KEEP).timestamp(),))
    db.execute("DELETE FROM results WHERE id <= (SELECT max(id) FROM results) - ?", (MAX_ROWS,))
    oldest_hour = hour_of(now_utc - KEEP_HOURS)
    db.execute("DELETE FROM hourly WHERE hour < ?", (oldest_hour,))
    db.execute("DELETE FROM counted WHERE hour < ?", (oldest_hour,))


def ticks_kept(canaries: int) -> int:
    """Return how many of its last looks each of so many canaries is remembered with."""
    return max(1, min(TICKS, MAX_TICKS // max(1, canaries)))


def upgrade(db: sqlite3.Connection) -> None:
    """Sum the looks that version 1 wrote, which kept every one, and thin them out. Does nothing where none is left."""
    if db.execute("SELECT 1 FROM results WHERE summed = 0 LIMIT 1").fetchone() is None:
        return
    batch, last = Batch(), dict[tuple[Subject, Mode], Outcome]()
    numbers: Counter[Subject] = Counter()
    for number, result in read_ticks(db):
        subject = Subject(result.canary, result.region, result.key)
        numbers[subject], last[subject, Mode.LIVE] = number, result.outcome
    for page in _pages(db):
        superfluous: list[tuple[int]] = []
        for row, result in page:
            add(batch, result, numbers)
            whose = (Subject(result.canary, result.region, result.key), result.mode)
            if not is_kept(result, last.get(whose, Outcome.OK)):
                superfluous.append((row,))
            last[whose] = result.outcome
        db.executemany("DELETE FROM results WHERE id = ?", superfluous)
    write(db, batch)
    db.execute("UPDATE results SET summed = 1 WHERE summed = 0")


def is_kept(result: CanaryResult, before: Outcome) -> bool:
    """Return whether a look is kept whole: it is not OK, or the first that is again."""
    return result.outcome is not Outcome.OK or before is not Outcome.OK


def add(batch: Batch, result: CanaryResult, numbers: Counter[Subject]) -> None:
    """Add a look to the sums, and if it is a live one to its canary's ring; `numbers` counts each canary's looks."""
    subject = Subject(result.canary, result.region, result.key)
    key = HourOf(hour_of(result.started_at_utc), subject, result.mode)
    batch.hours.setdefault(key, Tally()).add(result)
    if result.mode is Mode.LIVE:
        numbers[subject] += 1
        batch.ticks[subject, numbers[subject] % TICKS] = (numbers[subject], result)


def read_ticks(db: sqlite3.Connection) -> list[tuple[int, CanaryResult]]:
    """Return each canary's last looks with their running numbers, canary by canary, of each the oldest first."""
    (canaries,) = db.execute("SELECT count(*) FROM (SELECT DISTINCT canary, region, key FROM ticks)").fetchone()
    kept = ticks_kept(canaries)
    rows = db.execute("SELECT canary, region, key, number, body FROM ticks ORDER BY canary, region, key, number")
    found: list[tuple[int, CanaryResult]] = []
    for _, of_canary in itertools.groupby(rows, key=lambda row: row[:3]):
        found += [(number, _result(body)) for *_, number, body in deque(of_canary, maxlen=kept)]
    return found


def read_failures(db: sqlite3.Connection, mode: Mode, limit: int) -> list[CanaryResult]:
    """Return the last looks that were not OK, oldest first."""
    rows = db.execute(
        "SELECT body FROM results WHERE outcome != 'OK' AND mode = ? ORDER BY id DESC LIMIT ?", (str(mode), limit)
    ).fetchall()
    return [_result(body) for (body,) in reversed(rows)]


def read_results(db: sqlite3.Connection, since_utc: datetime, until_utc: datetime) -> list[CanaryResult]:
    """Return the looks kept whole that began in the span, by time."""
    rows = db.execute(
        "SELECT body FROM results WHERE started_at >= ? AND started_at < ? ORDER BY started_at",
        (since_utc.timestamp(), until_utc.timestamp()),
    ).fetchall()
    return [_result(body) for (body,) in rows]


def read_hours(db: sqlite3.Connection, since_utc: datetime, until_utc: datetime) -> list[tuple[HourOf, Tally]]:
    """Return the sums of the hours that began in the span."""
    rows = db.execute(
        f"SELECT hour, canary, region, key, mode, {_TALLY} FROM hourly WHERE hour >= ? AND hour < ?",  # noqa: S608 - a constant
        (hour_of(since_utc), until_utc.timestamp()),
    ).fetchall()
    return [
        (HourOf(hour, Subject(canary, region, key), Mode(mode)), Tally.from_row(tuple(tally)))
        for hour, canary, region, key, mode, *tally in rows
    ]


def read_counted(db: sqlite3.Connection, since_utc: datetime, until_utc: datetime) -> Counter[Counted]:
    """Return the events counted in the hours that began in the span."""
    rows = db.execute(
        "SELECT hour, mode, event, region, label, count FROM counted WHERE hour >= ? AND hour < ?",
        (hour_of(since_utc), until_utc.timestamp()),
    ).fetchall()
    return Counter(
        {Counted(h, Mode(mode), event, region, label): count for h, mode, event, region, label, count in rows}
    )


def summed(results: Iterable[CanaryResult]) -> list[tuple[HourOf, Tally]]:
    """Return the sums of `results`: what version 1, which kept every look, has instead of sums."""
    batch = Batch()
    for result in results:
        add(batch, result, Counter())
    return list(batch.hours.items())


def _pages(db: sqlite3.Connection) -> Iterator[list[tuple[int, CanaryResult]]]:
    """Yield the results not summed with their row ids: a million at once would not fit the daemon's memory."""
    last = 0
    while rows := db.execute(
        "SELECT id, body FROM results WHERE summed = 0 AND id > ? ORDER BY id LIMIT ?", (last, _PAGE_ROWS)
    ).fetchall():
        last = rows[-1][0]
        yield [(row, _result(body)) for row, body in rows]


def _add_hour(db: sqlite3.Connection, key: HourOf, tally: Tally) -> None:
    where = (key.hour, key.subject.canary, key.subject.region, key.subject.key, str(key.mode))
    found = db.execute(
        f"SELECT {_TALLY} FROM hourly WHERE hour = ? AND canary = ? AND region = ? AND key = ? AND mode = ?",  # noqa: S608 - a constant
        where,
    ).fetchone()
    sum_ = Tally.from_row(found) if found else Tally()
    sum_.merge(tally)
    db.execute(
        f"REPLACE INTO hourly (hour, canary, region, key, mode, {_TALLY}) VALUES (?{', ?' * 12})",  # noqa: S608 - constants
        (*where, *sum_.to_row()),
    )


def _result_row(result: CanaryResult) -> Sequence[object]:
    return (
        result.started_at_utc.timestamp(),
        result.canary,
        result.region,
        result.key,
        str(result.mode),
        str(result.outcome),
        _body(result),
    )


def _body(result: CanaryResult) -> str:
    return json.dumps(result.to_json(), separators=(",", ":"))


def _result(body: str) -> CanaryResult:
    return CanaryResult.from_json(json.loads(body))
