"""Look after faults that a drill left behind: whoever finds one whose owner is dead or whose time is up heals it.

The healing itself is the drill engine's (`python -m kms_chaos heal`), in a process of its own: nothing it does or fails
to do can stop the watchdog.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import structlog

from kms_core.clock import Clock
from kms_watchdog import metrics
from kms_watchdog.drills import halt_order, undo
from kms_watchdog.drills.folder import DrillFolder, folder, folders
from kms_watchdog.drills.follow import Follower
from kms_watchdog.drills.runs import RunView
from kms_watchdog.drills.undo import UndoRecord, UndoRecordError
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.series import drill_series

log = structlog.get_logger("drills")

HEAL_SECONDS = 30.0
"""After that a healer is killed; it is bounded itself, this is for one that hangs."""
RETRY_SECONDS = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

SEAL_AGAIN_SECONDS = 3600.0
"""Sealing that did not work, because a key or a store does not answer, is no emergency; `heal` tells why."""

HealReason = Literal["owner_dead", "expired"]
Task = Literal["undo", "finish", "seal"]
"""What a run needs: its fault undone, or only its journal finished, or only its evidence sealed."""


class Healer(Protocol):
    """A healing under way; `subprocess.Popen` is one."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""


StartHealer = Callable[[str], Healer]


