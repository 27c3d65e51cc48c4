"""What outlives the process: the folder, its lock, the SQLite files, the history."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from daemon_kit import result
from waiting import wait_until

from kms_core.testing import ManualClock
from kms_watchdog.health import Subject
from kms_watchdog.results import Mode, Outcome
from kms_watchdog.sinks.history import FAILURES, TICKS, HistorySink
from kms_watchdog.sqlite_file import CHECK_AFTER_SECONDS, SqliteFile
from kms_watchdog.state_folder import StateError, StateFolder, file_system

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER);"
SUBJECT = Subject("round_trip", "us-east-1", "general")


@pytest.fixture
def open_file(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., SqliteFile]]:
    """Open SQLite files, closed at the end."""
    made: list[SqliteFile] = []

    def open_it(name: str = "x.db", **settings: Any) -> SqliteFile:
        made.append(SqliteFile(tmp_path / name, **{"schema": SCHEMA, "version": 1, "clock": clock, **settings}))
        return made[-1]

    yield open_it
    for file in made:
        file.close()


def count(file: SqliteFile) -> int:
    return int(file.call(lambda db: db.execute("SELECT count(*) FROM t").fetchone()[0]))


def test_work_is_done_in_order_by_one_thread(open_file: Callable[..., SqliteFile]) -> None:
    """One writer: a second one can corrupt a WAL database of Debian 12's SQLite."""
    file = open_file()
    threads = {file.call(lambda _: threading.current_thread().name) for _ in range(3)}

    for i in range(100):
        file.submit(lambda db, i=i: db.execute("INSERT INTO t VALUES (?)", (i,)).rowcount)

    assert count(file) == 100
    assert threads == {"sqlite-x"}


def test_work_that_fails_is_undone_and_told(open_file: Callable[..., SqliteFile]) -> None:
    """One transaction each: half of it is none of it, and the next goes on."""
    file = open_file()

    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO t VALUES (1)")
        db.execute("not sql")

    with pytest.raises(sqlite3.OperationalError):
        file.call(half)

    assert count(file) == 0


