"""Which faults are on when: each begins and ends at its own time, and all end in the end, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self

from kms_chaos.faults.plans import Ordered

PutOn = Callable[[Ordered], AbstractContextManager[Any]]


class Timeline:
    """A context manager: leaving it takes every fault off, the last one first, and tries all also when one fails."""

    def __init__(self, orders: tuple[Ordered, ...], put_on: PutOn) -> None:
        self._put_on = put_on
        self._waiting = sorted(orders, key=lambda order: order.plan.after_seconds)
        self._on: list[tuple[float, ExitStack]] = []
        self._all = ExitStack()

    def turn(self, elapsed_seconds: float) -> None:
        """Put on what is due so long after the beginning, and take off what is over.

        Raises:
            Exception: whatever a fault raises that could not be put on or taken off.
        """
        for ends, one in self._on:
            if ends <= elapsed_seconds:
                one.close()  # nothing more happens to one that is closed already
        while self._waiting and self._waiting[0].plan.after_seconds <= elapsed_seconds:
            order = self._waiting.pop(0)
            one = ExitStack()
            self._all.push(one)  # before it is on: what fails halfway is undone, too
            one.enter_context(self._put_on(order))
            ends = elapsed_seconds + order.plan.for_seconds if order.plan.for_seconds else float("inf")
            self._on.append((ends, one))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._all.__exit__(kind, error, at)
