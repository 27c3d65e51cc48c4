"""The breakers of all regions, call by call: who is let in, what is told, and what a forced one changes."""

from __future__ import annotations

import random
from typing import Any, Literal

import pytest

from kms_core._breakers import Breakers
from kms_core._forced import MAX_FORCED_SECONDS, NO_GENERATION, due
from kms_core.breaker import Admission, BreakerPolicy, Closed, HalfOpen, Open, Outcome
from kms_core.errors import ConfigurationError
from kms_core.events import BreakerMoved
from kms_core.testing import ManualClock

EAST, WEST = "us-east-1", "us-west-2"
POLICY = BreakerPolicy(trip_after_failures=2, open_seconds=10.0, jitter=0.2, probe_seconds=5.0, successes_to_close=2)


class Drawn(random.Random):
    """Draws the far end of what is asked for, and remembers between what."""

    asked: tuple[float, float] | None = None

    def uniform(self, a: float, b: float) -> float:
        self.asked = (a, b)
        return b


class World:
    """Two regions, their clock, and what was told."""

    def __init__(self, *, tells: bool = True) -> None:
        self.clock, self.rng, self.events = ManualClock(), Drawn(), list[BreakerMoved]()
        emit: Any = self.events.append if tells else None
        self.all = Breakers((EAST, WEST), POLICY, clock=self.clock, rng=self.rng, emit=emit)

    def fail(self, region: str = EAST, times: int = 2) -> None:
        for _ in range(times):
            admission = self.all.admit(region)
            assert admission is not None
            self.all.report(region, admission, Outcome.FAILURE)

    def told(self) -> list[tuple[str, str, str, str]]:
        """What was told since the last time: region, old, new, cause."""
        found: list[tuple[str, str, str, str]] = [(one.region, one.old, one.new, one.cause) for one in self.events]
        self.events.clear()
        return found

    def seen(self, region: str = EAST) -> tuple[str, float, str]:
        view = self.all.view()[region]
        return view.state, view.since_seconds, view.forced_reason


@pytest.fixture
def world() -> World:
    return World()


def test_failures_open_one_region_for_a_drawn_time(world: World) -> None:
    """Twelve seconds: ten, and a fifth of it, since the draw is from -1 to 1."""
    world.fail(times=1)
    assert (world.told(), world.all.closed(EAST)) == ([], True)
    world.clock.advance(1)
    world.fail(times=1)

    assert world.rng.asked == (-1, 1)
    assert world.told() == [(EAST, "closed", "open", "failures")]
    assert [world.all.closed(region) for region in (EAST, WEST)] == [False, True]
    world.clock.advance(11.9)
    assert (world.all.admit(EAST), world.all.admits(EAST), world.all.due(EAST)) == (None, False, False)
    world.clock.advance(0.1)
    assert (world.all.admits(EAST), world.all.due(EAST), world.all.due(WEST)) == (True, True, False)
    assert world.told() == []


def test_since_when_is_the_last_move(world: World) -> None:
    """A failure that opens nothing, and a probe that goes on, are none."""
    world.clock.advance(3)
    assert world.seen() == ("closed", 3, "")
    world.fail(times=1)
    assert world.seen() == ("closed", 3, "")
    world.fail(times=1)
    world.clock.advance(4)
    assert (world.seen(), world.seen(WEST)) == (("open", 4, ""), ("closed", 7, ""))
    world.clock.advance(8)
    admission = world.all.admit(EAST)
    world.clock.advance(1)
    assert admission == Admission(generation=2, probe=True)
    world.all.report(EAST, admission, Outcome.GOOD)
    assert world.seen() == ("half_open", 1, "")


