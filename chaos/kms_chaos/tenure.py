"""What a drill holds while it lasts: the lease, its slot, its folder, and the note of what it may break.

The order is the promise. The folder is there, and owned, before the lease is told that something may be broken: a
healer looks there. The lease is told before the journal begins, and so before anything is broken.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta

from kms_chaos import durable
from kms_chaos.guards.checking import RefusedError
from kms_chaos.halt import HaltedError
from kms_chaos.journal_writer import JournalWriter
from kms_chaos.lease import DrillLease, FaultNote, FencedError, LeaseUnreachableError, held
from kms_chaos.run import Run
from kms_chaos.tape import JournalTape
from kms_chaos.undo_record import MARGIN_SECONDS
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, FolderBusyError
from kms_watchdog.drills.verdict import answer

TELL_SECONDS, TELL_AGAIN_SECONDS = 45.0, 5.0
"""How long a drill that is over tries to tell a lease whose place does not answer, and how often."""


class SlotTakenError(RefusedError):
    """The slot has had its drill, here or on another machine: there is nothing left to do for it."""

    def __init__(self, slot: str, where: str, *, done: bool) -> None:
        ended = "has had its drill" if done else "was begun by another drill, which came to no verdict"
        super().__init__(f"slot {slot} {ended}: {where} says so")
        self.done = done
        """Whether that drill came to its verdict."""


@contextmanager
def admitted(lease: DrillLease, run: Run) -> Iterator[None]:
    """Hold the lease for the block, if the run's slot is still to be filled: no other guard need be asked else.

    Raises:
        SlotTakenError: it is not.
        RefusedError: another drill has the lease, nobody can tell, or a halt was called meanwhile.
    """
    try:
        with held(lease, run.halt, run.clock):
            _see_whether_free(lease, run)
            yield
    except HaltedError as e:
        raise RefusedError(f"halted before it began: {e}") from e


@contextmanager
def begun(lease: DrillLease, run: Run) -> Iterator[JournalWriter]:
    """Claim the run's slot, make and own its folder, tell the lease what may be broken, and open the journal.

    Raises:
        SlotTakenError: the slot has had its drill.
        RefusedError: the folder is somebody's, or the lease is lost; nothing is left.
        FileExistsError: there is such a run already.
    """
    claim_slot(lease, run)
    durable.make_folder(run.folder.path)
    with ExitStack() as stack:
        stack.enter_context(_owned(run.folder))
        note_fault(lease, run)
        yield stack.enter_context(JournalWriter(run.folder.journal, run.clock))


def settle(lease: DrillLease, run: Run, tape: JournalTape, *, restored: bool) -> None:
    """Tell the lease that all is undone: for a while, then what it does not learn only makes the next drill wait."""
    if restored:
        _tell(tape, lambda: lease.settle_fault(run.run_id), run)


def finish(lease: DrillLease, run: Run, tape: JournalTape) -> None:
    """Tell the lease that the slot's drill came to its verdict, if that is one that answers.

    For a while too: what it does not learn has others run the slot once more, where its plan says "again".
    """
    if run.slot and answer(journal.read(run.folder.journal).records):
        _tell(tape, lambda: lease.finish_slot(run.slot), run)


def settle_dead(lease: DrillLease, where: DrillFolder) -> None:
    """Tell the lease what a healer knows of a run: all is undone, and whether it had come to its verdict.

    Raises:
        LeaseUnreachableError: where the lease is kept does not answer.
    """
    lease.settle_fault(where.run_id)
    try:
        records = journal.read(where.journal).records
    except journal.JournalError:
        return  # nobody can tell what it came to
    slot = str(records[0].fields.get("slot", "")) if records else ""
    if slot and answer(records):
        with suppress(FencedError):  # a later holder's, or a lease of this folder alone, whose daemon knows by itself
            lease.finish_slot(slot)


def _tell(tape: JournalTape, what: Callable[[], None], run: Run) -> None:
    """Try for a while; of a drill that was told to end only once: whoever told it waits for no table."""
    halted, until = run.halt.event, run.clock.monotonic() + TELL_SECONDS
    while True:
        try:
            return what()
        except (FencedError, LeaseUnreachableError) as e:
            if isinstance(e, FencedError) or halted.is_set() or run.clock.monotonic() >= until:
                tape.record_now("lease-unsettled", error=str(e))
                return None
        run.clock.wait(halted, TELL_AGAIN_SECONDS)


def claim_slot(lease: DrillLease, run: Run) -> None:
    """Claim the run's slot, if it fills one.

    Raises:
        SlotTakenError: it has had its drill.
        RefusedError: the lease is lost.
    """
    with _refused_without_lease():
        if run.slot and not lease.claim_slot(run.slot, again=_may_be_again(run)):
            raise SlotTakenError(run.slot, lease.where, done=lease.slot_state(run.slot) == "DONE")


def _see_whether_free(lease: DrillLease, run: Run) -> None:
    with _refused_without_lease():
        state = lease.slot_state(run.slot) if run.slot else ""
    if state == "DONE" or (state and not _may_be_again(run)):
        raise SlotTakenError(run.slot, lease.where, done=state == "DONE")


def _may_be_again(run: Run) -> bool:
    planned = run.settings.drills.slots.get(run.slot.partition("/")[0])
    return planned is not None and planned.again_after_abort


def note_fault(lease: DrillLease, run: Run) -> None:
    """Note in the lease until when the run may break something; its folder, where a healer looks, is there by then.

    Raises:
        RefusedError: the lease is lost; the folder is gone again.
    """
    drill = run.drill
    recovery = drill.slowest_clear_seconds + drill.objectives.rto_seconds
    longest = drill.timing.baseline_at_most_seconds + drill.longest_fault_seconds + recovery + 3 * MARGIN_SECONDS
    until = run.clock.now_utc() + timedelta(seconds=longest)
    note = FaultNote(run_id=run.run_id, host=socket.gethostname(), token=lease.token, expires_at_utc=until)
    try:
        with _refused_without_lease():
            lease.record_fault(note)
    except RefusedError:
        run.folder.path.rmdir()
        raise


@contextmanager
def _refused_without_lease() -> Iterator[None]:
    try:
        yield
    except (FencedError, LeaseUnreachableError) as e:
        raise RefusedError(f"the drill lease: {e}") from e


@contextmanager
def _owned(where: DrillFolder) -> Iterator[None]:
    try:
        with where.owned():
            yield
    except FolderBusyError as e:
        raise RefusedError(str(e)) from e
