"""What a verification found: one sentence a check, and one of three answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """Good; bad; or nobody can tell from what is there."""

    GOOD = "good"
    BAD = "bad"
    UNCLEAR = "unclear"

    @property
    def exit_code(self) -> int:
        """0 good, 1 bad found, 3 could not tell."""
        return {Result.GOOD: 0, Result.BAD: 1, Result.UNCLEAR: 3}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check of one run, or of the chain of runs (`run` is empty)."""

    run: str
    check: str
    result: Result
    detail: str


def worst(findings: Iterable[Finding]) -> Result:
    """Return the answer to all of them: one that is bad makes all bad; nothing at all is unclear."""
    found = {finding.result for finding in findings}
    if Result.BAD in found:
        return Result.BAD
    return Result.GOOD if found == {Result.GOOD} else Result.UNCLEAR
