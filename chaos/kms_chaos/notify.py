"""Tell people that a drill has begun, ended, or was aborted, as `[drills.notify]` says.

Best effort: each receiver has a thread and a short queue of its own, so none delays the drill or another receiver, and
at the end all together get five seconds. What could not be told is in the journal and in the log; a webhook's address,
which is a secret, is in neither.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from kms_chaos.journal_writer import JournalWriteError
from kms_chaos.news import News, Phase
from kms_chaos.run import Run
from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.verdict import Judgement
from kms_watchdog.receivers import Receiver, UndeliveredError, receivers_of

log = structlog.get_logger("drills")

END_SECONDS = 5.0
"""What all receivers together get at the end of a drill."""
_WAITING = 4

Note = Callable[[str, News, str], None]
"""Told of each receiver that was not told: where, what, why."""


class Notifier:
    """Tells every receiver, each in a thread of its own; `tell` and `finish` from one thread."""

    def __init__(self, receivers: Sequence[Receiver], note: Note, clock: Clock) -> None:
        """`note` is called from any thread, one at a time, and no more once `finish` has returned."""
        self._note, self._clock = note, clock
        self._lock = threading.Lock()
        self._over = False
        self._posts = [_Post(receiver, self._failed) for receiver in receivers]

    def tell(self, news: News) -> None:
        """Hand `news` over; at once, whatever the receivers do. After `finish` nobody is told any more."""
        for post in self._posts:
            post.put(news)

    def finish(self, within_seconds: float = END_SECONDS) -> None:
        """Wait until all were told, at most so long. Twice is harmless."""
        until = self._clock.monotonic() + within_seconds
        for post in self._posts:
            post.end(until - self._clock.monotonic())
        with self._lock:
            late = [] if self._over else [(post.where, news) for post in self._posts for news in tuple(post.untold)]
            self._over = True
            for where, news in late:
                self._note(where, news, f"not within {within_seconds:g} s of the end")

    def _failed(self, where: str, news: News, why: str) -> None:
        with self._lock:
            if not self._over:
                self._note(where, news, why)


class _Post:
    """One receiver's thread and queue."""

    def __init__(self, receiver: Receiver, failed: Note) -> None:
        self.where = receiver.where
        self.untold: deque[News] = deque()
        """What was handed over and not tried to the end yet, in order."""
        self._receiver, self._failed = receiver, failed
        self._waiting: queue.Queue[News | None] = queue.Queue(_WAITING + 1)  # and the end
        self._thread = threading.Thread(target=self._work, name=f"notify-{self.where}", daemon=True)

    def put(self, news: News) -> None:
        """Hand it over, or say that too many wait."""
        if self._waiting.qsize() >= _WAITING:  # who puts is one thread, so it stays as empty as it is seen to be
            self._failed(self.where, news, f"{_WAITING} others wait")
            return
        self.untold.append(news)
        self._waiting.put_nowait(news)
        if self._thread.ident is None:
            self._thread.start()

    def end(self, seconds: float) -> None:
        """Let the thread end when all is told, and wait for it at most so long."""
        with suppress(queue.Full):  # it was told before
            self._waiting.put_nowait(None)
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))

    def _work(self) -> None:
        while (news := self._waiting.get()) is not None:
            try:
                self._receiver.send(news)
            except UndeliveredError as e:
                self._failed(self.where, news, str(e))
            except Exception as e:  # noqa: BLE001 - a thread's outermost border: whatever it is, nobody was told
                self._failed(self.where, news, f"crashed: {type(e).__name__}")
            self.untold.popleft()


