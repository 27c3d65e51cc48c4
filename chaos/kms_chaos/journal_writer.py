"""Write the journal: append-only, one writer thread, each batch on disk before anybody is told that it is.

Lines are numbered and stamped in the order in which they were handed over; the thread chains, writes and syncs them in
batches, so an operation pays for a queue and only `append_now` waits for the disk. Nothing is buffered beyond that: a
SIGKILL loses at most the last batch, and leaves at most one torn line.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kms_core.clock import Clock
from kms_watchdog.drills import journal
from kms_watchdog.durable import sync_folder

_PATIENCE_SECONDS = 30.0
_MAX_WAITING = 100_000


class JournalWriteError(RuntimeError):
    """The journal could not be written; nothing that was to be in it may be believed to be there."""


@dataclass(slots=True)
class _Entry:
    at_utc: datetime
    t: float
    event: str
    fields: Mapping[str, Any]
    on_disk: threading.Event | None = None


@dataclass(slots=True)
class _Position:
    """Where the next line goes."""

    seq: int = 0
    prev: str = journal.GENESIS
    waiting: deque[_Entry] = field(default_factory=deque)
    bytes_on_disk: int = 0


class JournalWriter:
    """The only writer of one journal. A context manager: leaving it writes what is waiting and closes the file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Create `path`, which must not exist.

        Raises:
            FileExistsError: somebody has written there.
        """
        self._clock = clock
        self._started = clock.monotonic()
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        sync_folder(path.parent)
        self._position = _Position()
        self._changed = threading.Condition()
        self._ending = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Seconds since the run began; the `t` of a line written now."""
        return self._clock.monotonic() - self._started

    @property
    def bytes_on_disk(self) -> int:
        """How much of the file no power cut can take away; it ends with a whole line. For any thread."""
        return self._position.bytes_on_disk

    def append(self, event: str, **fields: Any) -> None:
        """Hand over one line; it is on disk a moment later. For any thread.

        Raises:
            JournalWriteError: the journal cannot be written any more.
        """
        self._hand_over(event, fields, None)

    def append_now(self, event: str, **fields: Any) -> None:
        """Write one line, and return when it and all lines before it are on disk. For any thread.

        Raises:
            JournalWriteError: they are not.
        """
        on_disk = threading.Event()
        self._hand_over(event, fields, on_disk)
        done = on_disk.wait(_PATIENCE_SECONDS)
        if self._error is not None or not done:
            raise JournalWriteError(f"the journal cannot be written: {self._error or 'the disk does not answer'}")

    def _hand_over(self, event: str, fields: Mapping[str, Any], on_disk: threading.Event | None) -> None:
        with self._changed:
            if self._error is not None:
                raise JournalWriteError(f"the journal cannot be written: {self._error}")
            if self._ending or len(self._position.waiting) >= _MAX_WAITING:
                raise JournalWriteError("the journal is closed" if self._ending else "the disk does not keep up")
            entry = _Entry(self._clock.now_utc(), self.seconds, event, fields, on_disk)
            self._position.waiting.append(entry)
            self._changed.notify()

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                self._write(batch)
            except Exception as e:  # noqa: BLE001 - a thread's outermost border: every writer is told, then it ends
                with self._changed:
                    self._error = e
                    stranded = [*batch, *self._position.waiting]
                    self._position.waiting.clear()
                for entry in stranded:
                    if entry.on_disk is not None:
                        entry.on_disk.set()
                return

    def _next_batch(self) -> list[_Entry]:
        with self._changed:
            self._changed.wait_for(lambda: self._position.waiting or self._ending)
            batch = list(self._position.waiting)
            self._position.waiting.clear()
            return batch

    def _write(self, batch: list[_Entry]) -> None:
        lines = []
        for entry in batch:
            raw, self._position.prev = journal.line(
                seq=self._position.seq,
                at_utc=entry.at_utc,
                t=entry.t,
                event=entry.event,
                fields=entry.fields,
                prev=self._position.prev,
            )
            self._position.seq += 1
            lines.append(raw)
        write_all(self._handle, b"".join(lines))
        os.fsync(self._handle)
        self._position.bytes_on_disk += sum(map(len, lines))
        for entry in batch:
            if entry.on_disk is not None:
                entry.on_disk.set()

    def close(self) -> None:
        """Write what is waiting, end the thread and close the file. Twice is harmless."""
        with self._changed:
            if self._ending:
                return
            self._ending = True
            self._changed.notify()
        self._thread.join(_PATIENCE_SECONDS)
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def write_all(handle: int, content: bytes) -> None:
    """Write all of `content` to `handle`, however the kernel cuts it."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
