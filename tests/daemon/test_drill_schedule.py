"""Scheduled drills: claimed on disk, started as processes, seen to their end, and told to restore at a stop."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
import structlog
from daemon_kit import JournalFile, undo_record, write_undo

from kms_core.testing import ManualClock
from kms_watchdog import alarm_proofs
from kms_watchdog.alarm_proofs import ProofJournal
from kms_watchdog.config import ConfigError, Settings, load
from kms_watchdog.drills.schedule import DrillSchedule, start_drill
from kms_watchdog.drills.slot_ledger import SlotLedger
from kms_watchdog.drills.slots import ALARM_PROOF, Plan, Slot, SlotState
from kms_watchdog.sinks.prometheus import Exposition

PLAN = Plan(name="failover", drill="region-blackhole", every="month", day=3, at=time(3), window=timedelta(days=7))
DUE = datetime(2026, 2, 3, 3, tzinfo=UTC)


class FakeDrill:
    """A drill's process; it runs until the test says how it ends."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.code: int | None = None
        self.signals: list[int] = []
        self.ends_on_signal = True

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, sig: int, /) -> None:
        self.signals.append(sig)
        if self.ends_on_signal:
            self.code = 3


class FakeStarter:
    """Starts fake drills."""

    def __init__(self) -> None:
        self.drills: list[FakeDrill] = []
        self.words = ""
        self.cannot = False

    def __call__(self, slot: Slot, run_id: str) -> FakeDrill:
        if self.cannot:
            raise OSError(12, "Cannot allocate memory")
        self.drills.append(FakeDrill(run_id))
        return self.drills[-1]

    def last_words(self) -> str:
        return self.words


class Bench:
    """A schedule over a real ledger, which can be restarted as after a kill."""

    def __init__(self, state: Path, clock: ManualClock) -> None:
        self.state, self.clock, self.starter = state, clock, FakeStarter()
        self.exposition, self.ledgers = Exposition(), list[SlotLedger]()
        state.mkdir()
        self.restart()

    def restart(self) -> None:
        """Begin again with the same files; nothing was closed."""
        self.ledger = SlotLedger(self.state / "slots.db", self.clock)
        self.ledgers.append(self.ledger)
        self.schedule = DrillSchedule(self.state, self.ledger, self.exposition, self.clock, start=self.starter)
        self.schedule.plan([PLAN])

    def look(self, **later: float) -> list[str]:
        """Let time pass, reconcile, and return the events logged."""
        self.clock.advance(timedelta(**later).total_seconds())
        with structlog.testing.capture_logs() as logs:
            self.schedule.reconcile()
        return [entry["event"] for entry in logs]

    def rows(self) -> list[tuple[str, SlotState, str]]:
        return [(row.id, row.state, row.note) for row in self.ledger.rows()]

    def value(self, name: str) -> float:
        lines = self.exposition.render("")[0].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"kms_watchdog_{name}"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """At noon before the month's slot, already planned."""
    made = Bench(tmp_path / "state", ManualClock(start_utc=datetime(2026, 2, 2, 12, tzinfo=UTC), auto_advance=True))
    assert made.look() == []
    yield made
    for ledger in made.ledgers:
        ledger.close()


def begin(bench: Bench, new_drill: Callable[..., JournalFile]) -> JournalFile:
    """Let the slot's drill start and make its folder, as the drill does."""
    bench.look(days=1)
    drill = new_drill(bench.starter.drills[-1].run_id, state=bench.state)
    drill.begin()
    return drill


def test_a_due_slot_starts_its_drill_once(bench: Bench) -> None:
    """Claimed first, with the run's name in the ledger; the next look finds it running."""
    first, second = bench.look(days=1), bench.look(minutes=1)

    assert (first, second) == (["drill.started"], [])
    assert [drill.run_id for drill in bench.starter.drills] == ["20260203T120000Z-region-blackhole"]
    assert bench.rows() == [("failover/2026-02", SlotState.CLAIMED, "")]
    assert bench.value("drill_interval_seconds") == 31 * 86_400


