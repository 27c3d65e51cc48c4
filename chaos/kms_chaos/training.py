"""A training: a drill whose fault the trainee does not know, and has to find with page and runbook.

It is the engine's own drill, with the same guards, lease, undo record and journal. Its fault stays on until it is
diagnosed, and at the least as long as the drill itself needs for its verdict. While it lasts nothing that the trainee
looks at names it: the run is called `...-training`, and the page knows neither drill nor region.
"""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kms_alarms.table import alarm
from kms_chaos import drill as drills
from kms_chaos import stage
from kms_chaos.conductor import Conductor
from kms_chaos.drill import Drill, DrillError
from kms_chaos.faults.plans import KINDS, bite
from kms_chaos.journal_writer import JournalWriteError
from kms_chaos.run import Run
from kms_chaos.tape import JournalTape
from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.results import Kind
from kms_watchdog.web.words import KINDS as CANARIES

ALIAS = "training"
"""What the drill is called while it lasts."""
MOST_MINUTES = 30.0
_LOOK_SECONDS = 0.1
_ASKING_SECONDS = 1.0  # a terminal that was stopped keeps who asks waiting: the restoring goes first


def why_not(drill: Drill) -> str:
    """Return why `drill` is nothing to train by; empty: it is."""
    if drill.target.count != 1 or any(fault.region != "target" for fault in drill.faults):
        return "it hurts more than one region"
    if drill.actions or drill.watchdog:
        return "it is about what starts or dies in the dark, not about what is hurt"
    if len(drill.faults) != 1 or drill.faults[0].after_seconds or drill.faults[0].for_seconds:
        return "its faults come and go by themselves"
    shown = bite(drill.faults[0])
    if shown.quiet or not (shown.whole or drill.breaker.moves or drill.alarms.must_fire or drill.expect.errors):
        return "its fault leaves no sign that the page would show"
    return ""


def candidates(settings: Settings, among: Sequence[str] = ()) -> tuple[Drill, ...]:
    """Return the drills to choose from: those named, else every shipped one that can be trained by, in this estate.

    Raises:
        DrillError: one that is named is none, or nothing to train by; or there is none at all.
    """
    found = []
    for name in dict.fromkeys(among or drills.shipped_names()):
        one = drills.find(name, settings.drills.folder)
        unknown = sorted(set(one.workload.purposes) - set(settings.keys))
        why = why_not(one) or (f"it uses the key {unknown[0]}, which this estate has not" if unknown else "")
        if not why:
            found.append(one)
        elif among:
            raise DrillError(f"{one.name} is nothing to train by: {why}")
    if not found:
        raise DrillError("there is no drill to train by in this estate")
    return tuple(found)


def choose(found: Sequence[Drill], regions: Sequence[str], seed: int) -> tuple[Drill, str]:
    """Return the drill and the region that `seed` stands for; the same for the same drills and regions. Pure."""
    rng = random.Random(seed)  # noqa: S311 - no secret: a training is repeatable by its seed
    return rng.choice(sorted(found, key=lambda one: one.name)), rng.choice(list(regions))


def regions_of(settings: Settings) -> tuple[str, ...]:
    """Return the regions that a training may hurt: all but the one that keeps the drill lease."""
    lease = settings.drills.lease
    return tuple(region for region in settings.estate.regions if lease is None or region != lease.region)


def held_for(drill: Drill, minutes: float) -> Drill:
    """Return `drill` with a fault that may stay on for `minutes`, or as long as it may anyway if that is longer."""
    most = max(drill.timing.hold_at_most_seconds, 60.0 * minutes)
    return drill.model_copy(update={"timing": drill.timing.model_copy(update={"hold_at_most_seconds": most})})


def kinds_of(found: Iterable[Drill]) -> tuple[str, ...]:
    """Return the kinds of faults to choose from: those of all shipped drills to train by, and of `found`."""
    shipped = (drills.find(name) for name in drills.shipped_names())
    of = (*(one for one in shipped if not why_not(one)), *found)
    return tuple(sorted({str(getattr(fault, "kind", "")) for one in of for fault in one.faults}))


def in_words(kind: str) -> str:
    """Return what a kind of fault does, in a line."""
    return (KINDS[kind].__doc__ or "").strip().splitlines()[0]


def runbook_of(drill: Drill) -> str:
    """Return the runbook that leads to it, a file in `alarms/runbooks/`: its alarm's, else the failing canary's."""
    named = (alarm(rule.alarm).runbook for rule in drill.alarms.must_fire)
    return next(named, CANARIES[Kind.ROUND_TRIP].runbook)


@dataclass(frozen=True, slots=True)
class Question:
    """One question with a closed list of answers."""

    about: str
    """`region` or `fault`."""
    text: str
    choices: Mapping[str, str]
    """Each answer, and what it means; empty where it speaks for itself."""
    right: str

    def answer(self, typed: str) -> str:
        """Return the answer that was typed, by its number from 1 or by name; empty: none of them."""
        text, names = typed.strip().lower(), tuple(self.choices)
        if text.isdecimal() and 1 <= int(text) <= len(names):
            return names[int(text) - 1]
        return text if text in names else ""

    def lines(self) -> tuple[str, ...]:
        """Return it as it is asked."""
        told = (f"{name}: {means}" if means else name for name, means in self.choices.items())
        return (self.text, *(f"  {number:2} {line}" for number, line in enumerate(told, 1)))


