"""In which order regions are tried: who overtakes whom, who stays, and what people say comes first."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kms_core._order import Order, by_time, with_overrides

HOME, NEAR, FAR = "us-east-1", "us-west-2", "eu-west-1"


@pytest.mark.parametrize(
    ("seconds", "fixed", "expected"),
    [
        pytest.param({HOME: 0.1, NEAR: 0.02, FAR: 0.01}, 1, (HOME, FAR, NEAR), id="the-first-stays"),
        pytest.param({HOME: 0.1, NEAR: 0.02, FAR: 0.01}, 2, (HOME, NEAR, FAR), id="so-do-two"),
        pytest.param({HOME: 0.1, NEAR: 0.02, FAR: 0.01}, 0, (FAR, NEAR, HOME), id="none-stays"),
        pytest.param({HOME: 0.1, NEAR: 0.02, FAR: 0.01}, 3, (HOME, NEAR, FAR), id="all-stay"),
        pytest.param({NEAR: 0.5, FAR: 0.375}, 1, (HOME, NEAR, FAR), id="a-quarter-is-not-clearly-faster"),
        pytest.param({NEAR: 0.5, FAR: 0.374}, 1, (HOME, FAR, NEAR), id="more-than-a-quarter-is"),
        pytest.param({NEAR: 0.008, FAR: 0.003}, 1, (HOME, NEAR, FAR), id="five-milliseconds-are-not"),
        pytest.param({NEAR: 0.008, FAR: 0.0029}, 1, (HOME, FAR, NEAR), id="more-than-five-are"),
        pytest.param({NEAR: 0.1}, 1, (HOME, NEAR, FAR), id="never-measured-stays-behind"),
        pytest.param({FAR: 0.001}, 1, (HOME, NEAR, FAR), id="nor-is-it-overtaken"),
    ],
)
def test_a_clearly_faster_region_overtakes(seconds: Mapping[str, float], fixed: int, expected: tuple[str, ...]) -> None:
    """By more than a quarter and by more than 5 ms, and none of those that are fixed."""
    assert by_time((HOME, NEAR, FAR), fixed, seconds) == expected


def test_a_faster_one_passes_all_that_are_slower() -> None:
    """Not one place a call: the order is right at once."""
    regions = ("a", "b", "c", "d", "e")

    assert by_time(regions, 1, dict(zip(regions, (16, 8, 4, 2, 1), strict=True))) == ("a", "e", "d", "c", "b")


@pytest.mark.parametrize(
    ("prefer", "avoid", "expected"),
    [
        pytest.param((), (), (HOME, NEAR, FAR), id="nothing-said"),
        pytest.param((FAR,), (), (FAR, HOME, NEAR), id="prefer"),
        pytest.param((), (HOME,), (NEAR, FAR, HOME), id="avoid"),
        pytest.param((HOME,), (HOME,), (NEAR, FAR, HOME), id="avoided-before-preferred"),
    ],
)
def test_people_come_first(prefer: tuple[str, ...], avoid: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Every region is there: an avoided one is last, and never closed."""
    order = Order((HOME, NEAR, FAR), 1, dict)
    order.overrides = lambda: (prefer, avoid)

    assert with_overrides((HOME, NEAR, FAR), prefer, avoid) == order.now() == expected


def test_of_some_regions_those_alone_come_in_order() -> None:
    """A key that has replicas in two regions is asked in two; one region is an order of its own."""
    order = Order((HOME, NEAR, FAR), 1, lambda: {NEAR: 0.1, FAR: 0.01})

    assert order.of({NEAR, FAR}) == (FAR, NEAR)
    assert order.of([NEAR]) == (NEAR,)
    assert order.of(()) == ()
    assert order.of({HOME, NEAR, FAR}) == order.now() == (HOME, FAR, NEAR)
