"""One SQLite file, one writing connection, one thread that owns it (scale.md section 3).

Schema numbers (ADR 0012): a change that older versions can live with (a table, an index, a column with a default) adds
one; a change that they cannot live with begins a new hundred. A file of the same hundred is used, whichever is newer.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import structlog

from kms_core.clock import Clock
from kms_watchdog.state_folder import StateError

log = structlog.get_logger("sqlite")
T = TypeVar("T")

MAX_WAITING = 10_000
CLOSE_SECONDS = 2.0  # a stop has ten seconds for all files together; what was committed is safe without closing
HUNDRED = 100
Migration = Callable[[sqlite3.Connection], object]
_NONE: Mapping[int, Migration] = MappingProxyType({})
_Work = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]


class SqliteFile:
    """WAL: a kill loses nothing; a power cut at most the last moments, or with `durable` nothing either.

    Two writers can corrupt a WAL database of the SQLite that Debian 12 ships, so all work goes through one thread; and
    it is bounded: when the disk stands still, callers are refused at once instead of filling the memory.
    """

    def __init__(
        self,
        path: Path,
        *,
        schema: str,
        version: int,
        clock: Clock,
        migrations: Mapping[int, Migration] = _NONE,
        durable: bool = False,
    ) -> None:
        """Open or make `path`. A damaged file is moved aside, said loudly, and started anew.

        Args:
            path: of the file.
            schema: statements that make what is not there (`IF NOT EXISTS`), run at every start, after migrations.
            version: the schema's number.
            clock: names a damaged file.
            migrations: by number, what brings a file there from the number before. All that a file needs run in one
                transaction; what `schema` makes by itself (a new table, a new index) needs none.
            durable: sync every commit (`synchronous=FULL`), at some 0.4 ms each.

        Raises:
            StateError: it was written by a newer version that this one cannot live with, or it cannot be opened at all.
        """
        self.path = path
        self._schema, self._version, self._clock = schema, version, clock
        self._migrations, self._synchronous = migrations, "FULL" if durable else "NORMAL"
        self._waiting: queue.Queue[_Work | None] = queue.Queue(MAX_WAITING)
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name=f"sqlite-{path.stem}", daemon=True)
        self._thread.start()
        opened.result()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Do `work` in the owner's thread, in one transaction.

        Raises:
            queue.Full: too much is waiting already.
        """
        done: Future[T] = Future()
        self._waiting.put_nowait((work, done))
        return done

    def call(self, work: Callable[[sqlite3.Connection], T], timeout_seconds: float = 10.0) -> T:
        """Do `work` and return what it returns.

        Raises:
            sqlite3.Error, TimeoutError, queue.Full: it was not done.
        """
        return self.submit(work).result(timeout_seconds)

    def close(self) -> None:
        """Finish what is waiting and close the file; from a disk that stands still it lets go, and says so."""
        try:
            self._waiting.put(None, timeout=CLOSE_SECONDS)
        except queue.Full:
            log.error("sqlite.not_closed", file=str(self.path), waiting=self._waiting.qsize())  # noqa: TRY400 - it says it all
            return
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            log.error("sqlite.not_closed", file=str(self.path), waiting=self._waiting.qsize())

    def _run(self, opened: Future[None]) -> None:
        try:
            connection = self._open()
        except (sqlite3.Error, OSError, StateError) as e:
            error = e if isinstance(e, StateError) else StateError(f"{self.path}: cannot be opened: {e}")
            opened.set_exception(error)
            return
        opened.set_result(None)
        try:
            while (item := self._waiting.get()) is not None:
                _do(connection, *item)
        finally:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as e:
            if isinstance(e, sqlite3.OperationalError):
                raise  # the disk or the rights, not the content: moving the file aside would mend nothing
            aside = self._move_aside()
            log.error("sqlite.damaged", file=str(self.path), moved_to=str(aside), error=str(e))  # noqa: TRY400 - its text says it all
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5.0)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check found damage")  # noqa: TRY301 - as if SQLite had
            self._bring_up(connection, schema_version(connection, self.path, ours=self._version))
        except BaseException:
            connection.close()
            raise
        return connection

    def _bring_up(self, connection: sqlite3.Connection, found: int) -> None:
        """Bring the schema from number `found` to ours, wholly or not at all; a newer file is left as it is."""
        if found > self._version:
            return
        steps = [self._migrations[n] for n in range(found + 1, self._version + 1) if found and n in self._migrations]
        connection.execute("BEGIN IMMEDIATE")
        try:
            for step in steps:
                step(connection)
            for statement in _statements(self._schema):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={self._version:d}")
        except sqlite3.Error as e:
            connection.rollback()
            if not steps:
                raise
            why = f"cannot be brought from schema {found} to {self._version}: {e}; nothing was changed"
            raise StateError(f"{self.path}: {why}") from e
        connection.commit()
        if found and found < self._version:
            log.info("sqlite.migrated", file=str(self.path), from_schema=found, to_schema=self._version)

    def _move_aside(self) -> Path:
        aside = self.path.with_name(f"{self.path.name}.damaged-{self._clock.now_utc():%Y%m%dT%H%M%SZ}")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return aside


def schema_version(connection: sqlite3.Connection, path: Path, *, ours: int) -> int:
    """Return the number of the schema in `path`, for a program that knows schema `ours`; 0: nothing is in it yet.

    Raises:
        StateError: it is of a later hundred.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found // HUNDRED > ours // HUNDRED:
        raise StateError(
            f"{path}: written by a newer version (schema {found}, ours {ours}): run that version again, "
            "or move the file away and begin without what it holds"
        )
    return int(found)


def open_read_only(path: Path, *, version: int) -> sqlite3.Connection:
    """Return a connection that only reads, also while a daemon writes; close it soon, or the WAL grows.

    Raises:
        StateError: it is not there, cannot be read, or is of a version that cannot be lived with.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
        try:
            schema_version(connection, path, ours=version)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as e:
        raise StateError(f"{path}: cannot be read: {e}") from e
    return connection


def _statements(script: str) -> Iterator[str]:
    """Return the statements one by one: `executescript` would commit before each script."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _do(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any], done: Future[Any]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        with connection:
            result = work(connection)
    except Exception as e:  # noqa: BLE001 - it belongs to who asked: the future carries it over
        done.set_exception(e)
    else:
        done.set_result(result)
