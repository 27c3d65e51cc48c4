"""Faults left behind: found, healed once, tried again when that fails, and never the watchdog's end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from daemon_kit import START, JournalFile, undo_record, write_undo

from kms_core.testing import ManualClock
from kms_watchdog.drills.follow import Follower
from kms_watchdog.drills.watch import HEAL_SECONDS, SEAL_AGAIN_SECONDS, DrillWatch, HealReason, why_heal
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.sink import DrillChange


class FakeHealer:
    """A healing process; it runs until it is told how it ends."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.code: int | None = None
        self.killed = False

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.killed = True

    def wait(self, timeout: float | None = None) -> int:
        return -9


class Bench:
    """A watch over folders, with healers at hand."""

    def __init__(self, state: Path, clock: ManualClock) -> None:
        self.clock, self.exposition, self.healers = clock, Exposition(), list[FakeHealer]()
        self.follower = Follower(state)
        self.watch = DrillWatch(state, self.exposition, clock, start=self.start, follower=self.follower)
        self.cannot_start = False

    def start(self, run_id: str) -> FakeHealer:
        if self.cannot_start:
            raise OSError(12, "Cannot allocate memory")
        self.healers.append(FakeHealer(run_id))
        return self.healers[-1]

    def look(self, seconds: float = 0.0) -> list[str]:
        """Let time pass, look, and return the events logged."""
        self.clock.advance(seconds)
        with structlog.testing.capture_logs() as logs:
            self.watch.look()
        return [entry["event"] for entry in logs]

    def value(self, name: str) -> float:
        lines = self.exposition.render("")[0].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"kms_watchdog_{name}"))


@pytest.fixture
def bench(tmp_path: Path, clock: ManualClock) -> Bench:
    return Bench(tmp_path / "state", clock)


@pytest.fixture
def broken(new_drill: Callable[..., JournalFile]) -> JournalFile:
    """A drill in the middle of its fault, whose owner is dead."""
    drill = new_drill()
    write_undo(undo_record(drill.folder.run_id), drill.folder)
    drill.begin()
    drill.append("fault-injected", fault="blackhole", region="us-east-1", proxy="p", toxics=[], enabled=True)
    return drill


def close(drill: JournalFile) -> None:
    """What a healer writes."""
    drill.append("restore-verified", proxies_left=[], by="healer")
    drill.append("healed", by="healer", reason="owner_dead", proxies=[], torn_line=False)
    drill.append("closed", by="healer", verdict=None)
    drill.folder.manifest.write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    ("has_owner", "after", "reason"),
    [
        pytest.param(True, 59, None, id="alive-and-in-time"),
        pytest.param(False, 0, "owner_dead", id="dead"),
        pytest.param(True, 60, "expired", id="alive-past-its-time"),
        pytest.param(False, 61, "owner_dead", id="dead-and-past"),
    ],
)
def test_why_to_heal(after: float, reason: HealReason | None, *, has_owner: bool) -> None:
    """Dead, or past its time: the lock and the record alone decide."""
    now_utc = START + timedelta(seconds=after)

    assert why_heal(undo_record("r", expires_in=60), has_owner=has_owner, now_utc=now_utc) == reason


def test_a_dead_drills_fault_is_healed_at_the_first_look(bench: Bench, broken: JournalFile) -> None:
    """One healer, one fault healed, nothing left open."""
    events = bench.look()
    during = (bench.value("faults_active"), bench.watch.leftovers)
    close(broken)
    bench.healers[0].code = 0
    bench.look(2)
    bench.look(60)

    assert events == ["drill.began", "drill.heal_started"]
    assert during == (1, (broken.folder.run_id,))
    assert len(bench.healers) == 1
    assert bench.value("faults_healed_total") == 1
    assert (bench.value("faults_active"), bench.watch.leftovers) == (0, ())


class Keeps:
    """A sink that keeps what it is told of drills."""

    def __init__(self) -> None:
        self.told: list[tuple[bool, bool]] = []

    def on_drill(self, change: DrillChange) -> None:
        self.told.append((change.active, change.orphaned))


