"""The regular tasks as the daemon tells of them in metrics, so that an alarm can say that one is overdue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import structlog

from kms_core.clock import Clock
from kms_watchdog import alarm_proofs, metrics
from kms_watchdog.alarm_proofs import AlarmProof
from kms_watchdog.config import Settings
from kms_watchdog.drills.runs import RunView
from kms_watchdog.readiness.sign_offs import SignOffs
from kms_watchdog.readiness.task_evidence import shown
from kms_watchdog.readiness.tasks import BY_ID, standings
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.state_folder import StateError

log = structlog.get_logger("tasks")


class TaskWatch:
    """Looks at what was done; from one thread at a time."""

    def __init__(
        self, settings: Settings, runs: Callable[[], Iterable[RunView]], exposition: Exposition, clock: Clock
    ) -> None:
        self._settings, self._runs, self._exposition, self._clock = settings, runs, exposition, clock
        self._sign_offs = SignOffs(settings.state.dir, clock)
        self._failing = False
        self._proofs: tuple[AlarmProof, ...] = ()
        self._proofs_read: Mapping[str, int] = {}

    def look(self) -> None:
        """Show when each task was last done, and when it is due; a file that cannot be read shows no task as done."""
        try:
            book = self._sign_offs.look_after(BY_ID)
        except StateError as e:
            self._fail(str(e))
            return
        self._failing = False
        done = (*book.signed, *shown(self._settings, self._runs(), self._all_proofs()))
        for each in standings(done, book.since_utc, self._clock.now_utc()):
            last = each.last.at_utc.timestamp() if each.last else 0.0
            self._show(each.task.id, last, each.due_utc.timestamp() if each.due_utc else 0.0)

    def _all_proofs(self) -> tuple[AlarmProof, ...]:
        """Return all proofs; the journals are read again only once one of them has grown."""
        sizes = alarm_proofs.sizes(self._settings.state.dir)
        if sizes != self._proofs_read:
            self._proofs, self._proofs_read = alarm_proofs.all_proofs(self._settings.state.dir), sizes
        return self._proofs

    def _fail(self, why: str) -> None:
        if not self._failing:
            log.error("tasks.unreadable", error=why)
        self._failing = True
        for task in BY_ID:
            self._show(task, 0.0, 0.0)

    def _show(self, task: str, last_done: float, due: float) -> None:
        self._exposition.put(metrics.TASK_LAST_DONE, task, value=last_done)
        self._exposition.put(metrics.TASK_DUE, task, value=due)
