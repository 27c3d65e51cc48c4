"""What is killed and stopped when, drawn from a seed: the same seed strikes the same blows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Victim = Literal["daemon", "drill", "toxiproxy", "aws"]
VICTIMS: tuple[Victim, ...] = get_args(Victim)
SPAN_SECONDS = 11.0
"""About the life of a drill: a blow falls anywhere in it, or just before it begins to matter, or just after."""
_KILLS_OF_TEN = 8
_LONG_OUTAGE_SECONDS = 12.0
"""More than a period of CloudWatch: something waits in the queue while the local AWS is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One SIGKILL, or one SIGSTOP that a SIGCONT follows."""

    victim: Victim
    after_seconds: float
    """Since the round began."""
    kills: bool
    away_seconds: float
    """How long it is down or stands still. A drill that was killed stays dead."""

    def __str__(self) -> str:
        """Tell it in a round's line."""
        how = "SIGKILL" if self.kills else f"SIGSTOP for {self.away_seconds:.1f} s"
        return f"{self.victim} {how} at {self.after_seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One drill, and what befalls it and what it depends on."""

    number: int
    fault: str
    blows: tuple[Blow, ...]
    """By time; no victim twice."""
    rival_after_seconds: float | None
    """When somebody starts a second drill; None: nobody does."""


def rounds(seed: int, faults: Sequence[str]) -> Iterator[Round]:
    """Yield rounds without end; each victim is struck in at least three of four, each fault has its turn."""
    rng = random.Random(seed)
    number = 0
    while True:
        blows = [_blow(rng, victim) for victim in rng.sample(VICTIMS, rng.choice((3, 4)))]
        yield Round(
            number=number,
            fault=faults[number % len(faults)],
            blows=tuple(sorted(blows, key=lambda blow: blow.after_seconds)),
            rival_after_seconds=rng.uniform(2.0, SPAN_SECONDS) if number % 3 == 0 else None,
        )
        number += 1


def _blow(rng: random.Random, victim: Victim) -> Blow:
    kills = rng.randrange(10) < _KILLS_OF_TEN
    away = rng.uniform(0.0, 1.0) if kills else rng.uniform(0.2, 4.0)
    if kills and victim == "aws" and rng.randrange(4) == 0:
        away = _LONG_OUTAGE_SECONDS
    return Blow(victim=victim, after_seconds=rng.uniform(0.0, SPAN_SECONDS), kills=kills, away_seconds=away)