def test_a_dead_drill_does_not_run_while_its_fault_cannot_be_undone(bench: Bench, broken: JournalFile) -> None:
    """Else the alarm for faults that no drill owns would be silent for as long as healing fails; told once."""
    sink = Keeps()
    bench.follower.tell(results=(), events=(), drills=(sink,))
    with broken.folder.owned():
        bench.look()
    alive = list(sink.told)
    for _ in range(10):
        bench.look(10)
        bench.healers[-1].code = 1
    orphaned = list(sink.told)
    close(broken)
    bench.look(60)

    assert alive == [(True, False)]
    assert orphaned == [(True, False), (False, True)]
    assert sink.told == [(True, False), (False, True), (False, False)]


def test_a_drill_that_lives_is_left_alone(bench: Bench, broken: JournalFile) -> None:
    """Its fault shows, its lock keeps the healer away."""
    with broken.folder.owned():
        bench.look()

    assert bench.healers == []
    assert bench.value("faults_active") == 1


def test_a_drill_past_its_time_is_healed_although_it_lives(bench: Bench, broken: JournalFile) -> None:
    """A hung drill does not hold a fault for ever."""
    with broken.folder.owned():
        bench.look(61)

    assert [healer.run_id for healer in bench.healers] == [broken.folder.run_id]


