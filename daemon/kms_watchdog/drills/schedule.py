"""Scheduled drills, and proofs of the alarms: the ledger held against the plans, processes started and waited for.

APScheduler only wakes this up; what must happen is in the ledger (scale.md §1.8).
"""

from __future__ import annotations

import queue
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog

from kms_core.clock import Clock
from kms_watchdog import alarm_proofs, metrics
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, folder
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.runs import RunView
from kms_watchdog.drills.slot_ledger import SlotLedger
from kms_watchdog.drills.slots import (
    ALARM_PROOF,
    INTERVALS,
    OPEN,
    Action,
    Credit,
    Forget,
    Miss,
    Others,
    Plan,
    Row,
    RunSeen,
    Settle,
    Slot,
    SlotState,
    Start,
    due,
)
from kms_watchdog.drills.verdict import answer
from kms_watchdog.sinks.prometheus import Exposition

log = structlog.get_logger("drills")

RECONCILE_SECONDS = 60.0
_LOOK_SECONDS = 0.1


class DrillProcess(Protocol):
    """A drill under way; `subprocess.Popen` is one."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""

    def send_signal(self, sig: int, /) -> None:
        """Signal it; nothing happens when it has ended."""


class StartDrill(Protocol):
    """Starts the drill of a slot."""

    def __call__(self, slot: Slot, run_id: str) -> DrillProcess:
        """Start it.

        Raises:
            OSError: no process could be started.
        """

    def last_words(self) -> str:
        """Return the last line that the last drill said; empty: nothing."""


class start_drill:  # noqa: N801 - called like the function that it nearly is
    """Starts `kms-chaos run`, or `kms-alarms prove`, for a slot.

    `arguments` say where the configuration is, `said` takes what it says.
    """

    def __init__(self, arguments: Sequence[str], said: Path) -> None:
        self._arguments, self._said = tuple(arguments), said

    def __call__(self, slot: Slot, run_id: str) -> DrillProcess:
        """Start it."""
        region = ("--region", slot.plan.region) if slot.plan.region else ()
        named = ("--slot", slot.id, "--run-id", run_id)
        proof = slot.plan.task == ALARM_PROOF
        command = ("kms_alarms", "prove", "--yes") if proof else ("kms_chaos", "run", slot.plan.drill)
        with self._said.open("wb") as said:
            # Not through the shell; all of it comes from the checked configuration.
            return subprocess.Popen(  # noqa: S603 - as said above
                [sys.executable, "-m", *command, *self._arguments, *region, *named],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def last_words(self) -> str:
        """Return the last line that the last drill said."""
        try:
            lines = self._said.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


class DrillSchedule:
    """Sees to it that each slot has its drill; `reconcile` is called from one thread at a time."""

    def __init__(
        self,
        state_dir: Path,
        ledger: SlotLedger,
        exposition: Exposition,
        clock: Clock,
        *,
        start: StartDrill,
        runs: Callable[[], Iterable[RunView]] = tuple,
    ) -> None:
        """`runs` returns the drills that are known, other machines' too."""
        self._runs = runs
        self._told_until: Callable[[], datetime] | None = None
        self._state_dir, self._ledger, self._exposition, self._clock = state_dir, ledger, exposition, clock
        self._start = start
        self._plans: tuple[Plan, ...] = ()
        self._processes: dict[str, DrillProcess] = {}
        self._stopping = threading.Event()

    def plan(self, plans: Sequence[Plan], told_until: Callable[[], datetime] | None = None) -> None:
        """Follow these plans from now on.

        `told_until` returns up to when it is known which drills began on other machines; None: there are no others.
        """
        self._told_until = told_until
        for old in self._plans:
            if old.label not in {plan.label for plan in plans}:
                self._exposition.remove(metrics.DRILL_INTERVAL, old.label)
                self._exposition.remove(metrics.DRILL_MISSED_SLOT, old.label)
        self._plans = tuple(plans)
        for plan in plans:
            self._exposition.create([(metrics.DRILL_SLOTS_MISSED, (plan.label,))])
            self._exposition.put(metrics.DRILL_INTERVAL, plan.label, value=INTERVALS[plan.every].total_seconds())

    def reconcile(self) -> None:
        """Hold the ledger against plans and runs once, and do what is due."""
        plans = self._plans
        since = self._ledger.planned_since(plan.name for plan in plans)
        self._settle([(plan, since[plan.name]) for plan in plans])
        self._show_missed(plans)

    def _show_missed(self, plans: Sequence[Plan]) -> None:
        """Show whose last slot was missed: a count would not tell of one that was missed while no daemon ran."""
        label_of = {plan.name: plan.label for plan in plans}
        last = dict.fromkeys(label_of.values(), 0.0)
        for row in self._ledger.rows():  # in the order in which they were due
            if label := label_of.get(row.plan):
                last[label] = row.due_utc.timestamp() if row.state is SlotState.MISSED else 0.0
        for label, due_at in last.items():
            self._exposition.put(metrics.DRILL_MISSED_SLOT, label, value=due_at)

    def _settle(self, planned: Sequence[tuple[Plan, datetime]]) -> None:
        rows = self._ledger.rows()
        runs = {row.run_id: self._seen(row) for row in rows if row.state in OPEN}
        for action in due(planned, rows, runs, self._clock.now_utc(), self._others()):
            self._do(action)

    def _others(self) -> Others:
        told_until_utc = self._told_until() if self._told_until else None  # before the runs: these may know more
        had = {
            view.slot: (view.run_id, str(view.verdict or "")) for view in self._runs() if view.elsewhere and view.slot
        }
        return Others(slots=had, told_until_utc=told_until_utc)

    def running(self) -> tuple[str, ...]:
        """Return the runs of drills that this process has started and that have not ended."""
        return tuple(run_id for run_id, process in list(self._processes.items()) if process.poll() is None)

    def stop(self, deadline_seconds: float) -> bool:
        """Tell running drills to restore and end, and wait; return whether all have ended. None is started any more.

        One that has not ended goes on restoring by itself; if it is killed, its undo record heals at the next start.
        """
        self._stopping.set()
        for run_id in self.running():
            log.warning("drill.told_to_end", run_id=run_id)
            self._processes[run_id].send_signal(signal.SIGTERM)
        until, never = self._clock.monotonic() + deadline_seconds, threading.Event()
        while left := self.running():
            if self._clock.monotonic() >= until:
                log.error("drill.still_restoring", run_ids=list(left), waited_seconds=deadline_seconds)
                return False
            self._clock.wait(never, _LOOK_SECONDS)
        return True

    def close(self) -> None:
        """Write down how drills ended, as far as they did, and close the ledger."""
        try:
            self._settle([])
        except (sqlite3.Error, TimeoutError, queue.Full) as e:  # a full disk: the next start finds out
            log.error("drill.ledger_not_written", error=str(e) or type(e).__name__)  # noqa: TRY400 - its text says it all
        self._ledger.close()

    def _seen(self, row: Row) -> RunSeen:
        folder_of = alarm_proofs.folder if row.task == ALARM_PROOF else folder
        where = folder_of(self._state_dir, row.run_id)
        process = self._processes.get(row.run_id)
        code = process.poll() if process else None
        if process and code is None:
            return RunSeen(alive=True, exists=where.path.is_dir())
        if not where.path.is_dir():
            return RunSeen(alive=False, exit_code=code, said=self._start.last_words() if process else "")
        closed, verdict = _ending(where)
        return RunSeen(alive=where.has_owner(), exit_code=code, exists=True, closed=closed, verdict=verdict)

    def _do(self, action: Action) -> None:
        match action:
            case Start(slot):
                self._begin(slot)
            case Miss(slot):
                if self._ledger.miss(slot):
                    self._exposition.add(metrics.DRILL_SLOTS_MISSED, slot.plan.label)
                    log.error("drill.slot_missed", slot=slot.id, drill=slot.plan.drill)
            case Credit(slot, run_id, verdict):
                note = verdict or "came to no verdict"
                if self._ledger.credit(slot, run_id, note):
                    log.info("drill.slot_settled", slot=slot.id, run_id=run_id, state="ELSEWHERE", note=note)
            case Settle(row, state, note):
                self._ledger.settle(row, state, note)
                if state is not SlotState.RUNNING:
                    self._processes.pop(row.run_id, None)
                    tell = log.info if state is SlotState.DONE else log.warning
                    tell("drill.slot_settled", slot=row.id, run_id=row.run_id, state=str(state), note=note or None)
            case Forget(row):
                self._ledger.forget(row)
                log.warning("drill.slot_forgotten", slot=row.id, why="it is due later; the clock was ahead")

    def _begin(self, slot: Slot) -> None:
        if self._stopping.is_set():
            return
        run_id = f"{self._clock.now_utc():%Y%m%dT%H%M%SZ}-{slot.plan.label}"
        if not self._ledger.claim(slot, run_id):
            return
        try:
            self._processes[run_id] = self._start(slot, run_id)
        except OSError as e:
            log.error("drill.not_started", slot=slot.id, why=str(e))  # noqa: TRY400 - the text says it all
            return  # the claim is given up by itself when the run does not show
        log.info("drill.started", slot=slot.id, run_id=run_id, drill=slot.plan.drill)


def _ending(where: DrillFolder) -> tuple[bool, str]:
    """Return whether a run's journal is closed, and the verdict in it."""
    try:
        found = journal.read(where.journal)
    except (JournalError, OSError):
        return True, ""  # nothing more will come of it; that it is broken is the follower's to tell
    # A run that died before its undo record leaves nothing to close.
    return found.closed or not where.undo.exists(), answer(found.records)
