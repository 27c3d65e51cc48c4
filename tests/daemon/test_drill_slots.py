"""Which scheduled drill is due: one a turn, never two at once, none lost in silence; over years in an instant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from kms_watchdog.drills.slots import (
    OPEN,
    REFUSED_AGAIN_AFTER,
    UNSEEN,
    Action,
    Credit,
    Forget,
    Miss,
    Others,
    Plan,
    Row,
    RunSeen,
    Settle,
    SlotState,
    Start,
    due,
)

MONTHLY = Plan(
    name="failover", drill="region-blackhole", every="month", day=3, at=time(3, 30), window=timedelta(days=7)
)
WEEKLY = Plan(name="weekly", drill="x/y/slow.toml", every="week", day=7, at=time(0, 0), window=timedelta(days=2))
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
DUE = datetime(2026, 1, 3, 3, 30, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def row(state: SlotState, *, changed: datetime = DUE, slot: str = "failover/2026-01", due_utc: datetime = DUE) -> Row:
    return Row(id=slot, due_utc=due_utc, state=state, run_id="run", changed_at_utc=changed)


def acts(now: datetime, *rows: Row, run: RunSeen | None = None, plan: Plan = MONTHLY) -> tuple[Action, ...]:
    runs = {one.run_id: run for one in rows if run}
    return due([(plan, SINCE)], rows, runs, now)


def started(actions: tuple[Action, ...]) -> list[str]:
    return [action.slot.id for action in actions if isinstance(action, Start)]


@pytest.mark.parametrize(
    ("plan", "ids"),
    [
        pytest.param(MONTHLY, ["failover/2026-01", "failover/2026-02"], id="month"),
        pytest.param(
            WEEKLY,
            ["weekly/2026-W01", "weekly/2026-W02", "weekly/2026-W03", "weekly/2026-W04", "weekly/2026-W05",
             "weekly/2026-W06"],
            id="week",
        ),
    ],
)  # fmt: skip
def test_each_turn_has_a_name(plan: Plan, ids: list[str]) -> None:
    """The same for ever, so a ledger of years is read like a calendar."""
    slots = plan.slots(SINCE, datetime(2026, 2, 10, tzinfo=UTC))

    assert [slot.id for slot in slots] == ids
    assert {slot.due_utc.time() for slot in slots} == {plan.at}


def test_a_week_belongs_to_its_iso_year() -> None:
    """The last days of December may be of the next year's first week."""
    late = replace(WEEKLY, day=2)

    slots = late.slots(datetime(2025, 12, 29, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC))

    assert [(slot.id, slot.due_utc) for slot in slots] == [("weekly/2026-W01", datetime(2025, 12, 30, tzinfo=UTC))]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(-MINUTE, [], id="not-yet"),
        pytest.param(timedelta(), ["failover/2026-01"], id="at-once"),
        pytest.param(7 * DAY - MINUTE, ["failover/2026-01"], id="late-but-in-the-window"),
        pytest.param(7 * DAY, [], id="too-late"),
    ],
)
def test_a_slot_starts_within_its_window(after: timedelta, expected: list[str]) -> None:
    """Late is better than never, up to a point."""
    assert started(acts(DUE + after)) == expected


def test_a_slot_whose_window_closed_is_missed_once() -> None:
    """Written down and counted; then it is known."""
    (miss,) = acts(DUE + 7 * DAY)

    assert isinstance(miss, Miss)
    assert miss.slot.id == "failover/2026-01"
    assert acts(DUE + 7 * DAY, row(SlotState.MISSED)) == ()


def test_slots_before_the_plan_are_nobodys() -> None:
    """Who plans a drill in May has not missed April's."""
    assert due([(MONTHLY, datetime(2026, 5, 20, tzinfo=UTC))], [], {}, datetime(2026, 5, 21, tzinfo=UTC)) == ()


@pytest.mark.parametrize("state", [SlotState.DONE, SlotState.ABORTED, SlotState.MISSED])
def test_what_is_settled_does_not_run_again(state: SlotState) -> None:
    """In its window or not."""
    assert acts(DUE + DAY, row(state)) == ()


