"""A region's circuit breaker as pure values: when to stop asking, when to probe, when to trust again.

It counts failures in a row and not a rate, because a client with a data-key cache makes too few calls for a rate to
mean anything in time. Generation numbers keep the result of a call that began before a transition from counting
after it. Nothing here reads a clock, draws a random number or holds a lock; `kms_core._breakers` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kms_core.events import BreakerCause, BreakerState


class Outcome(Enum):
    """What an attempt says about its region."""

    GOOD = "good"
    FAILURE = "failure"
    SLOW = "slow"
    UNKNOWN = "unknown"
    """Nothing: it was not given the time to say, or who asks has no credentials."""
    NOT_SENT = "not sent"
    """Nothing was sent, for want of a worker. Of a region that answers, nothing; but where it was a probe, what holds
    all the workers is that region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When to stop asking a region, and for how long."""

    trip_after_failures: int = 3
    """Failures or slow calls in a row."""
    failure_window_seconds: float = 60.0
    """A failure older than this no longer counts."""
    open_seconds: float = 5.0
    max_open_seconds: float = 60.0
    """The time open doubles with each failed probe, up to this."""
    jitter: float = 0.2
    """The time open varies by so much of itself, so that processes do not probe together."""
    probe_seconds: float = 5.0
    """A probe that has not ended by then is given up, and its permit goes to another call."""
    successes_to_close: int = 2

    def __post_init__(self) -> None:
        if self.trip_after_failures < 1 or self.successes_to_close < 1:
            raise ValueError("trip_after_failures and successes_to_close must be at least 1")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must be from 0 to below 1, not {self.jitter}")
        if not 0 < self.open_seconds <= self.max_open_seconds:
            raise ValueError("open_seconds must be above 0 and at most max_open_seconds")
        if min(self.failure_window_seconds, self.probe_seconds) <= 0:
            raise ValueError("failure_window_seconds and probe_seconds must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Calls go out."""

    generation: int = 0
    failed_at: tuple[float, ...] = ()
    """When the failures of the present run were seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Calls do not go out before `until`."""

    generation: int
    until: float
    failed_probes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfOpen:
    """One call at a time goes out, to see."""

    generation: int
    failed_probes: int
    permit_until: float | None
    """When the present probe is given up; None: the permit is free."""
    successes: int = 0
    early: bool = False
    """Asked before its time, as the last door: a failure does not make the wait longer."""


Breaker = Closed | Open | HalfOpen


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Leave for one call to go out; its result is reported with it."""

    generation: int
    probe: bool = False


def name_of(breaker: Breaker) -> BreakerState:
    """Return the state's name as events and metrics have it."""
    match breaker:
        case Closed():
            return "closed"
        case Open():
            return "open"
        case HalfOpen():
            return "half_open"


def admit(breaker: Breaker, policy: BreakerPolicy, *, now: float) -> tuple[Admission | None, Breaker]:
    """Decide whether a call may go out at `now`, and the state it leaves behind."""
    match breaker:
        case Closed(generation=generation):
            return Admission(generation=generation), breaker
        case Open(until=until) if now >= until:
            return _probe(breaker, policy, now=now, early=False)
        case HalfOpen(permit_until=None):
            return _next_probe(breaker, policy, now=now)
        case HalfOpen(permit_until=float(given_up_at)) if now >= given_up_at:
            return _next_probe(breaker, policy, now=now)
        case _:
            return None, breaker


def admit_anyway(breaker: Breaker, policy: BreakerPolicy, *, now: float) -> tuple[Admission, Breaker]:
    """Let a call out that is never refused, a canary's; it takes the probe's permit when one is free.

    While the breaker is open and not due, the result changes nothing: the region's time out has to pass.
    """
    admission, after = admit(breaker, policy, now=now)
    return admission or Admission(generation=breaker.generation), after


def admit_last(breaker: Breaker, policy: BreakerPolicy, *, now: float) -> tuple[Admission, Breaker]:
    """Let a call out because every other door is closed too: an open breaker probes before its time."""
    admission, after = admit(breaker, policy, now=now)
    if admission is not None:
        return admission, after
    if isinstance(breaker, Open):
        return _probe(breaker, policy, now=now, early=True)
    return Admission(generation=breaker.generation), breaker


