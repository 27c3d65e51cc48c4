"""`Core.encrypt` and `Core.decrypt` with a cached data key, beside raw AES-GCM with one fresh HKDF per message.

Every figure of a row is the smallest of several rounds, in which all candidates take turns in one process: what the
machine does meanwhile hits all of them, so the ratios are to be trusted and the microseconds are not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from benchmarks import peers
from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.estate import CONTEXT, PURPOSE, core
from benchmarks.table import Cell, Table
from kms_core.clock import SystemClock
from kms_core.events import Event

SIZES = {"100 B": 100, "4 KiB": 4096, "1 MiB": 2**20}
GOALS = {"100 B": (2.5, 4.0), "4 KiB": (2.5, 4.0), "1 MiB": (1.5, 1.3)}
"""Ratio to the raw cipher: of encrypt, of decrypt."""

_CLOCK = SystemClock()
_ROUND_SECONDS = 0.01
_BASE = "raw AESGCM + HKDF"
_OURS = "kms_core"


class Silent:
    """An observer that does nothing, which is more than none: events are built for it."""

    def on_event(self, event: Event) -> None:
        """Take no note of `event`."""


BENCHMARK = Benchmark(
    title="Speed with a cached data key",
    section=Section.CORE,
    goals=tuple(
        f"{label}: encrypt at most {goal[0]} times the raw cipher's time, decrypt {goal[1]}"
        for label, goal in GOALS.items()
    ),
    bars=(
        Bars(table=0, labels=(0, 1), value=3, title="encrypt, to raw AES-GCM with one HKDF", ours="kms_core", log=True),
        Bars(table=0, labels=(0, 1), value=6, title="decrypt, to raw AES-GCM with one HKDF", ours="kms_core", log=True),
    ),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure both directions at each size."""
    theirs = peers.sdk_with_caching()
    with core(observer=Silent()) as ours:
        sealers: dict[str, Callable[[Any], Any]] = {
            _BASE: raw_seal,
            _OURS: lambda plaintext: ours.encrypt(plaintext, purpose=PURPOSE, context=CONTEXT),
            **{name: peer.encrypt for name, peer in theirs.items()},
        }
        openers: dict[str, Callable[[Any], Any]] = {
            _BASE: raw_open,
            _OURS: lambda message: ours.decrypt(message, purpose=PURPOSE, context=CONTEXT),
            **{name: peer.decrypt for name, peer in theirs.items()},
        }
        return (_table(sealers, openers, rounds=size.pick(quick=3, normal=15, full=40)),)


def _table(
    sealers: Mapping[str, Callable[[Any], Any]], openers: Mapping[str, Callable[[Any], Any]], *, rounds: int
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    missed: list[str] = []
    for label, length in SIZES.items():
        plaintext = os.urandom(length)
        messages = {name: seal(plaintext) for name, seal in sealers.items()}
        sealing = _fastest({name: (seal, plaintext) for name, seal in sealers.items()}, rounds)
        opening = _fastest({name: (open_, messages[name]) for name, open_ in openers.items()}, rounds)
        rows += [_row(label, name, sealing, opening, _length(messages[name]) - length) for name in sealers]
        for verb, seconds, goal in zip(("encrypt", "decrypt"), (sealing, opening), GOALS[label], strict=True):
            if (ratio := seconds[_OURS] / seconds[_BASE]) > goal:
                missed.append(f"{verb} of {label}: {ratio:.2f} times the raw cipher; the goal is {goal}")
    return Table(
        title="Speed with a cached data key",
        columns=(
            "size",
            "what",
            "encrypt, µs",
            "to raw",
            "to kms_core",
            "decrypt, µs",
            "to raw",
            "to kms_core",
            "bytes added",
        ),
        rows=tuple(rows),
        notes=(
            "One process, in turns, the fastest of several rounds; observer that does nothing; no network.",
            "kms_core: suite 0x0478 in frames of 64 KiB, a wrapped key of KMS's size.",
            f"Goals, to raw: {'; '.join(f'{size} {goal[0]} and {goal[1]}' for size, goal in GOALS.items())}.",
        ),
        missed=tuple(missed),
    )


def _row(
    label: str, name: str, sealing: Mapping[str, float], opening: Mapping[str, float], added: int
) -> tuple[Cell, ...]:
    figures: list[Cell] = []
    for seconds in (sealing, opening):
        figures += [seconds[name] * 1e6, seconds[name] / seconds[_BASE], seconds[name] / seconds[_OURS]]
    return (label, name, *figures, added)


def _fastest(calls: Mapping[str, tuple[Callable[[Any], Any], Any]], rounds: int) -> dict[str, float]:
    """Return the seconds that one call of each takes: the smallest of `rounds` means, taken in turns."""
    counts = {name: max(1, int(_ROUND_SECONDS / _mean(call, value, 3))) for name, (call, value) in calls.items()}
    fastest = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, (call, value) in calls.items():
            fastest[name] = min(fastest[name], _mean(call, value, counts[name]))
    return fastest


def _mean(call: Callable[[Any], Any], value: Any, count: int) -> float:
    started_at = _CLOCK.monotonic()
    for _ in range(count):
        call(value)
    return (_CLOCK.monotonic() - started_at) / count


def _length(message: bytes | tuple[bytes, ...]) -> int:
    return len(message) if isinstance(message, bytes) else sum(map(len, message))


_RAW_KEY = os.urandom(32)


def raw_seal(plaintext: bytes) -> tuple[bytes, bytes]:
    """Return salt and ciphertext: the least that a cautious user of pyca would write, and not even put together."""
    salt = os.urandom(32)
    return salt, AESGCM(_derived(salt)).encrypt(bytes(12), plaintext, None)


def raw_open(message: tuple[bytes, bytes]) -> bytes:
    """Open what `raw_seal` made."""
    salt, ciphertext = message
    return AESGCM(_derived(salt)).decrypt(bytes(12), ciphertext, None)


def _derived(salt: bytes) -> bytes:
    return HKDF(algorithm=SHA512(), length=32, salt=salt, info=b"benchmark").derive(_RAW_KEY)
