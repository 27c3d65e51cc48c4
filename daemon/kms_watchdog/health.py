"""Is it healthy, and why not: a pure fold of canary results, with hysteresis (DESIGN §6).

Three failures bring a canary down and two successes up again. One that never ran is unknown, not healthy; one without
a fresh answer is stale; BLIND counts for neither side. Times here are monotonic seconds, so that a clock set back
makes nothing look fresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from kms_watchdog.results import CanaryResult, Outcome

DOWN_AFTER_FAILURES = 3
UP_AFTER_SUCCESSES = 2
STALE_AFTER_INTERVALS = 3

ReasonCode = Literal[
    "down", "stale", "blind", "never_probed", "breaker_open", "key_usable_nowhere", "no_fresh_result", "never_ok"
]


class State(StrEnum):
    """What a canary's answers so far amount to."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Status(StrEnum):
    """The whole: HTTP 200, 503, 500 in that order."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What one canary looks at."""

    canary: str
    region: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryHealth:
    """One canary's answers so far."""

    state: State = State.UNKNOWN
    since_utc: datetime | None = None
    """When `state` began; None while unknown."""
    failures: int = 0
    """In a row; BLIND leaves it."""
    successes: int = 0
    answered_at: float | None = None
    """Monotonic time of the last OK or FAILED; None: never."""
    last: CanaryResult | None = None

    @property
    def blind(self) -> bool:
        """Whether the last look could not ask."""
        return self.last is not None and self.last.outcome is Outcome.BLIND

    def fresh(self, now: float, stale_after_seconds: float) -> bool:
        """Return whether there was an answer lately."""
        return self.answered_at is not None and now - self.answered_at <= stale_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why the whole is not healthy; codes only, since strangers may read it."""

    code: ReasonCode
    region: str = ""
    key: str = ""
    canary: str = ""
    age_seconds: float | None = None
    """Since the last answer, where there was one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What all canaries together say."""

    status: Status
    regions: Mapping[str, bool]
    keys: Mapping[str, bool]
    """Whether the key is usable somewhere."""
    breakers: Mapping[str, str]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Every canary's health."""

    canaries: Mapping[Subject, CanaryHealth] = field(default_factory=dict)

    def fold(self, result: CanaryResult, *, now: float) -> Board:
        """Return the board after `result`, which came at monotonic `now`."""
        subject = Subject(result.canary, result.region, result.key)
        before = self.canaries.get(subject, CanaryHealth())
        return Board(canaries=MappingProxyType({**self.canaries, subject: fold(before, result, now=now)}))


def board(subjects: Iterable[Subject]) -> Board:
    """Return the board before the first result: everything unknown."""
    return Board(canaries=MappingProxyType({subject: CanaryHealth() for subject in subjects}))


def fold(before: CanaryHealth, result: CanaryResult, *, now: float) -> CanaryHealth:
    """Return a canary's health after one more result."""
    if result.outcome is Outcome.BLIND:
        return replace(before, last=result)
    ok = result.outcome is Outcome.OK
    after = replace(
        before,
        failures=0 if ok else before.failures + 1,
        successes=before.successes + 1 if ok else 0,
        answered_at=now,
        last=result,
    )
    state = _next_state(after)
    return after if state is before.state else replace(after, state=state, since_utc=result.started_at_utc)


def _next_state(health: CanaryHealth) -> State:
    if health.failures >= DOWN_AFTER_FAILURES:
        return State.DOWN
    if health.state is State.UNKNOWN and health.successes:
        return State.UP  # nothing to be cautious about: it was never down
    return State.UP if health.successes >= UP_AFTER_SUCCESSES else health.state


def assess(board: Board, breakers: Mapping[str, str], *, now: float, stale_after_seconds: float) -> Health:
    """Return what `board` says at monotonic `now`; `breakers` is each region's breaker state.

    Degraded: something is down, stale, blind or never looked at, yet every key is usable somewhere. Unhealthy: a key is
    usable nowhere, or there is no fresh answer at all.
    """
    usable = {
        subject: health.state is State.UP and health.fresh(now, stale_after_seconds)
        for subject, health in board.canaries.items()
    }
    regions = {r: all(u for s, u in usable.items() if s.region == r) for r in _each(s.region for s in usable)}
    keys = {k: any(u for s, u in usable.items() if s.key == k) for k in _each(s.key for s in usable)}
    fatal = _fatal(board, keys, now=now, stale_after_seconds=stale_after_seconds)
    reasons = (*fatal, *_flaws(board, breakers, now=now, stale_after_seconds=stale_after_seconds))
    status = Status.UNHEALTHY if fatal else Status.DEGRADED if reasons else Status.HEALTHY
    return Health(
        status=status,
        regions=MappingProxyType(regions),
        keys=MappingProxyType(keys),
        breakers=MappingProxyType(dict(breakers)),
        reasons=reasons,
    )


def regions_down(board: Board) -> frozenset[str]:
    """Return the regions in which a canary is down; silence is no evidence here (a drill ends, its canaries stop)."""
    return frozenset(s.region for s, health in board.canaries.items() if health.state is State.DOWN)


def _each(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _fatal(board: Board, keys: Mapping[str, bool], *, now: float, stale_after_seconds: float) -> tuple[Reason, ...]:
    if not any(health.fresh(now, stale_after_seconds) for health in board.canaries.values()):
        return (Reason(code="no_fresh_result"),)
    return tuple(Reason(code="key_usable_nowhere", key=key) for key, usable in keys.items() if not usable)


def _flaws(board: Board, breakers: Mapping[str, str], *, now: float, stale_after_seconds: float) -> tuple[Reason, ...]:
    found = [
        _reason(code, subject, health, now)
        for subject, health in board.canaries.items()
        if (code := _flaw(health, now, stale_after_seconds))
    ]
    found += [Reason(code="breaker_open", region=region) for region, state in breakers.items() if state == "open"]
    return tuple(found)


def _flaw(health: CanaryHealth, now: float, stale_after_seconds: float) -> ReasonCode | None:
    if health.blind:
        return "blind"
    if health.last is None:
        return "never_probed"
    if not health.fresh(now, stale_after_seconds):
        return "stale"
    if health.state is State.DOWN:
        return "down"
    return "never_ok" if health.state is State.UNKNOWN else None


def _reason(code: ReasonCode, subject: Subject, health: CanaryHealth, now: float) -> Reason:
    age_seconds = None if health.answered_at is None else now - health.answered_at
    return Reason(code=code, region=subject.region, key=subject.key, canary=subject.canary, age_seconds=age_seconds)
