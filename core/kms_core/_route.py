"""Where a call goes next after a failure: decided here from what has happened so far, done in `_failover`.

Failover first, without a pause: another region is another fault domain, so there is nothing to wait for. Only a call
that comes back to a region pauses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kms_core.taxonomy import ErrorClass, FailOver, Family

_FIRST_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """One failed attempt of the call."""

    region: str
    error: ErrorClass
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is fixed for the whole call."""

    order: tuple[str, ...]
    """Regions that have the key, the preferred one first."""
    max_attempts: int
    strict: bool = False
    """Whether the key's state in one region decides for all."""
    spent: frozenset[str] = frozenset()
    """Regions whose budget for retries is spent: they are not asked again in this call."""
    spills: bool = True
    """Whether a throttled call may go on in one other region."""
    pinned: bool = False
    """One region, and nothing but a retry in place where the table has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Ask the first of `regions` that lets calls in, after a random pause of up to `pause_seconds`."""

    regions: tuple[str, ...]
    pause_seconds: float = 0.0
    exact_pause: bool = False
    """The pause is what the region itself asked for, so not random."""
    in_place: bool = False


def next_move(plan: Plan, failed: Sequence[Failed]) -> Move | None:
    """Return where to go next, or None when the call has failed."""
    if len(failed) >= plan.max_attempts:
        return None
    if not failed:
        return Move(regions=plan.order)
    if (in_place := _in_place(plan, failed)) is not None:
        return in_place
    if plan.pinned or not _fails_over(plan, failed) or _spilt(failed):
        return None
    tried = {attempt.region for attempt in failed}
    if fresh := tuple(region for region in plan.order if region not in tried):
        return Move(regions=fresh)
    return come_back(plan, failed)


def ends_as(failed: Sequence[Failed]) -> Family:
    """Return the family of the error that a failed call ends with.

    A denial anywhere wins over unavailability: going elsewhere has not helped, so a person must look.
    """
    if failed[-1].error.family is Family.MESSAGE:
        return Family.MESSAGE
    latest = {attempt.region: attempt.error.family for attempt in failed}
    return Family.DENIED if Family.DENIED in latest.values() else Family.UNAVAILABLE


def _in_place(plan: Plan, failed: Sequence[Failed]) -> Move | None:
    last = failed[-1]
    limit = None if last.region in plan.spent else last.error.in_place_seconds
    throttled_elsewhere = last.error.fails_over is FailOver.ONCE and len(_throttled(failed)) > 1
    if limit is None or throttled_elsewhere or sum(attempt.region == last.region for attempt in failed) > 1:
        return None
    if last.retry_after_seconds is not None and last.error.fails_over is FailOver.ONCE:
        pause_seconds = min(last.retry_after_seconds, _MAX_PAUSE_SECONDS)
        return Move(regions=(last.region,), pause_seconds=pause_seconds, exact_pause=True, in_place=True)
    return Move(regions=(last.region,), pause_seconds=limit, in_place=True)


def _fails_over(plan: Plan, failed: Sequence[Failed]) -> bool:
    match failed[-1].error.fails_over:
        case FailOver.NO:
            return False
        case FailOver.YES:
            return True
        case FailOver.ONCE:
            return plan.spills and len(_throttled(failed)) == 1
        case FailOver.UNLESS_STRICT:
            return not plan.strict


def _spilt(failed: Sequence[Failed]) -> bool:
    """Return whether a throttled call has been to another region since: one is all it gets, whatever that said."""
    first = next((at for at, attempt in enumerate(failed) if attempt.error.fails_over is FailOver.ONCE), len(failed))
    return any(attempt.region != failed[first].region for attempt in failed[first:])


def throttled(failed: Sequence[Failed]) -> bool:
    """Return whether the last attempt was throttled: going on elsewhere then spills load, and is paid for."""
    return bool(failed) and failed[-1].error.fails_over is FailOver.ONCE


def _throttled(failed: Sequence[Failed]) -> set[str]:
    return {attempt.region for attempt in failed if attempt.error.fails_over is FailOver.ONCE}


def come_back(plan: Plan, failed: Sequence[Failed]) -> Move | None:
    """Return to regions that may have recovered, the least tried first.

    What was denied stays denied, and a region that throttled has had its one retry.
    """
    tried, last = Counter(attempt.region for attempt in failed), failed[-1].region
    latest = {attempt.region: attempt.error for attempt in failed}
    again = [
        region
        for region, error in latest.items()
        if error.family is Family.UNAVAILABLE and error.fails_over is FailOver.YES and region not in plan.spent
    ]
    if not again:
        return None
    again.sort(key=lambda region: (tried[region], region == last, plan.order.index(region)))
    rounds = min(tried[region] for region in again) - 1
    pause_seconds = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**rounds)
    return Move(regions=tuple(again), pause_seconds=pause_seconds)
