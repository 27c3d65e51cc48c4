"""Processes that want the drill lease, for tests that freeze and kill them: `drills LOG FLOOR MODE` or `frozen MODE`.

DynamoDB is where AWS_ENDPOINT_URL_DYNAMODB says.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import NoReturn

from lease_kit import ESTATE, TABLE, client_of, dynamo

from kms_chaos.halt import Halt
from kms_chaos.lease import FaultNote, FencedError, LeaseUnreachableError
from kms_chaos.lease_dynamo import DynamoLease
from kms_core import SystemClock

CLOCK, NEVER = SystemClock(), threading.Event()
FENCED, WROTE = 0, 1
SHORT_TTL_SECONDS = 1.0
"""So that hundreds of holders can be frozen past it."""
FAULT_SECONDS = 0.8
"""How long a fault lasts at the most: shorter than the lease, as the longest that is armed at once should be."""
SHORT_LIFT_SECONDS = 0.1
"""What `LIFT_SECONDS` is to a lease of real length."""


def note_of(lease: DynamoLease, run_id: str) -> FaultNote:
    """Return what a drill notes of itself."""
    return FaultNote(run_id=run_id, host="h", token=lease.token, expires_at_utc=CLOCK.now_utc() + timedelta(seconds=60))


def frozen(mode: str) -> int:
    """Stop between check and act; on waking, act. `forced`: with the local check out of the way."""
    lease = dynamo(client_of(), CLOCK, "frozen", SHORT_TTL_SECONDS)
    lease.acquire(Halt())
    lease.renew()
    lease.check()
    os.kill(os.getpid(), signal.SIGSTOP)
    if mode == "forced":
        lease._deadline = float("inf")
    try:
        lease.record_fault(note_of(lease, "frozen"))
    except FencedError as e:
        print(e)
        return FENCED
    return WROTE


class Hasty(DynamoLease):
    """Takes whatever it finds, holder or not: what a protocol without waiting would do. Shows that judges have eyes."""

    def try_acquire(self) -> bool:
        """Take the lease, whoever has it."""
        return self._take(self._get(f"lease#{self._name}"), CLOCK.monotonic())


@dataclass(slots=True)
class Drills:
    """Drills one after another, until it is ended: each takes the lease, fills the next slot, breaks and mends."""

    log: str
    floor: int
    """The first slot that may be free."""
    make: Callable[[str], DynamoLease]
    rng: random.Random = field(default_factory=lambda: random.Random(os.getpid()))

    def forever(self) -> NoReturn:
        """Go on until somebody kills this process."""
        run = 0
        while True:
            run += 1
            lease = self.make(f"{os.getpid()}-{run}")
            try:
                self._one(lease, f"{os.getpid()}-{run}")
            except FencedError:
                self._tell("fenced", lease)
            except LeaseUnreachableError as e:
                self._tell("unreachable", lease, why=str(e))

    def _one(self, lease: DynamoLease, run_id: str) -> None:
        while not lease.try_acquire():
            CLOCK.wait(NEVER, self.rng.uniform(0.02, 0.08))
        self._tell("held", lease, until=lease._deadline)
        if self._earlier_fault(lease):
            self._give_back(lease)
            CLOCK.wait(NEVER, 0.1)
            return
        while not lease.claim_slot(f"s/{self.floor:05}"):
            self.floor += 1
        slot = f"s/{self.floor:05}"
        self._tell("slot", lease, slot=slot)
        self._break(lease, run_id)
        lease.finish_slot(slot)
        self._give_back(lease)

    def _earlier_fault(self, lease: DynamoLease) -> bool:
        """Return whether a fault may still be on, as `Admission` asks before every drill."""
        note = lease.open_fault()
        return note is not None and CLOCK.now_utc() < note.expires_at_utc

    def _break(self, lease: DynamoLease, run_id: str) -> None:
        """Note the fault, ask the lease, and break; the fault ends at its time, whatever becomes of this process."""
        began, now_utc = CLOCK.monotonic(), CLOCK.now_utc()
        note = replace(note_of(lease, run_id), expires_at_utc=now_utc + timedelta(seconds=FAULT_SECONDS))
        lease.record_fault(note)
        lease.renew()
        self._tell("kept", lease, until=lease._deadline)
        lease.check(SHORT_LIFT_SECONDS)
        CLOCK.wait(NEVER, self.rng.uniform(0, 0.02))  # here a freeze hurts most
        self._tell("broke", lease, until=began + FAULT_SECONDS)
        CLOCK.wait(NEVER, self.rng.uniform(0, 0.05))
        self._tell("mended", lease)
        lease.settle_fault(run_id)

    def _give_back(self, lease: DynamoLease) -> None:
        self._tell("gave-back", lease)
        lease.release()

    def _tell(self, event: str, lease: DynamoLease, **more: object) -> None:
        """Append a line, whole or not at all."""
        line = {"event": event, "token": lease.token, "pid": os.getpid(), "at": CLOCK.monotonic(), **more}
        handle = os.open(self.log, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(handle, json.dumps(line).encode() + b"\n")
        os.close(handle)


def drills(log: str, floor: int, mode: str) -> NoReturn:
    """Drill for ever; `hasty`: without waiting for whoever has the lease."""
    client = client_of()
    kind = Hasty if mode == "hasty" else DynamoLease

    def make(run_id: str) -> DynamoLease:
        return kind(client, CLOCK, table=TABLE, name=ESTATE, ttl_seconds=SHORT_TTL_SECONDS, run_id=run_id)

    Drills(log, floor, make).forever()


if __name__ == "__main__":
    if sys.argv[1] == "frozen":
        sys.exit(frozen(sys.argv[2]))
    drills(sys.argv[2], int(sys.argv[3]), sys.argv[4])
