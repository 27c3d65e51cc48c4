"""Health at its borders: how old is too old, how a canary is named, and what is told of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from daemon_kit import START, result

from kms_watchdog.health import (
    STALE_AFTER_INTERVALS,
    Board,
    CanaryHealth,
    Health,
    State,
    Subject,
    assess,
    below_paging,
    board,
    fold,
    pages,
    silent,
)
from kms_watchdog.results import Outcome

EAST, WEST = Subject("round_trip", "us-east-1", "general"), Subject("round_trip", "us-east-1", "pii")
STALE_AFTER = {"round_trip": 90.0}


def judge(standing: Board, *, now: float) -> Health:
    return assess(standing, {}, now=now, stale_after_seconds=STALE_AFTER)


def up(at: float) -> CanaryHealth:
    return fold(CanaryHealth(), result(Outcome.OK), now=at)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        pytest.param(EAST, "round_trip:us-east-1:general", id="of-a-key"),
        pytest.param(Subject("clock_offset", "us-east-1", ""), "clock_offset:us-east-1", id="of-a-region"),
        pytest.param(Subject("failover_path", "", "pii"), "failover_path:pii", id="without-region"),
    ],
)
def test_a_canary_is_named_by_what_it_looks_at(subject: Subject, name: str) -> None:
    """What it has not is left out: the name is part of an address."""
    assert subject.id == name


def test_stale_is_three_intervals() -> None:
    """One lost look and one late one are no silence; runbooks say three."""
    assert STALE_AFTER_INTERVALS == 3


def test_an_answer_is_fresh_up_to_its_age_and_not_beyond() -> None:
    """From when it came, whatever the clock said then."""
    health = up(1000.0)

    assert health.fresh(1090.0, 90.0)
    assert not health.fresh(1090.1, 90.0)
    assert not CanaryHealth().fresh(0.0, 90.0)


def test_a_canary_is_silent_beyond_its_age_and_not_at_it() -> None:
    """As fresh, so that no instant is neither."""
    standing = Board(canaries={EAST: up(1000.0), WEST: CanaryHealth()})

    assert silent(standing, now=1090.0, stale_after_seconds=STALE_AFTER) == (WEST,)
    assert silent(standing, now=1090.1, stale_after_seconds=STALE_AFTER) == (EAST, WEST)


def test_the_first_success_is_one() -> None:
    """A canary that was never asked has none, so that one success after an outage is a blip for it too."""
    assert (CanaryHealth().successes, up(0.0).successes) == (0, 1)
    down = CanaryHealth(state=State.DOWN, failures=3)
    assert fold(down, result(Outcome.OK), now=1.0).state is State.DOWN


def test_a_region_is_well_when_all_its_keys_are() -> None:
    """One that cannot be used is enough to turn it red; the keys have a line each."""
    failed = CanaryHealth()
    for at in range(3):
        failed = fold(failed, result(Outcome.FAILED), now=float(at))

    health = judge(Board(canaries={EAST: up(2.0), WEST: failed}), now=3.0)

    assert (health.regions, health.keys) == ({"us-east-1": False}, {"general": True, "pii": False})


def test_a_reason_tells_how_long_ago_the_last_answer_was() -> None:
    """Not when the clock began."""
    *_, reason = judge(Board(canaries={EAST: up(1000.0), WEST: up(900.0)}), now=1060.0).reasons

    assert (reason.code, reason.key, reason.age_seconds) == ("stale", "pii", 160.0)


def test_down_without_a_last_look_pages_by_its_kind_alone() -> None:
    """One that was taken over down, before it looked here, is no crash."""
    down = CanaryHealth(state=State.DOWN, failures=3)

    assert pages(EAST, down)
    assert not pages(Subject("golden", "us-east-1", "pii"), down)
    assert board([EAST]).canaries[EAST].last is None


def test_the_oldest_trouble_comes_first_whoever_stands_first_on_the_board() -> None:
    """By when it began, not by name."""
    later, sooner = Subject("golden", "us-east-1", "general"), Subject("golden", "us-east-1", "pii")
    troubled = {
        subject: CanaryHealth(
            state=State.DOWN, not_ok_since_utc=START + timedelta(seconds=at), last=result(Outcome.FAILED)
        )
        for subject, at in ((later, 60), (sooner, 0))
    }

    assert below_paging(Board(canaries=troubled)) == (sooner, later)
