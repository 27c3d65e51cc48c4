"""Judges what became of a drill lease under torture: by the table's own account, and by what holders said. Pure.

Times are of CLOCK_MONOTONIC, which all processes of one machine share; only this judge may compare them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lease_table import Request

Line = Mapping[str, Any]
"""What a worker said of itself: `event`, `token`, `pid`, `at`, and more."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """For how long something was so, of one token."""

    begins: float
    ends: float
    token: int


@dataclass(kw_only=True)
class LeaseFigures:
    """What one run came to."""

    seed: int
    ttl_seconds: float
    seconds: float = 0.0
    freezes: int = 0
    kills: int = 0
    killed_frozen: int = 0
    """How many of the kills met a frozen process."""
    acquisitions: int = 0
    takeovers: int = 0
    """Acquisitions from somebody who had not given the lease back."""
    unanswered: int = 0
    """Drills that ended because the table did not answer in time: moto copies all of it for each transaction."""
    fenced: int = 0
    """Drills that were told that they had lost the lease."""
    refused: int = 0
    """Writes and renewals that the table refused."""
    slots: int = 0
    waited: int = 0
    """Holders who gave the lease back at once, for a fault of an earlier one could still be on."""
    faults: int = 0
    faults_late: int = 0
    """Breakings that a freeze delayed until the lease was another's: their time was up, so they broke nothing."""
    requests: int = 0
    overlaps: int = 0
    """Times that two processes at once had reason to think that the lease was theirs."""
    fault_overlaps: int = 0
    """Times that faults of two drills were on at once."""
    stale_writes: int = 0
    """Writes and renewals that the table took of somebody whose token was not the newest."""
    slots_twice: int = 0
    slots_forgotten: int = 0
    tokens_wrong: int = 0
    """Acquisitions whose token was not the one after the last."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Lines of workers that say what should not happen at all."""

    @property
    def findings(self) -> tuple[str, ...]:
        """What must be 0 and is not."""
        names = ("overlaps", "fault_overlaps", "stale_writes", "slots_twice", "slots_forgotten", "tokens_wrong")
        counted = {name: getattr(self, name) for name in names} | dict(self.unknown)
        return tuple(f"{name}: {count}" for name, count in counted.items() if count)

    def to_json(self) -> dict[str, Any]:
        """Return them for a file."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "unknown"}
        return {"schema": 1, **values, "seconds": round(self.seconds, 1), "findings": list(self.findings)}


def judge(
    figures: LeaseFigures, requests: Sequence[Request], lines: Sequence[Line], killed: Mapping[int, float]
) -> None:
    """Count into `figures`; `killed` is when each process that was killed was, by its id."""
    _by_the_table(figures, requests)
    events = Counter(str(line["event"]) for line in lines)
    figures.fenced, figures.faults = events["fenced"], events["broke"]
    figures.unanswered = events["unreachable"]
    figures.waited = events["gave-back"] - _whole(lines)
    figures.unknown = Counter({name: events[name] for name in events if name not in _KNOWN})
    figures.overlaps = overlaps(list(beliefs(lines, killed)))
    faults = list(fault_spans(lines))
    figures.faults_late = sum(span.ends <= span.begins for span in faults)
    figures.fault_overlaps = overlaps(faults)


_KNOWN = {"held", "kept", "slot", "broke", "mended", "gave-back", "fenced", "unreachable"}


def _whole(lines: Sequence[Line]) -> int:
    """Return how many drills had a slot and gave the lease back."""
    with_slot = {line["token"] for line in lines if line["event"] == "slot"}
    return sum(line["event"] == "gave-back" and line["token"] in with_slot for line in lines)


def _by_the_table(figures: LeaseFigures, requests: Sequence[Request]) -> None:
    newest, free, claims = 0, True, Counter[str]()
    for one in requests:
        if one.kind == "acquire" and one.took:
            figures.acquisitions += 1
            figures.takeovers += not free
            figures.tokens_wrong += one.token != newest + 1
            newest, free = one.token, False
        elif one.kind == "release" and one.took:
            figures.stale_writes += one.token != newest
            free = True
        elif one.kind in {"renew", "write"}:
            figures.refused += not one.took
            figures.stale_writes += one.took and one.token != newest
            if one.took and one.row.startswith("slot#"):
                claims[one.row.rpartition("/")[2]] += 1
    figures.requests = len(requests)
    figures.slots = len(claims)
    # A slot is written twice by its own drill, at its beginning and at its end: its tokens tell, not its writes.
    figures.slots_twice = _claimed_by_two(requests)
    figures.slots_forgotten = sum(f"{number:05}" not in claims for number in range(_last(claims) + 1))


def _claimed_by_two(requests: Sequence[Request]) -> int:
    tokens: dict[str, set[int]] = {}
    for one in requests:
        if one.took and one.kind == "write" and one.row.startswith("slot#"):
            tokens.setdefault(one.row, set()).add(one.token)
    return sum(len(of) > 1 for of in tokens.values())


def _last(claims: Counter[str]) -> int:
    return max((int(number) for number in claims), default=-1)


def beliefs(lines: Sequence[Line], killed: Mapping[int, float]) -> Iterator[Span]:
    """Return for each token how long its holder had reason to think that the lease was its own."""
    for token, told in _by_token(lines):
        held = [line for line in told if line["event"] in {"held", "kept"}]
        if not held:
            continue
        ends = max(line["until"] for line in held)
        ends = min([ends, *(line["at"] for line in told if line["event"] in {"gave-back", "fenced"})])
        ends = min(ends, killed.get(told[0]["pid"], ends))
        yield Span(held[0]["at"], ends, token)


def fault_spans(lines: Sequence[Line]) -> Iterator[Span]:
    """Return each fault, and for how long it was on: until it was mended, at the longest until its own time was up."""
    for token, told in _by_token(lines):
        for at, line in enumerate(told):
            if line["event"] == "broke":
                mended = next((one["at"] for one in told[at:] if one["event"] == "mended"), line["until"])
                yield Span(line["at"], min(line["until"], mended), token)


def overlaps(spans: Sequence[Span]) -> int:
    """Return how many spans begin while an earlier one, of another token, lasts. What a freeze outlasted is no span."""
    found, last = 0, None
    for span in sorted(span for span in spans if span.begins < span.ends):
        if last is not None and span.begins < last.ends and span.token != last.token:
            found += 1
        last = span if last is None or span.ends > last.ends else last
    return found


def _by_token(lines: Sequence[Line]) -> Iterator[tuple[int, list[Line]]]:
    ordered = sorted((line for line in lines if line["token"]), key=lambda line: (line["token"], line["at"]))
    for token, told in itertools.groupby(ordered, key=lambda line: line["token"]):
        yield token, list(told)
