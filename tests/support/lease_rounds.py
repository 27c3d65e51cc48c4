"""Torments those who want the drill lease: freezes them past it, kills them, starts others, at drawn instants."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lease_figures import LeaseFigures, judge
from lease_table import Audit, lease_table
from lease_worker import SHORT_TTL_SECONDS

from kms_core import SystemClock

CLOCK, NEVER = SystemClock(), threading.Event()
WORKER = Path(__file__).parent / "lease_worker.py"
WORKERS = 4
TELL_EVERY = 100
ACQUISITIONS_A_BLOW = 6
"""Else a quick machine would be through before anything happens to it."""
AT_THE_HOLDER = 0.8
"""The share of blows that are aimed at whoever has the lease."""
SILENT_SECONDS = 60.0
"""Without an acquisition for so long something hangs."""


class StandstillError(AssertionError):
    """Nobody takes the lease any more."""


@dataclass
class Torment:
    """One run: some workers, one table, and blows."""

    audit: Audit
    log: Path
    figures: LeaseFigures
    rng: random.Random
    mode: str = "honest"
    say: Callable[[str], object] = lambda _: None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    killed: dict[int, float] = field(default_factory=dict)
    began: float = field(default_factory=CLOCK.monotonic)

    def run(self, acquisitions: int) -> None:
        """Go on until the lease was taken so often, with a blow for every sixth at the least; then end all and judge.

        Raises:
            StandstillError: nobody takes it any more.
        """
        self.began = moved_at = CLOCK.monotonic()
        self.workers += [self._start() for _ in range(WORKERS)]
        seen, told = 0, 0
        while (taken := self.audit.acquisitions) < acquisitions or self._blows < acquisitions // ACQUISITIONS_A_BLOW:
            if taken > seen:
                seen, moved_at = taken, CLOCK.monotonic()
            if CLOCK.monotonic() - moved_at > SILENT_SECONDS:
                raise StandstillError(f"the lease was not taken for {SILENT_SECONDS:g} s, after {taken} times")
            CLOCK.wait(NEVER, self.rng.uniform(0.5, 3.0))
            if taken:
                self._blow()
            if taken - told >= TELL_EVERY:
                told = taken
                self.say(f"{taken} acquisitions, {self.figures.freezes} freezes, {self.figures.kills} kills")
        self.judge()

    def judge(self) -> None:
        """End all, and count what became of it so far."""
        self.end()
        self.figures.seconds = CLOCK.monotonic() - self.began
        judge(self.figures, self.audit.requests, self.lines(), self.killed)

    def lines(self) -> list[dict[str, object]]:
        """Return what workers have said."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def end(self) -> None:
        """Kill whoever is left."""
        for worker in self.workers:
            self._kill(worker)
        self.workers.clear()

    @property
    def _blows(self) -> int:
        return self.figures.freezes + self.figures.kills

    def _blow(self) -> None:
        """Freeze or kill one, most often who has the lease."""
        victim = self._holder() if self.rng.random() < AT_THE_HOLDER else self.rng.choice(self.workers)
        kind = self.rng.choices(("freeze", "kill", "kill-frozen"), weights=(70, 20, 10))[0]
        if kind == "freeze":
            victim.send_signal(signal.SIGSTOP)
            self._past_the_lease()
            victim.send_signal(signal.SIGCONT)
            self.figures.freezes += 1
            return
        if kind == "kill-frozen":
            victim.send_signal(signal.SIGSTOP)
            self._past_the_lease()
            self.figures.killed_frozen += 1
        self._kill(victim)
        self.figures.kills += 1
        self.workers[self.workers.index(victim)] = self._start()

    def _past_the_lease(self) -> None:
        CLOCK.wait(NEVER, SHORT_TTL_SECONDS * self.rng.uniform(1.05, 1.7))

    def _holder(self) -> subprocess.Popen[bytes]:
        tail = self.log.read_bytes()[-4096:].splitlines()[1:]
        pid = json.loads(tail[-1])["pid"] if tail else 0
        return next((worker for worker in self.workers if worker.pid == pid), self.workers[0])

    def _kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()  # also one that is stopped
        worker.wait()
        self.killed[worker.pid] = CLOCK.monotonic()

    def _start(self) -> subprocess.Popen[bytes]:
        arguments = ("drills", str(self.log), str(max(0, self.audit.slots - WORKERS)), self.mode)
        return subprocess.Popen([sys.executable, str(WORKER), *arguments], stdout=subprocess.DEVNULL)


@contextmanager
def torment(
    folder: Path, *, seed: int, mode: str = "honest", say: Callable[[str], object] = lambda _: None
) -> Iterator[Torment]:
    """Yield a run over a table of its own; whoever is left at the end is killed."""
    figures = LeaseFigures(seed=seed, ttl_seconds=SHORT_TTL_SECONDS)
    with lease_table() as audit:
        made = Torment(audit, folder / "log.ndjson", figures, random.Random(seed), mode, say)
        try:
            yield made
        finally:
            made.end()
