"""Findings, and how several make one claim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kms_chaos.judging.history import History
from kms_watchdog.drills.journal import Record
from kms_watchdog.drills.verdict import Claim, Verdict

_EVIDENCE_AT_EACH_END = 3
"""Of many records, how many of the first and how many of the last are named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    verdict: Verdict
    text: str
    evidence: tuple[int, ...] = ()


def held(text: str, records: Iterable[Record] = ()) -> Finding:
    """Return that it was seen to hold."""
    return Finding(Verdict.HELD, text, _numbers(records))


def broke(text: str, records: Iterable[Record] = ()) -> Finding:
    """Return that it was seen not to hold."""
    return Finding(Verdict.BROKE, text, _numbers(records))


def unclear(text: str, records: Iterable[Record] = ()) -> Finding:
    """Return that nobody could see."""
    return Finding(Verdict.INCONCLUSIVE, text, _numbers(records))


def missing(history: History, text: str, records: Iterable[Record] = ()) -> Finding:
    """Return what the absence of something means: a break in a whole run, nothing in one that was cut short."""
    return unclear(text, records) if history.stopped else broke(text, records)


def claim(name: str, title: str, findings: Iterable[Finding]) -> Claim:
    """Return the claim that `findings` make: as bad as the worst; none at all is nothing seen."""
    found = tuple(findings) or (unclear("nothing was looked at"),)
    worst = next(v for v in (Verdict.BROKE, Verdict.INCONCLUSIVE, Verdict.HELD) if any(f.verdict is v for f in found))
    telling = [f for f in found if f.verdict is worst]
    return Claim(
        name=name,
        title=title,
        verdict=worst,
        finding="; ".join(dict.fromkeys(f.text for f in telling)),
        evidence=tuple(sorted({seq for f in telling for seq in f.evidence})),
    )


def gather(found: Iterable[tuple[str, Finding]]) -> Iterator[Finding]:
    """Merge findings that say the same of several places; `{}` in their text stands for the place."""
    places: dict[tuple[Verdict, str], list[str]] = {}
    evidence: dict[tuple[Verdict, str], list[int]] = {}
    for place, finding in found:
        same = finding.verdict, finding.text
        places.setdefault(same, []).append(place)
        evidence.setdefault(same, []).extend(finding.evidence)
    for (verdict, text), where in places.items():
        named = ", ".join(dict.fromkeys(where))
        yield Finding(verdict, text.replace("{}", named), tuple(evidence[verdict, text]))


def _numbers(records: Iterable[Record]) -> tuple[int, ...]:
    """Return the records' numbers; of many, the first and the last ones."""
    found = [r.seq for r in records]
    return tuple(dict.fromkeys([*found[:_EVIDENCE_AT_EACH_END], *found[-_EVIDENCE_AT_EACH_END:]]))