def test_a_drill_that_ends_settles_its_slot(bench: Bench, new_drill: Callable[..., JournalFile]) -> None:
    """With the journal's own verdict; nothing more happens this month."""
    drill = begin(bench, new_drill)
    bench.look(minutes=1)
    running = bench.rows()
    drill.append("verdict", verdict="HELD", claims={})
    drill.append("closed", by="drill", verdict="HELD")
    bench.starter.drills[0].code = 0
    bench.look(minutes=1)
    bench.look(days=10)

    assert running == [("failover/2026-02", SlotState.RUNNING, "")]
    assert bench.rows() == [("failover/2026-02", SlotState.DONE, "HELD")]
    assert len(bench.starter.drills) == 1
    assert bench.value("drill_slots_missed_total") == 0


def test_a_drill_that_was_interrupted_is_no_answer(bench: Bench, new_drill: Callable[..., JournalFile]) -> None:
    """Restored and INCONCLUSIVE because somebody stopped it: aborted, so that a plan may have it again."""
    drill = begin(bench, new_drill)
    drill.append("interrupted", reason="SIGTERM")
    drill.append("verdict", verdict="INCONCLUSIVE", claims={})
    drill.append("closed", by="drill", verdict="INCONCLUSIVE")
    bench.starter.drills[0].code = 3

    assert bench.look(minutes=1) == ["drill.slot_settled"]
    assert bench.rows()[0][1] is SlotState.ABORTED


def test_what_a_guard_refused_is_tried_again_until_the_window_closes(bench: Bench) -> None:
    """The reason is kept; a month without a drill is counted once."""
    bench.starter.words = "kms-chaos: alarms-quiet: an alarm is in ALARM"
    for _ in range(9 * 24 * 2):
        bench.look(minutes=30)
        for drill in bench.starter.drills:
            drill.code = 4

    assert 100 < len(bench.starter.drills) < 24 * 7
    assert [row[:2] for row in bench.rows()] == [("failover/2026-02", SlotState.MISSED)]
    assert bench.value("drill_slots_missed_total") == 1
    assert bench.value("drill_missed_slot_timestamp_seconds") == DUE.timestamp()


def test_a_slot_that_was_missed_shows_until_the_next_has_its_run(
    bench: Bench, new_drill: Callable[..., JournalFile]
) -> None:
    """Also where no daemon ran in its window, and none was scraped before it was counted; not once nobody plans it."""
    bench.clock.advance(timedelta(days=20).total_seconds())
    bench.restart()
    before = bench.value("drill_missed_slot_timestamp_seconds")
    bench.look()
    missed = bench.value("drill_missed_slot_timestamp_seconds")
    bench.restart()
    bench.look()
    after_restart = bench.value("drill_missed_slot_timestamp_seconds")
    bench.look(days=13)
    drill = new_drill(bench.starter.drills[-1].run_id, state=bench.state)
    drill.begin()
    bench.look(minutes=1)

    assert (before, missed, after_restart) == (0, DUE.timestamp(), DUE.timestamp())
    assert bench.rows()[-1][:2] == ("failover/2026-03", SlotState.RUNNING)
    assert bench.value("drill_missed_slot_timestamp_seconds") == 0
    assert "drill_missed_slot_timestamp_seconds" in bench.exposition.render("")[0].decode()
    bench.schedule.plan([])
    assert "drill_missed_slot_timestamp_seconds{" not in bench.exposition.render("")[0].decode()


def test_the_reason_of_a_refusal_is_kept(bench: Bench) -> None:
    """What the process said last."""
    bench.starter.words = "kms-chaos: alarms-quiet: an alarm is in ALARM"
    bench.look(days=1)
    bench.starter.drills[0].code = 4

    bench.look(minutes=1)

    assert bench.rows() == [("failover/2026-02", SlotState.REFUSED, bench.starter.words)]


def test_a_drill_outlives_the_daemon_that_started_it(bench: Bench, new_drill: Callable[..., JournalFile]) -> None:
    """The next daemon sees its lock, starts no second one, and settles the slot when it has ended."""
    drill = begin(bench, new_drill)
    bench.restart()
    with drill.folder.owned():
        while_it_runs = bench.look(minutes=1)
    drill.append("verdict", verdict="BROKE", claims={})
    drill.append("closed", by="drill", verdict="BROKE")
    bench.look(minutes=1)

    assert while_it_runs == []
    assert bench.rows() == [("failover/2026-02", SlotState.DONE, "BROKE")]
    assert len(bench.starter.drills) == 1