def test_what_was_written_is_there_after_a_restart(open_file: Callable[..., SqliteFile]) -> None:
    """Closing finishes what was waiting."""
    first = open_file()
    first.submit(lambda db: db.execute("INSERT INTO t VALUES (1)").rowcount)
    first.close()

    assert count(open_file()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: b"not a database, but quite long enough to look at" * 100, id="other-content"),
        pytest.param(lambda raw: raw[:4096] + os.urandom(len(raw) - 4096), id="pages-overwritten"),
    ],
)
def test_a_damaged_file_is_moved_aside_and_begun_anew(
    open_file: Callable[..., SqliteFile], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Said loudly, kept for whoever wants to look, and never in the way of the watchdog."""
    first = open_file()
    for _ in range(3):
        first.call(lambda db: db.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(5000)]).rowcount)
    first.close()
    path = tmp_path / "x.db"
    path.write_bytes(damage(path.read_bytes()))

    with structlog.testing.capture_logs() as logs:
        second = open_file()

    assert count(second) == 0
    assert [entry["event"] for entry in logs] == ["sqlite.damaged"]
    assert len(list(tmp_path.glob("x.db.damaged-*"))) == 1


@pytest.fixture
def damaged(open_file: Callable[..., SqliteFile], tmp_path: Path) -> Path:
    """A file of many pages of which one in the middle is overwritten, and which opens all the same."""
    first = open_file()
    first.call(lambda db: db.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(50_000)]).rowcount)
    first.close()
    path = tmp_path / "x.db"
    raw = path.read_bytes()
    middle = len(raw) // 2 // 4096 * 4096
    path.write_bytes(raw[:middle] + os.urandom(4096) + raw[middle + 4096 :])
    return path


@pytest.mark.usefixtures("damaged")
def test_a_large_damaged_file_is_found_out_while_it_is_in_use(
    open_file: Callable[..., SqliteFile], tmp_path: Path
) -> None:
    """A look through a gibibyte takes seconds, in which nobody would watch: it is used at once, and looked at later."""
    slow = ManualClock()
    with structlog.testing.capture_logs() as logs:
        second = open_file(check_at_once_bytes=0, clock=slow)
        second.call(lambda db: db.execute("INSERT INTO t VALUES (-1)").rowcount)
        wait_until(lambda: slow.waiting == 1, says="the check waits")
        before = list(logs)
        slow.advance(CHECK_AFTER_SECONDS)
        wait_until(lambda: logs, says="the damage is told")

    assert before == []
    assert [entry["event"] for entry in logs] == ["sqlite.damaged"]
    assert count(second) == 0
    assert len(list(tmp_path.glob("x.db.damaged-*"))) == 1


@pytest.mark.usefixtures("damaged")
def test_who_meets_the_damage_first_finds_a_new_file(open_file: Callable[..., SqliteFile], tmp_path: Path) -> None:
    """Work that a damaged page stops is done on the file that takes its place; the check comes too late for nothing."""
    slow = ManualClock()
    with structlog.testing.capture_logs() as logs:
        second = open_file(check_at_once_bytes=0, clock=slow)
        found = second.call(lambda db: db.execute("SELECT sum(x) FROM t").fetchone()[0])
        wait_until(lambda: slow.waiting == 1, says="the check waits")
        slow.advance(CHECK_AFTER_SECONDS)
        wait_until(lambda: slow.waiting == 0, says="the check begins")
        second.close()

    assert found is None
    assert [entry["event"] for entry in logs] == ["sqlite.damaged"]
    assert len(list(tmp_path.glob("x.db.damaged-*"))) == 1


def test_a_large_file_that_is_sound_stays(open_file: Callable[..., SqliteFile], tmp_path: Path) -> None:
    """A check that finds nothing changes nothing; and closing does not wait for one."""
    first = open_file()
    first.call(lambda db: db.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(5000)]).rowcount)
    first.close()

    slow = ManualClock()
    second = open_file(check_at_once_bytes=0, clock=slow)
    wait_until(lambda: slow.waiting == 1, says="the check waits")
    slow.advance(CHECK_AFTER_SECONDS)
    names = {"sqlite-check-x"}
    wait_until(lambda: names.isdisjoint(t.name for t in threading.enumerate()), says="the check is over")
    number = count(second)
    second.close()
    third = open_file(check_at_once_bytes=0, clock=slow)
    third.close()

    assert number == count(open_file()) == 5000
    assert not list(tmp_path.glob("x.db.damaged-*"))


def test_a_folder_instead_of_a_file_is_refused_in_one_line(
    open_file: Callable[..., SqliteFile], tmp_path: Path
) -> None:
    """A StateError that names the file."""
    (tmp_path / "x.db").mkdir()

    with pytest.raises(StateError, match=r"x\.db: cannot be opened"):
        open_file()


def test_when_the_disk_stands_still_callers_are_refused(open_file: Callable[..., SqliteFile]) -> None:
    """The memory is bounded; what is refused is the caller's to count."""
    file, go_on = open_file(), threading.Event()
    file.submit(lambda _: go_on.wait(30))

    def flood() -> None:
        for _ in range(20_000):
            file.submit(lambda _: None)

    with pytest.raises(queue.Full):
        flood()
    go_on.set()


def test_closing_waits_for_no_disk_that_stands_still(open_file: Callable[..., SqliteFile]) -> None:
    """It raised after ten seconds, and the files after it were not closed at all."""
    file, go_on = open_file(), threading.Event()
    file.submit(lambda _: go_on.wait(30))
    with contextlib.suppress(queue.Full):
        for _ in range(20_000):
            file.submit(lambda _: None)

    with structlog.testing.capture_logs() as logs:
        file.close()
    go_on.set()

    assert [entry["event"] for entry in logs] == ["sqlite.not_closed"]


def test_a_second_daemon_is_kept_out(tmp_path: Path) -> None:
    """By a lock that the kernel lets go of; the line says who holds it."""
    folder = StateFolder(tmp_path)
    with folder.owned(), pytest.raises(StateError, match=f"another daemon .pid {os.getpid()}."), folder.owned():
        pass

    with folder.owned():
        pass


def test_a_lock_that_cannot_be_taken_is_one_line(tmp_path: Path) -> None:
    """And no traceback: something else is in its place."""
    (tmp_path / "daemon.lock").mkdir()

    with (
        pytest.raises(StateError, match=r"daemon\.lock: cannot be opened: Is a directory"),
        StateFolder(tmp_path).owned(),
    ):
        pass


def test_the_pid_is_taken_away(tmp_path: Path) -> None:
    """`kill -HUP $(cat daemon.lock)` would hit whoever has the number now."""
    folder = StateFolder(tmp_path)
    with folder.owned():
        told = (tmp_path / "daemon.lock").read_text()

    assert told == str(os.getpid())
    assert (tmp_path / "daemon.lock").read_text() == ""


def test_the_folder_is_made(tmp_path: Path) -> None:
    """With its parents, and not for everybody."""
    folder = StateFolder(tmp_path / "a" / "b")

    folder.prepare()

    assert folder.path.stat().st_mode & 0o777 == 0o750


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StateError, match=r"state\.dir cannot be made"):
        StateFolder(tmp_path / "file" / "state").prepare()


