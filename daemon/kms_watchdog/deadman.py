"""The dead man's switch outside: told that all is watched, after each good round; it rings when that stops.

A round is over when every round trip has looked once more. It is good if no key is unusable everywhere and no canary
is silent: each has given a result, whatever it said, within three of its intervals. A region that is down does not stop
the pings (alarms tell of it); blindness of all, a stalled scheduler and a dead process do.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from kms_core.clock import Clock
from kms_watchdog.health import USE_KINDS, Board, Health, Status, silent
from kms_watchdog.redirects import Unmoved

log = structlog.get_logger("deadman")
_OPENER = urllib.request.build_opener(Unmoved)

CHECK_SECONDS = 1.0
"""How often to see whether a round is over."""

PingResult = Literal["success", "refused", "unreachable"]
"""What came of a ping: taken, answered with an error, or no answer in time."""


class HealthPort(Protocol):
    """Where the standing health is read."""

    def board(self) -> Board:
        """Return every canary's live standing."""

    def health(self) -> Health:
        """Return the live health."""


Ping = Callable[[], PingResult]


@dataclass(frozen=True, slots=True)
class Switch:
    """Where to ping, and how; the address is a secret, as whoever knows it can keep the switch quiet."""

    url: str
    method: Literal["GET", "POST"] = "GET"
    timeout_seconds: float = 5.0

    def __repr__(self) -> str:
        """Keep the address out of logs and tracebacks."""
        return f"Switch(method={self.method!r}, timeout_seconds={self.timeout_seconds!r})"

    def ping(self) -> PingResult:
        """Ask once; raises nothing that the network or the other side can cause.

        The timeout is of each step. A server that trickles its answer holds the calling thread alone, and the switch
        then rings, which is right.
        """
        request = urllib.request.Request(self.url, method=self.method)  # noqa: S310 - the configuration takes http and https alone
        try:
            with _OPENER.open(request, timeout=self.timeout_seconds):
                return "success"
        except urllib.error.HTTPError as e:
            e.close()
            return "refused"
        except (OSError, ValueError, http.client.HTTPException):  # no answer, or one that is no HTTP, or leads nowhere
            return "unreachable"


class DeadMan:
    """Pings after good rounds; called from one thread at a time."""

    def __init__(
        self,
        ping: Ping,
        health: HealthPort,
        clock: Clock,
        *,
        stale_after_seconds: Mapping[str, float],
        count: Callable[[PingResult], object],
    ) -> None:
        """`count` is told what came of each ping."""
        self._ping, self._health, self._clock, self._count = ping, health, clock, count
        self._stale_after_seconds = stale_after_seconds
        self._round_began = clock.monotonic()
        self._last: PingResult = "success"
        self._good = True

    def look(self) -> None:
        """Ping if a good round has just ended."""
        now, board = self._clock.monotonic(), self._health.board()
        if not round_over(board, since=self._round_began):
            return
        self._round_began = now
        good = is_good(board, self._health.health(), now=now, stale_after_seconds=self._stale_after_seconds)
        self._tell_whether_good(good=good)
        if good:
            self._tell(self._ping())

    def _tell_whether_good(self, *, good: bool) -> None:
        if good is not self._good:
            (log.info if good else log.warning)("deadman.resumed" if good else "deadman.withheld")
        self._good = good

    def _tell(self, result: PingResult) -> None:
        self._count(result)
        if result != self._last:
            (log.info if result == "success" else log.warning)("deadman.pinged", result=result)
        self._last = result


def round_over(board: Board, *, since: float) -> bool:
    """Return whether every round trip has looked after monotonic `since`."""
    looked = [health.looked_at for subject, health in board.canaries.items() if subject.canary in USE_KINDS]
    return all(at is not None and at > since for at in looked)


def is_good(board: Board, health: Health, *, now: float, stale_after_seconds: Mapping[str, float]) -> bool:
    """Return whether the switch may be told that all is watched."""
    if health.status is Status.UNHEALTHY:
        return False
    return not silent(board, now=now, stale_after_seconds=stale_after_seconds)
