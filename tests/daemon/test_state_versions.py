"""Files of the state folder across versions: brought forward whole, lived with backward, or refused in one line."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from daemon_kit import result

from kms_core.testing import ManualClock
from kms_watchdog.history import tables
from kms_watchdog.results import Mode, Outcome
from kms_watchdog.sinks.history import HistorySink
from kms_watchdog.sinks.queue import MetricQueue
from kms_watchdog.sqlite_file import Migration, SqliteFile, open_read_only
from kms_watchdog.state_folder import StateError

OLD = Path(__file__).parent / "state"
"""Databases as released versions wrote them, as text: NAME-VERSION.sql."""
FIRST = "CREATE TABLE IF NOT EXISTS t (x INTEGER);"
SECOND = "CREATE TABLE IF NOT EXISTS t (x INTEGER, y INTEGER DEFAULT 7); CREATE INDEX IF NOT EXISTS by_y ON t (y);"


def old_file(tmp_path: Path, name: str) -> Path:
    """Make the database that `name`.sql describes."""
    path = tmp_path / f"{name.partition('-')[0]}.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript((OLD / f"{name}.sql").read_text())
    return path


def schema_of(name: str) -> str:
    """Return the statements that made the tables of an old version."""
    text = (OLD / f"{name}.sql").read_text()
    made = re.findall(r"^CREATE (?:TABLE|INDEX) .*?;$", text, re.MULTILINE | re.DOTALL)
    return "\n".join(re.sub(r"^CREATE (TABLE|INDEX)", r"CREATE \1 IF NOT EXISTS", statement) for statement in made)


def number(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def columns(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [row[1] for row in db.execute("PRAGMA table_info(t)")]


@pytest.fixture
def open_file(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., SqliteFile]]:
    made: list[SqliteFile] = []

    def open_it(version: int, schema: str = FIRST, **migrations: Migration) -> SqliteFile:
        steps = {int(name.removeprefix("to_")): step for name, step in migrations.items()}
        path = tmp_path / "x.db"
        made.append(SqliteFile(path, schema=schema, version=version, clock=clock, migrations=steps))
        return made[-1]

    yield open_it
    for file in made:
        file.close()


def add_y(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE t ADD COLUMN y INTEGER DEFAULT 7")


def fill(file: SqliteFile, *values: int) -> None:
    file.call(lambda db: db.executemany("INSERT INTO t (x) VALUES (?)", [(value,) for value in values]).rowcount)


def rows(file: SqliteFile, what: str = "x") -> list[tuple[int, ...]]:
    return file.call(lambda db: db.execute(f"SELECT {what} FROM t ORDER BY x").fetchall())  # noqa: S608 - the test's


def test_a_file_is_brought_forward_in_place(open_file: Callable[..., SqliteFile], tmp_path: Path) -> None:
    """Each step once, in order, with the data kept; and said."""
    first = open_file(1)
    fill(first, 1, 2)
    first.close()
    steps: list[int] = []

    with structlog.testing.capture_logs() as logs:
        third = open_file(3, SECOND, to_2=add_y, to_3=lambda _: steps.append(3), to_9=lambda _: steps.append(9))
        third.close()
        again = open_file(3, SECOND, to_2=add_y, to_3=lambda _: steps.append(3))

    assert rows(again, "x, y") == [(1, 7), (2, 7)]
    assert (steps, number(tmp_path / "x.db")) == ([3], 3)
    assert [(e["from_schema"], e["to_schema"]) for e in logs if e["event"] == "sqlite.migrated"] == [(1, 3)]


def test_a_new_file_needs_no_step(open_file: Callable[..., SqliteFile]) -> None:
    """The schema makes what is there now."""
    file = open_file(2, SECOND, to_2=lambda _: 1 / 0)
    fill(file, 1)

    assert rows(file, "x, y") == [(1, 7)]


def test_an_older_version_lives_with_what_a_newer_one_added(
    open_file: Callable[..., SqliteFile], tmp_path: Path
) -> None:
    """N-1, N, N-1, N: each reads and writes, nothing is lost, and the number never goes back."""
    for version, schema, value in ((1, FIRST, 1), (2, SECOND, 2), (1, FIRST, 3), (2, SECOND, 4)):
        file = open_file(version, schema, **({"to_2": add_y} if version == 2 else {}))
        fill(file, value)
        file.close()

    assert rows(open_file(2, SECOND, to_2=add_y), "x, y") == [(1, 7), (2, 7), (3, 7), (4, 7)]
    assert number(tmp_path / "x.db") == 2


def test_an_older_version_refuses_what_it_cannot_live_with(
    open_file: Callable[..., SqliteFile], tmp_path: Path
) -> None:
    """A new hundred: one line that says what to do; the file is whole, and stays where it is."""
    open_file(100).close()

    with pytest.raises(StateError, match=r"x\.db: written by a newer version .schema 100, ours 2.: run that version"):
        open_file(2)

    assert [path.name for path in tmp_path.glob("x.db*")] == ["x.db"]


def test_a_step_that_fails_changes_nothing(open_file: Callable[..., SqliteFile], tmp_path: Path) -> None:
    """All or nothing, also of the steps before it; not taken for damage: the data are good."""
    first = open_file(1)
    fill(first, 1)
    first.close()

    with pytest.raises(StateError, match=r"cannot be brought from schema 1 to 3: .*nothing was changed"):
        open_file(3, SECOND, to_2=add_y, to_3=lambda db: db.execute("no such thing"))

    assert (number(tmp_path / "x.db"), columns(tmp_path / "x.db")) == (1, ["x"])
    assert rows(open_file(2, SECOND, to_2=add_y)) == [(1,)]


def test_reading_alone_follows_the_same_rule(open_file: Callable[..., SqliteFile], tmp_path: Path) -> None:
    """Also while the file's owner writes; and it writes nothing."""
    file = open_file(2, SECOND)
    fill(file, 1)

    with closing(open_read_only(tmp_path / "x.db", version=1)) as db:
        assert db.execute("SELECT x FROM t").fetchall() == [(1,)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM t")
    file.call(lambda db: db.execute("PRAGMA user_version=100").fetchall())

    with pytest.raises(StateError, match="written by a newer version"):
        open_read_only(tmp_path / "x.db", version=2)
    with pytest.raises(StateError, match="cannot be read"):
        open_read_only(tmp_path / "none.db", version=2)


def test_the_history_of_version_1_is_kept(tmp_path: Path, clock: ManualClock) -> None:
    """Looks and failures are on the page after the upgrade; its bodies know neither facts nor detail."""
    path = old_file(tmp_path, "history-1")

    with closing(HistorySink(path, clock)) as history:
        ticks = {subject.region: [one.outcome for one in seen] for subject, seen in history.ticks().items()}
        failures = history.failures()

    assert ticks == {"us-east-1": [*[Outcome.OK] * 3, Outcome.FAILED, Outcome.OK], "eu-west-1": [Outcome.BLIND]}
    assert [(one.outcome, one.mode, one.request_id) for one in failures] == [
        (Outcome.FAILED, Mode.DRILL, ""),
        (Outcome.BLIND, Mode.LIVE, ""),
        (Outcome.FAILED, Mode.LIVE, "r-3"),
    ]
    assert number(path) == tables.VERSION


def test_the_history_goes_back_to_version_1_and_forward_again(tmp_path: Path, clock: ManualClock) -> None:
    """A release that was taken back: the older one writes its rows, the newer one finds them."""
    path = old_file(tmp_path, "history-1")
    HistorySink(path, clock).close()
    old = SqliteFile(path, schema=schema_of("history-1"), version=1, clock=clock)
    later = result(Outcome.FAILED, at=60, error_code="Later").to_json()
    body = json.dumps({name: value for name, value in later.items() if name not in {"facts", "detail"}})
    what = "started_at, canary, region, key, mode, outcome, body"
    values = (result(at=60).started_at_utc.timestamp(), "round_trip", "us-east-1", "general", "live", "FAILED", body)
    old.call(lambda db: db.execute(f"INSERT INTO results ({what}) VALUES (?, ?, ?, ?, ?, ?, ?)", values).rowcount)  # noqa: S608 - a constant
    old.close()

    with closing(HistorySink(path, clock)) as history:
        codes = [failure.error_code for failure in history.failures()]

    assert (codes[0], len(codes)) == ("Later", 4)
    assert number(path) == tables.VERSION


def test_what_version_1_had_queued_is_sent(tmp_path: Path, clock: ManualClock) -> None:
    """An outage over an upgrade loses nothing."""
    path = old_file(tmp_path, "cloudwatch-1")

    with closing(MetricQueue(path, clock)) as waiting:
        found = {
            region: [one.datum.period_start for one in waiting.oldest(region, 10)]
            for region in ("us-east-1", "us-west-2")
        }

    assert found == {"us-east-1": [1_767_225_600, 1_767_225_660], "us-west-2": [1_767_225_720]}
