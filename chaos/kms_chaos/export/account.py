"""The account of one drill: what every form of its report says, gathered once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kms_chaos.export.steps import Step, Touched, steps, touched
from kms_chaos.judging.after import restore_failed
from kms_chaos.judging.history import History
from kms_chaos.timings import KeyLoss, Timing, key_loss, timings
from kms_watchdog.drills.journal import Journal, Record
from kms_watchdog.drills.verdict import Judgement, Verdict

SAYS = {
    Verdict.HELD: "Everything the drill had to prove was seen to hold.",
    Verdict.BROKE: "Something that had to hold did not. What broke is named below.",
    Verdict.INCONCLUSIVE: "Nobody could see whether everything held, so this drill proves nothing yet.",
}
_SHOWN_ELSEWHERE = frozenset(
    {"run_id", "drill", "target", "region", "targets", "regions", "purposes", "drill_file", "config", "versions"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What one guard saw; of a guard that was asked again and again, each answer that differs."""

    name: str
    held: bool
    detail: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a journal tells of its drill, and what it proves."""

    history: History
    judgement: Judgement
    records: int
    """Lines of the journal, those after the verdict included."""
    closed: bool
    """Whether somebody finished the journal: else a fault may still be on."""
    timings: tuple[Timing, ...]
    key_loss: KeyLoss | None
    steps: tuple[Step, ...]
    touched: tuple[Touched, ...]
    guards: tuple[Guard, ...]
    events: Mapping[str, int]
    """How many lines of each kind there are, by name."""

    @property
    def started(self) -> Record:
        """The first line."""
        return self.history.records[0]

    @property
    def says(self) -> str:
        """The verdict in one sentence."""
        return SAYS[self.judgement.verdict]

    @property
    def title(self) -> str:
        """What the drill is called for people."""
        return self.history.drill.title

    @property
    def cut_short(self) -> str:
        """Why the run was not whole, in one sentence; empty when it was."""
        stopped = self.history.stopped
        if stopped is None:
            left = "" if self.closed else restore_failed(self.history)  # the drill's own report comes before its end
            return f"The journal was not closed, and a fault of this drill may still be on: {left}." if left else ""
        if stopped.event == "healed":
            return f"The drill died; its faults were undone by the {stopped.fields['by']}."
        return f"The drill was cut short: {stopped.fields['reason']}."

    @property
    def circumstances(self) -> tuple[tuple[str, str], ...]:
        """Who asked for it, who approved it and what else was written down at the start, by name."""
        told = self.started.fields.items()
        return tuple(
            (name.replace("_", " "), _text(value)) for name, value in sorted(told) if name not in _SHOWN_ELSEWHERE
        )


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value) or "none"


def account(journal: Journal, judgement: Judgement) -> Account:
    """Return the account of the drill that `journal` is of, judged as `judgement`.

    Raises:
        JournalError: it is not a drill's journal.
    """
    h = History.of(journal)
    return Account(
        history=h,
        judgement=judgement,
        records=len(journal.records),
        closed=journal.closed,
        timings=timings(h),
        key_loss=key_loss(h),
        steps=steps(h),
        touched=touched(h),
        guards=tuple(_guards(h)),
        events=dict(sorted(Counter(r.event for r in journal.records).items())),
    )


def _guards(h: History) -> list[Guard]:
    found: dict[tuple[str, bool, str], Guard] = {}
    for r in h.of_event("guard-checked"):
        name, held, detail = str(r.fields["guard"]), r.fields["held"] is True, str(r.fields["detail"])
        found.setdefault(
            (name, held, detail if not held else ""), Guard(name=name, held=held, detail=detail, seq=r.seq)
        )
    return list(found.values())


def seconds(value: float | None) -> str:
    """Return a time for people: `850 ms`, `12.3 s`, or `n/a`."""
    if value is None:
        return "n/a"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
