"""The clock that wakes things: APScheduler 3.11, hardened, behind the only door to it.

It is never the record of what must happen. Reasons and measurements for each choice: `scale.md` section 1; in short,
the stock scheduler dies for ever on one exception, stands still when the clock steps back, and burns due runs while it
shuts down; one shared pool lets a dead region starve the healthy ones.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_STOPPED
from apscheduler.triggers.base import BaseTrigger

from kms_core.clock import Clock
from kms_watchdog.spread import Grid, fraction

log = structlog.get_logger("scheduler")

GRACE_SECONDS = 5  # lateness is judged when a worker picks the job up; the default of 1 s drops canaries in a burst
MAX_WAIT_SECONDS = 1.0  # of one sleep, so that heartbeats stay fresh and steps of the clock are seen soon
RETRY_SECONDS = 1.0
STEP_SECONDS = 2.0
LOOK_SECONDS = 0.1

JobResult = Literal["executed", "missed", "skipped_overlap", "error"]
_RESULTS: dict[int, JobResult] = {
    EVENT_JOB_EXECUTED: "executed",
    EVENT_JOB_MISSED: "missed",
    EVENT_JOB_MAX_INSTANCES: "skipped_overlap",
    EVENT_JOB_ERROR: "error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something to do again and again."""

    id: str
    kind: str
    """What metrics call it: a closed list, unlike ids."""
    action: Callable[[], object]
    interval_seconds: float
    pool: str
    offset_seconds: float | None = None
    """Where in the interval; None spreads by the hash of `id`."""
    first_within_seconds: float | None = 1.0
    """The first run comes this soon, spread too: the first round shall not take an interval. None: on the grid."""

    @property
    def grid(self) -> Grid:
        """The slots it runs in."""
        offset = self.offset_seconds
        if offset is None:
            offset = fraction(self.id) * self.interval_seconds
        return Grid(interval=timedelta(seconds=self.interval_seconds), offset=timedelta(seconds=offset))

    def first_run(self, now_utc: datetime) -> datetime:
        """Return when it first runs."""
        if self.first_within_seconds is None:
            return self.grid.after(now_utc)
        return now_utc + timedelta(seconds=fraction(self.id) * self.first_within_seconds)


class JobObserver(Protocol):
    """Is told how each job went."""

    def on_job(self, job: Job, result: JobResult, lag_seconds: float | None) -> None:
        """Take one run's end; `lag_seconds` is its start minus when it was due, None if it never started."""


