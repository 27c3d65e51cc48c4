"""The watchdog put together: canaries on a schedule, results to sinks, drills looked after."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog

from kms_core import Core, CoreConfig
from kms_core.clock import Clock
from kms_core.events import Observer
from kms_watchdog import alarm_proofs, evacuation, metrics, runner, sharding
from kms_watchdog.alarm_proofs import ProofWatch
from kms_watchdog.canaries.canary import Canary, canary_id
from kms_watchdog.canaries.roster import Ports, own_canaries
from kms_watchdog.config import Settings, fingerprint
from kms_watchdog.deadman import CHECK_SECONDS, DeadMan, Switch
from kms_watchdog.drills.elsewhere import LOOK_SECONDS, Elsewhere
from kms_watchdog.drills.folder import folder as drill_folder
from kms_watchdog.drills.schedule import RECONCILE_SECONDS
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.health import STALE_AFTER_INTERVALS, USE_KINDS, Health, Subject
from kms_watchdog.installed_series import DEADMAN, ELSEWHERE, job_kind, series_of, subject_of
from kms_watchdog.kept import Kept, open_kept
from kms_watchdog.looks import Looks
from kms_watchdog.override_store import override_source
from kms_watchdog.readiness.task_watch import TaskWatch
from kms_watchdog.results import PAIR, CanaryResult, Kind, Reason
from kms_watchdog.scheduler import Job, JobResult, Scheduler
from kms_watchdog.sinks.cloudwatch_path import CloudWatchPath
from kms_watchdog.sinks.health import HealthSink
from kms_watchdog.sinks.otel_path import OTEL_POOL, open_otel
from kms_watchdog.sinks.prometheus import PrometheusSink
from kms_watchdog.sinks.series import Series
from kms_watchdog.sinks.sink import DrillSink, EventSink, LiveEvents, Sink, write_to_all
from kms_watchdog.state_folder import StateFolder
from kms_watchdog.web.access import Access, access_of
from kms_watchdog.web.documents import DRILLS_SHOWN, Status

log = structlog.get_logger("daemon")

HOUSEKEEPING, DRILLS, PAIRS, FAILOVER = "housekeeping", "drills", "pairs", "failover"
READING_KINDS = frozenset(
    {
        Kind.APPLICATION_ACCESS,
        Kind.COLD_CONNECTION,
        Kind.CLOCK_OFFSET,
        Kind.ALARM_PATH,
        Kind.KEY_STATE,
        Kind.REPLICA_DRIFT,
        Kind.HEADROOM,
    }
)
"""They ask slow services many things: in threads of their own, round trips never wait for them."""
MOST_THREADS = 10
"""Of one pool: with ten, no look of the default estate goes without while a whole region overruns its deadlines. A
thread is begun when none is idle, so a healthy daemon has but a few."""
HEARTBEAT_SECONDS = 1.0
FOLLOW_SECONDS = 0.5
PROOFS_SECONDS = 15.0
TASKS_SECONDS = 60.0
STALLED_AFTER_SECONDS = 10.0
FIRST_USE_SECONDS, FIRST_OTHER_SECONDS = 1.0, 3.0
"""The first looks come within so much of the start: whether keys can be used at once, all else without a crowd."""
FIRST_EACH_SECONDS = 0.01
"""What thousands of first looks are given each, at least: a look takes half of it of the processor, and what waits in
a crowd for longer than a job's grace is missed, and blind."""
STOP_SCHEDULER_SECONDS = 4.5  # with the listener (3 s) and the flush it stays below 10 s
FLUSH_SECONDS = 2.0
OTEL_FLUSH_SECONDS = 1.0
HURRY_SECONDS = 1.0
"""What the schedule gets to stop in at least, however late it is: platforms kill some seconds later."""


