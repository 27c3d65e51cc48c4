"""What APScheduler must do for us, one test per promise: an upgrade that breaks one shows here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.triggers.base import BaseTrigger
from waiting import wait_until

from kms_core.clock import SystemClock
from kms_watchdog.scheduler import Job, JobResult, SafeScheduler, Scheduler


class Witness:
    """Notes how each job went."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, JobResult, float | None]] = []

    def on_job(self, job: Job, result: JobResult, lag_seconds: float | None) -> None:
        self.seen.append((job.id, result, lag_seconds))

    def results(self, name: str) -> list[JobResult]:
        return [result for job, result, _ in self.seen if job == name]


class SteppingClock(SystemClock):
    """The real clocks, with a wall clock that can be set."""

    def __init__(self) -> None:
        self.step = timedelta()

    def now_utc(self) -> datetime:
        return super().now_utc() + self.step


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def make_scheduler(witness: Witness) -> Iterator[Callable[..., Scheduler]]:
    """Make schedulers, stopped at the end."""
    made: list[Scheduler] = []

    def make(**pools: int) -> Scheduler:
        made.append(Scheduler(SystemClock(), pools=pools or {"main": 2}, observer=witness))
        return made[-1]

    yield make
    for scheduler in made:
        assert scheduler.stop(10)


def job(name: str, action: Callable[[], object], interval: float = 0.1, pool: str = "main", **more: float) -> Job:
    options = {"first_within_seconds": 0.0, **more}
    return Job(id=name, kind=name, action=action, interval_seconds=interval, pool=pool, **options)  # type: ignore[arg-type]


def test_a_job_runs_again_and_again_and_its_lag_is_told(
    make_scheduler: Callable[..., Scheduler], witness: Witness
) -> None:
    """Executed, with how late it began."""
    scheduler, runs = make_scheduler(), []
    scheduler.add(job("tick", lambda: runs.append(1)))

    scheduler.start()
    wait_until(lambda: len(witness.results("tick")) >= 3, says="three runs")

    assert set(witness.results("tick")) == {"executed"}
    assert all(lag is not None and 0 <= lag < 5 for _, _, lag in witness.seen)


def test_the_first_run_comes_at_once_whatever_the_interval(make_scheduler: Callable[..., Scheduler]) -> None:
    """A start does not take an interval to see anything."""
    scheduler, ran = make_scheduler(), threading.Event()
    scheduler.add(job("hourly", ran.set, 3600, first_within_seconds=0.2))

    scheduler.start()

    assert ran.wait(10)


def test_a_job_that_raises_is_counted_and_runs_again(
    make_scheduler: Callable[..., Scheduler], witness: Witness
) -> None:
    """One error is one error."""
    scheduler = make_scheduler()
    scheduler.add(job("bad", lambda: 1 / 0))

    with structlog.testing.capture_logs() as logs:
        scheduler.start()
        wait_until(lambda: len(witness.results("bad")) >= 2, says="it was tried again")

    assert set(witness.results("bad")) == {"error"}
    assert {entry["event"] for entry in logs} == {"job.failed"}


def test_a_job_never_overlaps_itself(make_scheduler: Callable[..., Scheduler], witness: Witness) -> None:
    """A turn that comes while the last one still runs is skipped and counted."""
    scheduler, go_on = make_scheduler(), threading.Event()
    scheduler.add(job("slow", go_on.wait))

    scheduler.start()
    wait_until(lambda: "skipped_overlap" in witness.results("slow"), says="the overlap is skipped")
    running = witness.results("slow").count("executed")
    go_on.set()

    assert running == 0


def test_a_region_that_hangs_holds_nobody_else_up(make_scheduler: Callable[..., Scheduler], witness: Witness) -> None:
    """Each pool has threads of its own: with every thread of one stuck, the other's jobs run on."""
    scheduler, go_on = make_scheduler(dead=1, alive=1), threading.Event()
    for i in range(5):
        scheduler.add(job(f"dead-{i}", go_on.wait, pool="dead"))
    scheduler.add(job("alive", lambda: None, pool="alive"))

    scheduler.start()
    wait_until(lambda: witness.results("alive").count("executed") >= 5, says="the healthy region is looked at")
    go_on.set()

    assert not any(witness.results(f"dead-{i}") == ["executed"] * 5 for i in range(5))