def test_a_probe_is_told_by_why_it_was_let_in(world: World) -> None:
    """In its time, or before it, because every other door was closed."""
    world.fail()
    world.told()
    last = world.all.admit_last(EAST)
    assert (last.probe, world.told()) == (True, [(EAST, "open", "half_open", "forced")])
    world.all.report(EAST, last, Outcome.FAILURE)
    assert world.told() == [(EAST, "half_open", "open", "probe_failed")]
    world.clock.advance(12)
    for cause in ([(EAST, "open", "half_open", "cooldown_over")], []):
        admission = world.all.admit(EAST)
        assert admission is not None
        assert world.told() == cause
        world.all.report(EAST, admission, Outcome.GOOD)
    assert world.told() == [(EAST, "half_open", "closed", "probe_succeeded")]


def test_an_unreachable_region_is_tripped_once(world: World) -> None:
    """At the start: what is open already is left as it is."""
    world.all.trip(EAST)
    assert world.rng.asked == (-1, 1)
    assert world.told() == [(EAST, "closed", "open", "failures")]
    world.clock.advance(11)
    world.all.trip(EAST)

    assert (world.told(), world.seen()) == ([], ("open", 11, ""))
    world.clock.advance(1)
    assert world.all.due(EAST)
    assert world.all.closed(WEST)


def test_nobody_need_be_told() -> None:
    """A core without observers has none to tell."""
    world = World(tells=False)
    world.fail()
    world.all.force(EAST, "closed", 5, "a drill")
    world.all.unforce(EAST)

    assert world.seen()[0] == "open"


@pytest.mark.parametrize("state", ["open", "closed"])
def test_a_forced_region_is_as_it_was_forced_until_its_time(world: World, state: Literal["open", "closed"]) -> None:
    """And its results count nowhere: the breaker beneath stands still."""
    if state == "closed":
        world.fail()
    before = world.seen()[0]
    world.told()
    world.clock.advance(1)

    world.all.force(EAST, state, 20, "INC-7")

    assert world.told() == [(EAST, before, state, "forced")]
    world.clock.advance(2)
    assert world.seen() == (state, 2, "INC-7")
    let_in = Admission(generation=NO_GENERATION)
    assert world.all.admit(EAST) == (let_in if state == "closed" else None)
    assert (world.all.admit_anyway(EAST), world.all.admit_last(EAST)) == (let_in, let_in)
    assert (world.all.admits(EAST), world.all.closed(EAST)) == (state == "closed", state == "closed")
    assert not world.all.due(EAST), "nobody probes what somebody holds"
    world.all.report(EAST, let_in, Outcome.FAILURE)
    world.all.report(EAST, let_in, Outcome.FAILURE)
    assert world.told() == []
    world.clock.advance(17.9)
    assert world.seen()[2] == "INC-7"
    world.clock.advance(0.1)
    assert world.all.admits(EAST), "what is over holds nobody, whether it was taken away or not"
    assert world.all.due(EAST) == (before == "open")
    assert world.told() == [(EAST, state, before, "expired")]
    assert world.seen() == (before, 0, "")


@pytest.mark.parametrize("look", ["admit", "admit_anyway", "admit_last", "view"])
def test_whoever_looks_first_takes_away_what_is_over(world: World, look: str) -> None:
    """And tells it, once."""
    world.all.force(EAST, "open", 20, "INC-7")
    world.told()
    world.clock.advance(20)

    for _ in range(2):
        getattr(world.all, look)(*([] if look == "view" else [EAST]))

    assert world.told() == [(EAST, "open", "closed", "expired")]
    admission = world.all.admit(EAST)
    assert admission == Admission(generation=0)


def test_a_call_that_is_never_refused_counts_unless_the_region_is_held(world: World) -> None:
    """A canary's: in an open region it changes nothing, in a due one it is the probe."""
    assert world.all.admit_anyway(EAST) == Admission(generation=0)
    world.fail()
    assert world.all.admit_anyway(EAST) == Admission(generation=1)
    world.clock.advance(12)
    assert world.all.admit_anyway(EAST) == Admission(generation=2, probe=True)
    assert world.all.admits(EAST) is False, "the permit is taken"


