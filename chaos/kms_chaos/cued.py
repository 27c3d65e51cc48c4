"""A drill whose fault somebody else puts on and takes off: the engine's own drill, waiting for cues between its phases.

All else is the engine's: lease, guards, undo record before anything is created, journal, second timer, restore and
verdict. It runs in a thread of its own; who cues it may die, and the drill ends by itself within its times.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from kms_chaos import durable, engine, stage
from kms_chaos.conductor import Conductor, UnmetError
from kms_chaos.halt import HaltedError
from kms_chaos.judge import judge
from kms_chaos.run import Run
from kms_chaos.scene import View
from kms_chaos.tape import JournalTape
from kms_core.clock import Clock
from kms_watchdog.drills import journal
from kms_watchdog.drills.verdict import Judgement

CUE_SECONDS = 60.0
"""How long a drill whose steady state holds waits to be told to put its fault on."""
_END_SECONDS = 90.0  # above what is declared: the last checks, and taking the stage down
_START_SECONDS = 30.0
_LOOK_SECONDS = 0.1


class CuedError(RuntimeError):
    """The drill did not do what it was told, in time; the message says what it did instead."""


@dataclass(slots=True)
class _Cues:
    """What the drill waits for, and what it says."""

    steady: threading.Event = field(default_factory=threading.Event)
    inject: threading.Event = field(default_factory=threading.Event)
    heal: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


class CuedDrill:
    """One run, from its start to its verdict; its methods are called by whoever conducts, one at a time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._cues = _Cues()
        self._tape: JournalTape | None = None
        self._judgement: Judgement | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._conduct, name=f"drill-{run.run_id}", daemon=True)

    @property
    def judgement(self) -> Judgement | None:
        """What it proved; None while it is not over, or when it never began."""
        return self._judgement

    @property
    def view(self) -> View:
        """What is the case now.

        Raises:
            CuedError: it has not begun.
        """
        if self._tape is None:
            raise CuedError("the drill has not begun")
        return self._tape.view()

    def start(self) -> None:
        """Begin, and return when the steady state holds.

        Raises:
            CuedError: it was refused, or the steady state did not hold in time; nothing was broken.
        """
        self._thread.start()
        self._wait(self._cues.steady.is_set, self.run.drill.timing.baseline_at_most_seconds + _START_SECONDS, "begin")

    def inject(self) -> None:
        """Put the fault on, and return when the server was seen to have it.

        Raises:
            CuedError: it was not put on in time.
        """
        self._cues.inject.set()
        self._wait(lambda: self.view.fault_since is not None, _START_SECONDS, "put the fault on")

    def heal(self) -> bool:
        """Take the fault off, and return whether there was one, when it was seen to be gone. Harmless when none was.

        Raises:
            CuedError: it was not seen to be gone in time.
        """
        self._cues.heal.set()
        if self._tape is None or not self.view.faults:
            return False
        self._wait(lambda: self.view.fault_since is None, _START_SECONDS, "take the fault off", dead_is_fine=True)
        return True

    def finish(self) -> Judgement | None:
        """End the drill, fault or not, and return what it proved; None when it never began. Twice is harmless.

        Raises:
            CuedError: it has not ended in time; its undo record heals what it may have left.
        """
        self._cues.heal.set()
        self._cues.over.set()
        if self._thread.ident is not None:
            drill = self.run.drill
            recovery = max(drill.slowest_clear_seconds, drill.objectives.rto_seconds)
            self._thread.join(recovery + _END_SECONDS)
            if self._thread.is_alive():
                raise CuedError(f"{self.run.run_id} has not ended after {recovery + _END_SECONDS:g} s")
        return self._judgement

    def _wait(self, met: Callable[[], bool], seconds: float, what: str, *, dead_is_fine: bool = False) -> None:
        clock, never = self.run.clock, threading.Event()
        until = clock.monotonic() + seconds
        while not met():
            if not self._thread.is_alive():
                if dead_is_fine:
                    return
                raise CuedError(f"the drill did not {what}: {self._why()}") from self._error
            if clock.monotonic() >= until:
                raise CuedError(f"the drill did not {what} within {seconds:g} s")
            clock.wait(never, _LOOK_SECONDS)

    def _why(self) -> str:
        if self._error is not None:
            return str(self._error) or type(self._error).__name__
        stopped = [r for r in self._records() if r.event == "interrupted"]
        return str(stopped[-1].fields["reason"]) if stopped else "it is over"

    def _records(self) -> tuple[journal.Record, ...]:
        return journal.read(self.run.folder.journal).records

    def _conduct(self) -> None:
        try:
            engine.conduct(self.run, self._judge, self._on_air, _conductor(self._cues, self.run.clock))
        except Exception as e:  # noqa: BLE001 - a thread's outermost border: who cues the drill is told
            self._error = e

    def _on_air(self, tape: JournalTape) -> None:
        self._tape = tape

    def _judge(self, run: Run) -> Judgement:
        self._judgement = judge(journal.read(run.folder.journal))
        text = json.dumps(self._judgement.to_json(), indent=2, ensure_ascii=False) + "\n"
        durable.write(run.folder.verdict, text.encode())
        return self._judgement


def _conductor(cues: _Cues, clock: Clock) -> type[Conductor]:
    """Return a conductor that waits for `cues` before its fault, and holds the fault until it is told to heal."""

    class Cued(Conductor):
        _holding = False

        def _baseline(self, scene: stage.Stage) -> None:
            super()._baseline(scene)
            cues.steady.set()
            patience = min(CUE_SECONDS, self._drill.longest_fault_seconds)
            if not self._wait_for(lambda: cues.inject.is_set() or cues.over.is_set(), patience):
                raise UnmetError(f"nobody asked for the fault within {patience:g} s, so none was injected")
            if not cues.inject.is_set():
                raise HaltedError("ended before the fault was asked for")

        def _hold(self, scene: stage.Stage, turn: Callable[[], None]) -> None:
            until = clock.monotonic() + self._drill.longest_fault_seconds
            self._holding = True
            try:
                super()._hold(scene, turn)
                self._wait_for(lambda: False, until - clock.monotonic(), turn)
            finally:
                self._holding = False

        def _wait_for(self, met: Callable[[], bool], seconds: float, turn: Callable[[], None] = lambda: None) -> bool:
            return super()._wait_for(lambda: (self._holding and cues.heal.is_set()) or met(), seconds, turn)

    return Cued
