"""Is it healthy, and why not: a pure fold of canary results, with hysteresis (DESIGN §6).

Three failures bring a canary down and two successes up again. One that never ran is unknown, not healthy; one without
a fresh answer is stale; BLIND counts for neither side. Times here are monotonic seconds, so that a clock set back
makes nothing look fresh.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from kms_watchdog.results import CanaryResult, Kind, Outcome
from kms_watchdog.results import Reason as Why

DOWN_AFTER_FAILURES = 3
UP_AFTER_SUCCESSES = 2
STALE_AFTER_INTERVALS = 3
USE_KINDS = frozenset({Kind.ROUND_TRIP})
"""These alone say whether a region or a key can be used; all others say what is wrong besides."""
AT_ONCE = frozenset({Why.ACCEPTED_MUST_REFUSE})
"""One such answer is enough: nothing that must be refused is accepted by chance."""

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

    @property
    def id(self) -> str:
        """The canary's name in logs, jobs and addresses: `round_trip:us-east-1:pii`, `clock_offset:us-east-1`."""
        return ":".join(part for part in (self.canary, self.region, self.key) if part)


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
    looked_at: float | None = None
    """Monotonic time of the last result, a blind one too; None: never."""
    not_ok_since_utc: datetime | None = None
    """When the first of the looks began that have not been OK, without an OK in between; None while OK."""
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
    """Why the whole is not healthy."""

    code: ReasonCode
    region: str = ""
    key: str = ""
    canary: str = ""
    age_seconds: float | None = None
    """Since the last answer, where there was one."""
    last: CanaryResult | None = None
    """The last result, where a canary gave one: its detail is not for strangers."""


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
    ok = result.outcome is Outcome.OK
    not_ok_since_utc = None if ok else before.not_ok_since_utc or result.started_at_utc
    if result.outcome is Outcome.BLIND:
        return replace(before, last=result, looked_at=now, not_ok_since_utc=not_ok_since_utc)
    failures, successes = (0, before.successes + 1) if ok else (before.failures + 1, 0)
    state = _next_state(before.state, failures, successes, result.reason)
    return CanaryHealth(  # all of it anew: `replace` takes ten times as long
        state=state,
        since_utc=before.since_utc if state is before.state else result.started_at_utc,
        failures=failures,
        successes=successes,
        answered_at=now,
        looked_at=now,
        not_ok_since_utc=not_ok_since_utc,
        last=result,
    )


def _next_state(before: State, failures: int, successes: int, why: Why | None) -> State:
    if failures >= DOWN_AFTER_FAILURES or why in AT_ONCE:
        return State.DOWN
    if before is State.UNKNOWN and successes:
        return State.UP  # nothing to be cautious about: it was never down
    return State.UP if successes >= UP_AFTER_SUCCESSES else before


def assess(
    board: Board,
    breakers: Mapping[str, str],
    *,
    now: float,
    stale_after_seconds: Mapping[str, float],
    seen_in_part: Collection[str] = (),
) -> Health:
    """Return what `board` says at monotonic `now`; `breakers` is each region's breaker state.

    `stale_after_seconds` is by kind of canary: how old an answer may be. Of keys `seen_in_part`, which other watchdogs
    look at in other regions, nobody here can say that they are usable nowhere.

    Degraded: something is down, stale, blind or never looked at, yet every key is usable somewhere. Unhealthy: a key is
    usable nowhere, or there is no fresh answer at all.
    """
    stale = frozenset(s for s, health in board.canaries.items() if not health.fresh(now, stale_after_seconds[s.canary]))
    usable = {
        subject: health.state is State.UP and subject not in stale
        for subject, health in board.canaries.items()
        if subject.canary in USE_KINDS
    }
    regions: dict[str, bool] = {}
    keys: dict[str, bool] = {}
    for subject, good in usable.items():  # once through: of thousands of keys, each is looked for among all of them
        regions[subject.region] = regions.get(subject.region, True) and good
        keys[subject.key] = keys.get(subject.key, False) or good
    fatal = _fatal(board, {key: good for key, good in keys.items() if key not in seen_in_part}, stale)
    reasons = (*fatal, *_flaws(board, breakers, stale, now=now))
    status = Status.UNHEALTHY if fatal else Status.DEGRADED if reasons else Status.HEALTHY
    return Health(
        status=status,
        regions=MappingProxyType(regions),
        keys=MappingProxyType(keys),
        breakers=MappingProxyType(dict(breakers)),
        reasons=reasons,
    )


def pages(subject: Subject, health: CanaryHealth) -> bool:
    """Return whether this canary alone gets somebody up.

    A round trip that is down does, and what one answer is enough for. All else is for working hours: it turns the whole
    degraded, and stands on the list of what fails below paging, so that red is never seen by nobody.
    """
    at_once = health.last is not None and health.last.reason in AT_ONCE
    return health.state is State.DOWN and (subject.canary in USE_KINDS or at_once)


def below_paging(board: Board) -> tuple[Subject, ...]:
    """Return the canaries whose last look was not OK while they page nobody, the oldest trouble first."""
    found = [
        (health.not_ok_since_utc, subject)
        for subject, health in board.canaries.items()
        if health.not_ok_since_utc is not None and not pages(subject, health)
    ]
    return tuple(subject for _, subject in sorted(found))


def silent(board: Board, *, now: float, stale_after_seconds: Mapping[str, float]) -> tuple[Subject, ...]:
    """Return the canaries without a result, whatever it says, within what `assess` takes as fresh."""
    return tuple(
        subject
        for subject, health in board.canaries.items()
        if health.looked_at is None or now - health.looked_at > stale_after_seconds[subject.canary]
    )


def regions_down(board: Board) -> frozenset[str]:
    """Return the regions in which a round trip is down; silence is no evidence (a drill's canaries stop with it)."""
    down = (s for s, health in board.canaries.items() if health.state is State.DOWN)
    return frozenset(s.region for s in down if s.canary in USE_KINDS)


def _fatal(board: Board, keys: Mapping[str, bool], stale: frozenset[Subject]) -> tuple[Reason, ...]:
    if stale.issuperset(board.canaries):
        return (Reason(code="no_fresh_result"),)
    return tuple(Reason(code="key_usable_nowhere", key=key) for key, usable in keys.items() if not usable)


def _flaws(board: Board, breakers: Mapping[str, str], stale: frozenset[Subject], *, now: float) -> tuple[Reason, ...]:
    found = [
        _reason(code, subject, health, now)
        for subject, health in board.canaries.items()
        if (code := _flaw(health, stale=subject in stale))
    ]
    found += [Reason(code="breaker_open", region=region) for region, state in breakers.items() if state == "open"]
    return tuple(found)


def _flaw(health: CanaryHealth, *, stale: bool) -> ReasonCode | None:
    if health.blind:
        return "blind"
    if health.last is None:
        return "never_probed"
    if stale:
        return "stale"
    if health.state is State.DOWN:
        return "down"
    return "never_ok" if health.state is State.UNKNOWN else None


def _reason(code: ReasonCode, subject: Subject, health: CanaryHealth, now: float) -> Reason:
    age_seconds = None if health.answered_at is None else now - health.answered_at
    return Reason(
        code=code,
        region=subject.region,
        key=subject.key,
        canary=subject.canary,
        age_seconds=age_seconds,
        last=health.last,
    )
