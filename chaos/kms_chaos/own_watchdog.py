"""A watchdog of the drill's own: started, looked at, killed and ended by the drill, beside the live one.

It is the real command in a process of its own (`own_process`), with its own state folder in the run's, and its
connections run over the drill's lines. It ends when the drill ends, also when that is killed: a pipe tells it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Protocol

from kms_chaos.drill_parts import WatchdogPlan
from kms_chaos.tape import Tape
from kms_core.clock import Clock

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 5.0
"""How long it may take to answer one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the watchdog said of itself."""

    answers: bool = False
    ready: bool = False
    health_code: int = 0
    """HTTP's, of `/health`; 0: no answer."""
    status: str = ""
    regions: Mapping[str, bool] = field(default_factory=dict)
    keys_usable: bool = False
    failover_up: bool = False
    """Whether the canary of every key's failover path is up."""
    history_since_utc: str = ""
    """When the oldest look began that it tells of; empty: it tells of none."""
    queued: Mapping[str, int] = field(default_factory=dict)
    """Datums that wait for CloudWatch, by region."""
    accepted: Mapping[str, int] = field(default_factory=dict)
    """Datums that CloudWatch took, by region."""
    dropped: int = 0

    def tells_the_truth(self, up: frozenset[str]) -> bool:
        """Return whether it says that the regions of `up` are well, all others not, and no key lost.

        Its status must say the same: right after a start it is degraded by what it has not looked at yet.
        """
        regions = {region for region, well in self.regions.items() if well}
        status = "healthy" if all(self.regions.values()) else "degraded"
        return self.ready and regions == up and self.status == status and self.keys_usable and self.failover_up


class Process(Protocol):
    """One process of the watchdog."""

    pid: int

    def look(self) -> Look:
        """Return what it says of itself."""

    def looked_up(self) -> Mapping[str, int]:
        """Return how often it opened a connection on each of the drill's ways, by name: `kms us-east-1`."""

    def kill(self) -> int:
        """End it with SIGKILL, and return its exit code."""

    def stop(self) -> int:
        """End it as an operator would, with SIGKILL if it takes too long, and return its exit code."""


class NoWatchdog:
    """What a drill has that starts none."""

    def begin(self) -> None:
        """Do nothing."""

    def turn(self, _elapsed_seconds: float) -> None:
        """Do nothing."""

    def ready(self) -> bool:
        """Nobody need be waited for."""
        return True

    def settled(self) -> bool:
        """As `ready`."""
        return True

    def well(self, *, since: float) -> bool:
        """As `ready`; `since` is monotonic."""
        return since >= 0

    def stop(self) -> None:
        """Do nothing."""


class OwnWatchdog(NoWatchdog):
    """Does at its time what the plan says, and puts each look onto the tape. `turn` never waits for the watchdog."""

    def __init__(
        self, plan: WatchdogPlan, start: Callable[[], Process], tape: Tape, clock: Clock, *, up: frozenset[str]
    ) -> None:
        """`start` starts one more process, on the same state folder; `up` are the regions whose KMS no fault hits."""
        self._up = up
        self._looked_at = float("-inf")
        self._plan, self._start_process, self._tape, self._clock = plan, start, tape, clock
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._last: Look | None = None
        self._to_start, self._to_kill = plan.starts_after_seconds, plan.killed_after_seconds
        self._over = threading.Event()
        self._looker = threading.Thread(target=self._go_on_looking, name="own-watchdog", daemon=True)

    def begin(self) -> None:
        """Start it, if it is to be there before the fault."""
        if self._plan.starts_after_seconds is None:
            self._start()
        self._looker.start()

    def turn(self, elapsed_seconds: float) -> None:
        """Start or kill it, where that is due so long after the first fault."""
        if self._to_start is not None and elapsed_seconds >= self._to_start:
            self._to_start = None
            self._start()
        if self._to_kill is not None and elapsed_seconds >= self._to_kill:
            self._to_kill = None
            self._kill()
            self._start()

    def ready(self) -> bool:
        """Return whether the fault may begin: it is ready, or is yet to start in the fault."""
        return self._plan.starts_after_seconds is not None or self._is_ready()

    def settled(self) -> bool:
        """Return whether all was done to it that is to be done in the fault, and it sees the fault as it is.

        What was not so when the hold's time was up, the judge finds in the last look.
        """
        last = self._last
        if last is None or self._to_start is not None or self._to_kill is not None:
            return False
        return last.tells_the_truth(self._up) and (not self._plan.publishes or all(last.queued.values()))

    def _is_ready(self) -> bool:
        last = self._last
        return last is not None and last.ready

    def well(self, *, since: float) -> bool:
        """Return whether it was healthy at a look that began after `since`, and nothing waited for CloudWatch."""
        with self._lock:
            last, looked_at = self._last, self._looked_at
        return last is not None and looked_at >= since and last.status == "healthy" and not any(last.queued.values())

    def stop(self) -> None:
        """End it, and say how it ended."""
        self._over.set()
        if self._looker.ident is not None:
            self._looker.join(ANSWER_SECONDS * 5)
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            code = process.stop()
            self._tape.record_now("watchdog-ended", pid=process.pid, code=code)

    def _start(self) -> None:
        process = self._start_process()
        with self._lock:  # before it is told: whatever fails now, `stop` ends it
            self._process = process
        self._tape.record_now("watchdog-started", pid=process.pid)

    def _kill(self) -> None:
        with self._lock:
            process, self._process, self._last = self._process, None, None
        if process is not None:
            self._tape.record_now("watchdog-killed", pid=process.pid, code=process.kill())

    def _go_on_looking(self) -> None:
        while not self._clock.wait(self._over, LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Ask the process of the moment, if there is one, and put what it says onto the tape."""
        with self._lock:
            process = self._process
        if process is None:
            return
        began = self._clock.monotonic()
        look = process.look()
        seconds = round(self._clock.monotonic() - began, 6)
        with self._lock:
            if self._process is not process:
                return  # it was killed meanwhile: what it said is no answer of who is there now
            self._last, self._looked_at = look, began
        self._tape.record(
            "watchdog-looked", pid=process.pid, seconds=seconds, **asdict(look), looked_up=dict(process.looked_up())
        )