def test_a_drill_that_closed_a_moment_ago_is_not_healed(
    bench: Bench, broken: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed and let go between our reading the journal and our trying the lock: nothing was left behind."""

    def closes_now(_folder: object) -> bool:
        close(broken)
        return False

    monkeypatch.setattr("kms_watchdog.drills.folder.DrillFolder.has_owner", closes_now)

    bench.look()

    assert bench.healers == []


def test_a_healing_that_fails_is_tried_again_with_growing_pauses(bench: Bench, broken: JournalFile) -> None:
    """Counted each time, until it succeeds."""
    started_at = []
    for second in range(60):
        before = len(bench.healers)
        bench.look(1)
        if len(bench.healers) > before:
            started_at.append(second)
            bench.healers[-1].code = 1

    assert started_at == [0, 3, 8, 17, 33]
    assert bench.value("heal_failures_total") == 5
    assert bench.value("faults_active") == 1
    assert bench.watch.leftovers == (broken.folder.run_id,)


def test_a_healer_that_hangs_is_killed(bench: Bench, broken: JournalFile) -> None:
    """Bounded, and tried again."""
    bench.look()
    bench.look(HEAL_SECONDS + 1)

    assert bench.healers[0].killed
    assert bench.value("heal_failures_total") == 1


def test_a_healer_that_cannot_start_is_a_failure_to_heal(bench: Bench, broken: JournalFile) -> None:
    """No memory for a process: told, counted, tried again."""
    bench.cannot_start = True
    assert "drill.heal_failed" in bench.look()

    bench.cannot_start = False
    bench.look(5)

    assert len(bench.healers) == 1


def test_a_broken_journal_does_not_keep_a_fault_alive(bench: Bench, broken: JournalFile) -> None:
    """What the journal says no longer counts; the undo record does."""
    broken.append_raw(b"garbage\n")

    bench.look()

    assert len(bench.healers) == 1


def test_an_unreadable_undo_record_is_told_once(bench: Bench, broken: JournalFile) -> None:
    """Nobody can heal that by program: it is counted as a failure to."""
    broken.folder.undo.write_text("{")

    events = bench.look() + bench.look(2)

    assert events.count("drill.undo_record_unreadable") == 1
    assert bench.value("heal_failures_total") == 1


@pytest.fixture
def unbroken(new_drill: Callable[..., JournalFile]) -> JournalFile:
    """A drill that died before it had an undo record."""
    drill = new_drill()
    drill.begin()
    return drill


def test_the_journal_of_a_drill_that_died_before_breaking_anything_is_finished(
    bench: Bench, unbroken: JournalFile
) -> None:
    """By a healer, once it has no owner; no fault is counted, for there was none."""
    with unbroken.folder.owned():
        bench.look()
    alive = len(bench.healers)
    bench.look(2)
    bench.look(2)
    during = (len(bench.healers), bench.watch.leftovers)
    close(unbroken)
    bench.healers[0].code = 0
    bench.look(2)
    bench.look(60)
    (over,) = bench.follower.runs()

    assert (alive, during, len(bench.healers)) == (0, (1, ()), 1)
    assert (over.active, over.closed) == (False, True)
    assert (bench.value("faults_healed_total"), bench.value("heal_failures_total")) == (0, 0)


@pytest.mark.parametrize("cannot_start", [True, False])
def test_a_drill_that_broke_nothing_is_over_even_if_its_journal_cannot_be_finished(
    bench: Bench, unbroken: JournalFile, *, cannot_start: bool
) -> None:
    """No alarm, and no second try: nothing is left to undo, and it does not run any more."""
    bench.cannot_start = cannot_start
    bench.look()
    for healer in bench.healers:
        healer.code = 1
    events = bench.look(2) + bench.look(60)
    (over,) = bench.follower.runs()

    assert (over.active, over.abandoned) == (False, True)
    assert events.count("drill.not_finished") == (0 if cannot_start else 1)
    assert len(bench.healers) == (0 if cannot_start else 1)
    assert bench.value("heal_failures_total") == 0


def test_a_broken_journal_with_nothing_to_undo_is_left_alone(bench: Bench, unbroken: JournalFile) -> None:
    """No healer could go on with it."""
    unbroken.append_raw(b"garbage\n")

    bench.look()

    assert bench.healers == []


def test_a_fault_that_is_restored_is_not_active(bench: Bench, broken: JournalFile) -> None:
    """The drill goes on to recover, with the undo record still there."""
    broken.append("restore-verified", proxies_left=[], by="drill")

    with broken.folder.owned():
        bench.look()

    assert bench.value("faults_active") == 0


def test_stopping_ends_healers(bench: Bench, broken: JournalFile) -> None:
    """The next start looks again."""
    bench.look()

    bench.watch.stop()

    assert bench.healers[0].killed


@pytest.fixture
def unsealed(broken: JournalFile) -> JournalFile:
    """A drill that was killed between its journal's last line and its seal."""
    broken.append("restore-verified", proxies_left=[], by="drill")
    broken.append("closed", by="drill", verdict="HELD")
    return broken


def test_the_evidence_of_a_drill_that_died_before_it_sealed_is_sealed(bench: Bench, unsealed: JournalFile) -> None:
    """By a healer, once it has no owner, and once; no fault is counted, and none is active."""
    with unsealed.folder.owned():
        bench.look()
    alive = len(bench.healers)
    bench.look(2)
    bench.look(2)
    during = [healer.run_id for healer in bench.healers]
    unsealed.folder.manifest.write_text("{}", encoding="utf-8")
    bench.healers[0].code = 0
    bench.look(2)
    bench.look(2 * SEAL_AGAIN_SECONDS)

    assert (alive, during, len(bench.healers)) == (0, [unsealed.folder.run_id], 1)
    assert (bench.value("faults_healed_total"), bench.value("faults_active"), bench.watch.leftovers) == (0, 0, ())


@pytest.mark.parametrize("code", [0, 1, None])
def test_a_seal_that_fails_is_tried_again_an_hour_later(bench: Bench, unsealed: JournalFile, code: int | None) -> None:
    """A key that does not answer is no failure to heal; `kms-chaos heal` ends well without it. None: cannot start."""
    bench.cannot_start = code is None
    bench.look()
    for healer in bench.healers:
        healer.code = code
    bench.look(2)
    tried = len(bench.healers)
    bench.look(SEAL_AGAIN_SECONDS - 3)
    early = len(bench.healers)
    bench.cannot_start = False
    bench.look(3)

    assert tried == early == (0 if code is None else 1)
    assert len(bench.healers) == tried + 1
    assert bench.value("heal_failures_total") == 0
    assert unsealed.folder.run_id in {healer.run_id for healer in bench.healers}


def test_runs_are_sealed_one_after_the_other(
    bench: Bench, unsealed: JournalFile, new_drill: Callable[..., JournalFile]
) -> None:
    """With a key that did not answer for a while there may be many; each healer is a process."""
    second = new_drill("20260101T000100Z-dns-failure")
    second.begin()
    second.append("closed", by="drill", verdict="HELD")

    bench.look()
    bench.look(2)
    alone = [healer.run_id for healer in bench.healers]
    bench.healers[0].code = 0
    told = bench.look(2)

    assert alone == [unsealed.folder.run_id]
    assert [healer.run_id for healer in bench.healers] == [unsealed.folder.run_id, second.folder.run_id]
    assert "drill.not_sealed" in told  # it ended well, and there is no manifest


def test_a_broken_journal_is_not_sealed(bench: Bench, unsealed: JournalFile) -> None:
    """That it is broken is the reader's alarm."""
    unsealed.append_raw(b"garbage\n")

    bench.look()

    assert bench.healers == []
