"""Virtual time: whose turn it is, what a wait is, what the dead and the frozen can do."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from virtual_time import Host, Killed, Process, StuckError, World, WorldClock, threads_take_turns

HERE = Host("here")


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with threads_take_turns(made):
        yield made
        made.end()


def test_time_moves_when_all_wait(world: World) -> None:
    """To the next that is due, and those of the same instant in the order in which they began."""
    told: list[tuple[float, str]] = []

    def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            world.sleep(nap)
            told.append((world.now, name))

    for name, naps in {"a": (3.0, 3.0), "b": (1.0, 5.0), "c": (6.0,)}.items():
        world.start(HERE, name, lambda _, n=name, s=naps: sleeper(n, *s))  # type: ignore[misc] # bound now
    world.run(100.0)

    assert told == [(1.0, "b"), (3.0, "a"), (6.0, "a"), (6.0, "b"), (6.0, "c")]
    assert world.now == 100.0


def test_an_event_ends_a_wait_at_once(world: World) -> None:
    """In no time, whoever sets it; an event that nobody sets ends nothing."""
    rung, never = threading.Event(), threading.Event()
    clock, told = WorldClock(world), []

    def waiter(_: Process) -> None:
        told.append((clock.wait(rung, 60.0), world.now))
        told.append((clock.wait(never, 7.0), world.now))

    def ringer(_: Process) -> None:
        world.sleep(5.0)
        rung.set()
        world.sleep(30.0)

    world.start(HERE, "waiter", waiter)
    world.start(HERE, "ringer", ringer)
    world.run(100.0)

    assert told == [(True, 5.0), (False, 12.0)]


def test_the_dead_reach_nothing(world: World) -> None:
    """Their last blocks run, as Python must, and whatever they ask for is refused."""
    told: list[str] = []

    def victim(_: Process) -> int:
        try:
            world.sleep(10.0)
            told.append("lived")
        finally:
            try:
                world.sleep(0.0)
            except Killed:
                told.append("reached nothing")
                raise
        return 0

    process = world.start(HERE, "victim", victim)

    def killer(_: Process) -> None:
        world.sleep(4.0)
        process.kill()

    world.start(HERE, "killer", killer)
    world.run(4.0)

    assert told == ["reached nothing"]
    assert (process.running, process.exit_code, world.now) == (False, -9, 4.0)


def test_the_frozen_stand_still_and_their_time_goes_by(world: World) -> None:
    """They wake when what they waited for is long over."""
    told: list[float] = []

    def main(_: Process) -> None:
        world.sleep(2.0)
        told.append(world.now)

    process = world.start(HERE, "frozen", main)
    process.freeze(50.0)
    world.run(49.0)
    assert told == []
    world.run(60.0)

    assert told == [52.0]


def test_threads_of_a_process_take_turns_and_die_with_it(world: World) -> None:
    """Whoever joins one waits in virtual time."""
    told: list[str] = []

    def main(_: Process) -> int:
        helper = threading.Thread(target=lambda: told.append(f"helped at {world.now + world.sleep(3.0):.0f}"))
        helper.start()
        helper.join()
        told.append(f"joined at {world.now:.0f}")
        threading.Thread(target=lambda: told.append(str(world.sleep(100.0)))).start()
        world.sleep(1000.0)
        return 0

    process = world.start(HERE, "main", main)
    world.run(20.0)
    process.kill()
    world.run(200.0)

    assert told == ["helped at 0", "joined at 3"]
    assert not process.running


def test_what_a_thread_ends_with_ends_the_run(world: World) -> None:
    """An error that nobody expected is not lost in its thread."""

    def main(_: Process) -> None:
        raise ZeroDivisionError

    world.start(HERE, "main", main)

    with pytest.raises(ZeroDivisionError):
        world.run(1.0)
    world.failed = None


def test_who_is_of_no_process_may_not_wait(world: World) -> None:
    """It would wait for ever: time does not move for it."""
    with pytest.raises(StuckError, match="of no process"):
        WorldClock(world).wait(threading.Event(), 1.0)


def test_hosts_have_wall_clocks_of_their_own(world: World) -> None:
    """And one monotonic time, which no step moves."""
    off = Host("off")
    ours, theirs = WorldClock(world, HERE), WorldClock(world, off)
    before = theirs.monotonic()
    off.offset += (theirs.now_utc() - ours.now_utc()) + (ours.now_utc() - ours.now_utc())
    world.run(10.0)

    assert theirs.now_utc() == ours.now_utc()
    assert theirs.monotonic() - before == 10.0
