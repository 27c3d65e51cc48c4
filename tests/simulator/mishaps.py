"""What befalls an estate in a month, drawn from a seed: the same seed, the same mishaps."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

DAY, HOUR, MINUTE = 86_400.0, 3_600.0, 60.0
DAYS = 30
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
OUTAGES = ("ConnectionRefused", "ConnectTimeout", "ReadTimeout", "KMSInternalException")
Trouble = Literal["daemon-dies", "daemon-freezes", "toxiproxy-dies", "toxiproxy-hangs", "table-away"]
TROUBLES: tuple[Trouble, ...] = ("daemon-dies", "daemon-freezes", "toxiproxy-dies", "toxiproxy-hangs", "table-away")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Regions whose KMS does not serve."""

    began: float
    ended: float
    regions: tuple[str, ...]
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """Something of one host, or the table of all."""

    at: float
    trouble: Trouble
    host: int
    seconds: float
    """How long it lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of a process at one of its steps."""

    step: int
    freeze_seconds: float | None
    """None: it is killed."""


@dataclass(frozen=True, kw_only=True)
class Month:
    """One seed's month."""

    seed: int
    hosts: int
    """One: the lease is its state folder's; more: a table's."""
    again_after_abort: bool
    outages: tuple[Outage, ...]
    mishaps: tuple[Mishap, ...]


def month_of(seed: int, slots_due: tuple[float, ...]) -> Month:
    """Draw a month; most mishaps come about when a drill is due, where they matter."""
    rng = random.Random(seed)
    hosts = rng.choice((1, 2, 2, 3))
    return Month(
        seed=seed,
        hosts=hosts,
        again_after_abort=rng.random() < 0.5,
        outages=tuple(_outages(rng)),
        mishaps=tuple(sorted((_mishap(rng, hosts, slots_due) for _ in range(rng.randrange(12))), key=lambda m: m.at)),
    )


def _outages(rng: random.Random) -> list[Outage]:
    found: list[Outage] = []
    at = 0.0
    for _ in range(rng.randrange(4)):
        at += rng.uniform(HOUR, 8 * DAY)
        ended = at + rng.uniform(20 * MINUTE, 6 * HOUR)
        regions = tuple(rng.sample(REGIONS, rng.choice((1, 1, 1, 2, 2, 3))))
        found.append(Outage(began=at, ended=ended, regions=regions, code=rng.choice(OUTAGES)))
        at = ended + HOUR
    return found


def _mishap(rng: random.Random, hosts: int, slots_due: tuple[float, ...]) -> Mishap:
    trouble = rng.choice(TROUBLES)
    near = rng.choice(slots_due) + rng.uniform(-5 * MINUTE, 10 * MINUTE)
    at = near if rng.randrange(4) else rng.uniform(0.0, DAYS * DAY)
    longest = {"daemon-dies": 9 * DAY, "toxiproxy-hangs": 10 * MINUTE, "daemon-freezes": HOUR}.get(trouble, 3 * HOUR)
    seconds = min(longest, rng.expovariate(1 / (longest / 8)) + 1.0)
    return Mishap(at=max(at, MINUTE), trouble=trouble, host=rng.randrange(hosts), seconds=seconds)


def fate_of_drill(rng: random.Random) -> Fate | None:
    """Draw what becomes of a drill: of three one dies, one stands still."""
    step = rng.randrange(1, 130)
    return rng.choice((None, Fate(step=step, freeze_seconds=None), Fate(step=step, freeze_seconds=_still(rng))))


def fate_of_healer(rng: random.Random) -> Fate | None:
    """Draw what becomes of a healer."""
    step = rng.randrange(1, 24)
    return rng.choice((None, None, None, Fate(step=step, freeze_seconds=None), Fate(step=step, freeze_seconds=20.0)))


def _still(rng: random.Random) -> float:
    return rng.choice((rng.uniform(0.5, 20.0), rng.uniform(20.0, 120.0), rng.uniform(120.0, 1800.0)))