def start_healer(arguments: Sequence[str]) -> StartHealer:
    """Return what starts `kms-chaos heal` for a run; `arguments` say where the configuration is."""

    def start(run_id: str) -> Healer:
        # Not through the shell, and nothing in it comes from outside: run ids are checked when folders are listed.
        return subprocess.Popen(  # noqa: S603 - as said above
            [sys.executable, "-m", "kms_chaos", "heal", *arguments, "--run", run_id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None,
        )

    return start


def why_heal(record: UndoRecord, *, has_owner: bool, now_utc: datetime) -> HealReason | None:
    """Return why the faults of an open run must be undone now; None: its owner lives and has time left."""
    if not has_owner:
        return "owner_dead"
    return "expired" if now_utc >= record.expires_at_utc else None


@dataclass(slots=True)
class _Healing:
    """What is being done about one run."""

    drill: str
    reason: HealReason
    healer: Healer
    started: float
    task: Task


@dataclass(slots=True)
class _Tries:
    failed: int = 0
    not_before: float = 0.0
    counted: bool = False


class DrillWatch:
    """Looks at every run's folder; called from one thread at a time, and never waits for a healer."""

    def __init__(
        self,
        state_dir: Path,
        exposition: Exposition,
        clock: Clock,
        *,
        start: StartHealer,
        follower: Follower,
    ) -> None:
        """`follower` is asked what the journals say, in the thread that calls `look`."""
        self._state_dir, self._exposition, self._clock = state_dir, exposition, clock
        self._start, self._follower = start, follower
        self._healings: dict[str, _Healing] = {}
        self._tries: dict[str, _Tries] = {}
        self._told: set[str] = set()
        self._sealed: set[str] = set()
        self._proxies: frozenset[str] = frozenset()
        self.leftovers: tuple[str, ...] = ()
        """Runs whose faults nobody owns and nobody has undone yet."""

    def active_faults(self) -> int:
        """Return how many proxies have a fault that nobody has undone yet; from any thread."""
        return len(self._proxies)

    def look(self) -> None:
        """Look once: collect healers that ended, start those that are due."""
        self._collect()
        left: dict[str, UndoRecord] = {}
        orphans: list[str] = []
        views = self._views()
        for found in folders(self._state_dir):
            if (view := views.get(found.run_id)) and (view.closed or view.abandoned):
                self._seal_if_dead(found, view)
                continue
            record = self._undo_record(found)
            if record is None:
                self._finish_if_dead(found, view)
                continue
            left[found.run_id] = record
            if self._see_to(found, record):
                orphans.append(found.run_id)
                self._follower.orphan(found.run_id)
        self.leftovers = tuple(orphans)
        self._exposition.put(metrics.DRILLS_HALTED, value=halt_order.engaged(self._state_dir))
        self._show(left, self._views())

    def stop(self) -> None:
        """End the healers under way; the next start looks again."""
        for healing in self._healings.values():
            healing.healer.kill()
            healing.healer.wait(5.0)
        self._healings.clear()

    def _views(self) -> dict[str, RunView]:
        self._follower.follow()
        return {view.run_id: view for view in self._follower.runs()}

    def _undo_record(self, found: DrillFolder) -> UndoRecord | None:
        try:
            return undo.read(found.undo)
        except FileNotFoundError:
            return None
        except (UndoRecordError, OSError) as e:
            self._tell_once(found.run_id, f"{type(e).__name__}: {e}")
            return None

    def _finish_if_dead(self, found: DrillFolder, view: RunView | None) -> None:
        """Have the journal finished of a run that died before it was going to break anything: it says that it runs."""
        if found.run_id in self._healings or found.undo.exists() or not found.journal.exists():
            return
        if (view is None or not view.broken) and not found.has_owner():
            self._heal_if_due(found.run_id, view.drill if view else "", "owner_dead", "finish")

    def _seal_if_dead(self, found: DrillFolder, view: RunView) -> None:
        """Have the evidence sealed of a run that died after its journal's last line; its owner seals before it ends."""
        if found.run_id in self._sealed or found.run_id in self._healings:
            return
        if found.manifest.exists():
            self._sealed.add(found.run_id)
        elif any(healing.task == "seal" for healing in self._healings.values()):
            return  # one after the other: with a key that does not answer, all runs since may be waiting
        elif view.closed and not view.broken and not found.has_owner():
            self._heal_if_due(found.run_id, view.drill, "owner_dead", "seal")

    def _see_to(self, found: DrillFolder, record: UndoRecord) -> bool:
        """Start a healer where one is due; return whether the run is nobody's."""
        if found.run_id in self._healings:
            return True  # its lock is the healer's now: looking at it would get in the way
        reason = why_heal(record, has_owner=found.has_owner(), now_utc=self._clock.now_utc())
        if reason is None or self._views()[found.run_id].closed:
            return False  # an owner that is done closes the journal first, and lets go of the lock then
        self._heal_if_due(found.run_id, record.drill, reason, "undo")
        return True

    def _heal_if_due(self, run_id: str, drill: str, reason: HealReason, task: Task) -> None:
        if self._clock.monotonic() >= self._tries.setdefault(run_id, _Tries()).not_before:
            self._heal(run_id, drill, reason, task)

    def _heal(self, run_id: str, drill: str, reason: HealReason, task: Task) -> None:
        log.warning("drill.heal_started", run_id=run_id, drill=drill, reason=reason, task=task)
        try:
            healer = self._start(run_id)
        except OSError as e:
            self._failed(run_id, f"could not start: {e}", task)
            return
        self._healings[run_id] = _Healing(drill, reason, healer, self._clock.monotonic(), task)

    def _collect(self) -> None:
        for run_id, healing in list(self._healings.items()):
            code = healing.healer.poll()
            if code is None and self._clock.monotonic() - healing.started > HEAL_SECONDS:
                healing.healer.kill()
                healing.healer.wait(5.0)
                code = -9
            if code is None:
                continue
            del self._healings[run_id]
            self._ended(run_id, healing, code)

    def _ended(self, run_id: str, healing: _Healing, code: int) -> None:
        if code != 0:
            self._failed(run_id, f"exit code {code}", healing.task)
            return
        tries = self._tries[run_id]
        if healing.task == "seal":
            if not folder(self._state_dir, run_id).manifest.exists():  # a healer ends well without, and says why
                self._failed(run_id, "no manifest was written", healing.task)
            return
        self._put_off(tries)
        log.warning("drill.healed", run_id=run_id, drill=healing.drill, reason=healing.reason)
        if healing.task == "undo" and not tries.counted:  # healing twice is harmless, but it is one fault
            tries.counted = True
            self._exposition.create(drill_series(healing.drill))
            self._exposition.add(metrics.FAULTS_HEALED, healing.drill, healing.reason)

    def _failed(self, run_id: str, why: str, task: Task) -> None:
        if task == "seal":
            self._tries[run_id].not_before = self._clock.monotonic() + SEAL_AGAIN_SECONDS
            log.warning("drill.not_sealed", run_id=run_id, why=why)
            return
        if task == "finish":
            log.warning("drill.not_finished", run_id=run_id, why=why)
            self._follower.abandon(run_id)  # over it is, whatever its journal says; nothing is left to undo
            return
        self._put_off(self._tries[run_id])
        self._exposition.add(metrics.HEAL_FAILURES)
        log.error("drill.heal_failed", run_id=run_id, why=why)

    def _put_off(self, tries: _Tries) -> None:
        pause_seconds = RETRY_SECONDS[min(tries.failed, len(RETRY_SECONDS) - 1)]
        tries.failed += 1
        tries.not_before = self._clock.monotonic() + pause_seconds

    def _show(self, left: Mapping[str, UndoRecord], views: Mapping[str, RunView]) -> None:
        proxies = frozenset(
            proxy.name
            for run_id, record in left.items()
            if run_id not in views or not views[run_id].restored
            for proxy in record.proxies
        )
        for name in self._proxies - proxies:
            self._exposition.remove(metrics.FAULTS_ACTIVE, name)  # names carry the run: they never come back
        for name in proxies:
            self._exposition.put(metrics.FAULTS_ACTIVE, name, value=1)
        self._proxies = proxies

    def _tell_once(self, run_id: str, error: str) -> None:
        if run_id not in self._told:
            self._told.add(run_id)
            self._exposition.add(metrics.HEAL_FAILURES)
            log.error("drill.undo_record_unreadable", run_id=run_id, error=error)
