"""Say what is wrong with a journal's lines: which was edited, is missing, came twice or stands elsewhere. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kms_watchdog.drills import journal
from kms_watchdog.json_text import read_json


@dataclass(frozen=True, slots=True)
class _Line:
    """What one line says of itself; lines count from 1, `seq` from 0."""

    number: int
    seq: int
    prev: str
    hash: str
    whole: bool
    """Whether its content matches its hash."""


def flaws(raw: bytes) -> tuple[str, ...]:
    """Return what is wrong with the whole lines of a journal, in order; empty: the chain holds.

    A torn end (bytes after the last newline) is no flaw: it was never a line.
    """
    texts = raw.split(b"\n")[:-1]
    lines = [_line(number, text) for number, text in enumerate(texts, start=1)]
    read = [line for line in lines if line is not None]
    found = [f"line {n}: is no journal record" for n, line in enumerate(lines, start=1) if line is None]
    edited = [line for line in read if not line.whole]
    found += [f"line {line.number} (seq {line.seq}): edited: it does not match its hash" for line in edited]
    found += _twice(read)
    found += _missing(read, unreadable={n - 1 for n, line in enumerate(lines, start=1) if line is None})
    found += _elsewhere(read)
    found += _unchained(read)
    if not found:
        try:
            journal.parse_all(raw)
        except journal.JournalError as e:
            found.append(str(e))
    return tuple(found)


def _line(number: int, text: bytes) -> _Line | None:
    try:
        values = read_json(text)
        seq, prev, proof = int(values["seq"]), str(values["prev"]), str(values["hash"])
    except (KeyError, TypeError, ValueError):
        return None
    return _Line(number, seq, prev, proof, whole=journal.content_hash(text, proof) == proof)


def _twice(lines: Sequence[_Line]) -> Iterator[str]:
    seen: dict[int, int] = {}
    for line in lines:
        if (first := seen.setdefault(line.seq, line.number)) != line.number:
            yield f"line {line.number} (seq {line.seq}): repeats the number of line {first}"


def _missing(lines: Sequence[_Line], *, unreadable: set[int]) -> Iterator[str]:
    there = sorted({-1, *(line.seq for line in lines), *unreadable})
    for before, after in itertools.pairwise(there):
        if after - before > 1:
            first, last = before + 1, after - 1
            yield f"seq {first} is missing" if first == last else f"seq {first} to {last} are missing"


def _elsewhere(lines: Sequence[_Line]) -> Iterator[str]:
    for before, line in itertools.pairwise(lines):
        if line.seq < before.seq:
            yield f"line {line.number} (seq {line.seq}): re-ordered: it stands after seq {before.seq}"


def _unchained(lines: Sequence[_Line]) -> Iterator[str]:
    """Yield where a whole line was put in another's place: its hash is right, but not the one that is named next."""
    by_seq = {line.seq: line for line in lines}
    for line in lines:
        before = by_seq.get(line.seq - 1)
        named = journal.GENESIS if line.seq == 0 else before.hash if before else line.prev
        if line.whole and line.prev != named:
            yield f"line {line.number} (seq {line.seq}): does not follow the line before: one of the two was replaced"
