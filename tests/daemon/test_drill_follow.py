"""Following journals: whole lines only, each once, and never a crash."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from daemon_kit import START, JournalFile, result

from kms_core.events import BreakerMoved, FailedOver
from kms_watchdog.drills import follow
from kms_watchdog.drills.follow import Follower
from kms_watchdog.drills.runs import RunView
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.results import CanaryResult, Mode, Outcome
from kms_watchdog.sinks.sink import AlarmMoved, DrillChange, Seen


class Told:
    """Keeps all that the follower hands on."""

    def __init__(self) -> None:
        self.results: list[CanaryResult] = []
        self.events: list[Seen] = []
        self.changes: list[DrillChange] = []

    def write(self, result: CanaryResult) -> None:
        self.results.append(result)

    def on_event(self, seen: Seen) -> None:
        self.events.append(seen)

    def on_drill(self, change: DrillChange) -> None:
        self.changes.append(change)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def follower(tmp_path: Path, told: Told) -> Follower:
    return Follower(tmp_path / "state", results=[told], events=[told], drills=[told])


def canary(*, at: float = 1.0, outcome: Outcome = Outcome.OK) -> dict[str, Any]:
    return {"result": result(outcome, at=at).to_json()}


def view(follower: Follower) -> RunView:
    (only,) = follower.runs()
    return only


def test_a_drill_is_handed_on_as_it_grows(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile]
) -> None:
    """Each line once: its beginning, its canaries, its breakers, its end with the verdict."""
    drill = new_drill()
    drill.begin()
    follower.follow()
    drill.append("canary-result", **canary(outcome=Outcome.FAILED))
    drill.append("breaker-moved", region="us-east-1", old="closed", new="open", cause="failures")
    follower.follow()
    drill.append("failed-over", from_region="us-east-1", to_region="us-west-2", operation="Decrypt", purpose="pii")
    drill.append("verdict", verdict="HELD", claims=[])
    drill.append("closed", at=60.0, by="drill", verdict="HELD")
    follower.follow()
    follower.follow()

    assert [change.active for change in told.changes] == [True, False]
    assert told.changes[1].verdict is Verdict.HELD
    assert [(r.mode, r.run_id, r.outcome) for r in told.results] == [(Mode.DRILL, drill.folder.run_id, Outcome.FAILED)]
    assert [type(seen.event) for seen in told.events] == [BreakerMoved, FailedOver]
    assert {seen.mode for seen in told.events} == {Mode.DRILL}


def test_a_result_is_the_drills_whatever_it_says(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile]
) -> None:
    """A journal cannot put numbers among the live ones."""
    drill = new_drill()
    drill.begin()
    drill.append("canary-result", result={**result().to_json(), "mode": "live"})

    follower.follow()

    assert [r.mode for r in told.results] == [Mode.DRILL]


def test_a_half_written_line_is_waited_for(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile]
) -> None:
    """Neither believed nor held against the drill."""
    drill = new_drill()
    drill.begin()
    line = drill.line("canary-result", **canary())
    drill.append_raw(line[:50])
    follower.follow()
    before = list(told.results)

    drill.append_raw(line[50:])
    follower.follow()

    assert before == []
    assert len(told.results) == 1


def test_a_torn_line_that_a_healer_ended_is_gone(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile]
) -> None:
    """The healer cuts it off and goes on from the last whole line."""
    drill = new_drill()
    drill.begin()
    whole = drill.folder.journal.read_bytes()
    drill.append_raw(b'{"torn')
    follower.follow()

    drill.folder.journal.write_bytes(whole)
    drill.append("healed", by="healer", reason="owner_dead", proxies=[], torn_line=True)
    drill.append("closed", by="healer", verdict=None)
    follower.follow()

    assert [change.active for change in told.changes] == [True, False]
    assert told.changes[1].verdict is None
    assert view(follower).healed_by_reason == "owner_dead"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda d: d.append_raw(b"garbage\n"), id="garbage"),
        pytest.param(lambda d: d.append("canary-result", result={"mode": "drill"}), id="field-missing"),
        pytest.param(lambda d: d.append("verdict", verdict="SPLENDID"), id="unknown-verdict"),
        pytest.param(lambda d: d.append_raw(d.line("x") and d.line("y")), id="gap-in-the-chain"),
        pytest.param(lambda d: d.append_raw(b"x" * (follow.MAX_LINE_BYTES + 1)), id="endless-line"),
    ],
)
def test_a_broken_journal_is_told_once_and_left(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile], spoil: Callable[[JournalFile], None]
) -> None:
    """Its drill is over for us, inconclusive; other drills go on."""
    drill = new_drill()
    drill.begin()
    spoil(drill)
    other = new_drill("20260102T000000Z-other")
    other.begin("other")

    with structlog.testing.capture_logs() as logs:
        follower.follow()
        follower.follow()

    assert [entry["event"] for entry in logs].count("drill.journal_broken") == 1
    assert [(c.drill, c.active, c.verdict) for c in told.changes] == [
        ("region-blackhole", True, None),
        ("region-blackhole", False, None),
        ("other", True, None),
    ]


def reading(state: str, at: float, *, name: str = "KMS-Drill-HighErrorRate-us-east-1") -> dict[str, object]:
    return {"name": name, "state": state, "since_utc": (START + timedelta(seconds=at)).isoformat()}


def test_the_drills_end_tells_what_it_measured_and_when_alarms_moved(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile], tmp_path: Path
) -> None:
    """Detection, recovery, alarms by CloudWatch's own times; known again after a restart."""
    drill = new_drill()
    drill.begin()
    drill.append("alarm-state", at=1, **reading("OK", -900))
    drill.append("alarm-state", at=31, **reading("ALARM", 30))
    drill.append("alarm-state", at=61, **reading("OK", 60))
    drill.append("alarm-state", at=62, **reading("OK", 62))
    for i in range(300):  # more than a restart reads of a journal's end
        drill.append("canary-result", **canary(at=i))
    drill.append("alarm-state", at=63, **reading("INSUFFICIENT_DATA", 63, name="never"))
    drill.append("verdict", verdict="HELD", claims={}, figures={"detect_seconds": 2.5, "recover_seconds": None})
    drill.append("closed", at=70, by="drill", verdict="HELD")

    follower.follow()
    again = Told()
    Follower(tmp_path / "state", drills=[again]).restore()

    ended, restored = told.changes[-1], again.changes[-1]
    start = START.timestamp()
    assert (ended.detection_seconds, ended.recovery_seconds) == (2.5, None)
    assert ended.alarms == {"KMS-Drill-HighErrorRate-us-east-1": AlarmMoved(fired_at=start + 30, cleared_at=start + 60)}
    assert restored == ended


