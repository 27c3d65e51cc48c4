"""An event loop that passes data from socket to socket while it waits, without a turn of the loop for each chunk.

A turn of asyncio's loop costs more than reading a chunk and writing it; a proxied round trip would pay for two.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from kms_local.clock import SystemClock

_TURNS = 200  # of passing on; then the loop gets its turn, whatever there is to do


class Reader(Protocol):
    """Someone who reads a socket as soon as there is something."""

    def read_now(self) -> bool | None:
        """Read once.

        Returns:
            True when that was all, False when the loop has something to do now, None when the loop is to read itself.
        """


class _RelaySelector(selectors.DefaultSelector):
    """Lets readers read before the loop hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[int, Reader] = {}
        self.on_failure: Callable[[Exception], None] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See the base class."""
        started = 0.0
        for turn in range(_TURNS):
            ready = super().select(timeout)
            if not self.readers:
                return ready
            if turn == 0 and timeout is not None:
                started = _monotonic()
            idle, left = self._passed_on(ready)
            if left or not idle or not ready:
                return left
            if timeout is not None:  # a timer is due then
                timeout -= _monotonic() - started
                started = _monotonic()
                if timeout <= 0:
                    return left
        return []

    def _passed_on(
        self, ready: list[tuple[selectors.SelectorKey, int]]
    ) -> tuple[bool, list[tuple[selectors.SelectorKey, int]]]:
        idle, left = True, []
        for key, events in ready:
            reader = self.readers.get(key.fd)
            if reader is None or not events & selectors.EVENT_READ:
                left.append((key, events))
                continue
            quiet = self._read(reader)
            idle = idle and quiet is True
            rest = events if quiet is None else events & ~selectors.EVENT_READ
            if rest:
                left.append((key, rest))
        return idle, left

    def _read(self, reader: Reader) -> bool | None:
        try:
            return reader.read_now()
        except Exception as e:  # noqa: BLE001  one connection's mistake may not end the loop
            if self.on_failure is not None:
                self.on_failure(e)
            return False


_monotonic = SystemClock().monotonic


class RelayLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._relay = _RelaySelector()
        super().__init__(self._relay)
        self._relay.on_failure = self._tell

    def watch(self, descriptor: int, reader: Reader) -> None:
        """Let `reader` read `descriptor`, as long as its transport reads."""
        self._relay.readers[descriptor] = reader

    def unwatch(self, descriptor: int) -> None:
        """Leave `descriptor` to its transport; to be called before it is closed."""
        self._relay.readers.pop(descriptor, None)

    def _tell(self, failure: Exception) -> None:
        self.call_exception_handler({"message": "a connection could not be read", "exception": failure})


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` in such a loop."""
    with asyncio.Runner(loop_factory=RelayLoop) as runner:
        runner.run(main)
