"""Whether each key has a region that works: looked at in a thread of its own, so that every answer is from memory.

A region that is lost makes the service degraded, not unready: calls fail over. It is unready when a key has no region
left, and while nobody knows: silence is never health.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from kms_core import Clock, SelfCheck
from kms_core.errors import ClosedError
from kms_core.events import BreakerState
from kms_core.taxonomy import TABLE, Family

LOOK_SECONDS = 5.0
"""What has not answered by then does not work."""
UNREADY_SECONDS = 5.0
"""So often is looked while a key has no region, so that its return is noticed soon."""
_STALE_LOOKS = 3

log = logging.getLogger("parker_flight_api")

Answer = tuple[int, dict[str, Any]]


def usable_regions(check: SelfCheck) -> dict[str, list[str]]:
    """Return by purpose the regions that sealed and opened under its key."""
    found: dict[str, list[str]] = {trip.purpose: [] for trip in check.round_trips}
    for trip in check.round_trips:
        if trip.ok:
            found[trip.purpose].append(trip.region)
    return found


def denial(check: SelfCheck) -> str:
    """Return why no region does anything for any key, where only a person can change it; empty when it is not so.

    Such are credentials that are not there, a role that may not, keys that are disabled: no outage says so everywhere.
    """
    codes = {trip.error_code: trip.region for trip in check.failed}
    denied = all(code in TABLE and TABLE[code].family is Family.DENIED for code in codes)
    if not denied or len(check.failed) < len(check.round_trips):
        return ""
    return "no key can be used: " + ", ".join(f"{code} in {region}" for code, region in sorted(codes.items()))


def readiness_answer(check: SelfCheck | None, *, draining: bool) -> Answer:
    """Answer `/readyz`, for load balancers: 200 while every key has a region."""
    ready = check is not None and check.ready and not draining
    keys = usable_regions(check) if check is not None else {}
    return (200 if ready else 503), {"ready": ready, "draining": draining, "keys": keys}


def health_answer(
    check: SelfCheck | None, breakers: Mapping[str, BreakerState], now_utc: datetime, *, detail: bool
) -> Answer:
    """Answer `/health` in the setup guide's form, for people: 200 healthy, 503 degraded, 500 unhealthy.

    Nothing that restarts or removes tasks may read it. `detail` shows which key failed where, with KMS's own code.
    """
    document: dict[str, Any] = {
        "status": "unhealthy",
        "timestamp": now_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "regions": {},
        "circuitBreakers": {region: {"state": state.upper()} for region, state in breakers.items()},
    }
    if check is None:
        return 500, document | {"error": "not looked yet"}
    document["regions"] = {trip.region: True for trip in check.round_trips} | {
        trip.region: False for trip in check.failed
    }
    if detail:
        document["failed"] = [
            {"region": trip.region, "key": trip.purpose, "code": trip.error_code} for trip in check.failed
        ]
    if not check.ready:
        return 500, document | {"error": "a key has no region that works"}
    healthy = check.ok and "open" not in breakers.values()
    return (200 if healthy else 503), document | {"status": "healthy" if healthy else "degraded"}


class Checked(Protocol):
    """What can be looked at: `kms_core.Core`."""

    def self_check(self, *, timeout_seconds: float | None = None) -> SelfCheck:
        """Seal and open a canary in every region under every key."""
        ...


class Watch:
    """Looks, and remembers what it saw for as long as that is worth something."""

    def __init__(self, core: Checked, clock: Clock, seconds: float, told: Callable[[SelfCheck], None]) -> None:
        self._core, self._clock, self._seconds, self._told = core, clock, seconds, told
        self._ending = threading.Event()
        self._seen: tuple[float, SelfCheck] | None = None
        self._thread = threading.Thread(target=self._until_end, name="readiness", daemon=True)

    def look(self) -> SelfCheck:
        """Look now, and return what was seen. Takes 5 seconds at most."""
        check = self._core.self_check(timeout_seconds=LOOK_SECONDS)
        self._seen = self._clock.monotonic(), check
        self._told(check)
        return check

    def last(self) -> SelfCheck | None:
        """Return what was seen last; None: never, or too long ago."""
        if self._seen is None:
            return None
        at, check = self._seen
        good_until = at + _STALE_LOOKS * self._seconds + LOOK_SECONDS
        return check if self._clock.monotonic() <= good_until else None

    def start(self) -> None:
        """Begin to look, again and again."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._ending.set()
        self._thread.join(LOOK_SECONDS)

    def _until_end(self) -> None:
        while not self._clock.wait(self._ending, self._pause()):
            try:
                self.look()
            except ClosedError:
                return
            except Exception:  # the thread's outermost border: a mistake of ours must not make it unready for good
                log.exception("readiness.failed: nothing was seen this time")

    def _pause(self) -> float:
        check = self.last()
        return self._seconds if check is not None and check.ready else min(self._seconds, UNREADY_SECONDS)
