"""What happened lately: the last results of each canary in memory; on disk what `history` and `digest` tell.

Failures have rings of their own, live and drill apart, so that a flood of others does not wash them out.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import structlog

from kms_core.clock import Clock
from kms_core.events import Attempt, BreakerMoved, FailedOver
from kms_watchdog.health import Subject
from kms_watchdog.history import tables
from kms_watchdog.history.tables import Batch, Counted
from kms_watchdog.results import CanaryResult, Mode, Outcome
from kms_watchdog.sinks.sink import Seen
from kms_watchdog.sqlite_file import CLOSE_SECONDS, SqliteFile

log = structlog.get_logger("history")

TICKS = tables.TICKS
FAILURES = 50
MAX_WAITING_ROWS = 10_000
"""Whole results that wait for the disk; sums always do, they do not grow."""
FLUSH_AFTER_LOOKS = 500  # so that nothing waits for `flush` when a flood comes
UPGRADE_SECONDS = 600.0
_TRIM_EVERY = 500  # writes


class HistorySink:
    """Keeps results; any thread may call any method, and reading never waits for the disk.

    What comes is gathered, and written by `flush`, which somebody calls every second: a kill loses a second's looks.
    """

    def __init__(self, path: Path, clock: Clock, *, failed: Callable[[], object] = lambda: None) -> None:
        """Open or make the file; `failed` is called for each write that fails.

        Raises:
            StateError: it cannot be used.
        """
        self._clock, self._failed = clock, failed
        self._file = SqliteFile(
            path, schema=tables.SCHEMA, version=tables.VERSION, clock=clock, migrations=tables.MIGRATIONS
        )
        self._file.call(tables.upgrade, UPGRADE_SECONDS)
        self._lock = threading.Lock()
        self._ticks: dict[Subject, deque[CanaryResult]] = {}
        self._numbers: Counter[Subject] = Counter()
        self._last: dict[tuple[Subject, Mode], Outcome] = {}
        self._failures: dict[Mode, deque[CanaryResult]] = {mode: deque(maxlen=FAILURES) for mode in Mode}
        self._batch = Batch()
        self._looks = 0
        self._writing = self._closed = False
        self._writes = 0
        self._failing = False
        for number, result in self._file.call(tables.read_ticks):
            self._tick(result)
            self._numbers[Subject(result.canary, result.region, result.key)] = number
        for mode, failures in self._failures.items():
            failures.extend(self._file.call(functools.partial(tables.read_failures, mode=mode, limit=FAILURES)))

    def write(self, result: CanaryResult) -> None:
        """Keep one result."""
        with self._lock:
            before = self._remember(result)
            tables.add(self._batch, result, self._numbers)
            if tables.is_kept(result, before):
                self._batch.rows.append(result)
            self._looks += 1
            flush = self._looks >= FLUSH_AFTER_LOOKS
        if flush:
            self.flush()

    def on_event(self, seen: Seen) -> None:
        """Count what the digest tells of: requests to KMS, failovers, breakers that opened."""
        match seen.event:
            case Attempt(region=region, operation=operation):
                counted = ("kms_request", region, operation)
            case FailedOver(from_region=region, to_region=to):
                counted = ("failed_over", region, to)
            case BreakerMoved(region=region, new="open", cause=cause):
                counted = ("breaker_opened", region, cause)
            case _:
                return
        with self._lock:
            self._batch.counted[Counted(tables.hour_of(seen.at_utc), seen.mode, *counted)] += 1

    def flush(self) -> None:
        """Have the disk's thread write what has come, in one transaction; waits for nothing."""
        with self._lock:
            if self._writing or not self._batch:
                return
            batch, self._batch = self._batch, Batch()
            self._writing, self._looks = True, 0
            self._writes += 1
            trim_at_utc = None if self._writes % _TRIM_EVERY else self._clock.now_utc()
        try:
            done = self._file.submit(functools.partial(tables.write, batch=batch, trim_at_utc=trim_at_utc))
        except queue.Full as e:
            self._written(batch, e)
            return
        done.add_done_callback(lambda done: self._written(batch, done.exception()))

    def ticks(self) -> dict[Subject, tuple[CanaryResult, ...]]:
        """Return the last live results by canary, oldest first."""
        with self._lock:
            return {subject: tuple(results) for subject, results in self._ticks.items()}

    def failures(self) -> tuple[CanaryResult, ...]:
        """Return the last results that were not OK, live and drill, newest first."""
        with self._lock:
            kept = [result for failures in self._failures.values() for result in failures]
        return tuple(sorted(kept, key=lambda result: result.started_at_utc, reverse=True))

    def close(self) -> None:
        """Write what is waiting and close the file; closing twice is closing once."""
        if self._closed:
            return
        self._closed = True
        self._settle()
        self.flush()
        self._file.close()

    def _settle(self) -> None:
        """Wait for what is being written, so that the next `flush` is not skipped because of it."""
        try:
            self._file.call(lambda _: None, CLOSE_SECONDS)
        except (queue.Full, TimeoutError):
            return  # the disk stands still: closing tries once more and then lets go

    def _written(self, batch: Batch, error: BaseException | None) -> None:
        """Take back what was not written; say when that begins, and when writing works again."""
        with self._lock:
            self._writing = False
            if error is not None:
                self._batch = self._batch.after(batch, max_rows=MAX_WAITING_ROWS)
            was_failing, self._failing = self._failing, error is not None
        if error is not None:
            self._failed()
        if error is not None and not was_failing:
            log.error("history.failed", error=str(error) or type(error).__name__)
        elif error is None and was_failing:
            log.info("history.recovered")

    def _remember(self, result: CanaryResult) -> Outcome:
        """Take a result into memory; return what the one before it said."""
        if result.outcome is not Outcome.OK:
            self._failures[result.mode].append(result)
        return self._tick(result)

    def _tick(self, result: CanaryResult) -> Outcome:
        subject = Subject(result.canary, result.region, result.key)
        if result.mode is Mode.LIVE:
            ring = self._ticks.setdefault(subject, deque(maxlen=TICKS))
            ring.append(result)
            while len(ring) > tables.ticks_kept(len(self._ticks)):
                ring.popleft()
        before = self._last.get((subject, result.mode), Outcome.OK)
        self._last[subject, result.mode] = result.outcome
        return before
