"""Heal a run whose owner is dead or whose time is up: undo what its undo record says, and finish its journal.

A run that died before it had an undo record has broken nothing: its journal is finished all the same, for an open one
says that a drill runs. Twice is harmless. Nobody's fault but the record's own is touched, and no server is ever killed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kms_chaos.faults import undo as undoing
from kms_chaos.faults.bounded_http import ToxiproxyError, ToxiproxyUnreachableError
from kms_chaos.faults.line import is_loopback
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.journal_writer import write_all
from kms_chaos.judging.history import fault_id
from kms_core.clock import Clock
from kms_watchdog.drills import journal, undo
from kms_watchdog.drills.folder import DrillFolder, FolderBusyError, folders
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.drills.undo import UndoRecord, UndoRecordError
from kms_watchdog.durable import sync_folder

_LOCK_TRIES = 10
_LOCK_PAUSE_SECONDS = 0.05  # others look for an instant whether the owner lives, and hold the lock meanwhile
_NOTHING_BROKEN = "nothing had been broken: no undo record was on disk yet"
Reach = Callable[[UndoRecord], Toxiproxy]
"""Reaches the server of a record, if it may be asked."""


class OwnerLivesError(RuntimeError):
    """The run's owner lives and has time left: nothing was touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """What was done for one run."""

    run_id: str
    reason: str
    """`owner_dead`, `expired`, or `closed`: there was nothing to do."""
    finding: str
    torn_line: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Restored:
    """What the server looks like after the undoing."""

    undone: tuple[undoing.Undone, ...] = ()
    finding: str = "undone and read back"
    asked: bool = True
    """Whether the server was asked at all."""

    @property
    def was_hurt(self) -> tuple[undoing.Undone, ...]:
        """The proxies that still had a toxic."""
        return tuple(one for one in self.undone if one.toxics_found)


def open_runs(state_dir: Path) -> tuple[DrillFolder, ...]:
    """Return the folders of runs that nobody has finished: with an undo record, a journal, or both."""
    return tuple(found for found in folders(state_dir) if _is_open(found))


def _is_open(found: DrillFolder) -> bool:
    if not found.undo.exists() and not found.journal.exists():
        return False
    try:
        return not journal.read(found.journal).closed
    except JournalError:
        return found.undo.exists()  # a broken chain cannot be continued, but what it broke can be undone


def _is_closed(found: DrillFolder) -> bool:
    try:
        return journal.read(found.journal).closed
    except JournalError:
        return False


def heal(
    where: DrillFolder,
    clock: Clock,
    *,
    toxiproxy_url: str | None = None,
    reach: Callable[[str], Toxiproxy] = Toxiproxy,
) -> Healed:
    """Heal the run in `where`; `reach` is how the Toxiproxy at an address is reached.

    Only two kinds of server are asked: one on this machine's loopback, and the configured one, `toxiproxy_url`. The
    record is a file: what it names besides is nobody's that we know.

    Raises:
        FileNotFoundError: there is no such folder.
        OwnerLivesError: its owner lives and has time left, or has broken nothing yet.
        UndoRecordError: its undo record cannot be read, or names another server: a person has to look.
        ToxiproxyError: not everything could be undone; try again.
        JournalError: everything was undone, but the journal is broken and cannot be continued.
    """

    def asked(record: UndoRecord) -> Toxiproxy:
        return reach(_ours(record, toxiproxy_url))

    try:
        with _owned(where, clock):  # the record is read under the lock: until then its owner may write one
            return _heal_orphan(where, _record(where), clock, asked)
    except FolderBusyError as e:
        record = _record(where)
        if record is None or clock.now_utc() < record.expires_at_utc:
            until = f"time until {record.expires_at_utc:%H:%M:%S} UTC" if record else "has broken nothing yet"
            raise OwnerLivesError(f"{where.run_id} has an owner that lives, and {until}") from e
    restored = _restore(record, asked)  # the journal is the owner's: not a line of ours goes into it
    return Healed(run_id=where.run_id, reason="expired", finding=restored.finding)


def _record(where: DrillFolder) -> UndoRecord | None:
    """Return the undo record: the file's, or else the journal's copy of it; None: the run never had one."""
    try:
        return undo.read(where.undo)
    except FileNotFoundError:
        pass
    try:
        records = journal.read(where.journal).records
    except JournalError:
        return None
    told = [r.fields["undo"] for r in records if r.event == "undo-recorded"]
    return UndoRecord.from_json(told[-1]) if told else None


@contextmanager
def _owned(where: DrillFolder, clock: Clock) -> Iterator[None]:
    with ExitStack() as stack:
        for attempt in range(1, _LOCK_TRIES + 1):
            try:
                stack.enter_context(where.owned())
                break
            except FolderBusyError:
                if attempt == _LOCK_TRIES:
                    raise
                clock.wait(threading.Event(), _LOCK_PAUSE_SECONDS)
        yield


