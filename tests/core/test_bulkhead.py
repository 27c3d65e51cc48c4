"""A region's threads: an attempt is given up in time, a hanging one holds up only its own region, and all end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from kms_core._bulkhead import Bulkhead, GivenUpError
from kms_core.clock import SystemClock
from kms_core.errors import ClosedError

CLOCK = SystemClock()


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """An event that calls wait for, set at the end whatever happens."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def bulkhead(released: threading.Event) -> Iterator[Bulkhead]:
    made = Bulkhead("test", CLOCK, workers=2)
    yield made
    released.set()
    made.close()


def test_a_call_returns_its_value_and_raises_its_error(bulkhead: Bulkhead) -> None:
    """As if it were made here."""

    def wrong() -> None:
        raise KeyError("x")

    assert bulkhead.submit(lambda: 5).result(10) == 5
    with pytest.raises(KeyError, match="x"):
        bulkhead.submit(wrong).result(10)


def test_a_call_that_hangs_is_given_up(bulkhead: Bulkhead, released: threading.Event) -> None:
    """The caller goes on; the thread stays with the call, and others are served."""
    started = threading.Event()
    hanging = bulkhead.submit(lambda: (started.set(), released.wait(20)))
    assert started.wait(10)

    with pytest.raises(GivenUpError) as given_up:
        hanging.result(0.02)

    assert given_up.value.started
    assert bulkhead.submit(lambda: 5).result(10) == 5


def test_a_call_that_never_got_a_thread_is_never_made(bulkhead: Bulkhead, released: threading.Event) -> None:
    """Nothing was sent, so it says nothing of the region; and it is not sent later either."""
    made: list[int] = []
    hanging = [bulkhead.submit(lambda: released.wait(20)) for _ in range(2)]
    queued = bulkhead.submit(lambda: made.append(1))

    with pytest.raises(GivenUpError) as given_up:
        queued.result(0.02)
    assert not given_up.value.started

    released.set()
    for call in hanging:
        call.result(10)
    bulkhead.submit(lambda: None).result(10)
    assert made == []


def test_threads_are_reused_and_end_with_close(released: threading.Event) -> None:
    """One thread does for calls one after the other."""
    bulkhead = Bulkhead("reused", CLOCK, workers=4)
    used = {bulkhead.submit(threading.current_thread).result(10) for _ in range(20)}

    bulkhead.close()
    bulkhead.join(10)

    assert len(used) <= 2, "the worker may not be back in line when the next call comes"
    assert not any(thread.is_alive() for thread in used)
    with pytest.raises(ClosedError):
        bulkhead.submit(lambda: None)


def test_close_refuses_what_is_queued(released: threading.Event) -> None:
    """Nobody waits for a call that nobody will make."""
    bulkhead, started = Bulkhead("queued", CLOCK, workers=1), threading.Event()
    hanging = bulkhead.submit(lambda: (started.set(), released.wait(20))[1])
    queued = bulkhead.submit(lambda: None)
    assert started.wait(10)

    bulkhead.close()

    with pytest.raises(ClosedError):
        queued.result(10)
    released.set()
    assert hanging.result(10)
