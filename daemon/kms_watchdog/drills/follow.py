"""Follow the drills' journals as they grow, and hand on what they say as the drill's own numbers (DESIGN §6).

Only whole lines count; each must carry the chain on. A half-written last line is waited for; a broken chain is said
once, and that run is followed no further.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from kms_core.events import BreakerMoved, FailedOver
from kms_watchdog.drills import folder as folders
from kms_watchdog.drills.elsewhere import kept_views
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.journal import GENESIS, MAX_LINE_BYTES, JournalError, Record, parse
from kms_watchdog.drills.runs import RunView, drill_change, view_after
from kms_watchdog.json_text import read_json
from kms_watchdog.results import CanaryResult, Mode
from kms_watchdog.sinks.sink import (
    DrillSink,
    EventSink,
    Seen,
    Sink,
    tell_drill,
    tell_event,
    write_to_all,
)

log = structlog.get_logger("drills")

READ_BYTES = 4 * MAX_LINE_BYTES  # at once
PEEK_BYTES = 64 * 1024


@dataclass(slots=True)
class _Cursor:
    """How far one journal has been read."""

    folder: DrillFolder
    view: RunView
    offset: int = 0
    seq: int = 0
    prev: str = GENESIS

    def advance(self) -> Iterator[Record]:
        """Yield the records that have come since, and keep the place after each.

        Raises:
            JournalError, KeyError, ValueError, TypeError: a whole line is not of this chain, or lacks a field.
        """
        *whole, torn = self._read().split(b"\n")
        for raw in whole:
            record = parse(raw, prev=self.prev, seq=self.seq)
            self.view = view_after(self.view, record)
            self.offset, self.seq, self.prev = self.offset + len(raw) + 1, self.seq + 1, record.hash
            yield record
        if len(torn) > MAX_LINE_BYTES:
            raise JournalError(f"line {self.seq}: longer than {MAX_LINE_BYTES} bytes")

    def _read(self) -> bytes:
        try:
            if self.folder.journal.stat().st_size <= self.offset:
                return b""
            with self.folder.journal.open("rb") as file:
                file.seek(self.offset)
                return file.read(READ_BYTES)
        except FileNotFoundError:
            return b""  # the undo record comes first


class Follower:
    """Follows every journal under the state folder; called from one thread at a time."""

    def __init__(
        self,
        state_dir: Path,
        *,
        results: Sequence[Sink] = (),
        events: Sequence[EventSink] = (),
        drills: Sequence[DrillSink] = (),
    ) -> None:
        self._state_dir = state_dir
        self._results, self._events, self._drills = tuple(results), tuple(events), tuple(drills)
        self._cursors: dict[str, _Cursor] = {}
        self._elsewhere: dict[str, RunView] = {}
        self._quiet = False

    def tell(self, *, results: Sequence[Sink], events: Sequence[EventSink], drills: Sequence[DrillSink]) -> None:
        """Hand on to these from now on, as after a reload."""
        self._results, self._events, self._drills = tuple(results), tuple(events), tuple(drills)

    def restore(self) -> None:
        """Read what happened before this process began: how drills ended is told, the numbers of then are not.

        Of a closed journal only the first and the last lines are read, or a year of drills would hold up the start;
        the last of each drill is read whole, for the alarms that it saw.
        """
        self._quiet = True
        try:
            closed = [(found, view) for found in folders.folders(self._state_dir) if (view := closed_view(found))]
            last = {view.drill: found.run_id for found, view in closed}
            for found, peeked in closed:
                view = _with_alarms(found, peeked) if last[peeked.drill] == found.run_id else peeked
                self._cursors[found.run_id] = _Cursor(found, view)
                self._change(view, active=False, at_utc=view.ended_at_utc)
            self.follow()
        finally:
            self._quiet = False

    def follow_only(self, found: DrillFolder) -> None:
        """Read what has come since, of one run."""
        cursor = self._cursors.setdefault(found.run_id, _Cursor(found, RunView(run_id=found.run_id)))
        if not cursor.view.ended:
            self._follow(cursor)

    def follow(self) -> None:
        """Read what has come since, of every run, and of others' what the evidence store told."""
        for found in folders.folders(self._state_dir):
            self.follow_only(found)
        for view in kept_views(self._state_dir, self._elsewhere):
            self._elsewhere[view.run_id] = view
            self._change(view, active=False, at_utc=view.ended_at_utc)

    def runs(self) -> tuple[RunView, ...]:
        """Return the runs, newest first; another machine's too, where an evidence store tells of them."""
        views = [*(cursor.view for cursor in list(self._cursors.values())), *list(self._elsewhere.values())]
        return tuple(sorted(views, key=lambda view: view.run_id, reverse=True))

    def abandon(self, run_id: str) -> None:
        """Take a run for ended: its owner is dead, and there was nothing to undo."""
        cursor = self._cursors[run_id]
        was_active, cursor.view = cursor.view.active, replace(cursor.view, abandoned=True)
        if was_active:
            self._change(cursor.view, active=False, at_utc=cursor.view.started_at_utc)

    def orphan(self, run_id: str) -> None:
        """Take a run for one that nobody runs any more, though it has not ended: what it broke is to be undone."""
        cursor = self._cursors.get(run_id)
        if cursor is None or not cursor.view.active or cursor.view.orphaned:
            return
        view = cursor.view
        cursor.view = replace(view, orphaned=True)
        tell_drill(self._drills, replace(drill_change(view, active=False, at_utc=view.started_at_utc), orphaned=True))

    def _follow(self, cursor: _Cursor) -> None:
        try:
            while True:
                before = cursor.offset
                for record in cursor.advance():
                    self._hand_on(record, cursor.view)
                if cursor.offset - before < READ_BYTES // 2:
                    return  # all but the rest of a line; else there is more, and the file's size bounds this
        except (JournalError, KeyError, ValueError, TypeError, OSError) as e:
            log.error("drill.journal_broken", run_id=cursor.view.run_id, error=f"{type(e).__name__}: {e}")  # noqa: TRY400 - the text says it all
            was_active, cursor.view = cursor.view.active, replace(cursor.view, broken=str(e) or type(e).__name__)
            if was_active:
                self._change(cursor.view, active=False, at_utc=cursor.view.started_at_utc)

    def _hand_on(self, record: Record, view: RunView) -> None:
        match record.event:
            case "run-started":
                self._change(view, active=True, at_utc=record.at_utc)
            case "closed":
                self._change(view, active=False, at_utc=record.at_utc)
            case "canary-result" if not self._quiet:
                write_to_all(self._results, drill_result(record.fields, view.run_id))
            case "breaker-moved" | "failed-over" if not self._quiet:
                tell_event(self._events, Seen(event=drill_event(record), mode=Mode.DRILL, at_utc=record.at_utc))
            case _:
                pass

    def _change(self, view: RunView, *, active: bool, at_utc: datetime | None) -> None:
        change = drill_change(view, active=active, at_utc=at_utc)
        tell_drill(self._drills, change)
        if not self._quiet and not view.elsewhere:
            verdict = str(change.verdict) if change.verdict else None
            event = "drill.began" if active else "drill.ended"
            log.info(event, run_id=view.run_id, drill=view.drill, region=view.region, verdict=verdict)


