"""Answers that are costly to make, made once for all who wait: a thousand at once cost two, and none is stale."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Flights:
    flying: asyncio.Task[Any] | None = None
    boarding: asyncio.Task[Any] | None = None
    """Waits for the one that flies; who comes now goes with it."""


class Sharing:
    """Makes answers in worker threads, one of a kind at a time; lives in one event loop."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Flights] = {}

    async def get(self, kind: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returns in a run that began after this call; calls of one kind share it, errors too."""
        flights = self._kinds.setdefault(kind, _Flights())
        if flights.boarding is None:
            flights.boarding = asyncio.create_task(self._fly(kind, flights, make))
        # Shielded: one client that goes away must not take the answer from the others.
        result: T = await asyncio.shield(flights.boarding)
        return result

    async def _fly(self, kind: Hashable, flights: _Flights, make: Callable[[], T]) -> T:
        if flights.flying is not None:
            await asyncio.wait({flights.flying})
        flights.flying, flights.boarding = flights.boarding, None
        try:
            return await run_in_threadpool(make)
        finally:
            if flights.boarding is None:
                self._kinds.pop(kind, None)
