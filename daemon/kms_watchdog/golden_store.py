"""Golden messages on disk: sealed once, and opened again and again for years to come.

The owner of the state folder writes, and nobody else (two writers can corrupt the file, scale.md §3). Whoever only
visits, as `kms-watchdog once` beside a daemon, reads; and writes only while nobody owns the folder.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from kms_core.clock import Clock
from kms_watchdog import golden_ladder
from kms_watchdog.sqlite_file import SqliteFile, open_read_only
from kms_watchdog.state_folder import StateError, StateFolder

log = structlog.get_logger("golden")
T = TypeVar("T")

FILE = "golden.db"
"""In the state folder."""
READ_SECONDS = 2.0
VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS golden (
    key TEXT NOT NULL,
    created REAL NOT NULL,
    sealed_in TEXT NOT NULL,
    context TEXT NOT NULL,
    digest BLOB NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (key, created)
) WITHOUT ROWID;
"""
_UNREADABLE = (sqlite3.Error, queue.Full, OSError, ValueError)  # a time-out is an OSError


class GoldenError(RuntimeError):
    """The messages cannot be read; the text is one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenMessage:
    """One message, with what is needed to open it and to know that it opened right."""

    purpose: str
    created: float
    """Unix time; no two of a purpose have the same."""
    sealed_in: str
    """Region."""
    context: Mapping[str, str]
    digest: bytes
    """SHA-256 of the plaintext, which was random bytes and is kept nowhere."""
    message: bytes = field(repr=False)


class GoldenStore(Protocol):
    """Where they are kept; any thread may call any method."""

    def created(self, purpose: str) -> tuple[float, ...]:
        """Return when the messages of `purpose` were sealed, oldest first.

        Raises:
            GoldenError: they cannot be read.
        """

    def read(self, purpose: str, created: float) -> GoldenMessage | None:
        """Return the message of `purpose` that was sealed then; None: it is gone by now.

        Raises:
            GoldenError: it cannot be read.
        """

    def keep(self, message: GoldenMessage) -> None:
        """Add `message`, and let go of what the ladder has no room for; raises nothing, but says what went wrong."""

    def close(self) -> None:
        """Close the file."""


class OwnedGoldenStore:
    """The store of who owns the state folder."""

    def __init__(self, folder: StateFolder, clock: Clock) -> None:
        """Open or make the file.

        Raises:
            StateError: a newer version wrote it, or it cannot be opened.
        """
        self._clock = clock
        self._file = SqliteFile(folder.path / FILE, schema=_SCHEMA, version=VERSION, clock=clock)
        self._failing = False

    def created(self, purpose: str) -> tuple[float, ...]:
        """As `GoldenStore.created`."""
        return self._read(functools.partial(_created, purpose=purpose))

    def read(self, purpose: str, created: float) -> GoldenMessage | None:
        """As `GoldenStore.read`."""
        return self._read(functools.partial(_message, purpose=purpose, created=created))

    def keep(self, message: GoldenMessage) -> None:
        """As `GoldenStore.keep`; a disk that is full is said once, and when it takes writes again."""
        now = self._clock.now_utc().timestamp()
        try:
            self._file.call(functools.partial(_insert, message=message, now=now))
        except _UNREADABLE as e:
            if not self._failing:
                log.error("golden.failed", error=str(e) or type(e).__name__)  # noqa: TRY400 - its text says it all
            self._failing = True
        else:
            if self._failing:
                log.info("golden.recovered")
            self._failing = False

    def close(self) -> None:
        """Write what is waiting and close the file."""
        self._file.close()

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return self._file.call(work, READ_SECONDS)
        except _UNREADABLE as e:
            raise GoldenError(f"{self._file.path.name}: {e or type(e).__name__}") from e


class VisitedGoldenStore:
    """The store of who does not own the state folder: it reads, and writes in the moments in which nobody owns it.

    It makes no folder, and writes into none of another user's: the daemon could not use what it leaves there.
    """

    def __init__(self, folder: StateFolder, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._lock = threading.Lock()

    def created(self, purpose: str) -> tuple[float, ...]:
        """As `GoldenStore.created`."""
        return self._read(functools.partial(_created, purpose=purpose), ())

    def read(self, purpose: str, created: float) -> GoldenMessage | None:
        """As `GoldenStore.read`."""
        return self._read(functools.partial(_message, purpose=purpose, created=created), None)

    def keep(self, message: GoldenMessage) -> None:
        """As `GoldenStore.keep`; while somebody owns the folder nothing is kept, as the owner keeps its own."""
        try:
            with self._lock:
                if self._folder.path.stat().st_uid == os.geteuid():
                    self._keep(message)
        except (StateError, *_UNREADABLE) as e:
            log.debug("golden.not_kept", why=str(e))

    def close(self) -> None:
        """Nothing stays open."""

    def _keep(self, message: GoldenMessage) -> None:
        self._folder.prepare()
        with self._folder.owned():
            store = OwnedGoldenStore(self._folder, self._clock)
            store.keep(message)
            store.close()

    def _read(self, work: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        path = self._folder.path / FILE
        try:
            if not path.exists():
                return nothing
            # Not while another thread here keeps one: who writes alone takes the file's index away as he closes it.
            with self._lock, closing(open_read_only(path, version=VERSION)) as db:
                return work(db)
        except (StateError, *_UNREADABLE) as e:
            raise GoldenError(f"{path.name}: {e}") from e


def _created(db: sqlite3.Connection, purpose: str) -> tuple[float, ...]:
    rows = db.execute("SELECT created FROM golden WHERE key = ? ORDER BY created", (purpose,))
    return tuple(created for (created,) in rows)


def _message(db: sqlite3.Connection, purpose: str, created: float) -> GoldenMessage | None:
    row = db.execute(
        "SELECT sealed_in, context, digest, message FROM golden WHERE key = ? AND created = ?", (purpose, created)
    ).fetchone()
    if row is None:
        return None
    sealed_in, context, digest, message = row
    return GoldenMessage(
        purpose=purpose,
        created=created,
        sealed_in=sealed_in,
        context=json.loads(context),
        digest=digest,
        message=message,
    )


def _insert(db: sqlite3.Connection, message: GoldenMessage, now: float) -> None:
    db.execute(
        "INSERT OR IGNORE INTO golden (key, created, sealed_in, context, digest, message) VALUES (?, ?, ?, ?, ?, ?)",
        (
            message.purpose,
            message.created,
            message.sealed_in,
            json.dumps(dict(message.context)),
            message.digest,
            message.message,
        ),
    )
    there = _created(db, message.purpose)
    gone = set(there) - golden_ladder.kept(there, now=now)
    db.executemany("DELETE FROM golden WHERE key = ? AND created = ?", [(message.purpose, at) for at in gone])