def test_forced_as_it_is_is_no_move(world: World) -> None:
    """Nor is letting go of it: nobody sees a difference, and since when it is so stays."""
    world.clock.advance(5)
    world.all.force(EAST, "closed", 20, "INC-7")
    world.clock.advance(5)
    world.all.unforce(EAST)
    world.all.unforce(EAST)

    assert (world.told(), world.seen()) == ([], ("closed", 10, ""))


def test_what_moves_beneath_a_forced_one_is_not_told(world: World) -> None:
    """What is told is what is seen; a call that began before ends beneath it."""
    began = [world.all.admit(EAST) for _ in range(2)]
    world.all.force(EAST, "closed", 20, "INC-7")
    for admission in began:
        assert admission is not None
        world.all.report(EAST, admission, Outcome.FAILURE)
    assert (world.told(), world.seen()[0]) == ([], "closed")
    world.all.unforce(EAST)

    assert world.told() == [(EAST, "closed", "open", "expired")]


def test_who_forces_anew_is_not_undone_by_the_end_of_the_first(world: World) -> None:
    """The time of the second one counts."""
    world.all.force(EAST, "open", 10, "INC-7")
    world.clock.advance(5)
    world.all.force(EAST, "open", 10, "INC-8")
    world.clock.advance(5)

    assert world.seen() == ("open", 10, "INC-8")


def test_the_end_of_one_that_was_forced_meanwhile_takes_nothing_away(world: World) -> None:
    """Two threads: one finds it over, another has forced it anew before the first comes to take it away."""
    world.all.force(EAST, "open", 10, "INC-7")
    first = world.all._forced[EAST]
    world.all.force(EAST, "open", 30, "INC-8")

    world.all._put(EAST, None, "expired", only=first)

    assert world.seen()[2] == "INC-8"


def test_the_region_that_may_be_asked_soonest(world: World) -> None:
    """The first of equals; who is held open is asked last, who is held closed at once."""
    assert [world.all.soonest(order) for order in ((EAST, WEST), (WEST, EAST))] == [EAST, WEST]
    world.fail(WEST)
    world.clock.advance(1)
    world.fail(EAST)
    assert world.all.soonest((EAST, WEST)) == WEST
    world.all.force(WEST, "open", 100, "INC-7")
    assert world.all.soonest((WEST, EAST)) == EAST
    world.all.force(WEST, "closed", 100, "INC-7")
    assert world.all.soonest((EAST, WEST)) == WEST


def test_from_when_a_breaker_lets_a_call_in() -> None:
    """Closed and free ones at once; the time that somebody forced counts before the breaker's own."""
    held = World().all
    held.force(EAST, "open", 7, "INC-7")
    held.force(WEST, "closed", 7, "INC-7")
    opened, shut = held._forced[EAST], held._forced[WEST]

    assert due(Closed(), None) == 0.0
    assert due(Open(generation=1, until=9.0), None) == 9.0
    assert due(HalfOpen(generation=1, failed_probes=0, permit_until=None), None) == 0.0
    assert due(HalfOpen(generation=1, failed_probes=0, permit_until=4.0), None) == 4.0
    assert (due(Closed(), opened), due(Open(generation=1, until=9.0), shut)) == (opened.until, 0.0)


@pytest.mark.parametrize("seconds", [0, -1, MAX_FORCED_SECONDS + 1, float("nan"), float("inf")])
def test_a_time_that_does_not_come_within_a_day_is_refused(world: World, seconds: float) -> None:
    """Whoever forces may crash: it must end by itself."""
    assert MAX_FORCED_SECONDS == 24 * 3600
    with pytest.raises(ConfigurationError, match="more than 0 and at most 86400 seconds"):
        world.all.force(EAST, "open", seconds, "INC-7")
    world.all.force(EAST, "open", MAX_FORCED_SECONDS, "INC-7")
    assert world.seen()[0] == "open"


def test_a_generation_that_no_breaker_has() -> None:
    """They count up from 0."""
    assert NO_GENERATION < 0
