"""The torture notices: each thing that must not happen is done on purpose, to files that real writers wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import JournalFile, new_drill, result
from kill_figures import quantiles
from kill_ledger import (
    Kept,
    damage,
    drills_at_once,
    faults_left,
    lost_history,
    lost_journals,
    lost_metrics,
    not_closed,
    read_kept,
    told_and_not_kept,
)
from kill_plan import VICTIMS, rounds
from kill_rounds import FLUSH_SECONDS, Life

from kms_core.testing import ManualClock
from kms_watchdog.drills import journal
from kms_watchdog.drills.slot_ledger import SlotLedger
from kms_watchdog.results import Outcome
from kms_watchdog.sinks.datum import Datum
from kms_watchdog.sinks.history import HistorySink
from kms_watchdog.sinks.queue import MetricQueue

__all__ = ["new_drill"]

A, B = "20260101T000000Z-a", "20260101T000100Z-b"
LOOKS = 5
WAITING = Datum(
    namespace="N", name="CanaryRuns", unit="Count", dimensions=(("Region", "us-east-1"),), period_start=1_767_225_600,
    resolution=1, values=(1.0,), counts=(2.0,),
)  # fmt: skip


@pytest.fixture
def state(tmp_path: Path, new_drill: Callable[..., JournalFile]) -> Path:
    """A state folder with five looks, two of them failed, one metric that waits, and one drill that is over."""
    where, clock = tmp_path / "state", ManualClock()
    drill = new_drill(A)
    history = HistorySink(where / "history.db", clock)
    for at in range(LOOKS):
        history.write(result(Outcome.FAILED if at in (1, 2) else Outcome.OK, at=at))
    history.close()
    queue = MetricQueue(where / "cloudwatch.db", clock)
    queue.put([WAITING], ["us-east-1"])
    queue.close()
    SlotLedger(where / "slots.db", clock).close()
    drill.begin()
    drill.append("fault-injected", at=10.0, fault_id="f")
    drill.append("closed", at=20.0, by="healer", verdict=None)
    return where


@pytest.fixture
def before(state: Path) -> Kept:
    return read_kept(state)


def change(path: Path, statement: str) -> None:
    """Do what no daemon does."""
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(statement).rowcount == 1


def test_nothing_is_said_of_a_folder_that_is_as_it_was(state: Path, before: Kept) -> None:
    """Five looks, a metric, a closed journal: read twice, nothing is missing."""
    after = read_kept(state)

    assert (after.live_looks, len(after.rows), len(after.waiting), list(after.journals)) == (LOOKS, 3, 1, [A])
    assert lost_history(before, after) == lost_journals(before, after) == damage(state) == []
    assert lost_metrics(before.waiting, after, lambda _: ()) == not_closed(after) == drills_at_once(after) == []
    assert told_and_not_kept(LOOKS, 0, after) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        pytest.param("DELETE FROM results WHERE id = 2", "look 2 is gone or another", id="a-look-deleted"),
        pytest.param("UPDATE results SET body = '{}' WHERE id = 1", "look 1 is gone or another", id="a-look-changed"),
        pytest.param("DELETE FROM ticks WHERE number = (SELECT max(number) FROM ticks)", "fell from look", id="a-tick"),
        pytest.param("UPDATE hourly SET ok = ok - 1", "had 5 looks, has 4", id="a-sum-too-small"),
    ],
)
def test_a_look_that_was_committed_and_is_gone_is_noticed(state: Path, before: Kept, statement: str, said: str) -> None:
    """Rows, rings and sums, each by itself."""
    change(state / "history.db", statement)

    (found,) = lost_history(before, read_kept(state))

    assert said in found


def test_a_look_that_was_told_of_and_never_written_is_noticed(before: Kept) -> None:
    """`/metrics` had counted six, the disk has five."""
    assert told_and_not_kept(LOOKS + 1, 0, before) == ["history.db: 6 looks had been told of, 5 were kept"]
    assert told_and_not_kept(1, LOOKS, before) == ["history.db: 1 looks had been told of, 0 were kept"]


def test_a_look_is_due_once_its_time_has_gone_by_and_the_daemon_had_it() -> None:
    """Time in which the daemon stood still is none in which it could write."""
    life = Life(0)
    life.tell(100.0, 7)

    assert life.due(100.0 + FLUSH_SECONDS - 0.1) == 0
    assert life.due(100.0 + FLUSH_SECONDS) == 7
    life.stood_still = 3.0
    assert life.due(100.0 + FLUSH_SECONDS + 2.9) == 0
    assert life.due(100.0 + FLUSH_SECONDS + 3.0) == 7


@pytest.mark.parametrize("delivered", [True, False])
def test_a_metric_that_left_the_queue_must_have_been_delivered(state: Path, before: Kept, *, delivered: bool) -> None:
    """Gone and with CloudWatch: well. Gone and nowhere: lost."""
    change(state / "cloudwatch.db", "DELETE FROM waiting")

    found = lost_metrics(before.waiting, read_kept(state), lambda gone: gone if delivered else ())

    assert len(found) == (0 if delivered else 1)


def test_a_journal_line_that_was_whole_and_is_gone_is_noticed(state: Path, before: Kept) -> None:
    """The chain of what is left holds, and yet it is not what was there."""
    path = state / "drills" / A / "journal.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))

    assert lost_journals(before, read_kept(state)) == [f"{A}: lines that were on disk are gone or others"]
    assert not_closed(read_kept(state)) == [f"{A}: its journal is open"]


def test_a_torn_line_that_the_healer_cut_is_no_loss(state: Path, before: Kept) -> None:
    """It was never whole, so nobody was told that it is there."""
    torn = replace(before, journals={A: before.journals[A] + b'{"half'})

    assert lost_journals(torn, before) == []


def test_a_broken_chain_is_noticed(state: Path) -> None:
    """A line that somebody edited."""
    path = state / "drills" / A / "journal.ndjson"
    path.write_bytes(path.read_bytes().replace(b'"fault_id":"f"', b'"fault_id":"g"'))

    (found,) = lost_journals(Kept(), read_kept(state))

    assert "its chain is broken" in found


@pytest.mark.parametrize("began", [pytest.param(15.0, id="meanwhile"), pytest.param(25.0, id="afterwards")])
def test_two_drills_at_once_are_noticed(state: Path, new_drill: Callable[..., JournalFile], began: float) -> None:
    """The first one's fault was there from second 10 to second 20."""
    second = new_drill(B)
    second.begin(at=began)
    second.append("fault-injected", at=began, fault_id="f")
    second.append("closed", at=began + 1.0, by="drill", verdict="HELD")

    found = drills_at_once(read_kept(state))

    assert len(found) == (1 if began < 20.0 else 0)