def test_what_was_aborted_runs_again_where_the_plan_says_so() -> None:
    """Within the window alone."""
    again = replace(MONTHLY, again_after_abort=True)

    assert started(acts(DUE + DAY, row(SlotState.ABORTED), plan=again)) == ["failover/2026-01"]
    assert acts(DUE + 8 * DAY, row(SlotState.ABORTED), plan=again) == ()


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(REFUSED_AGAIN_AFTER - MINUTE, [], id="not-at-once"),
        pytest.param(REFUSED_AGAIN_AFTER, ["failover/2026-01"], id="an-hour-later"),
        pytest.param(-HOUR, ["failover/2026-01"], id="clock-set-back-since"),
    ],
)
def test_what_a_guard_refused_is_tried_again(after: timedelta, expected: list[str]) -> None:
    """An alarm fires now and not in an hour: nothing was touched."""
    changed = DUE + DAY

    assert started(acts(changed + after, row(SlotState.REFUSED, changed=changed))) == expected


def test_what_was_refused_to_the_end_is_missed() -> None:
    """A month without a drill is a month without a drill."""
    (miss,) = acts(DUE + 7 * DAY, row(SlotState.REFUSED, changed=DUE + 6 * DAY))

    assert isinstance(miss, Miss)


@pytest.mark.parametrize(
    ("state", "run", "becomes", "note"),
    [
        pytest.param(SlotState.CLAIMED, RunSeen(alive=True), None, "", id="being-started"),
        pytest.param(SlotState.CLAIMED, RunSeen(alive=True, exists=True), SlotState.RUNNING, "", id="has-begun"),
        pytest.param(SlotState.RUNNING, RunSeen(alive=True, exists=True), None, "", id="goes-on"),
        pytest.param(
            SlotState.RUNNING,
            RunSeen(alive=False, exists=True, closed=True, verdict="HELD"),
            SlotState.DONE,
            "HELD",
            id="judged",
        ),
        pytest.param(SlotState.RUNNING, RunSeen(alive=False, exists=True), None, "", id="waits-for-the-healer"),
        pytest.param(
            SlotState.RUNNING,
            RunSeen(alive=False, exists=True, closed=True),
            SlotState.ABORTED,
            "interrupted, or its owner died",
            id="healed",
        ),
        pytest.param(
            SlotState.CLAIMED, RunSeen(alive=False, exit_code=4, said="no"), SlotState.REFUSED, "no", id="refused"
        ),
        pytest.param(
            SlotState.CLAIMED,
            RunSeen(alive=False, exit_code=0, said="had"),
            SlotState.ELSEWHERE,
            "had",
            id="another-had-it",
        ),
        pytest.param(
            SlotState.CLAIMED,
            RunSeen(alive=False, exit_code=3, said="begun"),
            SlotState.ELSEWHERE,
            "begun",
            id="another-began-it",
        ),
        pytest.param(
            SlotState.CLAIMED, RunSeen(alive=False, exit_code=2), SlotState.ABORTED, "exit code 2", id="could-not-begin"
        ),
        pytest.param(SlotState.CLAIMED, None, SlotState.ABORTED, "nothing is known of its run", id="nothing-known"),
        pytest.param(SlotState.CLAIMED, RunSeen(alive=False), None, "", id="its-daemon-died-a-moment-ago"),
    ],
)
def test_what_becomes_of_a_run(state: SlotState, run: RunSeen | None, becomes: SlotState | None, note: str) -> None:
    """From its process, its folder and its journal, whoever started it; and nothing starts beside it."""
    actions = acts(DUE + MINUTE, row(state), run=run)

    settled = [(action.state, action.note) for action in actions if isinstance(action, Settle)]
    assert settled == ([(becomes, note)] if becomes else [])
    assert started(actions) == []


@pytest.mark.parametrize("code", [0, 3])
def test_a_proof_of_alarms_is_nobody_elses(code: int) -> None:
    """It has no lease: one that made no folder came to nothing, whatever its exit code."""
    proof = row(SlotState.CLAIMED, slot="alarm-proof/2026-01")

    assert due([], [proof], {proof.run_id: RunSeen(alive=False, exit_code=code)}, DUE + MINUTE) == (
        Settle(proof, SlotState.ABORTED, f"exit code {code}"),
    )


def test_a_claim_that_never_became_a_run_is_given_up() -> None:
    """Its daemon died between the claim and the drill: nothing was touched, so it may be tried again."""
    (settle,) = acts(DUE + UNSEEN, row(SlotState.CLAIMED), run=RunSeen(alive=False))

    assert isinstance(settle, Settle)
    assert settle.state is SlotState.REFUSED


