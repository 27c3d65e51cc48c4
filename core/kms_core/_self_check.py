"""What an application asks before it calls itself ready: does encryption work here, as who I am, in each region?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kms_core._bulkhead import GivenUpError, Lane, Pending
from kms_core.clock import Clock
from kms_core.errors import ClosedError, KmsCoreError
from kms_core.taxonomy import DEADLINE

CANARY_CONTEXT = {"canary": "true"}
_PLAINTEXT = b"kms-core self check"


class RoundTrips(Protocol):
    """What can seal and open in one region: `kms_core.PinnedCore`."""

    def encrypt(self, plaintext: bytes, *, purpose: str, context: dict[str, str]) -> bytes:
        """Seal."""
        ...

    def decrypt(self, message: bytes, *, purpose: str, context: dict[str, str]) -> bytes:
        """Open."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """One canary sealed and opened by one region under one purpose's key."""

    region: str
    purpose: str
    ok: bool
    error_code: str
    """Empty when it went well; else KMS's own code, or the core's name for a fault of the connection."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """All round trips, in the order of regions and purposes."""

    round_trips: tuple[RoundTrip, ...]

    @property
    def ok(self) -> bool:
        """Whether every region does every purpose."""
        return all(trip.ok for trip in self.round_trips)

    @property
    def ready(self) -> bool:
        """Whether every purpose has a region that does it: enough to serve, since calls fail over."""
        return {trip.purpose for trip in self.round_trips if trip.ok} == {trip.purpose for trip in self.round_trips}

    @property
    def failed(self) -> tuple[RoundTrip, ...]:
        """Those that did not go well."""
        return tuple(trip for trip in self.round_trips if not trip.ok)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """Makes the round trips, all at once in threads of their own, so that a silent region holds up nobody."""

    pinned: Callable[[str], RoundTrips]
    regions: tuple[str, ...]
    purposes: tuple[str, ...]
    lane: Callable[[str], Lane]
    clock: Clock

    def run(self, seconds: float) -> SelfCheck:
        """Return what came of every round trip within `seconds`.

        Raises:
            ClosedError: the core was closed.
        """
        began = self.clock.monotonic()
        lanes = {region: self.lane(f"self-check-{region}") for region in self.regions}
        try:
            flights = [
                (region, purpose, lanes[region].submit(functools.partial(self._try, region, purpose)))
                for region in self.regions
                for purpose in self.purposes
            ]
            return SelfCheck(
                round_trips=tuple(self._outcome(*flight, began=began, seconds=seconds) for flight in flights)
            )
        finally:
            for lane in lanes.values():
                lane.close()

    def _outcome(
        self, region: str, purpose: str, flight: Pending[RoundTrip], *, began: float, seconds: float
    ) -> RoundTrip:
        try:
            return flight.result(max(0.0, began + seconds - self.clock.monotonic()))
        except GivenUpError:
            took = self.clock.monotonic() - began
            return RoundTrip(region=region, purpose=purpose, ok=False, error_code=DEADLINE, seconds=took)

    def _try(self, region: str, purpose: str) -> RoundTrip:
        began = self.clock.monotonic()
        code = self._error_code(region, purpose)
        took = self.clock.monotonic() - began
        return RoundTrip(region=region, purpose=purpose, ok=not code, error_code=code, seconds=took)

    def _error_code(self, region: str, purpose: str) -> str:
        pinned = self.pinned(region)
        try:
            message = pinned.encrypt(_PLAINTEXT, purpose=purpose, context=CANARY_CONTEXT)
            opened = pinned.decrypt(message, purpose=purpose, context=CANARY_CONTEXT)
        except ClosedError:
            raise
        except KmsCoreError as e:
            return e.error_code or type(e).__name__
        return "" if opened == _PLAINTEXT else "RoundTripDiffers"
