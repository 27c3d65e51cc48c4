"""Halts: the first reason stands, waits end at once, and the second timer rings when time is up."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from kms_chaos.halt import Halt, HaltedError, on_signals, second_timer
from kms_core import SystemClock
from kms_core.testing import ManualClock


def test_a_pause_ends_with_the_halt_and_its_reason() -> None:
    """Nobody waits a phase out that was called off."""
    halt = Halt()
    halt.call("SIGTERM")
    halt.call("time is up")

    with pytest.raises(HaltedError, match="SIGTERM"):
        halt.pause(SystemClock(), 60.0)


def test_a_pause_that_nobody_disturbs_just_passes() -> None:
    """In the clock's time."""
    clock = ManualClock(auto_advance=True)
    before = clock.monotonic()

    Halt().pause(clock, 5.0)

    assert clock.monotonic() - before == pytest.approx(5.0)


def test_signals_call_the_halt_and_are_given_back() -> None:
    """Again and again without harm; afterwards Ctrl-C is what it was."""
    halt, before = Halt(), signal.getsignal(signal.SIGTERM)

    with on_signals(halt):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert halt.event.wait(5.0)

    assert halt.reason in {"SIGTERM", "SIGINT"}
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_timer_rings_when_time_is_up() -> None:
    """Whatever the conductor is busy with."""
    rung = threading.Event()

    with second_timer(SystemClock(), 0.05, threading.Event(), threading.Thread(target=rung.set)):
        assert rung.wait(5.0)


def test_the_second_timer_is_silent_when_all_is_done_before() -> None:
    """And leaves no thread behind."""
    rung = threading.Event()

    with second_timer(SystemClock(), 60.0, threading.Event(), threading.Thread(target=rung.set)):
        pass

    assert not rung.is_set()
    assert not any(thread.name == "second-timer" for thread in threading.enumerate())


def thread_called(name: str) -> threading.Thread | None:
    return next((one for one in threading.enumerate() if one.name == name), None)


def test_no_thread_of_a_halt_keeps_the_process_alive_or_outlives_its_block() -> None:
    """A drill whose main thread died must end, and be healed."""
    with on_signals(Halt()), second_timer(SystemClock(), 60.0, threading.Event(), threading.Thread()):
        running = [thread_called("signals"), thread_called("second-timer")]
        assert [one is not None and one.daemon for one in running] == [True, True]

    assert (thread_called("signals"), thread_called("second-timer")) == (None, None)


def test_the_block_ends_when_what_the_timer_started_has_ended() -> None:
    """It lifts the fault: whoever goes on before would look at it half lifted."""
    rung, gate, done = threading.Event(), threading.Event(), threading.Event()

    def lift() -> None:
        rung.set()
        gate.wait(20.0)
        done.set()

    opener = threading.Timer(0.05, gate.set)
    with second_timer(SystemClock(), 0.01, threading.Event(), threading.Thread(target=lift, daemon=True)):
        assert rung.wait(20.0)
        opener.start()

    assert done.is_set()
    opener.join()
