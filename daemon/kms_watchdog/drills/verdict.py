"""The verdict: three answers for a drill, and one for each claim it makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kms_watchdog.drills.journal import Record

SCHEMA = 1


class Verdict(StrEnum):
    """HELD only if everything was seen to hold; what nobody could see is INCONCLUSIVE, never green (DESIGN §5)."""

    HELD = "HELD"
    BROKE = "BROKE"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> int:
        """The code a command ends with: 0 good, 1 bad found, 3 could not tell."""
        return {Verdict.HELD: 0, Verdict.BROKE: 1, Verdict.INCONCLUSIVE: 3}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One thing the drill had to prove, what was found, and the journal lines that show it."""

    name: str
    title: str
    verdict: Verdict
    finding: str
    evidence: tuple[int, ...] = ()
    """Numbers (`seq`) of journal records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a journal proves; `figures` are measured numbers by name, with the unit in the name."""

    run_id: str
    drill: str
    region: str
    verdict: Verdict
    claims: tuple[Claim, ...]
    figures: Mapping[str, float | None] = field(default_factory=dict)
    journal_head: str

    def to_json(self) -> dict[str, Any]:
        """Return the judgement as JSON values, the content of `verdict.json`."""
        return {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "drill": self.drill,
            "region": self.region,
            "verdict": str(self.verdict),
            "claims": [
                {
                    "name": c.name,
                    "title": c.title,
                    "verdict": str(c.verdict),
                    "finding": c.finding,
                    "evidence": list(c.evidence),
                }
                for c in self.claims
            ],
            "figures": dict(self.figures),
            "journal_head": self.journal_head,
        }


def answer(records: Iterable[Record]) -> str:
    """Return the verdict that a run came to; empty: none, or it was interrupted and could not tell.

    That is no answer: the slot that it was to fill may be filled again, where its plan says so.
    """
    verdict, interrupted = "", False
    for record in records:
        interrupted = interrupted or record.event == "interrupted"
        verdict = str(record.fields["verdict"]) if record.event == "verdict" else verdict
    return "" if interrupted and verdict == Verdict.INCONCLUSIVE else verdict
