"""One SQLite file, one writing connection, one thread that owns it (scale.md section 3)."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import structlog

from kms_core.clock import Clock
from kms_watchdog.state_folder import StateError

log = structlog.get_logger("sqlite")
T = TypeVar("T")

MAX_WAITING = 10_000
_Work = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]


class SqliteFile:
    """WAL, synchronous=NORMAL: a kill loses nothing, a power cut at most the last moments.

    Two writers can corrupt a WAL database of the SQLite that Debian 12 ships, so all work goes through one thread; and
    it is bounded: when the disk stands still, callers are refused at once instead of filling the memory.
    """

    def __init__(self, path: Path, *, schema: str, version: int, clock: Clock) -> None:
        """Open or make `path`. A damaged file is moved aside, said loudly, and started anew.

        Raises:
            StateError: it was written by a newer version, or cannot be opened at all.
        """
        self.path = path
        self._schema, self._version, self._clock = schema, version, clock
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
        """Finish what is waiting and close the file."""
        self._waiting.put(None, timeout=10.0)
        self._thread.join(10.0)

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
            connection.execute("PRAGMA synchronous=NORMAL")
            self._check(connection)
            connection.executescript(self._schema)
            connection.execute(f"PRAGMA user_version={self._version:d}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > self._version:
            raise StateError(f"{self.path}: written by a newer version (schema {version}, ours {self._version})")
        if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check found damage")

    def _move_aside(self) -> Path:
        aside = self.path.with_name(f"{self.path.name}.damaged-{self._clock.now_utc():%Y%m%dT%H%M%SZ}")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return aside


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
