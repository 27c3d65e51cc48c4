"""Looks counted: how many of each answer, why, and how long, in a form that can be added up. No I/O."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from kms_watchdog.results import CanaryResult, Outcome

FLOOR_SECONDS = 1e-4
STEPS_PER_DOUBLING = 8
BUCKETS = 172
"""Of durations: eight to a doubling, from 0.1 ms to 270 s; what is longer is in the last."""
ERROR = 2 ** (0.5 / STEPS_PER_DOUBLING) - 1
"""How far a percentile may be from the true one: 4.4 %, half a bucket."""
MAX_REASONS = 20
OTHER = "other|"
"""What is counted as, once `MAX_REASONS` different reasons are."""


def bucket(seconds: float) -> int:
    """Return the number of the bucket that holds `seconds`."""
    if seconds <= FLOOR_SECONDS:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log2(seconds / FLOOR_SECONDS) * STEPS_PER_DOUBLING - 1e-9))


def middle_seconds(number: int) -> float:
    """Return the middle of a bucket, by ratio."""
    return float(FLOOR_SECONDS * 2 ** ((number - 0.5) / STEPS_PER_DOUBLING)) if number else FLOOR_SECONDS


@dataclass(slots=True)
class Tally:
    """Counts of looks. It is a counter and changes; whoever shares one copies it."""

    ok: int = 0
    failed: int = 0
    blind: int = 0
    seconds_sum: float = 0.0
    """Of the OK looks, as all durations here: how long a failure took is the length of a timeout."""
    seconds_min: float = math.inf
    seconds_max: float = 0.0
    buckets: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """By `reason|error_code`, FAILED and BLIND alike."""

    @property
    def looks(self) -> int:
        """How many there were."""
        return self.ok + self.failed + self.blind

    @property
    def availability(self) -> float | None:
        """The share of OK among the answers; None of none. BLIND is no answer (DESIGN §6)."""
        answers = self.ok + self.failed
        return self.ok / answers if answers else None

    @property
    def blind_share(self) -> float | None:
        """The share of looks that could not ask; None of none."""
        return self.blind / self.looks if self.looks else None

    @property
    def mean_seconds(self) -> float | None:
        """The mean duration of the OK looks."""
        return self.seconds_sum / self.ok if self.ok else None

    def add(self, result: CanaryResult) -> None:
        """Count one look."""
        match result.outcome:
            case Outcome.OK:
                self.ok += 1
                self._time(result.duration_seconds)
            case Outcome.FAILED:
                self.failed += 1
            case Outcome.BLIND:
                self.blind += 1
        if result.reason is not None:
            self._reason(f"{result.reason}|{result.error_code}", 1)

    def merge(self, other: Tally) -> None:
        """Count what `other` counted too."""
        self.ok += other.ok
        self.failed += other.failed
        self.blind += other.blind
        self.seconds_sum += other.seconds_sum
        self.seconds_min = min(self.seconds_min, other.seconds_min)
        self.seconds_max = max(self.seconds_max, other.seconds_max)
        self.buckets.update(other.buckets)
        for reason, count in other.reasons.items():
            self._reason(reason, count)

    def percentile(self, share: float) -> float | None:
        """Return the nearest-rank percentile of the OK looks' durations in seconds, within `ERROR`; None of none."""
        total = self.buckets.total()
        if not total:
            return None
        rank, seen = max(1, math.ceil(share * total)), 0
        for number in sorted(self.buckets):
            seen += self.buckets[number]
            if seen >= rank:
                return min(max(middle_seconds(number), self.seconds_min), self.seconds_max)
        raise AssertionError("the ranks end at the total")

    def to_row(self) -> tuple[Any, ...]:
        """Return what the history's table holds, in its order."""
        return (
            self.ok,
            self.failed,
            self.blind,
            self.seconds_sum,
            self.seconds_min if self.ok else None,
            self.seconds_max,
            json.dumps(self.buckets, separators=(",", ":")),
            json.dumps(self.reasons, separators=(",", ":")),
        )

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Return the tally that `to_row` gave."""
        ok, failed, blind, seconds_sum, seconds_min, seconds_max, buckets, reasons = row
        return cls(
            ok=ok,
            failed=failed,
            blind=blind,
            seconds_sum=seconds_sum,
            seconds_min=math.inf if seconds_min is None else seconds_min,
            seconds_max=seconds_max,
            buckets=Counter({int(number): count for number, count in json.loads(buckets).items()}),
            reasons=Counter(json.loads(reasons)),
        )

    def copy(self) -> Tally:
        """Return one that may be changed without this."""
        return replace(self, buckets=Counter(self.buckets), reasons=Counter(self.reasons))

    def _time(self, seconds: float) -> None:
        self.seconds_sum += seconds
        self.seconds_min = min(self.seconds_min, seconds)
        self.seconds_max = max(self.seconds_max, seconds)
        self.buckets[bucket(seconds)] += 1

    def _reason(self, reason: str, count: int) -> None:
        known = reason in self.reasons or len(self.reasons) < MAX_REASONS
        self.reasons[reason if known else OTHER] += count


def total(tallies: Iterable[Tally]) -> Tally:
    """Return all of them added up."""
    sum_ = Tally()
    for each in tallies:
        sum_.merge(each)
    return sum_