def test_a_drill_that_died_waits_for_the_healer(bench: Bench, new_drill: Callable[..., JournalFile]) -> None:
    """Healed first, then aborted: never a drill upon a fault that is left."""
    drill = begin(bench, new_drill)
    write_undo(undo_record(drill.folder.run_id), drill.folder)
    bench.restart()
    before = (bench.look(minutes=1), bench.rows()[0][1])
    drill.append("healed", by="healer", reason="owner_dead", proxies=[], torn_line=False)
    drill.append("closed", by="healer", verdict=None)

    bench.look(minutes=1)

    assert before == ([], SlotState.CLAIMED)
    assert bench.rows()[0][1] is SlotState.ABORTED


def test_a_drill_that_died_before_its_undo_record_blocks_nothing(
    bench: Bench, new_drill: Callable[..., JournalFile]
) -> None:
    """Nobody will ever close its journal."""
    begin(bench, new_drill)
    bench.restart()

    bench.look(minutes=1)

    assert bench.rows()[0][1] is SlotState.ABORTED


def test_a_broken_journal_blocks_nothing(bench: Bench, new_drill: Callable[..., JournalFile]) -> None:
    """The follower tells that it is broken; the calendar goes on."""
    begin(bench, new_drill).append_raw(b"garbage\n")
    bench.starter.drills[0].code = -9

    bench.look(minutes=1)

    assert bench.rows()[0][1] is SlotState.ABORTED


def test_a_process_that_cannot_be_started_is_tried_again(bench: Bench) -> None:
    """No memory for it: said, and an hour or two later there may be."""
    bench.starter.cannot = True
    said = bench.look(days=1)
    bench.starter.cannot = False
    bench.look(hours=2)
    bench.look(hours=2)

    assert said == ["drill.not_started"]
    assert len(bench.starter.drills) == 1


def test_a_plan_that_is_taken_away_and_given_back_owes_nothing(bench: Bench) -> None:
    """What fell due meanwhile was nobody's."""
    bench.schedule.plan([])
    bench.look(days=60)
    gone = bench.value("drill_interval_seconds")
    bench.schedule.plan([PLAN])

    assert bench.look(minutes=1) == []
    assert (gone, bench.rows()) == (0, [])


def test_a_slot_is_claimed_by_one(bench: Bench) -> None:
    """Whoever inserts, runs."""
    (slot,) = PLAN.slots(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 28, tzinfo=UTC))

    assert [bench.ledger.claim(slot, run_id) for run_id in ("a", "b")] == [True, False]
    assert [row.run_id for row in bench.ledger.rows()] == ["a"]
    assert not bench.ledger.miss(slot)


def test_a_late_word_about_an_earlier_run_changes_nothing(bench: Bench) -> None:
    """The slot is another run's by now."""
    (slot,) = PLAN.slots(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 28, tzinfo=UTC))
    bench.ledger.claim(slot, "a")
    (row,) = bench.ledger.rows()
    bench.ledger.settle(row, SlotState.REFUSED, "")
    bench.ledger.claim(slot, "b")

    bench.ledger.settle(row, SlotState.DONE, "HELD")

    assert [(r.run_id, r.state) for r in bench.ledger.rows()] == [("b", SlotState.CLAIMED)]


def test_the_ledger_is_synced_at_every_change(bench: Bench) -> None:
    """A power cut forgets no claim: a drill nobody remembers is the worst bug of all (scale.md §3.1)."""
    assert bench.ledger._file.call(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)


def test_stopping_passes_the_signal_on_and_waits(bench: Bench) -> None:
    """To what this process started; a drill restores on it and ends."""
    bench.look(days=1)

    assert bench.schedule.stop(25.0)
    assert bench.starter.drills[0].signals == [signal.SIGTERM]
    assert bench.look(minutes=1) == ["drill.slot_settled"]


def test_stopping_does_not_wait_for_ever(bench: Bench) -> None:
    """The deadline is on the clock; the drill is left to restore by itself."""
    bench.look(days=1)
    bench.starter.drills[0].ends_on_signal = False
    began = bench.clock.monotonic()

    ended = bench.schedule.stop(25.0)

    assert not ended
    assert 25 <= bench.clock.monotonic() - began < 26


