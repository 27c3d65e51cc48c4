"""The drill's own traffic: seal and open at a set rate through the drill's own core, every operation on the tape.

Two lanes. *Warm* uses one context, so the data-key cache answers; *cold* uses a context of its own each time, so KMS is
asked: green by the cache alone is not green (DESIGN §5). The load is open: an operation is due at its time whatever
became of the one before, and its seconds count from when it was due.
"""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, cycle

from kms_chaos.drill_parts import Load
from kms_chaos.ledger import Ledger, Sealed
from kms_chaos.metronome import keep_time
from kms_chaos.tape import Tape
from kms_chaos.witness import Asked, Witness
from kms_core import Core
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError, MessageError
from kms_core.message import encrypted_data_keys
from kms_watchdog.config import CANARY_CONTEXT

LANES = ("warm", "cold")
_PLAINTEXT_BYTES = 64
_DRAIN_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One operation, and when it is due on the monotonic clock."""

    id: int
    lane: str
    operation: str
    purpose: str
    at: float


def schedule(load: Load, purposes: Iterable[str], started: float) -> Iterator[Due]:
    """Yield the operations without end: both lanes, both operations and all purposes in turn, evenly spaced."""
    mix = cycle([(lane, operation, p) for operation in ("encrypt", "decrypt") for p in purposes for lane in LANES])
    for number, (lane, operation, purpose) in zip(count(), mix, strict=False):
        at = started + number / load.operations_per_second
        yield Due(id=number, lane=lane, operation=operation, purpose=purpose, at=at)


class Workload:
    """Threads that run the schedule. A context manager: leaving it ends them."""

    def __init__(
        self,
        core: Core,
        witness: Witness,
        ledger: Ledger,
        tape: Tape,
        clock: Clock,
        rng: random.Random,
        *,
        load: Load,
        purposes: tuple[str, ...],
        run_id: str,
    ) -> None:
        self._core, self._witness, self._ledger, self._tape, self._clock = core, witness, ledger, tape, clock
        self._rng, self._load, self._purposes, self._run_id = rng, load, purposes, run_id
        self._stop = threading.Event()
        self._queue: queue.SimpleQueue[Due | None] = queue.SimpleQueue()
        self._counted = threading.Lock()
        self._done = self._failed = self._offered = 0
        self._threads = [threading.Thread(target=self._offer, name="workload", daemon=True)] + [
            threading.Thread(target=self._serve, name=f"workload-{n}", daemon=True) for n in range(load.concurrency)
        ]
        self._threads += [
            threading.Thread(target=keep_time, args=(clock, tape, self._stop), name="metronome", daemon=True)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Offer no more, finish what was offered, and say on the tape how many there were. Twice is harmless."""
        if self._stop.is_set() or not self._threads[0].is_alive():
            return
        self._stop.set()
        until = self._clock.monotonic() + _DRAIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - self._clock.monotonic()))
        with self._counted:
            self._tape.record_now("workload-ended", offered=self._offered, operations=self._done, failed=self._failed)

    def _offer(self) -> None:
        for due in schedule(self._load, self._purposes, self._clock.monotonic()):
            if self._clock.wait(self._stop, due.at - self._clock.monotonic()):
                break
            self._offered += 1
            self._queue.put(due)
        for _ in range(self._load.concurrency):
            self._queue.put(None)

    def _serve(self) -> None:
        while due := self._queue.get():
            self._run(due)

    def _run(self, due: Due) -> None:
        with self._witness.operation() as asked:
            error, message = self._attempt(due, asked)
        seconds = self._clock.monotonic() - due.at
        with self._counted:
            self._done += 1
            self._failed += bool(error)
        self._tape.record(
            "operation",
            op=due.id,
            lane=due.lane,
            operation=due.operation,
            purpose=due.purpose,
            ok=not error,
            seconds=round(seconds, 6),
            region=asked.served_by,
            asked=len(asked.regions),
            cache_hit=asked.cache_hit,
            error=error,
            message=message,
        )

    def _attempt(self, due: Due, asked: Asked) -> tuple[str, int]:
        """Return the error's code, empty for success, and the id of the message that was sealed or opened."""
        waiting = self._ledger.next_to_open(due.lane, due.purpose) if due.operation == "decrypt" else None
        try:
            return self._open(waiting) if waiting else self._seal(due, asked)
        except KmsCoreError as e:
            return e.error_code or type(e).__name__, waiting.id if waiting else due.id

    def _seal(self, due: Due, asked: Asked) -> tuple[str, int]:
        context = {**CANARY_CONTEXT, "drill": self._run_id, "lane": due.lane}
        if due.lane == "cold":
            context["operation"] = str(due.id)
        plaintext = self._rng.randbytes(_PLAINTEXT_BYTES)
        message = self._core.encrypt(plaintext, purpose=due.purpose, context=context)
        self._ledger.keep(
            Sealed(id=due.id, lane=due.lane, purpose=due.purpose, context=context, message=message, plaintext=plaintext)
        )
        asked.served_by = asked.served_by or region_of(message)
        return "", due.id

    def _open(self, sealed: Sealed) -> tuple[str, int]:
        opened = self._core.decrypt(sealed.message, purpose=sealed.purpose, context=sealed.context)
        return "" if opened == sealed.plaintext else "Mismatch", sealed.id


def region_of(message: bytes) -> str:
    """Return the region whose KMS made the message's data key, from the key's ARN; empty when it does not say."""
    try:
        arn = encrypted_data_keys(message)[0].provider_info.decode()
    except (MessageError, UnicodeDecodeError, IndexError):
        return ""
    parts = arn.split(":")
    return parts[3] if len(parts) > 3 else ""  # noqa: PLR2004 - the region's place in an ARN
