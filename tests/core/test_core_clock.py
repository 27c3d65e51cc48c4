"""Both clocks keep the one contract."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kms_core.clock import Clock, SystemClock
from kms_core.testing import ManualClock


@pytest.mark.parametrize(
    "clock", [pytest.param(SystemClock(), id="system"), pytest.param(ManualClock(auto_advance=True), id="manual")]
)
def test_waiting_ends_with_the_event_or_the_time(clock: Clock) -> None:
    """And says which."""
    event = threading.Event()
    began = clock.monotonic()
    assert clock.wait(event, 0.01) is False
    assert clock.monotonic() - began >= 0.009
    assert clock.wait(event, -1.0) is False
    event.set()
    assert clock.wait(event, 60.0) is True
    assert clock.now_utc().tzinfo is dt.UTC


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    """A thread that waits is woken when the clock has moved far enough."""
    clock, never = ManualClock(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(clock.wait, never, 5.0)
        while not clock.waiting:
            never.wait(0.001)
        clock.advance(4.9)
        assert not waiting.done()
        clock.advance(0.1)
        assert waiting.result(10) is False
    assert clock.monotonic() == 1005.0
    assert clock.now_utc() == dt.datetime(2026, 1, 1, 0, 0, 5, tzinfo=dt.UTC)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_manual_clock_wakes_for_the_event() -> None:
    """Whatever the time."""
    clock, event = ManualClock(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(clock.wait, event, 5.0)
        event.set()
        assert waiting.result(10) is True
