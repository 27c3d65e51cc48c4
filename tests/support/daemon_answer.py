"""What a daemon answers on /api/v1/status when all is well, made by the daemon's own code from made-up looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

from kms_core import RegionHealth, SystemClock
from kms_core.overrides import RegionOverride
from kms_watchdog.config import Settings
from kms_watchdog.health import Board, Subject, assess, board
from kms_watchdog.results import CanaryResult, Kind, Mode, Outcome, Reason
from kms_watchdog.sharding import is_ours
from kms_watchdog.sinks.health import Standing
from kms_watchdog.web.documents import Status, status_document

Look = Callable[[Subject], CanaryResult | None]
"""What a canary said last; None: it has not looked."""

OF_A_KEY = (Kind.ROUND_TRIP, Kind.KEY_STATE, Kind.REPLICA_DRIFT)
STALE_AFTER = dict.fromkeys(Kind, 90.0)


def subjects(settings: Settings) -> Iterator[Subject]:
    """Every canary that a drill's guards ask about, and that this place looks at."""
    return (one for one in _of_all_places(settings) if is_ours(one.canary, one.id, settings.replicas))


def _of_all_places(settings: Settings) -> Iterator[Subject]:
    for kind, region, purpose in product(OF_A_KEY, settings.estate.regions, settings.keys):
        yield Subject(kind, region, purpose)
    yield from (Subject(Kind.HEADROOM, region, "") for region in settings.estate.regions)


def seen(subject: Subject, *, at_utc: datetime, why: Reason | None = None, **facts: float) -> CanaryResult:
    """One look, that was OK unless there is a reason why not."""
    return CanaryResult(
        canary=subject.canary,
        region=subject.region,
        key=subject.key,
        mode=Mode.LIVE,
        outcome=Outcome.FAILED if why else Outcome.OK,
        reason=why,
        started_at_utc=at_utc,
        duration_seconds=0.02,
        facts=facts,
    )


def all_well(
    settings: Settings,
    now_utc: datetime | None = None,
    *,
    look: Look | None = None,
    breakers: Mapping[str, str] | None = None,
    forced: str = "",
    orders: Sequence[RegionOverride] = (),
    stale: Callable[[Subject], bool] = lambda _: False,
    looks: int = 3,
    detail: bool = True,
) -> dict[str, Any]:
    """Return the document; `look` says what differs from being well.

    Args:
        settings: of the estate.
        now_utc: when it answers; None: now.
        look: the last word of each canary.
        breakers: the state of each region's breaker; closed where it says nothing.
        forced: the region that somebody has taken out of use.
        orders: people's word on regions that is in force.
        stale: which canaries have been silent for long.
        looks: how often each has looked.
        detail: whether the asker has shown the token.
    """
    now = now_utc or SystemClock().now_utc()
    whole = board(subjects(settings))
    for number in range(looks):
        for subject in subjects(settings):
            at_utc = now - timedelta(seconds=10 * (looks - number))
            result = look(subject) if look else seen(subject, at_utc=at_utc)
            if result is not None:
                whole = whole.fold(replace(result, started_at_utc=at_utc), now=-1000.0 if stale(subject) else 0.0)
    states = {region: (breakers or {}).get(region, "closed") for region in settings.estate.regions}
    return status_document(_status(settings, whole, states, now, forced, orders), detail=detail)


def _status(
    settings: Settings,
    whole: Board,
    states: Mapping[str, str],
    now: datetime,
    forced: str,
    orders: Sequence[RegionOverride],
) -> Status:
    return Status(
        settings=settings,
        version="1.2.3",
        now_utc=now,
        started_at_utc=now - timedelta(hours=1),
        standing=Standing(assess(whole, states, now=0.0, stale_after_seconds=STALE_AFTER), now),
        board=whole,
        regions={
            region: RegionHealth(
                region=region,
                breaker=state,  # type: ignore[arg-type] # one of the three
                since_seconds=61.0,
                joined=True,
                forced_reason="maintenance" if region == forced else "",
            )
            for region, state in states.items()
        },
        orders=orders,
        ticks={},
        failures=(),
        runs=(),
        reports=frozenset(),
        next_runs=(),
    )
