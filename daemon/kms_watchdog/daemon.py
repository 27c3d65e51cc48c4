"""The watchdog put together: canaries on a schedule, results to sinks, drills looked after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog import metrics, runner
from kms_watchdog.canaries.canary import Canary, canary_id
from kms_watchdog.canaries.round_trip import RoundTrip
from kms_watchdog.config import Settings, fingerprint
from kms_watchdog.drills.folder import folder as drill_folder
from kms_watchdog.drills.follow import Follower
from kms_watchdog.drills.watch import DrillWatch, start_healer
from kms_watchdog.health import Health, Subject
from kms_watchdog.results import Reason
from kms_watchdog.scheduler import Job, JobResult, Scheduler
from kms_watchdog.sinks.cloudwatch_path import CLOSE_KIND, SEND_KIND, CloudWatchPath
from kms_watchdog.sinks.health import HealthSink
from kms_watchdog.sinks.history import HistorySink
from kms_watchdog.sinks.log import LogSink
from kms_watchdog.sinks.prometheus import Exposition, PrometheusSink
from kms_watchdog.sinks.series import Cardinality, all_series
from kms_watchdog.sinks.sink import DrillSink, EventSink, LiveEvents, Sink, write_to_all
from kms_watchdog.state_folder import StateFolder
from kms_watchdog.web.documents import DRILLS_SHOWN, Status

log = structlog.get_logger("daemon")

HOUSEKEEPING, DRILLS = "housekeeping", "drills"
THREADS_PER_REGION = 2  # a dead region holds its own threads and nobody else's
HEARTBEAT_SECONDS = 1.0
FOLLOW_SECONDS = 0.5
STALLED_AFTER_SECONDS = 10.0
STOP_SCHEDULER_SECONDS = 5.5
FLUSH_SECONDS = 2.0


def live_canaries(settings: Settings) -> tuple[Canary, ...]:
    """Return the canaries that the configuration asks for."""
    return tuple(
        RoundTrip(region, purpose, deadline_seconds=settings.canaries.deadline_seconds)
        for region in settings.estate.regions
        for purpose in settings.keys
    )


def subject_of(canary: Canary) -> Subject:
    """Return what `canary` looks at."""
    return Subject(canary.kind, canary.region, canary.purpose)


class Daemon:
    """One running watchdog. Build and start it in the main thread; `status` and the like may be asked from any."""

    def __init__(self, settings: Settings, config_path: Path, folder: StateFolder, clock: Clock) -> None:
        """Build every part; nothing runs yet.

        Raises:
            StateError: a file of the state folder cannot be used.
            kms_core.errors.ConfigurationError: the core refuses the configuration.
        """
        self.settings, self.folder, self.clock = settings, folder, clock
        self.version = version("kms-watchdog")
        self.started_at_utc = clock.now_utc()
        self.canaries = live_canaries(settings)
        subjects = tuple(subject_of(canary) for canary in self.canaries)
        self._by_id = {canary_id(canary): canary for canary in self.canaries}
        self._waiting = set(self._by_id)
        self._ready = False

        self.exposition = Exposition()
        self.exposition.create(all_series(_cardinality(settings, subjects, self.canaries)))
        self.prometheus = PrometheusSink(self.exposition, regions=settings.estate.regions)
        self._log = LogSink()
        self.history = HistorySink(folder.history, clock)
        self.cloudwatch = (
            CloudWatchPath(settings, subjects, folder.metric_queue, self.exposition, clock)
            if settings.cloudwatch.enabled
            else None
        )
        events: tuple[EventSink, ...] = (self.prometheus, self._log)
        if self.cloudwatch:
            events = (*events, self.cloudwatch.sink)
        self.core = Core(settings.core_config(), observer=LiveEvents(events, clock), clock=clock)
        self.health = HealthSink(
            subjects,
            clock,
            interval_seconds=settings.canaries.interval_seconds,
            breakers=self._breakers,
            boards=(self.prometheus,),
        )
        results: tuple[Sink, ...] = (self.prometheus, self.health, self.history, self._log)
        if self.cloudwatch:
            results = (*results, self.cloudwatch.sink)
        self._results = results
        drill_sinks: tuple[DrillSink, ...] = (self.prometheus, self.health)
        if self.cloudwatch:
            drill_sinks = (*drill_sinks, self.cloudwatch.sink)
        self.follower = Follower(settings.state.dir, results=results, events=events, drills=drill_sinks)
        self.watch = DrillWatch(
            settings.state.dir, self.exposition, clock, start=start_healer(config_path), follower=self.follower
        )
        self.scheduler = Scheduler(clock, pools=_pools(settings), observer=self)
        self._tell_constants(config_path)

    def start(self) -> None:
        """Read what earlier drills left, and begin."""
        self.follower.restore()
        self.watch.look()
        for job in self._jobs():
            self.scheduler.add(job)
        self.scheduler.start()

    def stop(self) -> bool:
        """Stop the schedule, send what is left, close all files; return whether every thread has ended."""
        ended = self.scheduler.stop(STOP_SCHEDULER_SECONDS)
        self.watch.stop()
        if self.cloudwatch:
            if ended:  # else a sender may still be at it; what waits is on disk
                self.cloudwatch.flush(FLUSH_SECONDS)
            self.cloudwatch.close()
        self.history.close()
        self.core.close()
        return ended

    def alive(self) -> bool:
        """Return whether jobs are being dispatched; asks nothing outside this process."""
        return self.scheduler.good_cycle_age_seconds() < STALLED_AFTER_SECONDS

    def waiting_for(self) -> tuple[str, ...]:
        """Return what is missing before the daemon is ready: names of steps, empty when it is."""
        steps = {"leftover_faults": bool(self.watch.leftovers), "first_round": bool(self._waiting)}
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

    def on_job(self, job: Job, result: JobResult, lag_seconds: float | None) -> None:
        """Count a job's run; a canary whose turn came too late has seen nothing, and says so."""
        self.prometheus.on_job(job, result, lag_seconds)
        canary = self._by_id.get(job.id)
        if canary and result == "missed":
            self._waiting.discard(job.id)
            write_to_all(self._results, runner.could_not_ask(canary, self.clock, Reason.OWN_DEADLINE))

    def _jobs(self) -> tuple[Job, ...]:
        canaries = tuple(
            Job(
                id=canary_id(canary),
                kind=_job_kind(canary),
                action=partial(self._look, canary),
                interval_seconds=self.settings.canaries.interval_seconds,
                pool=canary.region,
            )
            for canary in self.canaries
        )
        publishing = tuple(self.cloudwatch.jobs(HOUSEKEEPING)) if self.cloudwatch else ()
        return (
            *canaries,
            *publishing,
            _housekeeping("heartbeat", self._beat, HEARTBEAT_SECONDS, HOUSEKEEPING),
            _housekeeping("drills.follow", self.follower.follow, FOLLOW_SECONDS, DRILLS),
            _housekeeping("drills.watch", self.watch.look, self.settings.drills.check_seconds, DRILLS),
        )

    def _look(self, canary: Canary) -> None:
        runner.run(canary, self.core, self.clock, sinks=self._results)
        self._waiting.discard(canary_id(canary))

    def _beat(self) -> None:
        self.prometheus.heartbeat(self.clock.now_utc())
        health = self.health.standing().health
        self.prometheus.on_health(health)
        if not self._waiting:  # before the first round is over, "not healthy yet" is no news
            self._log.on_health(health)
        if not self._ready and not self.waiting_for():
            self._ready = True
            log.info("daemon.ready", status=str(health.status))

    def _breakers(self) -> Mapping[str, str]:
        return {region: health.breaker for region, health in self.core.health().regions.items()}

    def _tell_constants(self, config_path: Path) -> None:
        self.exposition.put(metrics.BUILD_INFO, self.version, fingerprint(config_path), value=1)
        for kind in {canary.kind for canary in self.canaries}:
            self.exposition.put(metrics.CANARY_INTERVAL, kind, value=self.settings.canaries.interval_seconds)


def _job_kind(canary: Canary) -> str:
    return f"canary.{canary.kind}"


def _housekeeping(name: str, action: Callable[[], object], interval_seconds: float, pool: str) -> Job:
    return Job(id=name, kind=name, action=action, interval_seconds=interval_seconds, pool=pool)


def _pools(settings: Settings) -> dict[str, int]:
    pools = dict.fromkeys(settings.estate.regions, THREADS_PER_REGION)
    # A sender may hang on a dead region for seconds: heartbeat and counting have threads left then.
    return {**pools, HOUSEKEEPING: 2 + len(settings.publish_regions), DRILLS: 1}


def _cardinality(settings: Settings, subjects: tuple[Subject, ...], canaries: tuple[Canary, ...]) -> Cardinality:
    kinds = {_job_kind(canary) for canary in canaries} | {"heartbeat", "drills.follow", "drills.watch"}
    if settings.cloudwatch.enabled:
        kinds |= {CLOSE_KIND, SEND_KIND}
    return Cardinality(
        subjects=subjects,
        regions=settings.estate.regions,
        publish_regions=settings.publish_regions if settings.cloudwatch.enabled else (),
        job_kinds=sorted(kinds),
    )