def report(
    breaker: Breaker, policy: BreakerPolicy, admission: Admission, outcome: Outcome, *, now: float, spread: float
) -> tuple[Breaker, BreakerCause | None]:
    """Return the state after a call ended, and why it moved; None when it did not.

    `spread` is from -1 to 1 and chooses the jitter of the time open.
    """
    if admission.generation != breaker.generation:
        return breaker, None  # it began in another time
    bad = outcome in {Outcome.FAILURE, Outcome.SLOW}
    match breaker:
        case Closed() if bad:
            return _failed(breaker, policy, outcome, now=now, spread=spread)
        case Closed(generation=generation) if outcome is Outcome.GOOD and breaker.failed_at:
            return Closed(generation=generation), None
        case HalfOpen():
            return _probed(breaker, policy, admission, outcome, now=now, spread=spread)
        case _:
            return breaker, None  # while it is open, nothing shortens the wait


def trip(breaker: Breaker, policy: BreakerPolicy, *, now: float, spread: float) -> Breaker:
    """Return an open breaker, whatever it was: a region that was unreachable at the start is not asked first."""
    return Open(generation=breaker.generation + 1, until=now + open_seconds(policy, 0, spread))


def open_seconds(policy: BreakerPolicy, failed_probes: int, spread: float) -> float:
    """Return how long to stay open: doubled for each failed probe, capped, then varied by the jitter."""
    doubled = policy.open_seconds * 2.0 ** min(failed_probes, 30)
    return min(doubled, policy.max_open_seconds) * (1 + policy.jitter * spread)


def _failed(
    breaker: Closed, policy: BreakerPolicy, outcome: Outcome, *, now: float, spread: float
) -> tuple[Breaker, BreakerCause | None]:
    recent = tuple(at for at in breaker.failed_at if now - at <= policy.failure_window_seconds)
    if len(recent) + 1 < policy.trip_after_failures:
        return Closed(generation=breaker.generation, failed_at=(*recent, now)), None
    return trip(breaker, policy, now=now, spread=spread), "slow" if outcome is Outcome.SLOW else "failures"


def _probe(breaker: Open, policy: BreakerPolicy, *, now: float, early: bool) -> tuple[Admission, Breaker]:
    after = HalfOpen(
        generation=breaker.generation + 1,
        failed_probes=breaker.failed_probes,
        permit_until=now + policy.probe_seconds,
        early=early,
    )
    return Admission(generation=after.generation, probe=True), after


def _next_probe(breaker: HalfOpen, policy: BreakerPolicy, *, now: float) -> tuple[Admission, Breaker]:
    admission = Admission(generation=breaker.generation, probe=True)
    return admission, _with_permit(breaker, now + policy.probe_seconds)


def _probed(
    breaker: HalfOpen, policy: BreakerPolicy, admission: Admission, outcome: Outcome, *, now: float, spread: float
) -> tuple[Breaker, BreakerCause | None]:
    match outcome:
        case Outcome.FAILURE | Outcome.SLOW:
            return _probe_failed(breaker, policy, now=now, spread=spread), "probe_failed"
        case Outcome.GOOD:
            return _probe_succeeded(breaker, policy, admission)
        case Outcome.NOT_SENT if admission.probe:
            return _reopened(breaker, policy, breaker.failed_probes, now=now, spread=spread), "probe_failed"
        case _:
            return _with_permit(breaker, None) if admission.probe else breaker, None


def _probe_failed(breaker: HalfOpen, policy: BreakerPolicy, *, now: float, spread: float) -> Breaker:
    failed_probes = breaker.failed_probes if breaker.early else breaker.failed_probes + 1
    return _reopened(breaker, policy, failed_probes, now=now, spread=spread)


def _reopened(breaker: HalfOpen, policy: BreakerPolicy, failed_probes: int, *, now: float, spread: float) -> Breaker:
    until = now + open_seconds(policy, failed_probes, spread)
    return Open(generation=breaker.generation + 1, until=until, failed_probes=failed_probes)


def _probe_succeeded(
    breaker: HalfOpen, policy: BreakerPolicy, admission: Admission
) -> tuple[Breaker, BreakerCause | None]:
    successes = breaker.successes + 1
    if successes >= policy.successes_to_close:
        return Closed(generation=breaker.generation + 1), "probe_succeeded"
    freed = None if admission.probe else breaker.permit_until
    return _with_permit(breaker, freed, successes=successes), None


def _with_permit(breaker: HalfOpen, permit_until: float | None, *, successes: int | None = None) -> HalfOpen:
    return HalfOpen(
        generation=breaker.generation,
        failed_probes=breaker.failed_probes,
        permit_until=permit_until,
        successes=breaker.successes if successes is None else successes,
        early=breaker.early,
    )
