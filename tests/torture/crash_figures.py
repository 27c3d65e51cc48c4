"""The figures of crashes at every site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_TOLD = 20
"""Findings of one protocol that are kept; the rest are counted."""


@dataclass(kw_only=True)
class Protocol:
    """What was tried with one protocol."""

    name: str
    operations: Counter[str] = field(default_factory=Counter)
    """Of its traced run, by kind: each is a site, with a crash before and after it."""
    crashes: Counter[str] = field(default_factory=Counter)
    """By what the disk kept of what was done."""
    states: int = 0
    """What they left, each with what had been promised: many leave the same, which is looked at once."""
    wrong: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def find(self, crash: str, told: list[str]) -> None:
        """Note what one crash showed."""
        self.wrong += bool(told)
        if told and len(self.findings) < MOST_TOLD:
            self.findings.append(f"{self.name}: {crash}: {'; '.join(told)}")

    def to_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return {
            "sites": self.operations.total(),
            "operations": dict(sorted(self.operations.items())),
            "crashes": {"total": self.crashes.total(), **dict(sorted(self.crashes.items()))},
            "states": self.states,
            "found_wrong": self.wrong,
            "seconds": round(self.seconds, 1),
            "findings": self.findings,
        }


def table(protocols: Mapping[str, Protocol]) -> str:
    """Return a line a protocol: its sites by kind, crashes, the states that they left, and how many were wrong."""
    lines = [f"{'protocol':10}{'sites':>6}{'crashes':>9}{'states':>8}{'wrong':>7}{'s':>6}  operations"]
    for name, each in protocols.items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(each.operations.items()))
        counts = f"{each.operations.total():6}{each.crashes.total():9}{each.states:8}{each.wrong:7}{each.seconds:6.0f}"
        lines.append(f"{name:10}{counts}  {kinds}")
    return "\n".join(lines)
