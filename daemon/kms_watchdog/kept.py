"""What outlives a reload of the configuration: numbers go on, results stay, drills are followed further."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from kms_core.clock import Clock
from kms_watchdog import metrics
from kms_watchdog.config import Settings
from kms_watchdog.drills.follow import Follower
from kms_watchdog.drills.schedule import DrillSchedule, StartDrill, start_drill
from kms_watchdog.drills.slot_ledger import SlotLedger
from kms_watchdog.drills.watch import DrillWatch, StartHealer, start_healer
from kms_watchdog.logs import count_lines
from kms_watchdog.sinks.history import HistorySink
from kms_watchdog.sinks.log import LogSink
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.queue import MetricQueue
from kms_watchdog.state_folder import StateFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The parts that belong to the process and its state folder, not to one configuration."""

    folder: StateFolder
    clock: Clock
    started_at_utc: datetime
    history: HistorySink
    queue: MetricQueue
    follower: Follower
    watch: DrillWatch
    drills: DrillSchedule
    exposition: Exposition
    stop_counting_lines: Callable[[], None]
    log: LogSink = field(default_factory=LogSink)

    def close(self) -> None:
        """Close all files, the others too when one cannot be."""
        with ExitStack() as closing:
            for close in (self.drills.close, self.history.close, self.queue.close, self.stop_counting_lines):
                closing.callback(close)


def open_kept(
    settings: Settings,
    config_path: Path,
    folder: StateFolder,
    clock: Clock,
    *,
    estate: str = "",
    starts_drills: StartDrill | None = None,
    starts_healers: StartHealer | None = None,
) -> Kept:
    """Open the state folder's files; the processes it starts read `config_path`, and of it the tables of `estate`.

    `starts_drills` and `starts_healers` are other ways to start them; None: each a process of its own.

    Raises:
        StateError: one of them cannot be used.
    """
    exposition = Exposition(place=settings.replicas.place)
    follower = Follower(settings.state.dir)
    arguments = ("--config", str(config_path), *(("--estate", estate) if estate else ()))
    return Kept(
        folder=folder,
        clock=clock,
        started_at_utc=clock.now_utc(),
        exposition=exposition,
        stop_counting_lines=count_lines(partial(exposition.add, metrics.LOG_MESSAGES)),
        history=HistorySink(
            folder.history, clock, failed=partial(exposition.add, metrics.STATE_WRITE_FAILURES, "history")
        ),
        queue=MetricQueue(folder.metric_queue, clock),
        follower=follower,
        watch=DrillWatch(
            settings.state.dir, exposition, clock, start=starts_healers or start_healer(arguments), follower=follower
        ),
        drills=DrillSchedule(
            settings.state.dir,
            SlotLedger(folder.slots, clock),
            exposition,
            clock,
            start=starts_drills or start_drill(arguments, folder.drill_log),
            runs=follower.runs,
        ),
    )
