"""The drill's ear on its own core: every event of it goes onto the tape."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from kms_chaos.tape import Tape
from kms_core.events import Attempt, BreakerMoved, CacheLookup, Event, FailedOver


@dataclass(slots=True)
class Asked:
    """What the core did for one operation."""

    regions: list[str] = field(default_factory=list)
    """Regions that were asked, in order, the last one answered if the operation succeeded."""
    served_by: str = ""
    """The region whose answer was taken; empty when the cache answered."""
    cache_hit: bool = False


class Witness:
    """An `Observer` for the routed core. The core calls it in the thread that called the core."""

    def __init__(self, tape: Tape, proxies: Mapping[str, str]) -> None:
        self._tape = tape
        self._proxies = proxies
        self._here = threading.local()

    @contextmanager
    def operation(self) -> Iterator[Asked]:
        """Yield what the core does for the operation that this thread runs inside."""
        asked = Asked()
        self._here.asked = asked
        try:
            yield asked
        finally:
            self._here.asked = None

    def on_event(self, event: Event) -> None:
        """Take note of `event`."""
        match event:
            case Attempt():
                self._attempt(event)
            case FailedOver():
                self._tape.record(
                    "failed-over",
                    from_region=event.from_region,
                    to_region=event.to_region,
                    operation=event.operation,
                    purpose=event.purpose,
                )
            case BreakerMoved():
                self._tape.record("breaker-moved", region=event.region, old=event.old, new=event.new, cause=event.cause)
            case CacheLookup():
                if asked := self._asked():
                    asked.cache_hit = event.hit
            case _:
                pass  # quarantine of one key: the attempts that led to it are on the tape

    def _attempt(self, event: Attempt) -> None:
        self._tape.record(
            "attempt",
            region=event.region,
            operation=event.operation,
            purpose=event.purpose,
            seconds=round(event.seconds, 6),
            error_code=event.error_code,
            request_id=event.request_id,
            pinned=event.pinned,
            proxy=self._proxies.get(event.region, ""),
        )
        if asked := self._asked():
            asked.regions.append(event.region)
            if not event.error_code:
                asked.served_by = event.region

    def _asked(self) -> Asked | None:
        return getattr(self._here, "asked", None)


class AttemptsAlone:
    """An `Observer` for a second core, whose breakers are not those that the drill is about."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def on_event(self, event: Event) -> None:
        """Take note of `event`, if it is an attempt."""
        if isinstance(event, Attempt):
            self._witness.on_event(event)