def closed_view(found: DrillFolder) -> RunView | None:
    """Return the view of a run whose journal is closed, from its first line and its last ones.

    Each line's own hash is checked, the chain between them is not: `kms-chaos judge` does that. None: not closed, or
    nothing that can be told without reading all of it.
    """
    try:
        head, tail = _peek(found.journal)
        view = RunView(run_id=found.run_id)
        for raw in (head, *tail):
            line = read_json(raw)
            view = view_after(view, parse(raw, prev=line["prev"], seq=line["seq"]))
    except (OSError, JournalError, KeyError, ValueError, TypeError, IndexError):
        return None
    return view if view.closed and view.drill else None


def _with_alarms(found: DrillFolder, view: RunView) -> RunView:
    """Return `view` with the alarms that the whole journal tells of; without them where it cannot be believed."""
    cursor = _Cursor(found, RunView(run_id=found.run_id))
    try:
        while not cursor.view.closed and list(cursor.advance()):
            pass  # `advance` keeps the place, and reads the next part each time
    except (OSError, JournalError, KeyError, ValueError, TypeError):
        return view
    return replace(view, alarms=cursor.view.alarms)


def _peek(journal: Path) -> tuple[bytes, list[bytes]]:
    """Return the first line and the whole lines at the end."""
    with journal.open("rb") as file:
        head = file.readline(MAX_LINE_BYTES)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(len(head), size - PEEK_BYTES))
        whole = file.read().split(b"\n")
    cut = size - PEEK_BYTES > len(head)
    if whole.pop() != b"":
        raise JournalError("a torn line at the end")
    return head.rstrip(b"\n"), whole[1:] if cut else whole


def drill_result(fields: Mapping[str, Any], run_id: str) -> CanaryResult:
    """Return the result in a `canary-result` record: a drill's, whatever it says of itself."""
    return replace(CanaryResult.from_json(fields["result"]), mode=Mode.DRILL, run_id=run_id)


def drill_event(record: Record) -> BreakerMoved | FailedOver:
    """Return the core's event in a record."""
    f = record.fields
    if record.event == "breaker-moved":
        return BreakerMoved(region=f["region"], old=f["old"], new=f["new"], cause=f["cause"])
    return FailedOver(
        from_region=f["from_region"], to_region=f["to_region"], operation=f["operation"], purpose=f["purpose"]
    )