def test_no_drill_starts_while_it_stops(bench: Bench) -> None:
    """Nor is its slot claimed."""
    assert bench.schedule.stop(1.0)

    bench.look(days=1)

    assert (bench.starter.drills, bench.rows()) == ([], [])


def test_closing_keeps_since_when_a_plan_is_planned(bench: Bench, tmp_path: Path) -> None:
    """A restart over the turn of a slot does not lose it."""
    bench.schedule.close()
    bench.restart()

    assert bench.look(days=1) == ["drill.started"]


def test_the_command_says_which_slot_and_run(tmp_path: Path) -> None:
    """A process of its own, of this Python, with what the ledger knows it by; what it says last is kept."""
    slot = Slot(id="failover/2026-02", plan=replace(PLAN, region="eu-west-1"), due_utc=START, closes_utc=START)
    start = start_drill(("--config", str(tmp_path / "none.toml")), tmp_path / "drill.log")

    process = start(slot, "20260203T120000Z-region-blackhole")
    code = process.wait(60)  # type: ignore[attr-defined] # it is a Popen

    assert process.args[1:] == [  # type: ignore[attr-defined] # as above
        "-m", "kms_chaos", "run", "region-blackhole", "--config", str(tmp_path / "none.toml"),
        "--region", "eu-west-1", "--slot", "failover/2026-02", "--run-id", "20260203T120000Z-region-blackhole",
    ]  # fmt: skip
    assert code == 2
    assert "none.toml: cannot be read" in start.last_words()


def test_a_ledger_that_cannot_be_written_does_not_keep_the_end_from_coming(bench: Bench) -> None:
    """The next start finds out; the daemon's other files are closed after it."""
    bench.look(days=1)
    bench.starter.drills[0].send_signal(signal.SIGTERM)
    bench.ledger._file.call(lambda db: db.execute("PRAGMA query_only = ON").fetchall())

    with structlog.testing.capture_logs() as logs:
        bench.schedule.close()

    assert [entry["event"] for entry in logs] == ["drill.ledger_not_written"]


@pytest.mark.parametrize("drill", ["my drill", "drills/a:b.toml", "x" * 61, "drills/"])
def test_a_drill_whose_name_cannot_name_a_run_is_refused(write_config: Callable[..., Path], drill: str) -> None:
    """Its run's folder could not be looked at: no slot, of no plan, was reconciled any more."""
    text = f"[drills.slots.x]\ndrill = {json.dumps(drill)}\nday = 3\nat = '03:00'\n"

    with pytest.raises(ConfigError, match=r"drills\.slots\.x\.drill"):
        load(write_config(text), environ={})


START = datetime(2026, 2, 3, 3, tzinfo=UTC)


def test_the_schedule_is_configured(write_config: Callable[..., Path]) -> None:
    """A table a schedule; one that is switched off is none."""
    text = "[drills.slots.failover]\ndrill = 'region-blackhole'\nday = 3\nat = '03:00'\n"
    off = "[drills.slots.off]\ndrill = 'region-blackhole'\nday = 3\nat = '03:00'\nenabled = false\n"

    assert load(write_config(text + off), environ={}).drills.plans == (PLAN,)


def test_no_drill_runs_unless_somebody_asked_for_it(settings: Settings) -> None:
    """Breaking things is opted into."""
    assert settings.drills.plans == ()


PROOF_PLAN = Plan(
    name=ALARM_PROOF, drill=ALARM_PROOF, every="month", day=3, at=time(3), window=timedelta(days=7), task=ALARM_PROOF
)
PROOF_ID = "20260203T120000Z-alarm-proof"


@pytest.fixture
def proving(bench: Bench) -> Bench:
    """A schedule that has a proof of the alarms instead of a drill."""
    bench.schedule.plan([PROOF_PLAN])
    bench.look()
    return bench


