"""A breaker that a person or a drill has forced open or closed, until a time that always comes: pure values.

The breaker itself stands still beneath, and goes on as it was when the time is over; so whoever forced it may crash.
Forced open is not locked: when every other region is refused too, it is asked all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from kms_core.breaker import Admission, Breaker, Closed, Open, name_of
from kms_core.errors import ConfigurationError
from kms_core.events import BreakerState

ForcedState = Literal["open", "closed"]
MAX_FORCED_SECONDS = 86_400.0
NO_GENERATION = -1
"""That of a call which a forced breaker let out: its result counts nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """What a breaker shall be until `until` (monotonic seconds), and why."""

    state: ForcedState
    until: float
    reason: str


def forced(state: ForcedState, seconds: float, reason: str, *, now: float) -> Forced:
    """Return what holds from `now` on.

    Raises:
        ConfigurationError: no such state, no reason, or no time that ends within a day.
    """
    if state not in get_args(ForcedState):
        raise ConfigurationError(f"a breaker can be forced open or closed, not {state!r}")
    if not 0 < seconds <= MAX_FORCED_SECONDS:
        raise ConfigurationError(f"a breaker is forced for more than 0 and at most {MAX_FORCED_SECONDS:.0f} seconds")
    if not reason:
        raise ConfigurationError("a breaker is forced for a reason, which the next person wants to read")
    return Forced(state=state, until=now + seconds, reason=reason)


def admission(over: Forced) -> Admission | None:
    """Return leave for a call while `over` holds; None when it is refused."""
    return Admission(generation=NO_GENERATION) if over.state == "closed" else None


def state_of(breaker: Breaker, over: Forced | None) -> BreakerState:
    """Return the state that events, metrics and calls see."""
    return name_of(breaker) if over is None else over.state


def due(breaker: Breaker, over: Forced | None) -> float:
    """Return from when on the breaker lets a call in."""
    if over is not None:
        return over.until if over.state == "open" else 0.0
    match breaker:
        case Open(until=until):
            return until
        case Closed():
            return 0.0
        case _:
            return breaker.permit_until or 0.0
