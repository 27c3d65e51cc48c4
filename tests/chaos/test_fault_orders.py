"""Orders of the drill to its own core: in force for the block, told to the core at once, and gone afterwards."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kms_chaos.faults.orders import Orders
from kms_core.overrides import RegionOverride
from kms_core.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def orders(clock: ManualClock) -> Orders:
    return Orders(clock)


def test_a_region_is_avoided_for_the_block(orders: Orders, clock: ManualClock) -> None:
    """With an end that comes by itself, should nobody take it back; the source names itself."""
    with orders.avoid("us-east-1"):
        until = clock.now_utc() + timedelta(hours=1)
        assert orders.read() == [RegionOverride(region="us-east-1", kind="avoid", until_utc=until, reason="drill")]

    assert orders.read() == []
    assert orders.name == "drill"


def test_the_end_is_always_an_hour_from_now(orders: Orders, clock: ManualClock) -> None:
    """A drill that lasts longer goes on avoiding."""
    with orders.avoid("us-east-1"):
        clock.advance(3599.0)

        assert orders.read()[0].until_utc == clock.now_utc() + timedelta(hours=1)


def test_the_core_follows_at_once_when_it_begins_and_when_it_ends(orders: Orders) -> None:
    """It is asked after the order is there, and after it is gone."""
    seen: list[list[str]] = []
    orders.follow = lambda: seen.append(orders.avoided)

    with orders.avoid("us-east-1"), orders.avoid("eu-west-1"):
        pass

    assert seen == [["us-east-1"], ["us-east-1", "eu-west-1"], ["us-east-1"], []]


def test_a_region_that_two_faults_avoid_is_avoided_until_the_last_has_ended(orders: Orders) -> None:
    """And stands in the list once."""
    with orders.avoid("us-east-1"):
        with orders.avoid("us-east-1"):
            assert orders.avoided == ["us-east-1"]
        assert orders.avoided == ["us-east-1"]

    assert orders.avoided == []


def test_a_drill_that_fails_leaves_no_order(orders: Orders) -> None:
    """Nor does a core that cannot follow."""
    with pytest.raises(ZeroDivisionError), orders.avoid("us-east-1"):
        raise ZeroDivisionError
    assert orders.avoided == []

    calls: list[list[str]] = []

    def cannot() -> None:
        calls.append(orders.avoided)
        if len(calls) == 1:
            raise OSError("no")

    orders.follow = cannot
    with pytest.raises(OSError, match="no"), orders.avoid("us-east-1"):
        pytest.fail("the block ran")
    assert orders.avoided == []
    assert calls == [["us-east-1"], []]


def test_before_there_is_a_core_nobody_follows(orders: Orders) -> None:
    """It reads the orders when it starts."""
    with orders.avoid("us-east-1"):
        assert orders.avoided == ["us-east-1"]
