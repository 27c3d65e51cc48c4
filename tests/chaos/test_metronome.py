"""What a thread that only wakes in time tells of the machine it is on."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kms_chaos.metronome import LATE_SECONDS, TICK_SECONDS, keep_time
from kms_core.testing import ManualClock


class LateClock(ManualClock):
    """Wakes whoever waits as much too late as it is told, then no more."""

    def __init__(self, *late: float) -> None:
        super().__init__(auto_advance=True)
        self.late = list(late)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not self.late:
            event.set()
        else:
            self.advance(seconds + self.late.pop(0))
        return event.is_set()


class Told:
    """A tape that keeps the seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def record(self, event: str, **fields: Any) -> None:
        assert event == "machine-stalled"
        self.seconds.append(fields["seconds"])

    record_now = record


@pytest.mark.parametrize(
    ("late", "told"),
    [
        pytest.param((0.0,) * 200, [], id="in-time"),
        pytest.param((LATE_SECONDS - 0.001,) * 20, [], id="busy"),
        pytest.param((0.0, 1.215, 0.01, LATE_SECONDS + 0.001), [1.215, LATE_SECONDS + 0.001], id="stood-still-twice"),
    ],
)
def test_each_time_that_it_woke_late_is_told(late: tuple[float, ...], told: list[float]) -> None:
    """By how much, each by itself; what a busy machine does all the time is not."""
    tape = Told()

    keep_time(LateClock(*late), tape, threading.Event())

    assert tape.seconds == pytest.approx(told)


def test_it_waits_no_longer_than_a_tick() -> None:
    """Else it would be late by its own will."""
    assert TICK_SECONDS < LATE_SECONDS
