"""Faults begin and end at their own times, and all of them end, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kms_chaos.faults.plans import Blackhole, Ordered
from kms_chaos.timeline import Timeline


def order(name: str, *, after: float = 0.0, lasts: float | None = None) -> Ordered:
    plan = Blackhole(kind="blackhole", after_seconds=after, for_seconds=lasts)
    return Ordered(id=name, region="us-east-1", plan=plan)


class Faults:
    """What was put on and taken off, in order; `fails` names what raises."""

    def __init__(self, *fails: str) -> None:
        self.seen: list[str] = []
        self._fails = fails

    @contextmanager
    def put_on(self, one: Ordered) -> Iterator[None]:
        self._note(f"+{one.id}")
        try:
            yield
        finally:
            self._note(f"-{one.id}")

    def _note(self, what: str) -> None:
        self.seen.append(what)
        if what in self._fails:
            raise OSError(what)


def test_each_fault_has_its_own_time() -> None:
    """One from the beginning to the end, one in the middle of it."""
    faults = Faults()

    with Timeline((order("late", after=5, lasts=3), order("whole")), faults.put_on) as timeline:
        steps = []
        for elapsed in (0.0, 4.9, 5.2, 8.1, 8.2, 9.0):
            timeline.turn(elapsed)
            steps.append(list(faults.seen))

    assert steps[0] == steps[1] == ["+whole"]
    assert steps[2] == steps[3] == ["+whole", "+late"]  # three seconds from when it was really on
    assert steps[4] == steps[5] == ["+whole", "+late", "-late"]
    assert faults.seen == ["+whole", "+late", "-late", "-whole"]


def test_all_end_when_the_drill_fails() -> None:
    """The last one first; what is not due yet is never put on."""
    faults = Faults()

    def drill() -> None:
        with Timeline((order("a"), order("b"), order("never", after=60)), faults.put_on) as timeline:
            timeline.turn(0.0)
            1 / 0  # noqa: B018 - any error will do

    with pytest.raises(ZeroDivisionError):
        drill()

    assert faults.seen == ["+a", "+b", "-b", "-a"]


@pytest.mark.parametrize("fails", ["-b", "+b"])
def test_one_that_fails_keeps_no_other_on(fails: str) -> None:
    """Neither one that cannot be taken off, nor one that cannot be put on; and its error is told."""
    faults = Faults(fails)

    with (
        pytest.raises(OSError, match=f"[{fails[0]}]b"),
        Timeline((order("a"), order("b")), faults.put_on) as timeline,
    ):
        timeline.turn(0.0)

    assert faults.seen[-1] == "-a"


def test_one_that_fails_to_end_in_its_time_is_told_at_once() -> None:
    """Not at the end of the hold: the conductor must restore now."""
    faults = Faults("-short")

    with Timeline((order("short", lasts=1), order("whole")), faults.put_on) as timeline:
        timeline.turn(0.0)
        with pytest.raises(OSError, match="-short"):
            timeline.turn(1.0)
        assert faults.seen == ["+short", "+whole", "-short"]

    assert faults.seen == ["+short", "+whole", "-short", "-whole"]


def test_what_ended_in_its_time_is_not_ended_again() -> None:
    """Neither at the next turn nor at the end; two that end at once both end."""
    faults = Faults()

    with Timeline((order("a", lasts=1), order("b", lasts=1), order("c")), faults.put_on) as timeline:
        for elapsed in (0.0, 1.0, 2.0, 3.0):
            timeline.turn(elapsed)
        assert faults.seen == ["+a", "+b", "+c", "-a", "-b"]

    assert faults.seen == ["+a", "+b", "+c", "-a", "-b", "-c"]


def test_one_that_failed_to_end_is_not_tried_again_at_the_next_turn() -> None:
    """The restore tries what is left; a conductor that went on would else be told the same at every look."""
    faults = Faults("-a")

    with Timeline((order("a", lasts=1),), faults.put_on) as timeline:
        timeline.turn(0.0)
        with pytest.raises(OSError, match="-a"):
            timeline.turn(1.0)
        timeline.turn(2.0)

    assert faults.seen == ["+a", "-a"]


def test_one_that_is_late_lasts_its_time_from_then_on() -> None:
    """It ends when it has been on for so long, not when it would have been over."""
    faults = Faults()

    with Timeline((order("a", after=5, lasts=3),), faults.put_on) as timeline:
        timeline.turn(7.0)
        timeline.turn(9.75)
        assert faults.seen == ["+a"]
        timeline.turn(10.0)
        assert faults.seen == ["+a", "-a"]
