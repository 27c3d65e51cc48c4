"""Which golden messages stay, and which are opened: decided by ages alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_watchdog.golden_ladder import DAY, HOUR, LADDER, WEEK, YEAR, chosen, is_due, kept, spanned

NOW = 1_800_000_000.0
TIMES = st.lists(st.floats(NOW - 6 * YEAR, NOW + DAY), min_size=1, max_size=60)


def years_of_sealing(years: float, step_seconds: float) -> tuple[frozenset[float], float]:
    """Seal and thin as the store does; return what is there at the end, and when that is."""
    there: frozenset[float] = frozenset()
    at = NOW
    while at < NOW + years * YEAR:
        there = kept({*there, at}, now=at)
        at += step_seconds
    return there, at - step_seconds


def test_hours_of_a_day_days_of_two_weeks_weeks_of_a_year() -> None:
    """After long sealing there is one message in each step of the ladder, and no more."""
    there, now = years_of_sealing(1.2, HOUR * 7)
    ages = sorted(now - at for at in there)

    assert len(ages) < 90
    for younger, older in itertools.pairwise(ages):
        step = next(step for limit, step in LADDER if older < limit)
        assert older - younger <= max(2 * step, 7 * HOUR) + DAY


def test_the_number_is_bounded_and_the_oldest_stays_for_ever() -> None:
    """Eight years of a message a day: some 140 rungs and one a year, the very first among them."""
    there, _ = years_of_sealing(8, DAY)

    assert min(there) == NOW
    assert len(there) < 150


@given(TIMES)
def test_thinning_again_changes_nothing(times: list[float]) -> None:
    """Else a message would go each time that another one comes."""
    once = kept(times, now=NOW)

    assert kept(once, now=NOW) == once
    assert once <= set(times)
    assert min(times) in once


@given(TIMES)
def test_every_gap_that_thinning_makes_is_within_a_step(times: list[float]) -> None:
    """What goes has an older neighbour that stays, in the same step of the ladder."""
    there = kept(times, now=NOW)

    for at in set(times) - there:
        step = next(step for limit, step in LADDER if abs(NOW - at) < limit)
        assert any(0 < at - other < step for other in there)


def test_a_message_is_due_an_hour_after_the_newest() -> None:
    """And when there is none."""
    assert is_due((), now=NOW)
    assert not is_due((NOW - HOUR + 1,), now=NOW)
    assert is_due((NOW - DAY, NOW - HOUR), now=NOW)


def test_a_clock_that_was_ahead_stops_nothing() -> None:
    """Messages of the future, sealed before somebody set the clock right, are no reason to wait for it."""
    assert is_due((NOW - 2 * HOUR, NOW + YEAR), now=NOW)
    assert not is_due((NOW, NOW + YEAR), now=NOW)
    ahead = [NOW + YEAR - step * HOUR for step in range(500)]
    assert len(kept(ahead, now=NOW)) < 60


@pytest.mark.parametrize(
    ("ages", "rotation_ages", "names"),
    [
        pytest.param([0], [], {"newest": 0}, id="one"),
        pytest.param([0, HOUR], [], {"newest": 0, "oldest": HOUR}, id="young"),
        pytest.param(
            [HOUR, 25 * HOUR, 2 * DAY, 15 * DAY, 40 * DAY],
            [],
            {"newest": HOUR, "day": 25 * HOUR, "weeks": 15 * DAY, "oldest": 40 * DAY},
            id="old-enough",
        ),
        pytest.param(
            [HOUR, 2 * DAY, 20 * DAY, 30 * DAY, 300 * DAY],
            [25 * DAY, 200 * DAY],
            {"newest": HOUR, "day": 2 * DAY, "weeks": 20 * DAY, "rotation": 30 * DAY, "oldest": 300 * DAY},
            id="from-before-the-last-rotation",
        ),
        pytest.param([HOUR, 3 * HOUR], [2 * HOUR], {"newest": HOUR, "rotation": 3 * HOUR}, id="rotated-just-now"),
        pytest.param([HOUR], [2 * HOUR], {"newest": HOUR}, id="rotated-before-the-first"),
        pytest.param([20 * DAY], [], {"newest": 20 * DAY}, id="one-for-all"),
        pytest.param([], [HOUR], {}, id="none"),
    ],
)
def test_what_is_opened_stands_for_an_age_each(
    ages: list[float], rotation_ages: list[float], names: dict[str, float]
) -> None:
    """Each once, by the first thing that it stands for."""
    found = chosen([NOW - age for age in ages], now=NOW, rotations=[NOW - age for age in rotation_ages])

    assert found == {name: NOW - age for name, age in names.items()}


def test_rotations_are_counted_since_the_oldest() -> None:
    """Those before it do not concern any message that is kept."""
    assert spanned(NOW - WEEK, [NOW - YEAR, NOW - DAY, NOW - HOUR]) == 2