MOUNTS = """\
/dev/root / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
fs-1:/ /mnt/shared nfs4 rw 0 0
/dev/b /mnt/with\\040space xfs rw 0 0
odd
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        pytest.param("/var/lib/x", "ext4", id="root"),
        pytest.param("/mnt/shared/kms", "nfs4", id="network"),
        pytest.param("/mnt/shared2/kms", "ext4", id="like-it-but-not"),
        pytest.param("/mnt/with space/x", "xfs", id="escaped"),
    ],
)
def test_the_file_system_is_the_longest_mount(path: str, kind: str) -> None:
    """SQLite's WAL does not work on a network file system: the daemon refuses to start there."""
    assert file_system(Path(path), MOUNTS) == kind


def test_the_address_is_told_and_taken_away(tmp_path: Path) -> None:
    """Others find the port in http.json; after the end nobody looks for it there."""
    folder = StateFolder(tmp_path)

    folder.tell_url("http://127.0.0.1:5")
    told = json.loads(folder.http.read_text())
    folder.forget_url()
    folder.forget_url()

    assert told == {"url": "http://127.0.0.1:5", "pid": os.getpid()}


def test_an_address_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """As on a full disk: the daemon says so and watches on."""
    folder = StateFolder(tmp_path)
    folder.http.with_suffix(".tmp").mkdir()

    with pytest.raises(StateError, match=r"http\.json: cannot be written"):
        folder.tell_url("http://127.0.0.1:5")
    assert not folder.http.exists()


@pytest.fixture
def open_history(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[[], HistorySink]]:
    made: list[HistorySink] = []

    def open_it() -> HistorySink:
        made.append(HistorySink(tmp_path / "history.db", clock))
        return made[-1]

    yield open_it
    for history in made:
        history.close()


def test_the_history_shows_the_last_looks(open_history: Callable[[], HistorySink]) -> None:
    """A ring for each canary, live ones only, oldest first."""
    history = open_history()
    for i in range(TICKS + 5):
        history.write(result(at=i))
    history.write(result(at=100, mode=Mode.DRILL))

    (ticks,) = history.ticks().values()

    assert [tick.started_at_utc for tick in ticks] == [result(at=i).started_at_utc for i in range(5, TICKS + 5)]


def test_failures_are_not_washed_out(open_history: Callable[[], HistorySink]) -> None:
    """Neither by successes, nor live ones by a drill's flood."""
    history = open_history()
    history.write(result(Outcome.FAILED, at=0))
    for i in range(FAILURES * 2):
        history.write(result(Outcome.FAILED, at=i + 1, mode=Mode.DRILL))
        history.write(result(at=i + 1))

    failures = history.failures()

    assert len(failures) == FAILURES + 1
    assert failures[-1] == result(Outcome.FAILED, at=0)


def test_the_history_survives_a_restart(open_history: Callable[[], HistorySink]) -> None:
    """The page is not empty after a deployment."""
    first = open_history()
    first.write(result(at=0))
    first.write(result(Outcome.BLIND, at=1))
    first.write(result(Outcome.FAILED, at=2, mode=Mode.DRILL))
    first.close()

    second = open_history()

    assert [tick.outcome for tick in second.ticks()[SUBJECT]] == [Outcome.OK, Outcome.BLIND]
    assert [failure.outcome for failure in second.failures()] == [Outcome.FAILED, Outcome.BLIND]
