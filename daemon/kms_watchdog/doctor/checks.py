"""One check and its answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kms_watchdog.doctor.diagnosis import Outcome


class Verdict(StrEnum):
    """How a check ends; a note is worth a line, and nothing wrong."""

    GOOD = "good"
    BAD = "bad"
    NOTE = "note"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, and what was seen."""

    id: str
    verdict: Verdict
    said: str
    first: str = ""
    """What to do first; empty where nothing is to be done."""

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        return {"id": self.id, "verdict": str(self.verdict), "said": self.said, "first": self.first}


def good(name: str, said: str) -> Check:
    """Return a check that found what it should."""
    return Check(id=name, verdict=Verdict.GOOD, said=said)


def bad(name: str, said: str, first: str) -> Check:
    """Return a check that found something wrong."""
    return Check(id=name, verdict=Verdict.BAD, said=said, first=first)


def note(name: str, said: str, first: str = "") -> Check:
    """Return a check that found something worth knowing."""
    return Check(id=name, verdict=Verdict.NOTE, said=said, first=first)


def unknown(name: str, said: str, first: str = "") -> Check:
    """Return a check that could not look."""
    return Check(id=name, verdict=Verdict.UNKNOWN, said=said, first=first)


def outcome(checks: Iterable[Check]) -> Outcome:
    """Return what all checks together mean."""
    found = {check.verdict for check in checks}
    if Verdict.BAD in found:
        return Outcome.CAUSE_FOUND
    return Outcome.COULD_NOT_TELL if Verdict.UNKNOWN in found else Outcome.NOTHING_WRONG