class Telling:
    """Tells of one run."""

    def __init__(self, run: Run, notifier: Notifier, *, started_by: str, reason: str) -> None:
        self._run, self._notifier = run, notifier
        self._started_by, self._reason = started_by, reason

    def started(self) -> None:
        """Tell that it begins."""
        self._notifier.tell(self._news(Phase.STARTED))

    def ended(self, judgement: Judgement, stopped_by: str) -> None:
        """Tell what came of it, and wait for the receivers at most 5 s; `stopped_by` is empty when nothing did."""
        report = self._run.folder.report
        self._end(
            Phase.ABORTED if stopped_by else Phase.ENDED,
            verdict=str(judgement.verdict),
            interrupted=stopped_by,
            report=str(report) if report.exists() else "",
        )

    def crashed(self, error: BaseException) -> None:
        """Tell that it ended without a verdict; nobody hears it when an end has been told."""
        self._end(Phase.ABORTED, interrupted=type(error).__name__)

    def _end(self, phase: Phase, **fields: Any) -> None:
        self._notifier.tell(self._news(phase, **fields))
        self._notifier.finish()

    def _news(self, phase: Phase, **fields: Any) -> News:
        run, hidden = self._run, bool(self._run.alias) and phase is Phase.STARTED
        return News(
            phase=phase,
            estate=run.settings.estate.name,
            drill=run.alias if hidden else run.drill.name,
            run_id=run.run_id,
            slot=run.slot,
            regions=() if hidden else run.hurt,
            started_by=self._started_by,
            reason=self._reason,
            host=socket.gethostname(),
            **fields,
        )


@contextmanager
def notifying(run: Run, record: Callable[..., None], *, started_by: str, reason: str) -> Iterator[Telling]:
    """Tell that `run` begins, and yield what tells its end; what raises in the block is told as an abortion.

    `record(event, **fields)` writes into the journal, and is not called after the block. Main thread.
    """

    def note(where: str, news: News, why: str) -> None:
        _log(run.run_id, where, news.phase, why)
        with suppress(JournalWriteError):  # whoever runs the drill meets the same error, and ends it
            record("notify-failed", to=where, phase=str(news.phase), error=why)

    def unaddressed(where: str, why: str) -> None:
        _log(run.run_id, where, Phase.STARTED, why)
        record("notify-failed", to=where, phase=str(Phase.STARTED), error=why)

    notifier = Notifier(receivers_of(run.settings, unaddressed), note, run.clock)
    telling = Telling(run, notifier, started_by=started_by, reason=reason)
    telling.started()
    try:
        yield telling
    except BaseException as e:
        telling.crashed(e)
        raise
    finally:
        notifier.finish(0.0)


def tell_healed(settings: Settings, where: DrillFolder, clock: Clock) -> None:
    """Tell that the run in `where`, whose owner died, was undone; in 5 s at the most. Main thread."""
    notifier = Notifier(
        receivers_of(settings, lambda to, why: _log(where.run_id, to, Phase.ABORTED, why)),
        lambda to, news, why: _log(where.run_id, to, news.phase, why),
        clock,
    )
    with suppress(JournalError, OSError, LookupError, TypeError):  # what is not written there cannot be told
        notifier.tell(_of_journal(settings, where))
    notifier.finish()


def _of_journal(settings: Settings, where: DrillFolder) -> News:
    records = journal.read(where.journal).records
    started, leave = records[0].fields, records[0].fields.get("leave") or {}
    verdict = next((str(r.fields["verdict"]) for r in records if r.event == "verdict"), None)
    return News(
        phase=Phase.ABORTED,
        estate=settings.estate.name,
        drill=str(started["drill_file"]["name"]),
        run_id=where.run_id,
        slot=str(started["slot"]),
        regions=tuple(started["targets"]),
        started_by=str(leave.get("started_by", "")),
        reason=str(leave.get("reason", "")),
        host=str(started["owner"]["host"]),
        verdict=verdict,
        interrupted="its process died; what it left was undone",
        report=str(where.report) if where.report.exists() else "",
    )


def stopped_by(where: DrillFolder) -> str:
    """Return what cut the run in `where` short, as its journal says; empty when nothing did."""
    with suppress(JournalError, OSError):
        stopped = (r for r in journal.read(where.journal).records if r.event == "interrupted")
        return next((str(r.fields["reason"]) for r in stopped), "")
    return ""


def _log(run_id: str, where: str, phase: Phase, why: str) -> None:
    log.error("drill.notify_failed", run_id=run_id, to=where, phase=str(phase), error=why)
