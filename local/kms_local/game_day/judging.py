"""Hold what happened to what was promised. Pure, so a game day can be judged again from its files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from kms_local.game_day.moments import Moment, Request
from kms_local.game_day.promises import Plan, Since, Timed

AFTER: Mapping[str, str] = {
    "lost": "after the loss",
    "ordered": "after the order",
    "back": "after it was back",
    "taken back": "after the order's end",
}
"""What a step's time counts from, in words."""
WOKEN_FOR_NOTHING = ("TwoRegionsDown", "KeyUsableNowhere", "FailoverPathFails")
"""Critical rows that a single region's loss must not fire: two regions, or the application's own way, would be lost."""
_LEAST_REQUESTS = 20
"""So many must have been answered while the region was lost, or nothing was shown of the application."""
_NOTE_CHARACTERS = 120


class Verdict(StrEnum):
    """What became of one step, and of the whole: `HELD`, `BROKE`."""

    HELD = "HELD"
    LATE = "LATE"
    MISSING = "MISSING"
    BROKE = "BROKE"
    NOT_RUN = "NOT_RUN"
    """What it needs is not installed; said, and no fault of the product's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of the runbook, as it was run."""

    at_utc: datetime
    section: str
    text: str
    exit_code: int | None
    """None: it was not run, and `said` is why."""
    seconds: float
    said: str
    good: bool
    """Whether it ended, and showed what the page says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything that was written down."""

    began: Mapping[Since, datetime]
    """When each part began: the fault was on, the order was given, the region was back, the order was taken back."""
    moments: tuple[Moment, ...] = ()
    requests: tuple[Request, ...] = ()
    load: Mapping[str, Any] = field(default_factory=dict)
    """The load's own report; empty while it runs."""
    runbook: str = ""
    """The page that was followed; empty: none."""
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, judged."""

    key: str
    title: str
    since: str
    """What its time counts from; empty: it has none."""
    promised: str
    promised_seconds: float | None
    where: str
    measured: str
    measured_seconds: float | None
    verdict: Verdict
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether it speaks against nobody."""
        return self.verdict in {Verdict.HELD, Verdict.NOT_RUN}


def verdict(steps: tuple[Step, ...]) -> Verdict:
    """Return what all steps together amount to; a step that was not run alone shows nothing."""
    held = any(step.verdict is Verdict.HELD for step in steps)
    return Verdict.HELD if held and all(step.good for step in steps) else Verdict.BROKE


def judge(plan: Plan, record: Record, *, installed: frozenset[str]) -> tuple[Step, ...]:
    """Return every step in its order: the application, what was timed, the pages, the runbook, the data."""
    return (
        *_application(plan, record),
        *(timed_step(timed, record, installed=installed) for timed in plan.timed),
        _nobody_else(plan, record),
        *_runbook(record),
        _nothing_lost(record),
    )


def found(timed: Timed, record: Record) -> Moment | None:
    """Return the moment that `timed` waits for, the last one where it waits for several; None: not yet."""
    began = record.began.get(timed.since)
    if began is None:
        return None
    sight = timed.sight
    seen = [
        moment
        for moment in record.moments
        if moment.at_utc >= began
        and (moment.what, moment.who, moment.state) == (sight.what, sight.who, sight.state)
        and re.fullmatch(sight.name, moment.name)
    ]
    if not sight.all_of:
        return min(seen, key=lambda moment: moment.at_utc, default=None)
    first = {moment.name: moment for moment in sorted(seen, key=lambda moment: moment.at_utc, reverse=True)}
    whole = first.keys() >= set(sight.all_of)
    return max(first.values(), key=lambda moment: moment.at_utc) if whole else None


def timed_step(timed: Timed, record: Record, *, installed: frozenset[str]) -> Step:
    """Judge one step that must come in time."""
    moment, began = found(timed, record), record.began.get(timed.since)
    seconds = (moment.at_utc - began).total_seconds() if moment and began else None
    if timed.needs and timed.needs not in installed:
        answer, note = Verdict.NOT_RUN, f"no {timed.needs} on PATH"
    elif seconds is None:
        answer, note = (
            Verdict.MISSING,
            "it did not come" if began else f"nothing counts {AFTER[timed.since]}: it did not come to that",
        )
    else:
        answer = Verdict.HELD if seconds <= timed.within_seconds else Verdict.LATE
        note = _short(moment.detail) if moment else ""
    return Step(
        key=timed.key,
        title=timed.title,
        since=timed.since,
        promised=f"within {timed.within_seconds:.1f} s",
        promised_seconds=timed.within_seconds,
        where=timed.where,
        measured="" if seconds is None else f"{seconds:.1f} s",
        measured_seconds=seconds,
        verdict=answer,
        note=note,
    )


def _short(text: str) -> str:
    return text if len(text) <= _NOTE_CHARACTERS else f"{text[: _NOTE_CHARACTERS - 1]}…"