def questions(run: Run, kinds: Sequence[str]) -> tuple[Question, ...]:
    """Return what the trainee is asked about `run`, in order."""
    kind = str(getattr(run.drill.faults[0], "kind", ""))
    return (
        Question("region", "Which region is hurt?", dict.fromkeys(run.regions, ""), run.target),
        Question("fault", "What kind of fault is it?", {one: in_words(one) for one in kinds}, kind),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a training."""

    diagnosed: bool = False
    seconds: float | None = None
    """From the injection to the right diagnosis; None: there was none."""
    answers: int = 0
    """How many were given, wrong ones included."""

    def __str__(self) -> str:
        count = f"{self.answers} answer{'' if self.answers == 1 else 's'}"
        if not self.diagnosed:
            return f"not diagnosed, with {count}"
        return f"diagnosed {self.seconds:.0f} s after the fault began, with {count}"


class Training:
    """Asks while the fault is on, in a thread of its own; the conductor tells it when that is."""

    def __init__(
        self,
        asked: Sequence[Question],
        typed: queue.Queue[str | None],
        say: Callable[[str], None],
        clock: Clock,
        *,
        about: Mapping[str, Any],
    ) -> None:
        """`typed` gives the trainee's lines, and None when none will come; `about` goes into the journal."""
        self._asked, self._typed, self._say, self._clock, self._about = asked, typed, say, clock, about
        self.result = Result()
        self.over = threading.Event()
        """Set when it is diagnosed, or nobody will answer any more."""
        self._off = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="training", daemon=True)
        self._tape: JournalTape | None = None

    def fault_on(self, tape: JournalTape) -> None:
        """Begin to ask."""
        self._tape = tape
        tape.record_now("training-started", **self._about)
        self._thread.start()

    def fault_off(self) -> None:
        """End, before the fault is taken off: what is typed later counts no more."""
        self._off.set()
        if self._tape is not None:
            self._thread.join(_ASKING_SECONDS)
            self._tape.record_now("training-ended", **_told(self.result))

    def _ask(self) -> None:
        try:
            self._say("The fault is on. The page tells more within seconds.")
            if all(self._put(question) for question in self._asked):
                self.result = replace(self.result, diagnosed=True, seconds=self._seconds())
                self._say(f"Right: {self.result}.")
        except JournalWriteError:
            pass  # whoever runs the drill meets the same error, and ends it
        finally:
            self.over.set()

    def _put(self, question: Question) -> bool:
        """Ask until the answer is right; return whether it came."""
        for line in question.lines():
            self._say(line)
        while (typed := self._next()) is not None:
            answer = question.answer(typed)
            if not answer:
                if typed.strip():
                    self._say(f"{typed.strip()[:80]!r} is none of them: a number, or a name as it is above")
                continue
            if self._take(question, answer):
                return True
            self._say(f"{answer}: no. Look again.")
        return False

    def _next(self) -> str | None:
        """Return the next line; None: none will come, or the fault's time is over."""
        while not self._off.is_set():
            try:
                return self._typed.get_nowait()
            except queue.Empty:
                self._clock.wait(self._off, _LOOK_SECONDS)
        return None

    def _take(self, question: Question, answer: str) -> bool:
        right = answer == question.right
        self.result = replace(self.result, answers=self.result.answers + 1)
        if self._tape is not None:
            self._tape.record_now(
                "training-answered",
                question=question.about,
                answer=answer,
                right=right,
                seconds=self._seconds(),
                answers=self.result.answers,
            )
        return right

    def _seconds(self) -> float:
        """Return how long the fault has been on."""
        view = self._tape.view() if self._tape is not None else None
        since = view.fault_since if view is not None else None
        return round(view.at - since, 3) if view is not None and since is not None else 0.0


def _told(result: Result) -> dict[str, Any]:
    return {"diagnosed": result.diagnosed, "seconds": result.seconds, "answers": result.answers}


def conductor(training: Training, own_hold_seconds: float) -> type[Conductor]:
    """Return a conductor that holds the fault until it is diagnosed, and as long as the drill itself needs.

    `own_hold_seconds` is how long the drill would hold it at the most: a diagnosis ends it no later than then.
    """

    class Trained(Conductor):
        _since: float | None = None

        def _hold(self, scene: stage.Stage, turn: Callable[[], None]) -> None:
            self._since = self._clock.monotonic()
            until = self._since + self._drill.longest_fault_seconds
            training.fault_on(self._tape)
            try:
                super()._hold(scene, turn)
                self._wait_for(training.over.is_set, until - self._clock.monotonic(), turn)
            finally:
                self._since = None
                training.fault_off()

        def _wait_for(self, met: Callable[[], bool], seconds: float, turn: Callable[[], None] = lambda: None) -> bool:
            return super()._wait_for(lambda: met() or self._is_enough(), seconds, turn)

        def _is_enough(self) -> bool:
            held = self._clock.monotonic() - self._since if self._since is not None else 0.0
            return held >= own_hold_seconds and training.over.is_set()

    return Trained
