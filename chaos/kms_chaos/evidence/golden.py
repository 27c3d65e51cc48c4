"""Golden messages in the evidence store, so that they outlive the state folder: years of age cannot be made anew.

A message there is ciphertext, the context that opens it and the hash of its synthetic plaintext; no key, no plaintext.
They are moved by a command and not by the daemon: the daemon needs no right to the store then, and the message of one
week more or less is no loss (a timer that runs `kms-chaos evidence golden push` weekly will do).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from kms_core.clock import Clock
from kms_watchdog.config import CANARY_CONTEXT
from kms_watchdog.drills import journal
from kms_watchdog.evidence.store import GOLDEN, Store, StoreRefusedError
from kms_watchdog.golden_store import GoldenMessage, GoldenStore, OwnedGoldenStore
from kms_watchdog.json_text import read_json
from kms_watchdog.state_folder import StateFolder

SCHEMA = 1
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Moved:
    """How many messages were moved, and how many were on both sides already."""

    moved: int
    there: int


def push(kept: GoldenStore, store: Store, purposes: Iterable[str]) -> Moved:
    """Put into `store` what it does not have of `kept`.

    Raises:
        GoldenError: the messages cannot be read.
        StoreError: the store took no more.
    """
    moved = there = 0
    for purpose in purposes:
        known = store.sizes(_folder(purpose))
        for created in kept.created(purpose):
            message = kept.read(purpose, created)
            if message is None:
                continue  # let go of since we looked
            if (name := _name(message)) in known:
                there += 1
            else:
                store.put(name, to_bytes(message))
                moved += 1
    return Moved(moved, there)


def pull(folder: StateFolder, store: Store, purposes: Iterable[str], clock: Clock) -> Moved:
    """Put into the state folder what it does not have of `store`; its ladder lets go of what it has no room for.

    Raises:
        StateError: a daemon owns the folder.
        GoldenError: what is there cannot be read.
        StoreError: the store cannot be read, or what is in it is no golden message.
    """
    folder.prepare()
    moved = there = 0
    with folder.owned():
        kept = OwnedGoldenStore(folder, clock)
        try:
            for purpose in purposes:
                before = frozenset(kept.created(purpose))
                found = [from_bytes(name, store.get(name)) for name in store.sizes(_folder(purpose))]
                for message in found:
                    if message.purpose != purpose:
                        raise StoreRefusedError(f"{store.place}: {_name(message)}: lies under {purpose}")
                    if message.created not in before:
                        kept.keep(message)
                moved += len(frozenset(kept.created(purpose)) - before)
                there += len(before & {message.created for message in found})
        finally:
            kept.close()
    return Moved(moved, there)


def to_bytes(message: GoldenMessage) -> bytes:
    """Return a message as it lies in the store."""
    content = {
        "schema": SCHEMA,
        "purpose": message.purpose,
        "created": message.created,
        "sealed_in": message.sealed_in,
        "context": dict(message.context),
        "plaintext_sha256": message.digest.hex(),
        "message": base64.b64encode(message.message).decode(),
    }
    return journal.canonical(content) + b"\n"


def from_bytes(name: str, raw: bytes) -> GoldenMessage:
    """Return the message in `raw`, which is called `name`.

    Raises:
        StoreRefusedError: it is none, or of a context that no canary seals in.
    """
    try:
        values = read_json(raw)
        message = GoldenMessage(
            purpose=str(values["purpose"]),
            created=float(values["created"]),
            sealed_in=str(values["sealed_in"]),
            context={str(key): str(value) for key, value in values["context"].items()},
            digest=bytes.fromhex(values["plaintext_sha256"]),
            message=base64.b64decode(values["message"], validate=True),
        )
        schema = values["schema"]
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as e:
        raise StoreRefusedError(f"{name}: not a golden message") from e
    if schema != SCHEMA or len(message.digest) != _DIGEST_BYTES or not message.message:
        raise StoreRefusedError(f"{name}: not a golden message that this version reads")
    if not CANARY_CONTEXT.items() <= message.context.items():
        raise StoreRefusedError(f"{name}: not a canary's message: its context says so")
    return message


def _folder(purpose: str) -> str:
    return f"{GOLDEN}/{purpose}/"


def _name(message: GoldenMessage) -> str:
    return f"{_folder(message.purpose)}{message.created:017.6f}.json"
