"""The figures of a run of the torture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Figures:
    """Counted while it runs."""

    seed: int
    rounds: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Blows at who was not there any more: a drill that was over."""
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from the start of the process until the service does again what it is for."""
    processor: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of processor time that this took them: what is left of a recovery when nobody else wants the machine."""
    load: list[float] = field(default_factory=list)
    """The machine's load average at each round's end."""
    heals: list[float] = field(default_factory=list)
    """Seconds from a drill's death until its journal was closed by a healer, with whatever else was down meanwhile."""
    drills: Counter[str] = field(default_factory=Counter)
    """How they ended: an exit code, or killed."""
    faults_injected: int = 0
    """How many drills came so far as to break something."""
    rivals: Counter[str] = field(default_factory=Counter)
    """What became of second drills: refused, or let in because the first was over."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    kept: dict[str, int] = field(default_factory=dict)
    """How much there is in the end; what was there at any time before and is not is a finding."""
    not_told: int = 0
    """Metrics that left the queue as the local AWS, which does not keep data, was killed: nobody knows."""
    findings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return them for a file."""
        return {
            "schema": 1,
            "seed": self.seed,
            "rounds": self.rounds,
            "kills": {"total": self.kills.total(), **_sorted(self.kills)},
            "stops": {"total": self.stops.total(), **_sorted(self.stops)},
            "missed": _sorted(self.missed),
            "restarts": {name: len(seconds) for name, seconds in sorted(self.recoveries.items())},
            "recovery_seconds": {name: quantiles(seconds) for name, seconds in sorted(self.recoveries.items())},
            "recovery_processor_seconds": {name: quantiles(each) for name, each in sorted(self.processor.items())},
            "machine": {"processors": os.cpu_count(), "load_average": quantiles(self.load)},
            "heal_seconds": quantiles(self.heals),
            "drills": _sorted(self.drills),
            "faults_injected": self.faults_injected,
            "rivals": _sorted(self.rivals),
            "records": {
                "acknowledged": _sorted(self.acknowledged),
                "found": _sorted(self.found),
                "kept": self.kept,
                "metrics_not_told": self.not_told,
            },
            "findings": self.findings,
        }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th percentile (nearest rank) and the greatest; nothing of nothing."""
    ordered = sorted(values)
    if not ordered:
        return {}
    ranks = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[max(0, -int(-rank * len(ordered) // 1) - 1)], 2) for name, rank in ranks.items()}


def _sorted(counted: Counter[str]) -> dict[str, int]:
    return dict(sorted(counted.items()))