def test_one_drill_at_a_time() -> None:
    """Two plans due in the same minute: the older first, the other when that is over."""
    second = replace(MONTHLY, name="second", at=time(3, 29))
    plans = [(MONTHLY, SINCE), (second, SINCE)]

    first = due(plans, [], {}, DUE)
    busy = due(plans, [row(SlotState.RUNNING, slot="second/2026-01")], {"run": RunSeen(alive=True)}, DUE)
    after = due(plans, [row(SlotState.DONE, slot="second/2026-01")], {}, DUE)

    assert (started(first), started(busy), started(after)) == (["second/2026-01"], [], ["failover/2026-01"])


def test_a_month_of_downtime_runs_the_newest_and_tells_the_older() -> None:
    """Never two back to back."""
    actions = acts(datetime(2026, 4, 5, tzinfo=UTC))

    assert started(actions) == ["failover/2026-04"]
    assert [a.slot.id for a in actions if isinstance(a, Miss)] == [f"failover/2026-0{month}" for month in (1, 2, 3)]


def test_what_was_missed_by_a_clock_ahead_is_forgotten() -> None:
    """Set a year ahead and back again: this year's drills run all the same."""
    ahead = row(SlotState.MISSED, slot="failover/2026-02", due_utc=DUE + 31 * DAY)

    assert acts(DUE - DAY, ahead) == (Forget(ahead),)


class Years:
    """A ledger in memory, looked at on a calendar that passes at once; each drill holds, an hour later."""

    def __init__(self, *plans: Plan) -> None:
        self.plans = [(plan, SINCE) for plan in plans]
        self.rows: dict[str, Row] = {}
        self.runs: dict[str, RunSeen] = {}
        self.started: Counter[str] = Counter()
        self.missed: list[str] = []

    def look(self, now: datetime) -> None:
        for one in self.rows.values():
            if one.state in OPEN and now >= one.changed_at_utc + HOUR:
                self.runs[one.run_id] = RunSeen(alive=False, exists=True, closed=True, verdict="HELD")
        for action in due(self.plans, list(self.rows.values()), self.runs, now):
            self._do(action, now)

    def _do(self, action: Action, now: datetime) -> None:
        match action:
            case Start(slot):
                assert not any(one.state in OPEN for one in self.rows.values())
                self.started[slot.id] += 1
                self.rows[slot.id] = row(SlotState.CLAIMED, changed=now, slot=slot.id, due_utc=slot.due_utc)
                self.rows[slot.id] = replace(self.rows[slot.id], run_id=slot.id)
                self.runs[slot.id] = RunSeen(alive=True)
            case Miss(slot):
                self.missed.append(slot.id)
                self.rows[slot.id] = row(SlotState.MISSED, changed=now, slot=slot.id, due_utc=slot.due_utc)
            case Settle(one, state, note):
                self.rows[one.id] = replace(one, state=state, note=note, changed_at_utc=now)
            case Forget(one):
                del self.rows[one.id]


def months(first: datetime, last: datetime) -> list[str]:
    return [f"failover/{y}-{m:02}" for y in range(first.year, last.year + 1) for m in range(1, 13)]


@pytest.mark.parametrize(
    ("absent", "steps", "missed"),
    [
        pytest.param({}, {}, [], id="two-years-over-dst-and-a-leap-day"),
        pytest.param({datetime(2027, 3, 1, tzinfo=UTC): 40 * DAY}, {}, ["failover/2027-03"], id="a-month-of-downtime"),
        pytest.param({}, {datetime(2027, 6, 1, tzinfo=UTC): -20 * DAY}, [], id="clock-set-back-for-a-week"),
        pytest.param({}, {datetime(2027, 6, 1, tzinfo=UTC): HOUR}, [], id="clock-an-hour-ahead-for-a-week"),
        pytest.param({}, {datetime(2027, 6, 1, tzinfo=UTC): -DAY}, [], id="clock-a-day-back-for-a-week"),
    ],
)
def test_two_years_of_drills(
    absent: Mapping[datetime, timedelta], steps: Mapping[datetime, timedelta], missed: list[str]
) -> None:
    """A drill a month, each once, whatever the calendar and the clock do; what is missed is told (scale.md §6.2)."""
    years = Years(MONTHLY)
    end = datetime(2028, 12, 31, tzinfo=UTC)
    now = SINCE
    while now < end:
        if now in absent:
            now += absent[now]
        wrong = sum((step for at, step in steps.items() if at <= now < at + 7 * DAY), timedelta())
        years.look(now + wrong)
        now += 12 * HOUR

    assert years.missed == missed
    assert years.started == Counter(dict.fromkeys(set(months(SINCE, end)) - set(missed), 1))


