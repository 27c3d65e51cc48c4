"""Twins that an earlier drill made fire keep the next one waiting, not out."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kms_chaos.alarms import UNREADABLE, Reading
from kms_chaos.guards.before import TWIN_CLEARS_PERIODS, let_twins_clear
from kms_core.testing import ManualClock

Key = tuple[str, str, str]
TWIN, LIVE = ("HighErrorRate", "us-east-1", "drill"), ("HighErrorRate", "us-east-1", "live")


class Board:
    """Alarms that are OK from some time on."""

    def __init__(self, clock: ManualClock, firing: dict[Key, float], unreadable: Key | None = None) -> None:
        self.clock, self.firing, self.unreadable = clock, firing, unreadable

    def read(self) -> dict[Key, Reading]:
        now = self.clock.monotonic()
        states = {key: "ALARM" if now < until else "OK" for key, until in self.firing.items()}
        if self.unreadable:
            states[self.unreadable] = UNREADABLE
        return {key: Reading(state=state) for key, state in states.items()}


def waited(clock: ManualClock, board: Any, stop: threading.Event | None = None) -> tuple[float, list[str]]:
    """Return for how long it waited, and what it said."""
    said: list[str] = []
    since = clock.monotonic()
    let_twins_clear(board, clock, stop or threading.Event(), period_seconds=10, say=said.append)
    return clock.monotonic() - since, said


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto_advance=True)


def test_a_twin_is_waited_for_until_it_has_cleared(clock: ManualClock) -> None:
    """And whoever waits is told once, and why."""
    seconds, said = waited(clock, Board(clock, {TWIN: clock.monotonic() + 25}))

    assert 25 <= seconds <= 27
    assert said == ["waiting, at most 80 s, for what an earlier drill made fire to clear: HighErrorRate of us-east-1"]


def test_all_of_them_are_named_in_order(clock: ManualClock) -> None:
    """Whatever the order in which CloudWatch tells them."""
    until = clock.monotonic() + 5
    firing = {("HighErrorRate", region, "drill"): until for region in ("us-west-2", "eu-west-1")}

    assert waited(clock, Board(clock, firing))[1][0].endswith(
        ": HighErrorRate of eu-west-1, HighErrorRate of us-west-2"
    )


def test_it_is_not_waited_for_longer_than_a_drill_that_is_over_can_be_the_reason(clock: ManualClock) -> None:
    """Then the guard refuses."""
    assert waited(clock, Board(clock, {TWIN: 1e9}))[0] == TWIN_CLEARS_PERIODS * 10


@pytest.mark.parametrize(
    ("firing", "unreadable"),
    [
        pytest.param({LIVE: 1e9}, None, id="live"),
        pytest.param({TWIN: 1e9, LIVE: 1e9}, None, id="both"),
        pytest.param({TWIN: 1e9}, LIVE, id="one-unreadable"),
        pytest.param({}, TWIN, id="none-but-unreadable"),
        pytest.param({}, None, id="none"),
    ],
)
def test_nothing_else_is_waited_for(clock: ManualClock, firing: dict[Key, float], unreadable: Key | None) -> None:
    """A live alarm refuses at once, and so does one that cannot be read."""
    assert waited(clock, Board(clock, firing, unreadable)) == (0, [])


def test_a_halt_ends_the_wait(clock: ManualClock) -> None:
    """At the next look; nobody waits for a drill that shall not run."""
    stop = threading.Event()
    stop.set()

    assert waited(clock, Board(clock, {TWIN: 1e9}), stop)[0] <= 2