def test_a_fault_that_is_left_is_noticed() -> None:
    """A proxy of a drill's; and a stranger's that a healer has touched, or taken away."""
    theirs = {"theirs": {"enabled": True, "toxics": [{"name": "slow"}]}}
    left: dict[str, Any] = {**theirs, f"kmswd.{A}.us-east-1": {"enabled": True, "toxics": []}}

    assert faults_left(theirs, theirs) == []
    assert len(faults_left(left, theirs)) == 1
    assert len(faults_left({"theirs": {"enabled": True, "toxics": []}}, theirs)) == 1
    assert len(faults_left({}, theirs)) == 1


def test_a_database_that_does_not_open_is_noticed(state: Path) -> None:
    """One that is no database, one that is away, and one that the daemon has moved aside."""
    (state / "history.db").write_bytes(b"no database" * 1000)
    (state / "cloudwatch.db").unlink()
    (state / "slots.db.damaged-20260101T000000Z").touch()

    said = damage(state)

    assert [one.split(":")[0] for one in said] == ["slots.db.damaged-20260101T000000Z", "history.db", "cloudwatch.db"]


def test_the_same_seed_strikes_the_same_blows_and_nobody_is_spared() -> None:
    """Of a hundred rounds: kills and stops of every victim, second drills, and each fault."""
    first, again, other = (
        [one for one, _ in zip(rounds(seed, ("a", "b")), range(100), strict=False)] for seed in (7, 7, 8)
    )

    struck = {(blow.victim, blow.kills) for one in first for blow in one.blows}

    assert first == again != other
    assert struck == {(victim, kills) for victim in VICTIMS for kills in (True, False)}
    assert {one.fault for one in first} == {"a", "b"}
    assert 0 < sum(one.rival_after_seconds is not None for one in first) < len(first)


def test_quantiles_are_of_what_was_measured() -> None:
    """Nearest rank; nothing of nothing."""
    assert quantiles([]) == {}
    assert quantiles([float(n) for n in range(1, 101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}
    assert quantiles([3.0]) == {"p50": 3.0, "p99": 3.0, "max": 3.0}


def test_a_journal_reads_as_its_writer_wrote_it(before: Kept) -> None:
    """What these tests break is whole to begin with."""
    assert [record.event for record in journal.parse_all(before.journals[A]).records] == [
        "run-started", "fault-injected", "closed",
    ]  # fmt: skip