@pytest.mark.parametrize(
    ("verdict", "interrupted", "state", "note"),
    [
        pytest.param("HELD", False, SlotState.DONE, "HELD", id="held"),
        pytest.param("BROKE", False, SlotState.DONE, "BROKE", id="broke"),
        pytest.param("INCONCLUSIVE", True, SlotState.ABORTED, "interrupted, or its owner died", id="interrupted"),
    ],
)
def test_a_proof_has_a_slot_as_a_drill_has(
    proving: Bench, verdict: str, state: SlotState, note: str, *, interrupted: bool
) -> None:
    """Claimed, seen to run by its own folder, and settled by what its journal says."""
    began = proving.look(days=1)
    found = alarm_proofs.folder(proving.state, PROOF_ID)
    notes = ProofJournal(found, proving.clock)
    notes.write("proof-started", run_id=PROOF_ID, by="x", slot="alarm-proof/2026-02", regions=[])
    proving.look(minutes=1)
    running = proving.rows()
    if interrupted:
        notes.write("interrupted", reason="a signal")
    notes.write("verdict", verdict=verdict)
    notes.write("closed", by="prove", verdict=verdict)
    notes.close()
    proving.starter.drills[0].code = 0
    proving.look(minutes=1)

    assert began == ["drill.started"]
    assert proving.starter.drills[0].run_id == PROOF_ID
    assert running == [("alarm-proof/2026-02", SlotState.RUNNING, "")]
    assert proving.rows() == [("alarm-proof/2026-02", state, note)]


def test_a_proof_that_was_refused_is_tried_again_and_one_that_never_ran_is_missed(proving: Bench) -> None:
    """As a drill: an alarm fires, or a drill runs; when the window closes somebody is told."""
    proving.look(days=1)
    proving.starter.words = "kms-alarms: a drill or another proof runs"
    proving.starter.drills[0].code = 4
    refused = proving.look(minutes=1)
    rows = proving.rows()
    proving.look(hours=2)
    again = len(proving.starter.drills)
    proving.starter.drills[-1].code = 4
    proving.look(minutes=1)
    missed = proving.look(days=8)

    assert refused == ["drill.slot_settled"]
    assert rows == [("alarm-proof/2026-02", SlotState.REFUSED, "kms-alarms: a drill or another proof runs")]
    assert again == 2
    assert missed == ["drill.slot_missed"]
    assert proving.value('drill_slots_missed_total{drill="alarm-proof"}') == 1


def test_a_proof_whose_process_died_is_given_up(proving: Bench) -> None:
    """Nothing of a drill's is to be healed; the next proof puts back what it left."""
    proving.look(days=1)
    notes = ProofJournal(alarm_proofs.folder(proving.state, PROOF_ID), proving.clock)
    notes.write("proof-started", run_id=PROOF_ID, by="x", slot="alarm-proof/2026-02", regions=[])
    notes.close()
    proving.starter.drills[0].code = -9

    assert proving.look(minutes=1) == ["drill.slot_settled"]
    assert proving.rows()[0][1] is SlotState.ABORTED


def test_the_proof_is_started_without_asking(tmp_path: Path) -> None:
    """A process of its own, with what the ledger knows it by."""
    slot = Slot(id="alarm-proof/2026-02", plan=PROOF_PLAN, due_utc=START, closes_utc=START)
    start = start_drill(("--config", str(tmp_path / "none.toml")), tmp_path / "drill.log")

    process = start(slot, PROOF_ID)
    code = process.wait(60)  # type: ignore[attr-defined] # it is a Popen

    assert process.args[1:] == [  # type: ignore[attr-defined] # as above
        "-m", "kms_alarms", "prove", "--yes", "--config", str(tmp_path / "none.toml"),
        "--slot", "alarm-proof/2026-02", "--run-id", PROOF_ID,
    ]  # fmt: skip
    assert code == 2
    assert "none.toml: cannot be read" in start.last_words()


def test_a_proof_is_scheduled_by_its_own_table(write_config: Callable[..., Path], settings: Settings) -> None:
    """It pages: only if somebody says when; and no drill may have its name."""
    slot = "[cloudwatch.proof.slot]\nday = 3\nat = '03:00'\n"
    drill = "[drills.slots.alarm-proof]\ndrill = 'region-blackhole'\nday = 3\nat = '03:00'\n"

    assert load(write_config(slot), environ={}).plans == (PROOF_PLAN,)
    assert load(write_config(slot + "enabled = false\n"), environ={}).plans == ()
    assert settings.plans == ()
    with pytest.raises(ConfigError, match="alarm-proof: the ledger keeps that name"):
        load(write_config(drill), environ={})
    with pytest.raises(ConfigError, match="day must be at most 7"):
        load(write_config(slot.replace("day = 3", "day = 8\nevery = 'week'")), environ={})