def test_what_happened_before_the_start_is_told_without_its_numbers(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile]
) -> None:
    """How drills ended is restored; yesterday's looks are not counted again; an open drill goes on from now."""
    ended = new_drill("20260101T000000Z-ended")
    ended.begin()
    ended.append("canary-result", **canary())
    ended.append("closed", at=60, by="drill", verdict="HELD")
    going = new_drill("20260102T000000Z-going")
    going.begin()
    going.append("canary-result", **canary())

    follower.restore()
    going.append("canary-result", **canary(at=5))
    follower.follow()

    assert [(c.run_id, c.active, c.verdict) for c in told.changes] == [
        ("20260101T000000Z-ended", False, Verdict.HELD),
        ("20260102T000000Z-going", True, None),
    ]
    assert [r.started_at_utc for r in told.results] == [result(at=5).started_at_utc]


def test_a_year_of_drills_does_not_hold_up_the_start(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a closed journal only its two ends are read, but for the last one of each drill."""
    last = new_drill("20260201T000000Z-region-blackhole")
    last.begin()
    last.append("closed", at=700, by="drill", verdict="HELD")
    drill = new_drill()
    drill.begin()
    for i in range(600):
        drill.append("canary-result", **canary(at=i))
    drill.append("closed", at=700, by="drill", verdict="BROKE")
    parsed: list[int] = []
    parse = follow.parse

    def counting(raw: bytes, *, prev: str, seq: int) -> follow.Record:
        parsed.append(seq)
        return parse(raw, prev=prev, seq=seq)

    monkeypatch.setattr(follow, "parse", counting)

    follower.restore()

    assert told.changes[0].verdict is Verdict.BROKE
    assert 0 in parsed
    assert len(parsed) < 250


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda d: None, id="open"),
        pytest.param(lambda d: d.append_raw(b'{"torn'), id="torn"),
        pytest.param(lambda d: d.append_raw(d.line("closed", by="drill", verdict="HELD")[:-2]), id="half-closed"),
        pytest.param(
            lambda d: d.append_raw(d.line("closed", by="drill", verdict="BROKE").replace(b"BROKE", b"HELD")),
            id="edited",
        ),
    ],
)
def test_only_a_whole_closed_line_closes(
    new_drill: Callable[..., JournalFile], end: Callable[[JournalFile], None]
) -> None:
    """Anything else is read from the beginning."""
    drill = new_drill()
    drill.begin()
    end(drill)

    assert follow.closed_view(drill.folder) is None


def test_a_run_without_a_journal_yet_is_no_error(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile]
) -> None:
    """The folder and the undo record come first."""
    new_drill()

    follower.follow()

    assert (told.changes, view(follower).active) == ([], False)


def test_a_large_journal_is_read_to_its_end(
    follower: Follower, told: Told, new_drill: Callable[..., JournalFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces, without waiting for the next turn."""
    monkeypatch.setattr(follow, "READ_BYTES", 2000)
    drill = new_drill()
    drill.begin()
    for i in range(50):
        drill.append("canary-result", **canary(at=i))

    follower.follow()

    assert len(told.results) == 50


def test_an_abandoned_run_is_over(follower: Follower, told: Told, new_drill: Callable[..., JournalFile]) -> None:
    """Its owner died before it was going to break anything."""
    drill = new_drill()
    drill.begin()
    follower.follow()

    follower.abandon(drill.folder.run_id)

    assert [change.active for change in told.changes] == [True, False]
    assert not view(follower).active
