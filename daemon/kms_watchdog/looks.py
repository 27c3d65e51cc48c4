"""Looks of canaries, one of each at a time: those of the schedule, and those that a person asks for."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from kms_watchdog.canaries.canary import Canary, canary_id
from kms_watchdog.results import CanaryResult

ON_DEMAND_AT_ONCE = 4
"""Each holds a thread of the web server for as long as a look may take."""


class UnknownCanaryError(LookupError):
    """No canary has that id."""

    def __init__(self, asked: str, known: Iterable[str]) -> None:
        super().__init__(asked)
        self.nearest: str | None = next(iter(difflib.get_close_matches(asked, list(known), n=1)), None)
        """The id that was probably meant."""


class CanaryBusyError(RuntimeError):
    """That canary is looking right now: its result comes by itself."""


class TooManyLooksError(RuntimeError):
    """As many looks as may be asked for at once are under way."""


class Looks:
    """Who may look now; any thread may call any method."""

    def __init__(self, canaries: Iterable[Canary], run: Callable[[Canary], CanaryResult]) -> None:
        """`run` asks one canary and hands its result to every sink."""
        self._canaries = {canary_id(canary): canary for canary in canaries}
        self._run = run
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._on_demand = 0

    def scheduled(self, name: str) -> None:
        """Look because it is time to; not if a person has just asked for the same look."""
        try:
            with self._alone(name):
                self._run(self._canaries[name])
        except CanaryBusyError:
            return

    def on_demand(self, name: str) -> CanaryResult:
        """Look now, and return what was seen.

        Raises:
            UnknownCanaryError, CanaryBusyError, TooManyLooksError: it was not asked.
        """
        if name not in self._canaries:
            raise UnknownCanaryError(name, self._canaries)
        with self._counted(), self._alone(name):
            return self._run(self._canaries[name])

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with self._lock:
            if name in self._running:
                raise CanaryBusyError(name)
            self._running.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(name)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            if self._on_demand >= ON_DEMAND_AT_ONCE:
                raise TooManyLooksError
            self._on_demand += 1
        try:
            yield
        finally:
            with self._lock:
                self._on_demand -= 1