def test_a_clock_a_year_ahead_costs_no_drill_of_the_years_between() -> None:
    """The time server was wrong for a week; drills that ran ahead of their time have run."""
    years = Years(MONTHLY)
    for day in range(800):
        now = SINCE + day * DAY
        years.look(now + (365 * DAY if 40 <= day < 47 else timedelta()))

    expected = [f"failover/{year}-{month:02}" for year in (2026, 2027) for month in range(1, 13)]
    assert all(years.started[slot] == 1 for slot in expected)


@pytest.mark.parametrize(
    ("plan", "moment", "slot"),
    [
        pytest.param(MONTHLY, datetime(2026, 1, 3, 3, 30, tzinfo=UTC), "failover/2026-01", id="to-the-second"),
        pytest.param(MONTHLY, datetime(2026, 3, 3, 3, 29, tzinfo=UTC), "failover/2026-02", id="a-minute-before"),
        pytest.param(MONTHLY, datetime(2027, 1, 2, tzinfo=UTC), "failover/2026-12", id="over-the-year"),
        pytest.param(WEEKLY, datetime(2027, 1, 3, tzinfo=UTC), "weekly/2026-W53", id="week"),
    ],
)
def test_a_moment_means_the_slot_that_was_due_last(plan: Plan, moment: datetime, slot: str) -> None:
    """The very one that the ledger of every daemon names."""
    assert plan.slot_at(moment).id == slot
    assert plan.slot_at(moment) in plan.slots(SINCE, datetime(2028, 1, 1, tzinfo=UTC))


# -- other machines ------------------------------------------------------------------------------------------------

CLOSES = DUE + timedelta(days=7)
SLOT = "failover/2026-01"


def acts_beside(now: datetime, others: Others, *rows: Row) -> tuple[Action, ...]:
    return due([(MONTHLY, SINCE)], rows, {}, now, others)


@pytest.mark.parametrize(
    ("now", "verdict", "state", "credited"),
    [
        pytest.param(CLOSES, "HELD", None, True, id="nothing was known of it"),
        pytest.param(CLOSES, "HELD", SlotState.REFUSED, True, id="refused here"),
        pytest.param(CLOSES, "HELD", SlotState.MISSED, True, id="taken for missed"),
        pytest.param(CLOSES, "", SlotState.MISSED, True, id="came to no verdict, and the window is over"),
        pytest.param(DUE + HOUR, "HELD", None, True, id="before it would begin here"),
        pytest.param(DUE + HOUR, "", None, False, id="came to no verdict, and may be had again"),
        pytest.param(CLOSES, "HELD", SlotState.DONE, False, id="had here too"),
        pytest.param(CLOSES, "HELD", SlotState.ABORTED, False, id="begun here too"),
        pytest.param(CLOSES, "HELD", SlotState.ELSEWHERE, False, id="known already"),
    ],
)
def test_a_slot_that_another_machine_had(
    *, now: datetime, verdict: str, state: SlotState | None, credited: bool
) -> None:
    """It is written down as that machine's, and neither missed nor begun here."""
    rows = [] if state is None else [row(state, changed=DUE - DAY)]

    found = acts_beside(now, Others(slots={SLOT: ("a-run", verdict)}, told_until_utc=now), *rows)

    assert [action for action in found if isinstance(action, Miss)] == []
    credited_to = [(action.slot.id, action.run_id, action.verdict) for action in found if isinstance(action, Credit)]
    assert credited_to == ([(SLOT, "a-run", verdict)] if credited else [])
    assert bool(started(found)) is (now < CLOSES and not credited)


@pytest.mark.parametrize(
    ("told_until", "missed"),
    [
        pytest.param(None, True, id="nobody else drills"),
        pytest.param(CLOSES - MINUTE, False, id="one that began in the last minute is not known yet"),
        pytest.param(CLOSES, True, id="nobody had it"),
    ],
)
def test_a_slot_is_missed_once_it_is_known_that_nobody_had_it(*, told_until: datetime | None, missed: bool) -> None:
    """What others did up to the end of its window."""
    found = acts_beside(CLOSES + DAY, Others(told_until_utc=told_until))

    assert [action.slot.id for action in found if isinstance(action, Miss)] == ([SLOT] if missed else [])
