"""Golden messages on disk: what the owner keeps, and what a visitor may do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from kms_core.testing import ManualClock
from kms_watchdog.golden_ladder import HOUR
from kms_watchdog.golden_store import (
    FILE,
    GoldenError,
    GoldenMessage,
    GoldenStore,
    OwnedGoldenStore,
    VisitedGoldenStore,
)
from kms_watchdog.state_folder import StateError, StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    made = StateFolder(tmp_path / "state")
    made.prepare()
    return made


@pytest.fixture
def owned(folder: StateFolder, clock: ManualClock) -> Iterator[OwnedGoldenStore]:
    store = OwnedGoldenStore(folder, clock)
    yield store
    store.close()


@pytest.fixture
def visited(folder: StateFolder, clock: ManualClock) -> VisitedGoldenStore:
    return VisitedGoldenStore(folder, clock)


def message(created: float, purpose: str = "general") -> GoldenMessage:
    return GoldenMessage(
        purpose=purpose,
        created=created,
        sealed_in="eu-west-1",
        context={"canary": "true"},
        digest=b"\1" * 32,
        message=b"\2" * 99,
    )


def now_of(clock: ManualClock) -> float:
    return clock.now_utc().timestamp()


def test_what_is_kept_comes_back(folder: StateFolder, owned: OwnedGoldenStore, clock: ManualClock) -> None:
    """Each purpose its own; also after a restart, and for a visitor at the same time."""
    first, second = message(now_of(clock) - 2 * HOUR), message(now_of(clock))
    for one in (second, first, message(now_of(clock), "payment")):
        owned.keep(one)
    owned.close()
    again = OwnedGoldenStore(folder, clock)

    stores: tuple[GoldenStore, ...] = (again, VisitedGoldenStore(folder, clock))

    for store in stores:
        assert store.created("general") == (first.created, second.created)
        assert store.read("general", first.created) == first
        assert store.read("general", 1.0) is None
        assert store.created("pii") == ()
    again.close()


def test_the_ladder_decides_what_stays(owned: OwnedGoldenStore, clock: ManualClock) -> None:
    """A message every ten minutes for a day: one an hour is there at the end."""
    first = now_of(clock)
    for _ in range(24 * 6):
        owned.keep(message(now_of(clock)))
        clock.advance(600)

    there = owned.created("general")

    assert len(there) == 24
    assert there[0] == first


def test_a_visitor_writes_where_nobody_owns(
    folder: StateFolder, visited: VisitedGoldenStore, clock: ManualClock
) -> None:
    """A cron job without a daemon has golden messages too."""
    visited.keep(message(now_of(clock)))

    assert visited.created("general") == (now_of(clock),)
    with folder.owned():
        pass  # and the lock is free again


def test_a_visitor_reads_while_another_thread_of_it_keeps(tmp_path: Path, clock: ManualClock) -> None:
    """Nothing is unreadable meanwhile, the first time least of all: a command looks at all regions side by side."""
    for attempt in range(20):
        folder = StateFolder(tmp_path / str(attempt))
        folder.prepare()
        visited = VisitedGoldenStore(folder, clock)
        with ThreadPoolExecutor(4) as threads:
            kept = threads.submit(visited.keep, message(1.0))
            read = [threads.submit(visited.created, "general") for _ in range(40)]

            assert {one.result() for one in read} <= {(), (1.0,)}
            assert kept.result() is None
        assert visited.created("general") == (1.0,)


def test_a_visitor_never_writes_beside_an_owner(
    folder: StateFolder, visited: VisitedGoldenStore, clock: ManualClock
) -> None:
    """A second writer can corrupt the file; the owner seals messages of its own."""
    with folder.owned():
        visited.keep(message(now_of(clock)))

        assert visited.created("general") == ()
    assert not (folder.path / FILE).exists()


def test_a_visitor_makes_no_folder(tmp_path: Path, clock: ManualClock) -> None:
    """It might belong to another user than the daemon that comes after it."""
    nowhere = StateFolder(tmp_path / "none")

    VisitedGoldenStore(nowhere, clock).keep(message(1.0))

    assert not nowhere.path.exists()
    assert VisitedGoldenStore(nowhere, clock).created("general") == ()


def test_a_damaged_file_is_started_anew_by_its_owner(
    folder: StateFolder, visited: VisitedGoldenStore, clock: ManualClock
) -> None:
    """Moved aside and said loudly; a visitor only says that it cannot read it."""
    (folder.path / FILE).write_bytes(b"not a database, and long enough to be looked at" * 100)

    with pytest.raises(GoldenError, match=FILE):
        visited.created("general")
    with structlog.testing.capture_logs() as logs:
        store = OwnedGoldenStore(folder, clock)
    store.keep(message(now_of(clock)))

    assert store.created("general") == (now_of(clock),)
    assert logs[0]["event"] == "sqlite.damaged"
    store.close()


def test_a_row_that_makes_no_sense_is_unreadable(folder: StateFolder, owned: OwnedGoldenStore) -> None:
    """Not a crash of whoever reads it."""
    with closing(sqlite3.connect(folder.path / FILE)) as db, db:
        db.execute("INSERT INTO golden VALUES ('general', 1.0, 'us-east-1', 'no json', x'', x'')")

    with pytest.raises(GoldenError):
        owned.read("general", 1.0)


def test_a_file_of_a_version_we_cannot_live_with_is_refused(
    folder: StateFolder, visited: VisitedGoldenStore, clock: ManualClock
) -> None:
    """Whoever went back a version is told so at the start; a visitor says that it cannot read."""
    with closing(sqlite3.connect(folder.path / FILE)) as db:
        db.execute("PRAGMA user_version=199")

    with pytest.raises(StateError, match="newer version"):
        OwnedGoldenStore(folder, clock)
    with pytest.raises(GoldenError, match="newer version"):
        visited.created("general")


def test_a_disk_that_takes_nothing_is_said_once(folder: StateFolder, owned: OwnedGoldenStore) -> None:
    """And when it takes writes again; meanwhile what is there can be read."""
    owned.keep(message(1.0))
    with structlog.testing.capture_logs() as logs:
        with closing(sqlite3.connect(folder.path / FILE)) as db, db:
            db.execute("CREATE TRIGGER full BEFORE INSERT ON golden BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
        owned.keep(message(2.0))
        owned.keep(message(3.0))
        there = owned.created("general")
        with closing(sqlite3.connect(folder.path / FILE)) as db, db:
            db.execute("DROP TRIGGER full")
        owned.keep(message(4.0 + HOUR))

    assert there == (1.0,)
    assert [entry["event"] for entry in logs] == ["golden.failed", "golden.recovered"]
    assert "disk is full" in logs[0]["error"]