def _application(plan: Plan, record: Record) -> Iterator[Step]:
    during = _while_lost(record)
    drill = "drill region-blackhole: objectives"
    failed = [request for request in record.requests if request.outcome != "200"]
    kinds = ", ".join(sorted({request.outcome for request in failed}))
    enough = len(during) >= _LEAST_REQUESTS
    yield _check(
        "requests-failed",
        "the application's customers: requests that failed, before, during and after",
        promised=f"{plan.limits.failed} failed",
        where="DESIGN §1: losing a region loses no request",
        measured=f"{len(failed)} of {len(record.requests)}",
        good=enough and len(failed) <= plan.limits.failed,
        note=kinds if enough else f"{len(during)} requests while the region was lost show nothing",
    )
    good = sorted(request.milliseconds / 1000 for request in during if request.outcome == "200")
    yield _quantity("p99", "p99 of requests while the region was lost", _p99(good), plan.limits.p99_seconds, drill)
    longest = max((request.milliseconds / 1000 for request in record.requests), default=None)
    yield _quantity(
        "longest",
        "the longest request of all",
        longest,
        plan.limits.longest_seconds,
        "docs/core.md: every call ends within the core's deadline",
    )


def _while_lost(record: Record) -> list[Request]:
    lost, back = record.began.get("lost"), record.began.get("back")
    return [one for one in record.requests if lost and one.at_utc >= lost and (back is None or one.at_utc <= back)]


def _p99(ordered: list[float]) -> float | None:
    return ordered[max(-(-len(ordered) * 99 // 100) - 1, 0)] if ordered else None


def _quantity(key: str, title: str, seconds: float | None, at_most: float, where: str) -> Step:
    late = seconds is not None and seconds > at_most
    return Step(
        key=key,
        title=title,
        since="",
        promised=f"{at_most:g} s",
        promised_seconds=at_most,
        where=where,
        measured="" if seconds is None else f"{seconds:.3f} s",
        measured_seconds=seconds,
        verdict=Verdict.MISSING if seconds is None else Verdict.LATE if late else Verdict.HELD,
    )


def _check(key: str, title: str, *, promised: str, where: str, measured: str, good: bool, note: str = "") -> Step:
    return Step(
        key=key,
        title=title,
        since="",
        promised=promised,
        promised_seconds=None,
        where=where,
        measured=measured,
        measured_seconds=None,
        verdict=Verdict.HELD if good else Verdict.BROKE,
        note=note,
    )


def _nobody_else(plan: Plan, record: Record) -> Step:
    lost = record.began.get("lost")
    wrong = sorted(
        {
            moment.name
            for moment in record.moments
            if moment.what == "page" and moment.state == "ALARM" and lost and moment.at_utc >= lost
            if any(row in moment.name for row in WOKEN_FOR_NOTHING)
        }
    )
    return _check(
        "no-other-page",
        "nobody is told that two regions, a key or the application's own way are lost",
        promised="0 such pages",
        where=f"alarm table: {', '.join(WOKEN_FOR_NOTHING)}",
        measured=f"{len(wrong)}",
        good=lost is not None and not wrong,
        note=", ".join(wrong) or f"only {plan.region} was lost",
    )


def _runbook(record: Record) -> Iterator[Step]:
    where = f"alarms/runbooks/{record.runbook}" if record.runbook else "alarms/runbooks"
    if not record.commands:
        yield _check(
            "runbook",
            "the page's runbook is followed",
            promised="as printed",
            where=where,
            measured="not begun",
            good=False,
            note="no page came whose runbook could be followed",
        )
    for number, command in enumerate(record.commands, start=1):
        done = _check(
            f"runbook-{number}",
            f"{command.section}: {command.text}",
            promised="as the page says",
            where=where,
            measured="" if command.exit_code is None else f"exit code {command.exit_code}, {command.seconds:.1f} s",
            good=command.good,
            note=command.said if command.exit_code is None or not command.good else "",
        )
        yield done if command.exit_code is not None else _not_run(done)


def _not_run(step: Step) -> Step:
    return Step(
        key=step.key,
        title=step.title,
        since="",
        promised=step.promised,
        promised_seconds=None,
        where=step.where,
        measured="",
        measured_seconds=None,
        verdict=Verdict.NOT_RUN,
        note=step.note,
    )


def _nothing_lost(record: Record) -> Step:
    again = record.load.get("opened_again", {})
    sealed, lost = int(again.get("sealed", 0)), int(again.get("lost", 0))
    return _check(
        "data-lost",
        "every booking that was sealed, before, during and after, opens once more at the end",
        promised="0 lost",
        where="DESIGN §1: losing a region loses no data",
        measured=f"{lost} of {sealed} lost" if again else "",
        good=bool(sealed) and not lost,
        note="" if again else "nobody opened them",
    )
