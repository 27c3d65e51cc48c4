"""The drill lease: one drill at a time in an estate, and a fencing token that tells an old holder from the present one.

Who may drill at all, not what is undone: that is the undo record. `FileLease` serves one state folder, `DynamoLease`
all machines of the estate; both pass the same tests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from kms_chaos.halt import Halt
from kms_core.clock import Clock

LIFT_SECONDS = 10.0
"""What a holder needs, from the decision on, to lift its fault on a wedged Toxiproxy of its own: with less left of the
lease nothing is injected, and a fault that is on is lifted."""


class FencedError(RuntimeError):
    """This holder has lost the lease, or will too soon: inject nothing more, restore what is on."""


class LeaseUnreachableError(RuntimeError):
    """Where the lease is kept does not answer. It may still be ours; only time tells."""


SlotState = Literal["", "STARTED", "DONE"]
"""Of a slot: nobody has begun its drill; somebody has; and it came to its verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultNote:
    """What the lease remembers of the drill that may have broken something: for the next holder."""

    run_id: str
    host: str
    token: int
    expires_at_utc: datetime
    """When everything is undone at the latest, enforced outside the drill's process."""


class DrillLease(Protocol):
    """A lease; one object serves one drill, from any thread."""

    where: str
    """Where it is kept, for people."""
    token: int
    """The fencing token: grows with every acquisition, never twice the same. 0: not acquired."""
    renew_seconds: float
    """How often to renew."""

    def acquire(self, halt: Halt) -> None:
        """Take the lease; may wait until an abandoned one has run out, at most for its time to live.

        Raises:
            RefusedError: another drill has it, or nobody can tell.
            HaltedError: a halt was called meanwhile.
        """

    def renew(self) -> None:
        """Keep the lease for its whole time to live from now.

        Raises:
            FencedError: it is somebody else's.
            LeaseUnreachableError: where it is kept does not answer.
        """

    def check(self, seconds: float = 0.0) -> None:
        """See, by this machine's clock alone, that the lease is ours for so long: right before acting.

        Raises:
            FencedError: it is not.
        """

    def claim_slot(self, slot: str, *, again: bool = False) -> bool:
        """Claim a scheduled slot for this drill; return whether it is ours to run.

        Once for ever; `again`: also one that an earlier holder began and did not finish.

        Raises:
            FencedError, LeaseUnreachableError: as for `renew`.
        """

    def slot_state(self, slot: str) -> SlotState:
        """Return what is known of a slot, whoever had it.

        Raises:
            LeaseUnreachableError: where it is kept does not answer.
        """

    def finish_slot(self, slot: str) -> None:
        """Note that the slot's drill came to its verdict: nobody claims it again.

        Raises:
            FencedError: it is not ours any more.
            LeaseUnreachableError: where it is kept does not answer.
        """

    def record_fault(self, note: FaultNote) -> None:
        """Note what this drill may break, before it does.

        Raises:
            FencedError, LeaseUnreachableError: as for `renew`.
        """

    def open_fault(self) -> FaultNote | None:
        """Return what an earlier holder noted and nobody settled.

        Raises:
            LeaseUnreachableError: where it is kept does not answer.
        """

    def settle_fault(self, run_id: str) -> None:
        """Note that everything of `run_id` is undone; nothing happens if the note is of another run. Needs no lease.

        Raises:
            LeaseUnreachableError: where it is kept does not answer.
        """

    def release(self) -> None:
        """Give the lease back; its token stays used. Where that cannot be said, the lease runs out by itself."""


@contextmanager
def held(lease: DrillLease, halt: Halt, clock: Clock) -> Iterator[None]:
    """Hold `lease` for the block, renewed by a thread; `halt` is called when it is lost, or nearly.

    Raises:
        RefusedError, HaltedError: as `acquire`.
    """
    lease.acquire(halt)
    stop = threading.Event()
    keeper = threading.Thread(target=keep, args=(lease, halt, clock, stop), name="drill-lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()
        lease.release()


def keep(lease: DrillLease, halt: Halt, clock: Clock, stop: threading.Event) -> None:
    """Renew `lease` until `stop`, or until it is lost, which calls `halt`."""
    pause = lease.renew_seconds
    while not clock.wait(stop, pause):
        try:
            lease.renew()
            pause = lease.renew_seconds
        except FencedError as e:
            halt.call(f"the drill lease is lost: {e}")
            return
        except LeaseUnreachableError as e:
            pause = lease.renew_seconds / 4
            if _runs_out(lease, pause):
                halt.call(f"the drill lease runs out: {e}")
                return


def _runs_out(lease: DrillLease, pause: float) -> bool:
    try:
        lease.check(LIFT_SECONDS + pause)
    except FencedError:
        return True
    return False


def before_acting(lease: DrillLease) -> None:
    """Renew and check `lease`: call immediately before anything is broken (scale.md §4.4, 5a).

    That a successor does not act while this drill's fault is on, after a freeze, is the fault note's doing, whose time
    is absolute: a successor waits for it. So the fault may last longer than the lease, which is renewed meanwhile.

    Raises:
        FencedError: break nothing.
        LeaseUnreachableError: likewise.
    """
    lease.renew()
    lease.check(LIFT_SECONDS)
