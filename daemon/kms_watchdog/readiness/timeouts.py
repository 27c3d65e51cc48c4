"""What was measured, and which time-outs it asks for. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kms_core.kms import DECRYPT, GENERATE_DATA_KEY
from kms_watchdog.config import Core

Connection = Literal["cold", "warm"]
OPERATIONS = (GENERATE_DATA_KEY, DECRYPT)
CONNECTIONS: tuple[Connection, ...] = ("cold", "warm")

ENOUGH: Mapping[Connection, int] = {"cold": 20, "warm": 100}
"""Of each operation in each region: the p99 of fewer says nothing."""
MARGIN = 3.0
LEAST_SECONDS = 0.5
PAUSES_SECONDS = 1.0
RULE = (
    f"connect: {MARGIN:g} times the longest p99 of a new connection (cold p99 minus warm p50); "
    f"read: {MARGIN:g} times the longest p99 of a warm request; each at least {LEAST_SECONDS:g} s; "
    "attempt: connect plus read; "
    f"deadline: an attempt in each region, and {PAUSES_SECONDS:g} s for the pauses between them. "
    "Rounded up to 0.1 s."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One operation in one region over one kind of connection."""

    region: str
    operation: str
    connection: Connection
    count: int
    p50_seconds: float
    p99_seconds: float
    """Of fewer than a hundred, the longest."""

    @classmethod
    def of(cls, region: str, operation: str, connection: Connection, seconds: Iterable[float]) -> Figures:
        """Return those of what was measured, by nearest rank.

        Raises:
            ValueError: there is nothing.
        """
        ranked = sorted(seconds)
        if not ranked:
            raise ValueError("nothing was measured")
        return cls(
            region=region,
            operation=operation,
            connection=connection,
            count=len(ranked),
            p50_seconds=_nearest_rank(ranked, 0.5),
            p99_seconds=_nearest_rank(ranked, 0.99),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Those of `[core]`, in seconds."""

    connect_timeout_seconds: float
    read_timeout_seconds: float
    attempt_timeout_seconds: float
    deadline_seconds: float

    @classmethod
    def configured(cls, core: Core) -> Timeouts:
        """Return those that the configuration has."""
        return cls(**{name: getattr(core, name) for name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, float]:
        """Return them as JSON values."""
        return dict(asdict(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Timeouts:
        """Return what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return cls(**{name: float(values[name]) for name in cls.__dataclass_fields__})


def propose(figures: Iterable[Figures]) -> Timeouts:
    """Return the time-outs that `RULE` makes of the figures of all regions, each complete.

    Raises:
        ValueError: there are none.
    """
    measured = tuple(figures)
    regions = {one.region for one in measured}
    connecting = _connecting(measured)
    warm = [one.p99_seconds for one in measured if one.connection == "warm"]
    connect, read = (_up(max(LEAST_SECONDS, MARGIN * max(longest))) for longest in (connecting, warm))
    attempt = _up(connect + read)
    return Timeouts(
        connect_timeout_seconds=connect,
        read_timeout_seconds=read,
        attempt_timeout_seconds=attempt,
        deadline_seconds=_up(attempt * len(regions) + PAUSES_SECONDS),
    )


def too_short(configured: Timeouts, measured: Iterable[Figures]) -> tuple[str, ...]:
    """Return in words which configured time-outs are below what was measured, so that they cut good requests off."""
    figures = tuple(measured)
    warm = max(one.p99_seconds for one in figures if one.connection == "warm")
    cold = max(one.p99_seconds for one in figures if one.connection == "cold")
    limits = {
        "connect_timeout_seconds": ("the p99 of a new connection", max(_connecting(figures))),
        "read_timeout_seconds": ("the p99 of a warm request", warm),
        "attempt_timeout_seconds": ("the p99 of a cold request", cold),
        "deadline_seconds": ("the p99 of a cold request", cold),
    }
    return tuple(
        f"core.{name} is {getattr(configured, name):g} s, {what} is {seconds:.3f} s"
        for name, (what, seconds) in limits.items()
        if getattr(configured, name) <= seconds
    )


def too_few(measured: Iterable[Figures]) -> tuple[str, ...]:
    """Return in words of which figures there are too few samples to tell anything by them."""
    return tuple(
        f"{one.count} {one.connection} {one.operation} in {one.region}, at least {ENOUGH[one.connection]} are needed"
        for one in measured
        if one.count < ENOUGH[one.connection]
    )


def _connecting(figures: Iterable[Figures]) -> list[float]:
    """Return how long a new connection took at p99, by each operation in each region: cold p99 minus warm p50."""
    by_place = {(one.region, one.operation, one.connection): one for one in figures}
    return [
        max(0.0, cold.p99_seconds - by_place[region, operation, "warm"].p50_seconds)
        for (region, operation, connection), cold in by_place.items()
        if connection == "cold" and (region, operation, "warm") in by_place
    ]


def _nearest_rank(ranked: list[float], share: float) -> float:
    return ranked[math.ceil(len(ranked) * share) - 1]


def _up(seconds: float) -> float:
    return math.ceil(round(seconds * 10, 6)) / 10
