"""Which scheduled drill is due: slots, what became of each, and what to do about them now. Pure (scale.md §1.8).

A slot is one turn of one schedule: `failover/2026-12`. It is due at a moment in UTC, and open for a window of days in
which it may begin late, or again after it was refused. At most one slot of a schedule is open at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Literal

Every = Literal["month", "week"]
Task = Literal["drill", "alarm-proof"]
"""What is started: a drill, or a proof that alarms reach their subscribers (`kms-alarms prove`)."""
ALARM_PROOF: Task = "alarm-proof"
DAYS: Mapping[Every, int] = {"month": 28, "week": 7}
"""The last day that every month, and every week, has."""
INTERVALS: Mapping[Every, timedelta] = {"month": timedelta(days=31), "week": timedelta(days=7)}
REFUSED_AGAIN_AFTER = timedelta(hours=1)
"""A drill that its guards refused (an alarm fires, say) touched nothing: it is tried again while the window is open."""
UNSEEN = timedelta(hours=1)
"""A claimed slot whose run never showed itself is given up after this long."""


class SlotState(StrEnum):
    """What became of a slot; without a row nothing has yet."""

    CLAIMED = "CLAIMED"  # a process is being started
    RUNNING = "RUNNING"
    REFUSED = "REFUSED"  # by a guard, nothing was touched; tried again while the window is open
    DONE = "DONE"  # with a verdict
    ABORTED = "ABORTED"  # interrupted, or its owner died
    ELSEWHERE = "ELSEWHERE"  # another machine had it: the drill lease says so
    MISSED = "MISSED"  # the window closed without a run


OPEN = frozenset({SlotState.CLAIMED, SlotState.RUNNING})
_WITHOUT_A_RUN = {0: SlotState.ELSEWHERE, 3: SlotState.ELSEWHERE, 4: SlotState.REFUSED}
"""By exit code (DESIGN §5), what became of a slot whose process made no folder: its drill was another's, which came to
a verdict, or to none; a guard refused it."""
_WITHOUT_A_PROOF = {4: SlotState.REFUSED}


def label_of(drill: str) -> str:
    """Return what metrics call a drill that a slot names, by its name or by its file."""
    return drill.rpartition("/")[2].removesuffix(".toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A drill, or another task, that is to run again and again."""

    name: str
    drill: str
    """A shipped drill's name, or a file ending in .toml."""
    region: str = ""
    """The region to hurt; empty: the drill's own target."""
    every: Every
    day: int
    """Of the month (1 to 28), or of the week (1 is Monday)."""
    at: time
    window: timedelta
    again_after_abort: bool = False
    task: Task = "drill"

    @property
    def label(self) -> str:
        """The drill's name in metrics."""
        return label_of(self.drill)

    def slots(self, since_utc: datetime, until_utc: datetime) -> tuple[Slot, ...]:
        """Return the slots due at or after `since_utc` and at or before `until_utc`, oldest first."""
        found = (self._slot(*turn) for turn in self._turns(since_utc, until_utc))
        return tuple(slot for slot in found if since_utc <= slot.due_utc <= until_utc)

    def slot_at(self, moment_utc: datetime) -> Slot:
        """Return the slot that was due last at `moment_utc`: the one that a trigger of that time means."""
        return self.slots(moment_utc - 2 * INTERVALS[self.every], moment_utc)[-1]

    def _turns(self, since_utc: datetime, until_utc: datetime) -> Iterator[tuple[str, datetime]]:
        """Return name and midnight of each month's or week's day, some before and after the span too."""
        if self.every == "week":
            monday = (since_utc - timedelta(days=since_utc.weekday() + 7)).date()
            while monday <= until_utc.date():
                year, week, _ = monday.isocalendar()
                yield f"{year}-W{week:02}", _midnight(monday.year, monday.month, monday.day) + timedelta(self.day - 1)
                monday += timedelta(days=7)
            return
        year, month = since_utc.year, since_utc.month
        while (year, month) <= (until_utc.year, until_utc.month):
            yield f"{year}-{month:02}", _midnight(year, month, self.day)
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)  # noqa: PLR2004 - December

    def _slot(self, name: str, midnight: datetime) -> Slot:
        due_utc = midnight + timedelta(hours=self.at.hour, minutes=self.at.minute)
        return Slot(id=f"{self.name}/{name}", plan=self, due_utc=due_utc, closes_utc=due_utc + self.window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One turn of a plan."""

    id: str
    plan: Plan
    due_utc: datetime
    closes_utc: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the ledger says of a slot."""

    id: str
    due_utc: datetime
    state: SlotState
    run_id: str = ""
    note: str = ""
    """The verdict, or why there is none."""
    changed_at_utc: datetime

    @property
    def plan(self) -> str:
        """The name of the plan whose slot it is."""
        return self.id.partition("/")[0]

    @property
    def task(self) -> Task:
        """What was started: the name of the plan says it, for no drill's slot is called so."""
        return ALARM_PROOF if self.plan == ALARM_PROOF else "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSeen:
    """What can be seen of a slot's run: its process, its folder, its journal."""

    alive: bool
    """Its process runs, or its folder has a living owner."""
    exit_code: int | None = None
    """Of the process, where it was ours and has ended."""
    exists: bool = False
    """Whether it got as far as having a folder."""
    closed: bool = False
    """Whether its journal is closed: by itself, or by a healer."""
    verdict: str = ""
    said: str = ""
    """The last line that the process said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """What is known of the drills of other machines."""

    slots: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By slot, the run that filled it and its verdict, empty where it came to none."""
    told_until_utc: datetime | None = None
    """Up to when it is known which drills began elsewhere; None: nobody else drills."""


@dataclass(frozen=True, slots=True)
class Start:
    """Claim the slot, and start its drill."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Miss:
    """Write down that the slot passed without a run, and count it."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Credit:
    """Write down that another machine had the slot."""

    slot: Slot
    run_id: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Settle:
    """Write down what became of a slot's run."""

    row: Row
    state: SlotState
    note: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Strike out a slot that was missed before it is due: the clock was ahead then."""

    row: Row


Action = Start | Miss | Credit | Settle | Forget


def due(
    plans: Iterable[tuple[Plan, datetime]],
    rows: Sequence[Row],
    runs: Mapping[str, RunSeen],
    now_utc: datetime,
    others: Others | None = None,
) -> tuple[Action, ...]:
    """Return what is to be done at `now_utc`.

    Args:
        plans: each with the moment since which it has been planned: earlier slots are nobody's.
        rows: the ledger.
        runs: by run id, what can be seen of each run that the ledger has for open.
        now_utc: the time.
        others: what is known of other machines' drills; None: nobody else drills.

    A slot that passed is missed only once it is known that nobody else had it. One drill at a time, whatever the plan;
    a drill whose end is only being written down counts as running.
    """
    settled = [settle for row in rows if row.state in OPEN and (settle := _settled(row, runs.get(row.run_id), now_utc))]
    forgotten = [Forget(row) for row in rows if row.state is SlotState.MISSED and row.due_utc > now_utc]
    gone = {one.row.id for one in forgotten}
    known = {row.id: row for row in rows if row.id not in gone}
    others = others or Others()
    passed: list[Action] = []
    starts: list[Start] = []
    for plan, since_utc in plans:
        newest: Slot | None = None
        for slot in plan.slots(since_utc, now_utc):
            row = known.get(slot.id)
            if over := _over(slot, row, others, now_utc):
                passed.append(over)
            elif now_utc < slot.closes_utc and _may_start(row, plan, now_utc):
                if newest:
                    passed.append(Miss(newest))
                newest = slot
        if newest:
            starts.append(Start(newest))
    busy = any(row.state in OPEN for row in rows)
    first = sorted(starts, key=lambda start: start.slot.due_utc)[:1]
    return (*forgotten, *settled, *passed, *([] if busy else first))


def _over(slot: Slot, row: Row | None, others: Others, now_utc: datetime) -> Credit | Miss | None:
    """Return what is written down of a slot that another machine had, or nobody in its time; None: nothing yet."""
    if row is not None and row.state not in {SlotState.REFUSED, SlotState.MISSED}:
        return None
    closed = now_utc >= slot.closes_utc
    if (had := others.slots.get(slot.id)) and (closed or had[1]):  # one without a verdict may be followed by another
        return Credit(slot, *had)
    told = others.told_until_utc is None or others.told_until_utc >= slot.closes_utc
    missed = row is not None and row.state is SlotState.MISSED
    return Miss(slot) if closed and told and not missed else None


def _may_start(row: Row | None, plan: Plan, now_utc: datetime) -> bool:
    if row is None:
        return True
    if row.state is SlotState.REFUSED:
        return now_utc >= row.changed_at_utc + REFUSED_AGAIN_AFTER or now_utc < row.changed_at_utc
    return row.state is SlotState.ABORTED and plan.again_after_abort


def _settled(row: Row, run: RunSeen | None, now_utc: datetime) -> Settle | None:
    """Return what became of an open slot's run; None: it goes on, or waits to be healed."""
    if run is None:
        return Settle(row, SlotState.ABORTED, "nothing is known of its run")
    if run.alive:
        return None if row.state is SlotState.RUNNING or not run.exists else Settle(row, SlotState.RUNNING, "")
    if run.closed:
        return (
            Settle(row, SlotState.DONE, run.verdict)
            if run.verdict
            else Settle(row, SlotState.ABORTED, "interrupted, or its owner died")
        )
    if run.exists:
        return None  # the healer closes its journal first
    if run.exit_code is not None:
        state = (_WITHOUT_A_RUN if row.task == "drill" else _WITHOUT_A_PROOF).get(run.exit_code, SlotState.ABORTED)
        return Settle(row, state, run.said or f"exit code {run.exit_code}")
    # Its daemon died between the claim and the drill's folder: nothing was touched.
    late = not row.changed_at_utc <= now_utc < row.changed_at_utc + UNSEEN
    return Settle(row, SlotState.REFUSED, "it was never seen to begin") if late else None


def _midnight(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)
