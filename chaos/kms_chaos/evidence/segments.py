"""Stream a journal to the store in segments while its drill runs, for a container's disk goes with the container.

Nothing is kept in memory: a segment is a stretch of the file, read when it is sent. Only what no power cut can take
away is sent, so a segment is always a part of the journal that a healer will find.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills import journal
from kms_watchdog.evidence.store import RUNS, Store, StoreError

_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 8.0
"""What a request that is under way gets at the end: a client's time-outs are 1 and 5 s."""
_FIRST_SEQ_DIGITS, _NUMBER_DIGITS, _HASH_DIGITS = 8, 6, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """When a segment is closed: at that age, or at that size."""

    seconds: float
    size_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what is configured."""
        evidence = settings.drills.evidence
        return cls(seconds=evidence.segment_seconds, size_bytes=evidence.segment_kilobytes * 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One closed segment: whole lines."""

    name: str
    content: bytes


def folder(run_id: str) -> str:
    """Return where a run's segments are, `/` at the end."""
    return f"{RUNS}/{run_id}/segments/"


def segment_name(number: int, content: bytes) -> str:
    """Return a segment's name: its number, the `seq` of its first line, and the head of its SHA-256."""
    first = journal.sequence_of(content.partition(b"\n")[0])
    digest = hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
    return f"{number:0{_NUMBER_DIGITS}d}-{first:0{_FIRST_SEQ_DIGITS}d}-{digest}.ndjson"


class Segments:
    """A journal's segments, sent in order. Not for several threads at once."""

    def __init__(self, store: Store, run_id: str, path: Path, cut: Cut) -> None:
        self._store, self._run_id, self._path, self._cut = store, run_id, path, cut
        self._number, self._sent_bytes = 0, 0
        self._pending: Segment | None = None

    @property
    def sent_bytes(self) -> int:
        """How much of the journal is in the store."""
        return self._sent_bytes

    @classmethod
    def resumed(cls, store: Store, run_id: str, path: Path, cut: Cut) -> Self:
        """Go on where an earlier process ended.

        Raises:
            StoreError: the store does not say where.
        """
        there = store.sizes(folder(run_id))
        segments = cls(store, run_id, path, cut)
        segments._number, segments._sent_bytes = len(there), sum(there.values())
        return segments

    def send(self, upto: int, *, all_of_it: bool) -> None:
        """Send what is due of the first `upto` bytes: full segments, and the rest too if `all_of_it`.

        Raises:
            StoreError: the store took no more; the same segment is tried again at the next call.
        """
        while self._pending or self._is_due(upto, all_of_it=all_of_it):
            self._pending = self._pending or self._next(upto)
            if self._pending is None:
                return
            self._store.put(folder(self._run_id) + self._pending.name, self._pending.content)
            self._number += 1
            self._sent_bytes += len(self._pending.content)
            self._pending = None

    def _is_due(self, upto: int, *, all_of_it: bool) -> bool:
        waiting = upto - self._sent_bytes
        return waiting > 0 if all_of_it else waiting >= self._cut.size_bytes

    def _next(self, upto: int) -> Segment | None:
        """Return the next segment: whole lines, no more than the cut allows, or one line that is larger."""
        with self._path.open("rb") as file:
            file.seek(self._sent_bytes)
            content = file.read(min(upto - self._sent_bytes, max(self._cut.size_bytes, journal.MAX_LINE_BYTES)))
        limit = content.find(b"\n", self._cut.size_bytes - 1) + 1
        whole = content[: limit or content.rfind(b"\n") + 1]
        return Segment(name=segment_name(self._number, whole), content=whole) if whole else None


class Streaming:
    """A thread of its own that sends segments while a block runs; never in the drill's way.

    `tell(what, error)` is called when sending begins to fail, and with an empty error when it works again.
    """

    def __init__(
        self,
        segments: Segments,
        *,
        upto: Callable[[], int],
        seconds: float,
        clock: Clock,
        tell: Callable[[str, str], None],
    ) -> None:
        self._segments, self._upto, self._seconds, self._clock = segments, upto, seconds, clock
        self._tell = tell
        self._since = clock.monotonic()
        self._failing = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="evidence", daemon=True)

    def look(self) -> None:
        """Send what is due now; what fails is told once, and tried again at the next look."""
        now = self._clock.monotonic()
        old_enough = now - self._since >= self._seconds
        try:
            self._segments.send(self._upto(), all_of_it=old_enough)
        except (StoreError, OSError, journal.JournalError) as e:
            if not self._failing:
                self._say("segment", str(e))
            self._failing = True
        else:
            if self._failing:
                self._say("segment", "")
            self._failing = False
        if old_enough:
            self._since = now

    def _say(self, what: str, error: str) -> None:
        if not self._over.is_set():  # what is closed takes no more lines
            self._tell(what, error)

    def _work(self) -> None:
        while not self._over.wait(min(_LOOK_SECONDS, self._seconds)):
            self.look()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(_PATIENCE_SECONDS)

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way any more; else the segments are not to be touched from another thread."""
        return not self._thread.is_alive()
