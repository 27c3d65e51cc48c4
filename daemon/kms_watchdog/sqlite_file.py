"""One SQLite file, one writing connection, one thread that owns it (scale.md section 3).

Schema numbers (ADR 0012): a change that older versions can live with (a table, an index, a column with a default) adds
one; a change that they cannot live with begins a new hundred. A file of the same hundred is used, whichever is newer.
"""

from __future__ import annotations

import functools
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import structlog

from kms_core.clock import Clock
from kms_watchdog.state_folder import StateError

log = structlog.get_logger("sqlite")
T = TypeVar("T")

MAX_WAITING = 10_000
CHECK_AT_ONCE_BYTES = 32 * 2**20
"""A larger file is looked through while it is in use: a gibibyte takes five seconds, in which nobody would watch."""
CHECK_AFTER_SECONDS = 10.0  # the first looks come before it: it reads the whole file
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
        check_at_once_bytes: int = CHECK_AT_ONCE_BYTES,
    ) -> None:
        """Open or make `path`. A damaged file is moved aside, said loudly, and started anew.

        Of a large file the damage may be found only when it is in use: by who meets it, or by a look through all of it
        that begins some seconds later. What was written to it until then is moved aside with it.

        Args:
            path: of the file.
            schema: statements that make what is not there (`IF NOT EXISTS`), run at every start, after migrations.
            version: the schema's number.
            clock: names a damaged file.
            migrations: by number, what brings a file there from the number before. All that a file needs run in one
                transaction; what `schema` makes by itself (a new table, a new index) needs none.
            durable: sync every commit (`synchronous=FULL`), at some 0.4 ms each.
            check_at_once_bytes: of a file no larger than this all pages are looked at before it is used.

        Raises:
            StateError: it was written by a newer version that this one cannot live with, or it cannot be opened at all.
        """
        self.path = path
        self._schema, self._version, self._clock = schema, version, clock
        self._migrations, self._synchronous = migrations, "FULL" if durable else "NORMAL"
        self._check_at_once_bytes = check_at_once_bytes
        self._checking: threading.Thread | None = None
        """Looks through a file that is in use already; None: it was looked through before."""
        self._reader: sqlite3.Connection | None = None
        self._closing = threading.Event()
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
        self._closing.set()
        if (reader := self._reader) is not None:
            with suppress(sqlite3.ProgrammingError):  # it has just closed itself
                reader.interrupt()
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
        if self._checking is not None:
            self._checking.start()
        opened.set_result(None)
        try:
            while (item := self._waiting.get()) is not None:
                connection = self._do(connection, *item)
        finally:
            connection.close()

    def _do(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any], done: Future[Any]
    ) -> sqlite3.Connection:
        """Do `work` in a transaction, and return the connection for what comes next: damage begins a new file."""
        if not done.set_running_or_notify_cancel():
            return connection
        try:
            try:
                result = _in_transaction(connection, work)
            except sqlite3.DatabaseError as e:
                if self._checking is None or type(e) is not sqlite3.DatabaseError:  # its children are no damage
                    raise
                connection = self._begin_anew(connection, e)
                result = _in_transaction(connection, work)
        except Exception as e:  # noqa: BLE001 - it belongs to who asked: the future carries it over
            done.set_exception(e)
        else:
            done.set_result(result)
        return connection

    def _begin_anew(self, connection: sqlite3.Connection, why: sqlite3.DatabaseError) -> sqlite3.Connection:
        """Move the damaged file aside and return a connection to a new one; both can fail as at a start."""
        self._checking = None
        connection.close()
        self._say_damaged(why)
        return self._connect()

    def _check_later(self) -> None:
        """Look through the whole file from beside its owner, and have the owner meet what was found."""
        if self._clock.wait(self._closing, CHECK_AFTER_SECONDS):
            return
        try:
            self._reader = open_read_only(self.path, version=self._version)
            try:
                found = "" if _sound(self._reader) else "quick_check found damage"
            finally:
                reader, self._reader = self._reader, None
                reader.close()
        except (sqlite3.Error, StateError) as e:
            found = "" if isinstance(e, StateError | sqlite3.OperationalError) else str(e)  # closed meanwhile, or moved
        if found:
            self._waiting.put((functools.partial(_raise, sqlite3.DatabaseError(found)), Future()))
        else:
            self._checking = None

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as e:
            if isinstance(e, sqlite3.OperationalError):
                raise  # the disk or the rights, not the content: moving the file aside would mend nothing
            self._checking = None
            self._say_damaged(e)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self.path.exists() and self.path.stat().st_size > self._check_at_once_bytes:
            self._checking = threading.Thread(
                target=self._check_later, name=f"sqlite-check-{self.path.stem}", daemon=True
            )
        connection = sqlite3.connect(self.path, timeout=5.0)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            if self._checking is None and not _sound(connection):
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

    def _say_damaged(self, why: sqlite3.DatabaseError) -> None:
        aside = self._move_aside()
        log.error("sqlite.damaged", file=str(self.path), moved_to=str(aside), error=str(why))

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


def _sound(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))


def _in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    with connection:
        return work(connection)


def _raise(found: sqlite3.DatabaseError, _: sqlite3.Connection) -> None:
    raise found
