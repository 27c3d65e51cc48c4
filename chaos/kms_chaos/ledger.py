"""The sealed-message ledger: every message the drill sealed, and whether every region still opens it, and only rightly.

Messages and plaintexts (synthetic bytes) stay in memory; the journal gets ids and counts.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from kms_chaos.judging.history import NOT_REFUSED
from kms_chaos.tape import Tape
from kms_core import Core
from kms_core.errors import KmsCoreError
from kms_core.message import encrypted_data_keys

_MOST_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One message of the drill's own making."""

    id: int
    lane: str
    purpose: str
    context: Mapping[str, str]
    message: bytes = field(repr=False)
    plaintext: bytes = field(repr=False)


class Ledger:
    """All messages sealed so far. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: list[Sealed] = []
        self._unopened: dict[tuple[str, str], list[Sealed]] = {}

    def keep(self, sealed: Sealed) -> None:
        """Remember `sealed`."""
        with self._lock:
            self._messages.append(sealed)
            self._unopened.setdefault((sealed.lane, sealed.purpose), []).append(sealed)

    def next_to_open(self, lane: str, purpose: str) -> Sealed | None:
        """Return a message that was not asked for before, or None: so that a cold opening is a first one."""
        with self._lock:
            waiting = self._unopened.get((lane, purpose))
            return waiting.pop() if waiting else None

    def all(self) -> tuple[Sealed, ...]:
        """Return every message so far, in order of sealing."""
        with self._lock:
            return tuple(self._messages)


def check(
    core: Core,
    ledger: Ledger,
    tape: Tape,
    *,
    when: str,
    regions: Iterable[str],
    purposes: Iterable[str],
    halt: threading.Event,
    rng: random.Random,
) -> None:
    """Open every message so far in each of `regions`, and offer KMS there a wrong context; all of it onto the tape.

    Regions are asked side by side, each through `Core.pinned`: no cache, no failover. Ends early when `halt` is set,
    and then says so by the count of what it opened.
    """
    messages, regions, purposes = ledger.all(), tuple(regions), tuple(purposes)
    samples = [rng.choice(found) for purpose in purposes if (found := [m for m in messages if m.purpose == purpose])]
    with ThreadPoolExecutor(len(regions), thread_name_prefix="messages") as pool:
        for done in [
            pool.submit(_check_region, core, tape, when, region, messages, samples, halt) for region in regions
        ]:
            done.result()


def _check_region(
    core: Core,
    tape: Tape,
    when: str,
    region: str,
    messages: Iterable[Sealed],
    samples: Iterable[Sealed],
    halt: threading.Event,
) -> None:
    door, opened, refused, wrong = core.pinned(region), 0, 0, []
    sealed = tuple(messages)
    for message in sealed:
        if halt.is_set():
            break
        try:
            plaintext = door.decrypt(message.message, purpose=message.purpose, context=message.context)
        except KmsCoreError:
            refused += 1
            wrong.append(message.id)
            continue
        opened += plaintext == message.plaintext
        wrong += [message.id] if plaintext != message.plaintext else []
    tape.record_now(
        "messages-checked",
        when=when,
        region=region,
        sealed=len(sealed),
        opened=opened,
        refused=refused,
        wrong=wrong[:_MOST_NAMED],
    )
    for message in samples:
        _offer_wrong_context(core, tape, when, region, message)


def _offer_wrong_context(core: Core, tape: Tape, when: str, region: str, message: Sealed) -> None:
    """Ask KMS itself: the core compares contexts before it asks, so its own refusal would prove nothing."""
    wrapped = encrypted_data_keys(message.message)[0]
    answer, request_id = NOT_REFUSED, ""
    try:
        core.pinned(region).unwrap(wrapped, another_context(message.context), purpose=message.purpose)
    except KmsCoreError as e:
        answer = e.error_code or type(e).__name__
        request_id = e.attempts[-1].request_id if e.attempts else ""
    tape.record_now(
        "context-refused",
        when=when,
        region=region,
        purpose=message.purpose,
        message=message.id,
        error_code=answer,
        request_id=request_id,
    )


def another_context(context: Mapping[str, str]) -> dict[str, str]:
    """Return `context` with one pair changed that is not `canary`, which every policy demands of a drill."""
    name = next(name for name in sorted(context) if name != "canary")
    return {**context, name: f"{context[name]}-not"}
