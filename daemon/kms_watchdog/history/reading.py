"""Read the history while the daemon writes it, or without one: its file is opened read-only."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime
from pathlib import Path

from kms_watchdog.health import Subject
from kms_watchdog.history import tables
from kms_watchdog.history.tables import Counted, HourOf
from kms_watchdog.history.tally import Tally
from kms_watchdog.results import CanaryResult
from kms_watchdog.sqlite_file import open_read_only
from kms_watchdog.state_folder import StateError


class HistoryUnreadableError(RuntimeError):
    """There is no history, or it cannot be read; the message is one line."""


class HistoryFile:
    """`history.db`; each method opens it anew, so that a long look holds up no checkpoint of the daemon's."""

    def __init__(self, path: Path) -> None:
        """Look whether it can be read.

        Raises:
            HistoryUnreadableError: it cannot.
        """
        self._path = path
        if not path.is_file():
            raise HistoryUnreadableError(f"{path}: no history there; has the daemon run with this state.dir?")
        with closing(self._open()) as db:
            (self._version,) = db.execute("PRAGMA user_version").fetchone()

    def results(self, since_utc: datetime, until_utc: datetime) -> list[CanaryResult]:
        """Return the looks that were not OK, and each first one that was again, by time; of version 1 all looks.

        Raises:
            HistoryUnreadableError: the file cannot be read.
        """
        try:
            with closing(self._open()) as db:
                return tables.read_results(db, since_utc, until_utc)
        except sqlite3.Error as e:
            raise self._unreadable(e) from e

    def every_look(self, since_utc: datetime, until_utc: datetime) -> list[CanaryResult]:
        """Return all looks that are kept whole, by time: as `results`, and each canary's last ones.

        Raises:
            HistoryUnreadableError: the file cannot be read.
        """
        found = {_identity(result): result for result in self.results(since_utc, until_utc)}
        if self._version >= tables.VERSION:
            try:
                with closing(self._open()) as db:
                    ticks = [result for _, result in tables.read_ticks(db)]
            except sqlite3.Error as e:
                raise self._unreadable(e) from e
            found |= {_identity(r): r for r in ticks if since_utc <= r.started_at_utc < until_utc}
        return sorted(found.values(), key=lambda result: result.started_at_utc)

    def canaries(self) -> list[str]:
        """Return the ids of the canaries that have looked lately.

        Raises:
            HistoryUnreadableError: the file cannot be read.
        """
        return sorted(subject.id for subject in self.subjects())

    def subjects(self) -> list[Subject]:
        """Return what the canaries looked at that have looked lately.

        Raises:
            HistoryUnreadableError: the file cannot be read.
        """
        table = "ticks" if self._version >= tables.VERSION else "results"
        try:
            with closing(self._open()) as db:
                rows = db.execute(f"SELECT DISTINCT canary, region, key FROM {table}").fetchall()  # noqa: S608 - ours
        except sqlite3.Error as e:
            raise self._unreadable(e) from e
        return [Subject(*row) for row in rows]

    def hours(self, since_utc: datetime, until_utc: datetime) -> list[tuple[HourOf, Tally]]:
        """Return the sums of whole hours, that of `since_utc` included.

        Raises:
            HistoryUnreadableError: the file cannot be read.
        """
        if self._version < tables.VERSION:
            return tables.summed(self.results(since_utc, until_utc))
        try:
            with closing(self._open()) as db:
                return tables.read_hours(db, since_utc, until_utc)
        except sqlite3.Error as e:
            raise self._unreadable(e) from e

    def counted(self, since_utc: datetime, until_utc: datetime) -> Counter[Counted]:
        """Return the events counted in whole hours; version 1 counted none.

        Raises:
            HistoryUnreadableError: the file cannot be read.
        """
        if self._version < tables.VERSION:
            return Counter()
        try:
            with closing(self._open()) as db:
                return tables.read_counted(db, since_utc, until_utc)
        except sqlite3.Error as e:
            raise self._unreadable(e) from e

    def _open(self) -> sqlite3.Connection:
        try:
            return open_read_only(self._path, version=tables.VERSION)
        except StateError as e:
            wal = self._path.with_name(self._path.name + "-wal")
            if wal.exists() or not isinstance(e.__cause__, sqlite3.OperationalError):
                raise HistoryUnreadableError(str(e)) from e
        # Nobody runs, and nothing can be written here, a WAL's index neither: the file alone is all there is.
        try:
            return sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        except sqlite3.Error as e:
            raise self._unreadable(e) from e

    def _unreadable(self, error: sqlite3.Error) -> HistoryUnreadableError:
        return HistoryUnreadableError(f"{self._path}: {error}")


def _identity(result: CanaryResult) -> tuple[object, ...]:
    return result.canary, result.region, result.key, result.mode, result.run_id, result.started_at_utc