def test_what_is_due_next_is_told(make_scheduler: Callable[..., Scheduler]) -> None:
    """The status page shows it, soonest first."""
    scheduler = make_scheduler()
    scheduler.add(job("later", lambda: None, 3600, first_within_seconds=3600.0))
    scheduler.add(job("sooner", lambda: None, 600, first_within_seconds=0.0))

    scheduler.start()

    names = [name for name, _ in scheduler.next_runs()]
    assert set(names) == {"later", "sooner"}


def test_stopping_before_the_beginning_is_nothing(witness: Witness) -> None:
    """As when another part could not be built; APScheduler raised in a thread that nobody looked at."""
    scheduler = Scheduler(SystemClock(), pools={"main": 1}, observer=witness)

    assert scheduler.stop(1)


def test_stopping_waits_for_what_runs_but_not_for_ever(witness: Witness) -> None:
    """A job that hangs is given up after the deadline, and told as such."""
    scheduler = Scheduler(SystemClock(), pools={"main": 1}, observer=witness)
    started, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        go_on.wait()

    scheduler.add(job("hung", hang, 60))
    scheduler.start()
    assert started.wait(10)

    ended = scheduler.stop(0.1)
    go_on.set()

    assert not ended
    wait_until(lambda: witness.results("hung") == ["executed"], says="the job ends by itself")


class FlakyStore(MemoryJobStore):  # type: ignore[misc] # APScheduler has no types
    """A job store with one transient error."""

    fail_next = False

    def update_job(self, job: object) -> None:
        if self.fail_next:
            self.fail_next = False
            raise OSError("one transient error")
        super().update_job(job)


class RaisingTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler has no types
    """A trigger with a bug."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is not None:
            raise ValueError("a trigger that always raises")
        return now


@pytest.fixture
def make_safe() -> Iterator[Callable[..., SafeScheduler]]:
    made: list[SafeScheduler] = []

    def make(clock: SystemClock | None = None, **options: object) -> SafeScheduler:
        made.append(SafeScheduler(clock or SystemClock(), timezone=UTC, **options))
        return made[-1]

    yield make
    for scheduler in made:
        scheduler.shutdown()


def test_one_error_of_the_store_does_not_end_the_thread(make_safe: Callable[..., SafeScheduler]) -> None:
    """Stock: the thread dies for ever, while `running` stays True."""
    store, runs = FlakyStore(), []
    scheduler = make_safe(jobstores={"default": store})
    scheduler.start()
    scheduler.add_job(lambda: runs.append(1), "interval", seconds=0.05)
    wait_until(lambda: runs, says="a first run")

    with structlog.testing.capture_logs() as logs:
        store.fail_next = True
        wait_until(lambda: any(entry["event"] == "scheduler.cycle_failed" for entry in logs), says="the error is told")
        before = len(runs)
        wait_until(lambda: len(runs) > before, says="runs after the error")
        wait_until(lambda: scheduler.failed_cycles == 0, says="that cycle ends, and ends the row")


def test_liveness_sees_a_trigger_that_always_raises(make_safe: Callable[..., SafeScheduler]) -> None:
    """The thread lives and dispatches nothing: only the second heartbeat tells."""
    scheduler = make_safe()
    with structlog.testing.capture_logs():
        scheduler.start()
        scheduler.add_job(lambda: None, RaisingTrigger())
        wait_until(lambda: scheduler.failed_cycles >= 2, says="cycles fail")

        good, any_cycle = scheduler.last_good_cycle, scheduler.last_cycle

    assert any_cycle > good


@pytest.mark.parametrize(
    "step", [pytest.param(timedelta(hours=-1), id="back"), pytest.param(timedelta(hours=1), id="forward")]
)
def test_a_step_of_the_wall_clock_moves_what_is_due(make_safe: Callable[..., SafeScheduler], step: timedelta) -> None:
    """Stock: set back an hour, nothing runs for an hour. Here the due times go along with the clock."""
    clock = SteppingClock()
    scheduler = make_safe(clock)
    scheduler.start()
    due = datetime.now(UTC) + timedelta(hours=2)  # noqa: TID251 - APScheduler reads the machine's clock by itself
    scheduler.add_job(lambda: None, "interval", hours=3, id="later", next_run_time=due)
    wait_until(lambda: scheduler._offset_seconds is not None, says="the clocks are compared")

    with structlog.testing.capture_logs() as logs:
        clock.step = step
        wait_until(lambda: scheduler.steps == 1, says="the step is seen")

    assert scheduler.get_job("later").next_run_time == pytest.approx(due + step, abs=timedelta(seconds=1))
    assert [entry["event"] for entry in logs] == ["scheduler.clock_stepped"]


def test_what_falls_due_while_it_stops_is_not_used_up(make_safe: Callable[..., SafeScheduler]) -> None:
    """Stock: one more cycle after shutdown() submits to closed pools and moves every due time on."""
    scheduler = make_safe()
    scheduler.start()
    due = datetime.now(UTC) + timedelta(hours=1)  # noqa: TID251 - as above
    scheduler.add_job(lambda: None, "interval", hours=1, id="x", next_run_time=due)
    scheduler.shutdown()

    assert scheduler._process_jobs() == 0.0
    scheduler.start()


def test_a_machine_that_slept_owes_one_run_of_each_job(
    make_scheduler: Callable[..., Scheduler], witness: Witness
) -> None:
    """Due an hour ago, ten times a second: the newest turn runs, no storm of the others, and no silence after it."""
    scheduler, runs = make_scheduler(), []
    scheduler.add(job("tick", lambda: runs.append(1)))
    hour_ago = datetime.now(UTC) - timedelta(hours=1)  # noqa: TID251 - APScheduler reads the machine's clock by itself
    scheduler._inner.get_job("tick").modify(next_run_time=hour_ago)

    scheduler.start()
    wait_until(lambda: len(runs) >= 3, says="it goes on")

    assert len(witness.results("tick")) < 100
    assert "missed" not in witness.results("tick")


def test_a_turn_that_comes_too_late_is_told(make_scheduler: Callable[..., Scheduler], witness: Witness) -> None:
    """Not run any more, and not dropped in silence: whoever asked learns that nobody looked."""
    scheduler, runs = make_scheduler(), []
    scheduler.add(job("late", lambda: runs.append(1), 3600))
    late = datetime.now(UTC) - timedelta(seconds=10)  # noqa: TID251 - as above
    scheduler._inner.get_job("late").modify(next_run_time=late)

    scheduler.start()
    wait_until(lambda: witness.seen, says="its turn is over")

    assert (witness.results("late"), runs) == (["missed"], [])


class FatalStore(MemoryJobStore):  # type: ignore[misc] # APScheduler has no types
    """A job store that ends the thread that asks it, once."""

    fail_next = False

    def get_due_jobs(self, now: datetime) -> list[object]:
        if self.fail_next:
            self.fail_next = False
            raise SystemExit
        found: list[object] = super().get_due_jobs(now)
        return found


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it dies on purpose
def test_a_thread_that_died_is_started_anew(make_safe: Callable[..., SafeScheduler]) -> None:
    """What no `except Exception` sees: liveness fails until somebody outside has looked, then jobs run on."""
    store, runs = FatalStore(), []
    scheduler = make_safe(jobstores={"default": store})
    scheduler.start()
    scheduler.add_job(lambda: runs.append(1), "interval", seconds=0.05)
    wait_until(lambda: runs, says="a first run")
    scheduler.revive()
    thread = scheduler._thread
    assert thread is not None

    store.fail_next = True
    wait_until(lambda: not thread.is_alive(), says="the thread is dead")
    with structlog.testing.capture_logs() as logs:
        scheduler.revive()
    before = len(runs)
    wait_until(lambda: len(runs) > before, says="runs after its death")

    assert scheduler.restarts == 1
    assert [entry["event"] for entry in logs] == ["scheduler.thread_died"]


def test_a_scheduler_that_was_stopped_is_not_revived(make_safe: Callable[..., SafeScheduler]) -> None:
    """Its thread has ended because somebody wanted it to."""
    scheduler = make_safe()
    scheduler.start()
    scheduler.shutdown()

    scheduler.revive()

    assert scheduler.restarts == 0
    scheduler.start()
