"""When jobs fall due: a fixed grid, the same after a restart, right after any gap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_watchdog.spread import Grid, fraction

NOW = datetime(2026, 3, 1, 12, 0, 7, tzinfo=UTC)
INTERVALS = st.floats(0.05, 86_400).map(lambda seconds: timedelta(seconds=seconds))
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@given(interval=INTERVALS, share=st.floats(0, 0.999), moment=MOMENTS)
def test_a_slot_is_the_next_one_on_the_grid(interval: timedelta, share: float, moment: datetime) -> None:
    """Later than the moment, by an interval at most, and on the grid."""
    grid = Grid(interval=interval, offset=interval * share)

    slot = grid.after(moment)

    assert moment < slot <= moment + interval
    assert (slot - datetime(1970, 1, 1, tzinfo=UTC) - grid.offset) % interval == timedelta()


@given(interval=INTERVALS, moment=MOMENTS)
def test_a_run_on_the_grid_is_followed_by_the_very_next_slot(interval: timedelta, moment: datetime) -> None:
    """No drift: what counts is when a run was due, not when it happened."""
    grid = Grid(interval=interval)
    due = grid.after(moment)

    assert grid.next_run(due, due + interval / 10) == due + interval


def test_the_first_run_soon_after_the_start_does_not_bring_the_next_one_close() -> None:
    """A run off the grid is followed by a slot at least half an interval later."""
    grid = Grid(interval=seconds(30))

    assert grid.next_run(NOW, NOW) == datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
    late = datetime(2026, 3, 1, 12, 0, 20, tzinfo=UTC)
    assert grid.next_run(late, late) == datetime(2026, 3, 1, 12, 1, tzinfo=UTC)


def test_slots_that_were_slept_through_are_dropped() -> None:
    """A machine that slept for a month owes one run, not ninety thousand."""
    grid = Grid(interval=seconds(30))
    woken = NOW + timedelta(days=30)

    caught_up = grid.next_run(NOW, woken)

    assert woken - seconds(30) < caught_up <= woken
    assert grid.next_run(caught_up, woken) > woken


def test_without_a_run_yet_the_next_slot_counts() -> None:
    """Nothing to keep a distance from."""
    assert Grid(interval=seconds(10)).next_run(None, NOW) == datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)


def test_an_interval_that_would_spin_is_refused() -> None:
    """Wrong at birth."""
    with pytest.raises(ValueError, match="50 ms"):
        Grid(interval=seconds(0))


def test_a_name_keeps_its_place() -> None:
    """The spread is the same in every process and version: a restart moves nothing."""
    assert fraction("round_trip:us-east-1:pii") == pytest.approx(0.4861409, abs=1e-6)


def test_names_spread_evenly() -> None:
    """A thousand canaries leave no tenth of the interval empty or crowded."""
    places = [fraction(f"round_trip:region-{i}:general") for i in range(1000)]

    tenths = [sum(int(place * 10) == tenth for place in places) for tenth in range(10)]

    assert min(tenths) > 60
    assert max(tenths) < 140