class Scheduler:
    """Runs jobs, each in the named pool it belongs to; one run of a job at a time; late runs coalesced."""

    def __init__(self, clock: Clock, *, pools: Mapping[str, int], observer: JobObserver) -> None:
        self._clock = clock
        self._observer = observer
        self._jobs: dict[str, Job] = {}
        self._ending: threading.Thread | None = None
        self._inner = SafeScheduler(
            clock,
            timezone=UTC,  # a zone with daylight saving skips and repeats runs
            jobstores={"default": MemoryJobStore()},  # persistent ones lose runs, and cost 24 times the CPU
            executors={name: ThreadPoolExecutor(workers) for name, workers in pools.items()},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": GRACE_SECONDS},
        )
        self._inner.add_listener(self._tell, sum(_RESULTS))
        # At INFO it logs two lines a run and costs 30 % more CPU; what it warns of, the listener counts.
        for name in ("apscheduler.executors", "apscheduler.scheduler"):
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def add(self, job: Job) -> None:
        """Add `job`; its first run comes soon, the others on its grid."""
        self._jobs[job.id] = job
        first = job.first_run(self._clock.now_utc())
        self._inner.add_job(self._timed(job), GridTrigger(job.grid), id=job.id, executor=job.pool, next_run_time=first)

    def start(self) -> None:
        """Begin."""
        self._inner.start()

    def stop(self, deadline_seconds: float, *, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Let running jobs finish, at most this long; return whether all have. What was due next is not run.

        One that never began is stopped already; asked again, it waits on. Once `hurry` says so it waits no longer.
        """
        if self._ending is None:
            if self._inner.state == STATE_STOPPED:
                return True
            self._ending = threading.Thread(target=self._inner.shutdown, name="scheduler-stop", daemon=True)
            self._ending.start()
        for _ in range(math.ceil(deadline_seconds / LOOK_SECONDS)):
            if hurry() or not self._ending.is_alive():
                break
            self._ending.join(LOOK_SECONDS)  # APScheduler's own shutdown has no deadline
        return not self._ending.is_alive()

    @property
    def failed_cycles(self) -> int:
        """Cycles in a row that ended in an error."""
        return self._inner.failed_cycles

    @property
    def clock_steps(self) -> int:
        """Steps of the wall clock that were seen."""
        return self._inner.steps

    @property
    def restarts(self) -> int:
        """Times that the thread had died and was started anew."""
        return self._inner.restarts

    def revive(self) -> None:
        """Start the thread anew if it has died; what is due stays due. Called from outside, again and again."""
        self._inner.revive()

    def good_cycle_age_seconds(self) -> float:
        """Return how long ago jobs were last dispatched without an error: what liveness reads, never `running`."""
        return self._clock.monotonic() - self._inner.last_good_cycle

    def next_runs(self) -> tuple[tuple[str, datetime], ...]:
        """Return the ids of the jobs and when they are due next, soonest first."""
        due = [(job.id, job.next_run_time) for job in self._inner.get_jobs() if job.next_run_time]
        return tuple(sorted(due, key=lambda pair: pair[1]))

    def _timed(self, job: Job) -> Callable[[], datetime]:
        def call() -> datetime:
            started_at_utc = self._clock.now_utc()
            job.action()
            return started_at_utc  # reaches the listener as the event's return value

        return call

    def _tell(self, event: Any) -> None:
        try:
            self._note(event)
        except Exception:  # the observer's outermost border: APScheduler would swallow it
            log.exception("scheduler.observer_failed", job=event.job_id)

    def _note(self, event: Any) -> None:
        job, result = self._jobs[event.job_id], _RESULTS[event.code]
        if result == "error":
            log.error("job.failed", job=event.job_id, error=repr(event.exception), traceback=event.traceback)
        lag_seconds = None
        if result == "executed":
            lag_seconds = max(0.0, (event.retval - event.scheduled_run_time).total_seconds())
        self._observer.on_job(job, result, lag_seconds)


class GridTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler has no types
    """Fires on a `Grid`. Only triggers written here go in: one that raises keeps every job from running."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return when to run next (APScheduler's own signature)."""
        return self.grid.next_run(previous_fire_time, now)


class SafeScheduler(BackgroundScheduler):  # type: ignore[misc] # APScheduler has no types
    """A BackgroundScheduler that survives errors of stores and triggers, and steps of the clock.

    `last_cycle` moves while its thread lives, `last_good_cycle` only while jobs are really dispatched: a trigger that
    raises in every cycle leaves the thread alive and stops every job. It overrides a private method of APScheduler
    3.11 (pinned; a contract test for each promise).
    """

    _thread: threading.Thread | None  # APScheduler's own

    def __init__(self, clock: Clock, **options: Any) -> None:
        self._clock = clock
        self._offset_seconds: float | None = None
        self.last_cycle = self.last_good_cycle = clock.monotonic()
        self.failed_cycles = 0  # in a row
        self.steps = 0
        self.restarts = 0
        super().__init__(**options)

    def revive(self) -> None:
        """Start the thread anew if it has died: what no `except Exception` sees (SystemExit, for one) ends it."""
        thread = self._thread
        if self.state == STATE_STOPPED or thread is None or thread.is_alive():
            return
        self.restarts += 1
        log.critical("scheduler.thread_died", restarts=self.restarts)
        self._thread = threading.Thread(target=self._main_loop, name="APScheduler", daemon=True)
        self._thread.start()
        self.wakeup()  # its loop begins by waiting for that

    def _process_jobs(self) -> float:
        self.last_cycle = self._clock.monotonic()
        if self.state == STATE_STOPPED:
            return 0.0  # the stock loop runs once more after shutdown(): each submit fails, and due runs are used up
        try:
            self._watch_the_wall_clock()
            wait_seconds = super()._process_jobs()
        except Exception:  # stock: the thread ends for ever, while `running` stays True
            self.failed_cycles += 1
            log.exception("scheduler.cycle_failed", in_a_row=self.failed_cycles)
            return RETRY_SECONDS
        self.failed_cycles = 0
        self.last_good_cycle = self._clock.monotonic()
        return MAX_WAIT_SECONDS if wait_seconds is None else float(min(wait_seconds, MAX_WAIT_SECONDS))

    def _watch_the_wall_clock(self) -> None:
        before, self._offset_seconds = self._offset_seconds, self._wall_minus_monotonic()
        if before is None or abs(self._offset_seconds - before) <= STEP_SECONDS:
            return
        step = timedelta(seconds=self._offset_seconds - before)
        self.steps += 1
        log.warning("scheduler.clock_stepped", seconds=step.total_seconds())
        for job in self.get_jobs():  # keep the cadence; the grid takes over again from the next run
            if job.next_run_time:
                job.modify(next_run_time=job.next_run_time + step)

    def _wall_minus_monotonic(self) -> float:
        return self._clock.now_utc().timestamp() - self._clock.monotonic()