class Daemon:
    """One running watchdog. Build and start it in the main thread; `status` and the like may be asked from any."""

    def __init__(
        self,
        settings: Settings,
        config_path: Path,
        folder: StateFolder,
        clock: Clock,
        *,
        estate: str = "",
        before: Daemon | None = None,
        make_core: Callable[[CoreConfig, Observer], Core] | None = None,
        open_files: Callable[..., Kept] = open_kept,
    ) -> None:
        """Build every part; nothing runs yet, and nothing that runs is disturbed.

        Args:
            settings: what to do.
            config_path: where they are from, for the processes that this one starts.
            folder: the state folder, which this process owns.
            clock: the time.
            estate: which of the file's `[estates.NAME]` they are; empty: it has no such tables.
            before: the daemon that this one takes over from after a reload (`take_over`); None: the first.
            make_core: makes the crypto core; over AWS when None. For tests: `kms_core.testing.core_over`.
            open_files: opens the state folder's files, as `open_kept` does.

        Raises:
            StateError: a file of the state folder cannot be used.
            kms_core.errors.ConfigurationError: the core refuses the configuration.
        """
        self.settings, self.folder, self.clock = settings, folder, clock
        self.version = version("kms-watchdog")
        self.kept: Kept = before.kept if before else open_files(settings, config_path, folder, clock, estate=estate)
        self.started_at_utc = self.kept.started_at_utc
        self._ports = Ports(settings, clock, owns_state=True)
        with ExitStack() as on_failure:
            if before is None:
                on_failure.callback(self.kept.close)
            else:
                self._ports.take_over(before._ports)  # noqa: SLF001 - of the same class
            on_failure.callback(self._ports.close, but_for=before._ports if before else None)  # noqa: SLF001 - as above
            self._build(on_failure, before, make_core)
            on_failure.pop_all()
        self.scheduler = Scheduler(clock, pools=pools_of(settings, self.canaries), observer=self)
        self._steps_told = self._restarts_told = 0

    def _build(
        self,
        on_failure: ExitStack,
        before: Daemon | None,
        make_core: Callable[[CoreConfig, Observer], Core] | None,
    ) -> None:
        """Build canaries, sinks and the core; on the stack goes what is to be undone when that fails."""
        settings, clock = self.settings, self.clock
        self.canaries = own_canaries(self._ports)
        subjects = tuple(subject_of(canary) for canary in self.canaries)
        self._by_id = {canary_id(canary): canary for canary in self.canaries}
        self.looks = Looks(self.canaries, self._look)
        self.access: Access = before.access if before else access_of(settings.http, clock)
        self._waiting = set(self._by_id)
        self._ready = False

        self.exposition = self.kept.exposition
        self._series = series_of(settings, self.canaries)
        if before is None:
            self.exposition.create(self._series)  # after a reload they come with `take_over`: it may be refused yet
        self.prometheus = PrometheusSink(
            self.exposition,
            regions=settings.estate.regions,
            counted_by_key=settings.prometheus.counted_by_key,
        )
        unproven = alarm_proofs.to_be_proven(settings)
        self._proofs = ProofWatch(settings.state.dir, unproven, self.prometheus.on_alarms)
        self._tasks = TaskWatch(settings, self.kept.follower.runs, self.exposition, clock)
        self._log, self.history = self.kept.log, self.kept.history
        self.cloudwatch = (
            CloudWatchPath(
                settings, subjects, self.kept.queue, self.exposition, clock, faults=self.kept.watch.active_faults
            )
            if settings.cloudwatch.enabled
            else None
        )
        events: tuple[EventSink, ...] = (self.prometheus, self._log, self.history, self._ports.estate.traffic)
        if self.cloudwatch:
            events = (*events, self.cloudwatch.sink)
        self.otel = open_otel(
            settings,
            self.exposition,
            clock,
            version=self.version,
            started_at=self.started_at_utc.timestamp(),
        )
        if self.otel:
            on_failure.callback(self.otel.close)
        observer, config = LiveEvents(events, clock), settings.core_config()
        self.core = (
            make_core(config, observer)
            if make_core
            else Core(config, observer, clock=clock, overrides=override_source(settings))
        )
        on_failure.callback(self.core.close)
        self.health = HealthSink(
            subjects,
            clock,
            stale_after_seconds=stale_after_seconds(settings, subjects),
            breakers=self._breakers,
            boards=(self.prometheus,),
            seen_in_part=sharding.seen_in_part(subjects, settings.keys, settings.estate.regions),
        )
        self._dead_man = self._build_dead_man()
        results: tuple[Sink, ...] = (self.prometheus, self.health, self.history, self._log)
        if self.cloudwatch:
            results = (*results, self.cloudwatch.sink)
        self.results = results
        drill_sinks: tuple[DrillSink, ...] = (self.prometheus, self.health)
        if self.cloudwatch:
            drill_sinks = (*drill_sinks, self.cloudwatch.sink)
        self._events, self._drill_sinks = events, drill_sinks
        store = open_store(settings, clock)
        self._elsewhere = Elsewhere(settings, store, clock) if store else None
        self.follower, self.watch = self.kept.follower, self.kept.watch

    def start(self) -> None:
        """Read what earlier drills left, and begin."""
        self.look_back()
        self._begin()

    def look_back(self) -> None:
        """Read what earlier drills left, and have the leftovers healed; no job runs yet."""
        self.prometheus.begin()
        self._hand_on()
        self.follower.restore()
        self._proofs.look()
        self.watch.look()

    def take_over(self, before: Daemon, *, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Go on where `before` was, which ends; return whether all its threads have ended.

        Canaries that both know keep their standing, counters go on, what was counted for CloudWatch is queued. Once
        `hurry` says so, nobody waits for canaries that run.
        """
        ended = before.scheduler.stop(STOP_SCHEDULER_SECONDS, hurry=hurry)
        if before.cloudwatch:
            before.cloudwatch.put_unfinished()
            if self.cloudwatch:
                self.cloudwatch.take_over(before.cloudwatch)
        self.exposition.create(self._series)
        self.health.take_over(before.health)
        before._note_ready()
        self._ready = before._ready
        self._waiting -= before._by_id.keys() - before._waiting
        gone = (before._series | before._constants().keys()) - self._series - self._constants().keys()
        for metric, labels in gone:
            self.exposition.remove(metric, *labels)
        self.prometheus.begin(before.prometheus)
        self._hand_on()
        self._begin()
        if before.otel:
            before.otel.close()
        before.core.close()
        return ended

    def _hand_on(self) -> None:
        """Let what is kept speak to this daemon's sinks."""
        self.follower.tell(results=self.results, events=self._events, drills=self._drill_sinks)
        self.kept.drills.plan(self.settings.plans, self._elsewhere.told_until if self._elsewhere else None)
        for (metric, labels), value in self._constants().items():
            self.exposition.put(metric, *labels, value=value)

    def _begin(self) -> None:
        self._tasks.look()  # else no task would be done before the first turn
        for job in self.jobs():
            self.scheduler.add(job)
        self.scheduler.start()

    def end_drills(self) -> bool:
        """Tell the drills that this process started to restore and end; return whether all have, in time.

        Meanwhile the daemon goes on: their numbers are republished to the end, and their alarms clear.
        """
        return self.kept.drills.stop(self.settings.drills.shutdown_seconds)

    def stop(self, *, spent_seconds: float = 0.0) -> bool:
        """Stop the schedule, send what is left, close all files; return whether every thread has ended.

        `spent_seconds` have gone by since the process was told to end: a drill, a reload or a reader of the page took
        them, and canaries that run get the less.
        """
        ended = self.scheduler.stop(max(HURRY_SECONDS, STOP_SCHEDULER_SECONDS - spent_seconds))
        self.watch.stop()
        if self.cloudwatch:
            self.cloudwatch.flush(FLUSH_SECONDS)
        if self.otel:
            self.otel.flush(OTEL_FLUSH_SECONDS)
        self.kept.close()
        self._ports.close()
        self.core.close()
        return ended

    def supervise(self) -> None:
        """Look after the scheduler from outside it, every second or so: its numbers, and its thread if that died."""
        self.scheduler.revive()
        self.exposition.put(metrics.SCHEDULER_FAILED_CYCLES, value=self.scheduler.failed_cycles)
        steps, restarts = self.scheduler.clock_steps, self.scheduler.restarts
        self.exposition.add(metrics.SCHEDULER_CLOCK_STEPS, by=steps - self._steps_told)
        self.exposition.add(metrics.SCHEDULER_RESTARTS, by=restarts - self._restarts_told)
        self._steps_told, self._restarts_told = steps, restarts

    def alive(self) -> bool:
        """Return whether jobs are being dispatched and results written; asks nothing outside this process."""
        return self.scheduler.good_cycle_age_seconds() < STALLED_AFTER_SECONDS and self._writers_alive()

    def waiting_for(self) -> tuple[str, ...]:
        """Return what is missing before the daemon is ready: names of steps, empty when it is."""
        first_round = bool(self._waiting) and not self._ready  # what a reload adds does not take readiness away
        steps = {"leftover_faults": bool(self.watch.leftovers), "first_round": first_round}
        return tuple(name for name, missing in steps.items() if missing)

    def health_now(self) -> Health:
        """Return the live health."""
        return self.health.standing().health

    def status(self) -> Status:
        """Return all that the status page tells."""
        runs = self.follower.runs()
        return Status(
            settings=self.settings,
            version=self.version,
            now_utc=self.clock.now_utc(),
            started_at_utc=self.started_at_utc,
            standing=self.health.standing(),
            board=self.health.board(),
            regions=self.core.health().regions,
            orders=self.core.overrides(),
            ticks=self.history.ticks(),
            failures=self.history.failures(),
            runs=runs,
            reports=frozenset(view.run_id for view in runs[:DRILLS_SHOWN] if self.report(view.run_id)),
            next_runs=self.scheduler.next_runs(),
        )

    def metrics_text(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type."""
        return self.exposition.render(accept)

    def report(self, run_id: str) -> Path | None:
        """Return a drill's report; None: there is none, or `run_id` is no run id."""
        try:
            path = drill_folder(self.settings.state.dir, run_id).report
        except ValueError:
            return None
        return path if path.is_file() and not path.is_symlink() else None

    def run_canary(self, name: str) -> CanaryResult:
        """Let a canary look now, as if its time had come; its result goes where all go.

        Raises:
            UnknownCanaryError, CanaryBusyError, TooManyLooksError: it was not asked.
        """
        return self.looks.on_demand(name)

    def on_job(self, job: Job, result: JobResult, lag_seconds: float | None) -> None:
        """Count a job's run; a canary whose turn came too late has seen nothing, and says so."""
        self.prometheus.on_job(job, result, lag_seconds)
        canary = self._by_id.get(job.id)
        if canary and result == "missed":
            self._waiting.discard(job.id)
            write_to_all(self.results, runner.could_not_ask(canary, self.clock, Reason.OWN_DEADLINE))

    def jobs(self) -> tuple[Job, ...]:
        """Return all that is done again and again."""
        crowd_seconds = len(self.canaries) * FIRST_EACH_SECONDS
        canaries = tuple(
            Job(
                id=canary_id(canary),
                kind=job_kind(canary),
                action=partial(self.looks.scheduled, canary_id(canary)),
                interval_seconds=self.settings.canaries.timing(canary.kind).interval_seconds,
                pool=pool_of(canary),
                first_within_seconds=max(
                    FIRST_USE_SECONDS if canary.kind in USE_KINDS else FIRST_OTHER_SECONDS,
                    min(crowd_seconds, self.settings.canaries.timing(canary.kind).interval_seconds),
                ),
            )
            for canary in self.canaries
        )
        publishing = tuple(self.cloudwatch.jobs(HOUSEKEEPING)) if self.cloudwatch else ()
        reading = (_housekeeping(ELSEWHERE, self._elsewhere.look, LOOK_SECONDS, ELSEWHERE),) if self._elsewhere else ()
        pinging = (_housekeeping(DEADMAN, self._dead_man.look, CHECK_SECONDS, DEADMAN),) if self._dead_man else ()
        return (
            *canaries,
            *publishing,
            *(self.otel.jobs() if self.otel else ()),
            *pinging,
            *reading,
            _housekeeping("heartbeat", self._beat, HEARTBEAT_SECONDS, HOUSEKEEPING),
            _housekeeping("drills.follow", self.follower.follow, FOLLOW_SECONDS, DRILLS),
            _housekeeping("drills.slots", self.kept.drills.reconcile, RECONCILE_SECONDS, DRILLS),
            _housekeeping("alarms.proofs", self._proofs.look, PROOFS_SECONDS, DRILLS),
            _housekeeping("tasks", self._tasks.look, TASKS_SECONDS, DRILLS),
            _housekeeping("drills.watch", self.watch.look, self.settings.drills.check_seconds, DRILLS),
        )

    def _look(self, canary: Canary) -> CanaryResult:
        result = runner.run(canary, self.core, self.clock, sinks=self.results)
        self._waiting.discard(canary_id(canary))
        return result

    def _build_dead_man(self) -> DeadMan | None:
        health = self.settings.health
        if health.deadman_url is None:
            return None
        url, timeout_seconds = health.deadman_url.get_secret_value(), health.deadman_timeout_seconds
        return DeadMan(
            Switch(url, health.deadman_method, timeout_seconds).ping,
            self.health,
            self.clock,
            stale_after_seconds=stale_after_seconds(self.settings, self.health.board().canaries),
            count=partial(self.exposition.add, metrics.DEADMAN_PINGS),
        )

    def _writers_alive(self) -> bool:
        """Return whether the threads live that alone write the state folder's files (`SqliteFile` names them so)."""
        writers = {f"sqlite-{path.stem}" for path in (self.folder.history, self.folder.metric_queue)}
        return writers <= {thread.name for thread in threading.enumerate()}

    def _beat(self) -> None:
        self.history.flush()
        self.prometheus.heartbeat(self.clock.now_utc())
        core = self.core.health()
        self.prometheus.on_core(core.cached_keys, core.evicted_keys)
        self.prometheus.on_evacuated(evacuation.evacuated(self.core.overrides()))
        self.prometheus.on_orders_unreadable(self.core.overrides_unreadable())
        health = self.health.standing().health
        self.prometheus.on_health(health)
        if not self._waiting:  # before the first round is over, "not healthy yet" is no news
            self._log.on_health(health)
        self._note_ready()

    def _note_ready(self) -> None:
        if not self._ready and not self.waiting_for():
            self._ready = True
            log.info("daemon.ready", status=str(self.health_now().status))

    def _breakers(self) -> Mapping[str, str]:
        return {region: health.breaker for region, health in self.core.health().regions.items()}

    def _constants(self) -> dict[Series, float]:
        """Return what the configuration itself says in metrics."""
        found: dict[Series, float] = {(metrics.BUILD_INFO, (self.version, fingerprint(self.settings))): 1}
        for kind in {canary.kind for canary in self.canaries}:
            found[metrics.CANARY_INTERVAL, (kind,)] = self.settings.canaries.timing(kind).interval_seconds
        return found


def stale_after_seconds(settings: Settings, subjects: Iterable[Subject]) -> Mapping[str, float]:
    """Return by kind how old an answer may be."""
    kinds = {subject.canary for subject in subjects}
    return {kind: STALE_AFTER_INTERVALS * settings.canaries.timing(kind).interval_seconds for kind in kinds}


def pool_of(canary: Canary) -> str:
    """Return the pool whose threads run `canary`: of its region, and apart from what only reads there.

    A canary of two regions is in neither's pool: a dead one would hold the threads of the other (scale.md §1.6).
    """
    if PAIR in canary.region:
        return PAIRS
    if canary.kind == Kind.FAILOVER_PATH:
        return FAILOVER
    return f"{canary.region}.reading" if canary.kind in READING_KINDS else canary.region


def _housekeeping(name: str, action: Callable[[], object], interval_seconds: float, pool: str) -> Job:
    return Job(id=name, kind=name, action=action, interval_seconds=interval_seconds, pool=pool)


def pools_of(settings: Settings, canaries: Iterable[Canary]) -> dict[str, int]:
    """Return all pools, each with the most threads it may have.

    A dead region holds the threads of its own pools and nobody else's. Each canary gets one there, as far as they go:
    slots stand still, so a look that finds no thread in one round finds none in any, and would be blind for as long as
    the region is sick, which is when it has something to say.
    """
    looks = Counter(map(pool_of, canaries))
    pools = {pool: min(MOST_THREADS, number) for pool, number in looks.items()}
    if settings.health.deadman_url is not None:
        pools[DEADMAN] = 1  # a switch that does not answer holds its own thread alone
    if settings.drills.evidence.store is not None:
        pools[ELSEWHERE] = 1  # as with the switch
    if settings.otel.enabled:
        pools[OTEL_POOL] = 1
    # A sender may hang on a dead region for seconds: heartbeat and counting have threads left then.
    return {**pools, HOUSEKEEPING: 2 + len(settings.publish_regions), DRILLS: 1}
