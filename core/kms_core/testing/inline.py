"""A core over fakes, in the test's own thread: the same every time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

from kms_core._bulkhead import GivenUpError, Ticket
from kms_core._supply import BACKGROUND_LANE
from kms_core.clock import Clock
from kms_core.config import CoreConfig
from kms_core.core import Core
from kms_core.errors import ClosedError
from kms_core.events import Observer
from kms_core.testing.estate import FakeEstate

T = TypeVar("T")


class InlineTicket(Ticket[T]):
    """A call that was made before anybody could wait for it, so its time-out is judged afterwards."""

    def result(self, seconds: float) -> T:
        """Return what came of the call, unless it took longer than `seconds`."""
        if self.seconds > seconds:
            raise GivenUpError(started=True, run_seconds=seconds)
        return self._outcome()


class InlineLane:
    """Makes each call at once, in the thread that submits it; how long it took is what the clock says."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._closed = False

    def submit(self, call: Callable[[], T]) -> InlineTicket[T]:
        """Make `call`, and return what came of it."""
        if self._closed:
            raise ClosedError("the core is closed")
        ticket = InlineTicket(call, self._clock)
        ticket.run()
        return ticket

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True

    def join(self, seconds: float) -> None:
        """There are no threads to wait for."""


class HeldLane:
    """Keeps what shall be done in the background until `run`, so that a test of one thread says when it happens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: list[Ticket[Any]] = []

    def submit(self, call: Callable[[], T]) -> Ticket[T]:
        """Keep `call`."""
        ticket = Ticket(call, self._clock)
        self._held.append(ticket)
        return ticket

    def run(self) -> int:
        """Make all calls that are kept, in the test's own thread, and return how many there were."""
        held, self._held = self._held, []
        for ticket in held:
            ticket.run()
        return len(held)

    def close(self) -> None:
        """Forget what is kept."""
        self._held.clear()

    def join(self, seconds: float) -> None:
        """There are no threads to wait for."""


def core_over(
    estate: FakeEstate,
    config: CoreConfig,
    *,
    observer: Observer | None = None,
    seed: int = 0,
    background: HeldLane | None = None,
) -> Core:
    """Return a `Core` whose regions, time and jitter are the estate's and `seed`'s, without a thread of its own.

    What it would do in the background, which is to refresh data keys ahead of time and to probe regions that nobody
    calls, waits for `background.run`.
    """
    held = background or HeldLane(estate.clock)
    return Core(
        config,
        observer,
        clock=estate.clock,
        rng=random.Random(seed),  # noqa: S311 - jitter that repeats, in tests
        connect=estate.connect,
        lane=lambda name: held if name == BACKGROUND_LANE else InlineLane(estate.clock),
    )