def _heal_orphan(where: DrillFolder, record: UndoRecord | None, clock: Clock, reach: Reach) -> Healed:
    if _is_closed(where):
        return Healed(run_id=where.run_id, reason="closed", finding="nothing to do: the journal is closed")
    _drop_drafts(where)
    if record is None and not journal.read(where.journal).records:
        where.journal.unlink(missing_ok=True)  # empty, or a part of the first line: nothing was ever said in it
        sync_folder(where.path)
        return Healed(run_id=where.run_id, reason="closed", finding="nothing to do: it died before it began")
    restored = _restore(record, reach) if record else _Restored(finding=_NOTHING_BROKEN, asked=False)
    torn = _finish_journal(where, restored, clock)
    return Healed(run_id=where.run_id, reason="owner_dead", finding=restored.finding, torn_line=torn)


def _drop_drafts(where: DrillFolder) -> None:
    """Remove what was being written when the owner died: `.NAME.PID`, which was never put in its place."""
    for path in where.path.glob(".*.*"):
        if path.suffix[1:].isdigit():
            path.unlink(missing_ok=True)


def _ours(record: UndoRecord, toxiproxy_url: str | None) -> str:
    """Return the address of the record's server, if it is one that may be asked."""
    if record.toxiproxy_url != toxiproxy_url and not is_loopback(urlsplit(record.toxiproxy_url).hostname or ""):
        raise UndoRecordError(
            f"{record.run_id}: its undo record names the Toxiproxy {record.toxiproxy_url}, which is neither on this "
            "machine nor the one of [drills] toxiproxy_url: it was not asked"
        )
    return record.toxiproxy_url


def _restore(record: UndoRecord, reach: Reach) -> _Restored:
    try:
        with reach(record) as server:
            undone = undoing.undo(server, record)
            if left := undoing.left(server, record):
                raise ToxiproxyError(f"still on {server.url} after they were undone: {', '.join(left)}")
            return _Restored(undone=undone)
    except ToxiproxyUnreachableError as e:
        if e.refused:  # its state is in memory only: nothing of ours can be active there
            return _Restored(finding="server gone, and its state with it")
        raise


def _finish_journal(where: DrillFolder, restored: _Restored, clock: Clock) -> bool:
    """Append what was done, and `closed`; return whether a torn line was ended first."""
    found = journal.read(where.journal)
    torn = bool(found.torn)
    if torn:
        _cut(where.journal, len(found.torn))
    verdict = next((str(r.fields["verdict"]) for r in found.records if r.event == "verdict"), None)
    if verdict is None:
        _drop_verdict(where)
    pen = _Pen(clock, found)
    for removed in _removed(found.records, restored):
        pen.line("fault-removed", **removed, by="healer", toxics_left=[])
    if restored.asked:
        pen.line("restore-verified", proxies_left=[], by="healer", finding=restored.finding)
    proxies = [one.proxy for one in restored.undone if one.found]
    pen.line("healed", by="healer", reason="owner_dead", proxies=proxies, torn_line=torn, finding=restored.finding)
    pen.line("closed", by="healer", verdict=verdict)
    pen.write(where.journal)
    return torn


def _drop_verdict(where: DrillFolder) -> None:
    """Remove verdict and report of a run that died before its journal held the verdict: it was never given."""
    where.verdict.unlink(missing_ok=True)
    where.report.unlink(missing_ok=True)
    sync_folder(where.path)  # before the journal is closed: nobody comes back to a closed one


def _removed(records: tuple[journal.Record, ...], restored: _Restored) -> Iterator[dict[str, str]]:
    """Yield what is over now: each fault that the journal says is on, and what only the server showed."""
    off = {fault_id(r) for r in records if r.event == "fault-removed"}
    on = [r for r in records if r.event == "fault-injected" and fault_id(r) not in off]
    for r in on:
        yield {"fault_id": fault_id(r)} | {k: str(r.fields[k]) for k in ("fault", "region", "proxy") if k in r.fields}
    told = {r.fields["region"] for r in on}
    for one in restored.was_hurt:
        if one.region not in told:
            yield {"region": one.region, "proxy": one.proxy}


def _cut(path: Path, torn_bytes: int) -> None:
    """Take the torn end of the last line away; it never was a line, and the chain does not know it."""
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(handle, os.fstat(handle).st_size - torn_bytes)
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(slots=True)
class _Pen:
    """Continues a journal's chain; `t` goes on by the wall clock, since the run's own clock died with it."""

    clock: Clock
    found: journal.Journal
    lines: list[bytes] = field(default_factory=list)
    prev: str = ""

    def line(self, event: str, **fields: Any) -> None:
        """Add one line."""
        now, last = self.clock.now_utc(), self.found.records[-1] if self.found.records else None
        t = last.t + max(0.0, (now - last.at_utc).total_seconds()) if last else 0.0
        raw, self.prev = journal.line(
            seq=len(self.found.records) + len(self.lines),
            at_utc=now,
            t=t,
            event=event,
            fields=fields,
            prev=self.prev or self.found.head,
        )
        self.lines.append(raw)

    def write(self, path: Path) -> None:
        """Append all lines; they are on disk when this returns."""
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            write_all(handle, b"".join(self.lines))
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(path.parent)
