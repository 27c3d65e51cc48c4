"""Scheduled drills at their borders: the instant itself, a changed hour, windows that overlap, the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from kms_core.testing import ManualClock
from kms_watchdog.drills.slot_ledger import SlotLedger
from kms_watchdog.drills.slots import (
    ALARM_PROOF,
    DAYS,
    INTERVALS,
    REFUSED_AGAIN_AFTER,
    UNSEEN,
    Action,
    Forget,
    Miss,
    Plan,
    Row,
    RunSeen,
    SlotState,
    Start,
    due,
)

MONTHLY = Plan(
    name="failover", drill="drills/slow.toml", every="month", day=3, at=time(3, 30), window=timedelta(days=7)
)
DUE = datetime(2026, 1, 3, 3, 30, tzinfo=UTC)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def row(state: SlotState, *, slot: str = "failover/2026-01", due_utc: datetime = DUE, changed: datetime = DUE) -> Row:
    return Row(id=slot, due_utc=due_utc, state=state, run_id="run", changed_at_utc=changed)


def acts(now: datetime, *rows: Row, run: RunSeen | None = None, plan: Plan = MONTHLY) -> tuple[Action, ...]:
    return due([(plan, SINCE)], rows, {one.run_id: run for one in rows if run}, now)


def test_the_times_are_those_that_the_documents_promise() -> None:
    """A day that every month has, an interval that a month never exceeds, and an hour for what may come right."""
    assert DAYS == {"month": 28, "week": 7}
    assert {"month": timedelta(days=31), "week": timedelta(days=7)} == INTERVALS
    assert timedelta(hours=1) == REFUSED_AGAIN_AFTER == UNSEEN


def test_a_file_is_called_as_its_drill() -> None:
    """In metrics; a folder is no part of it."""
    assert (MONTHLY.label, replace(MONTHLY, drill="region-blackhole").label) == ("slow", "region-blackhole")


@pytest.mark.parametrize(
    ("slot", "plan", "task"),
    [
        pytest.param("failover/2026-01", "failover", "drill", id="a-drill"),
        pytest.param(f"{ALARM_PROOF}/2026-01", ALARM_PROOF, ALARM_PROOF, id="the-proof-of-alarms"),
    ],
)
def test_a_row_tells_its_plan_and_what_was_started(slot: str, plan: str, task: str) -> None:
    """By its name alone: the plan may be gone."""
    one = row(SlotState.DONE, slot=slot)

    assert (one.plan, one.task) == (plan, task)


def test_both_ends_of_a_span_are_in_it() -> None:
    """A plan made at the minute that a slot is due has it; so has a look at that minute."""
    monday = replace(MONTHLY, every="week", day=1, at=time(0, 0))
    midnight = datetime(2026, 1, 5, tzinfo=UTC)

    assert [slot.due_utc for slot in MONTHLY.slots(DUE, DUE)] == [DUE]
    assert [slot.due_utc for slot in monday.slots(midnight, midnight)] == [midnight]


def test_a_slot_missed_at_this_very_instant_stays_missed() -> None:
    """Only one that is yet to come was missed by a clock that was ahead."""
    assert acts(DUE, row(SlotState.MISSED)) == ()
    ahead = row(SlotState.MISSED, due_utc=DUE + MINUTE)
    assert acts(DUE - DAY, ahead) == (Forget(ahead),)


def test_a_slot_that_was_moved_forward_is_started_where_it_was_missed_ahead() -> None:
    """The plan's hour was changed: what is struck out does not keep the slot from being run."""
    ahead = row(SlotState.MISSED, due_utc=DUE + MINUTE)

    forgotten, begun = acts(DUE, ahead)

    assert forgotten == Forget(ahead)
    assert isinstance(begun, Start)


def test_of_two_open_windows_the_newer_runs_and_the_older_is_missed() -> None:
    """Each once: two drills of one plan in a row would prove nothing more."""
    weekly = replace(MONTHLY, every="week", day=1, window=timedelta(days=10))
    now = datetime(2026, 1, 12, 4, tzinfo=UTC)

    found = acts(now, row(SlotState.DONE, slot="failover/2026-W01"), plan=weekly)

    assert [(type(one), one.slot.id) for one in found if isinstance(one, Miss | Start)] == [
        (Miss, "failover/2026-W02"), (Start, "failover/2026-W03"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("now", "begins"),
    [
        pytest.param(DUE, False, id="refused-just-now"),
        pytest.param(DUE + REFUSED_AGAIN_AFTER, True, id="an-hour-later"),
        pytest.param(DUE + REFUSED_AGAIN_AFTER - MINUTE, False, id="a-minute-sooner"),
    ],
)
def test_what_was_refused_waits_its_hour(now: datetime, *, begins: bool) -> None:
    """To the minute."""
    assert any(isinstance(one, Start) for one in acts(now, row(SlotState.REFUSED))) is begins


@pytest.mark.parametrize("state", [SlotState.DONE, SlotState.MISSED])
def test_only_what_was_aborted_runs_again_after_an_abort(state: SlotState) -> None:
    """What is done, or was missed, is not begun anew by a plan that repeats what was cut short."""
    assert acts(DUE + MINUTE, row(state), plan=replace(MONTHLY, again_after_abort=True)) == ()


def test_a_run_with_a_folder_is_the_healers_to_close() -> None:
    """However its process ended: until its journal is closed, its fault may be on."""
    seen = RunSeen(alive=False, exists=True, exit_code=1)

    assert acts(DUE + DAY, row(SlotState.RUNNING), run=seen) == ()


def test_a_claim_of_this_instant_is_not_late() -> None:
    """It has its hour to be seen, the clock's resolution included; a claim of the future has not."""
    nothing = RunSeen(alive=False)

    assert acts(DUE, row(SlotState.CLAIMED), run=nothing) == ()
    assert acts(DUE - MINUTE, row(SlotState.CLAIMED), run=nothing) != ()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SlotLedger]:
    made = SlotLedger(tmp_path / "slots.db", ManualClock(start_utc=DUE))
    yield made
    made.close()


def test_what_is_forgotten_is_not_in_the_ledger(ledger: SlotLedger) -> None:
    """And can be claimed as if it had never been there; its neighbours stay."""
    first, second = MONTHLY.slots(SINCE, SINCE + timedelta(days=60))
    assert ledger.miss(first)
    assert ledger.miss(second)

    ledger.forget(ledger.rows()[0])

    assert [one.id for one in ledger.rows()] == [second.id]
    assert ledger.claim(first, "run")


def test_the_ledgers_file_has_its_number_and_is_let_go_of(ledger: SlotLedger, tmp_path: Path) -> None:
    """The number that released versions have written; after the end nobody writes into it by mistake."""
    ledger.rows()
    with sqlite3.connect(tmp_path / "slots.db") as db:
        (number,) = db.execute("PRAGMA user_version").fetchone()
    db.close()
    journal = tmp_path / "slots.db-wal"
    open_before = journal.exists()
    ledger.close()

    assert number == 1
    assert (open_before, journal.exists()) == (True, False), "SQLite takes its journal away with the last connection"
