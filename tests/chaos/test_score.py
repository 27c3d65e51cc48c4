"""The score: what was declared is the denominator; only what HELD, lately, by its own journal, counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from kms_alarms.parts import NoneBecause
from kms_alarms.table import ALARMS
from kms_chaos import proofs
from kms_chaos.alarm_sights import AlarmSight, of_drill
from kms_chaos.cli import cli
from kms_chaos.durable import make_folder
from kms_chaos.export import scores
from kms_chaos.judge import judge
from kms_chaos.proofs import Doubt, Proof
from kms_chaos.score import Declared, Score, State, declared, score
from kms_chaos.testing import END, REGIONS, RUN_ID, TARGET, Story, drill, held_story, of
from kms_core.testing import ManualClock
from kms_watchdog import alarm_proofs
from kms_watchdog.alarm_proofs import AlarmProof, ProofJournal
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.verdict import Judgement, Verdict
from kms_watchdog.results import Mode

pytestmark = pytest.mark.slow  # each judges many journals

NOW = datetime(2026, 12, 1, tzinfo=UTC)
PURPOSES = ("general", "pii", "payment")


def wanted() -> Declared:
    return declared([drill()], regions=REGIONS, purposes=PURPOSES)


def proof(
    days_ago: float, *, verdict: Verdict = Verdict.HELD, purposes: tuple[str, ...] = PURPOSES, region: str = TARGET
) -> Proof:
    ended = NOW - timedelta(days=days_ago)
    run_id = f"{ended:%Y%m%dT%H%M%SZ}-region-blackhole"
    judged = Judgement(
        run_id=run_id, drill="region-blackhole", region=region, verdict=verdict, claims=(), journal_head="0" * 64
    )
    return Proof(
        run_id=run_id,
        drill=drill(),
        judgement=judged,
        ended_at_utc=ended,
        hurt=(region,),
        purposes=purposes,
        alarms=(("HighErrorRate", region),),
    )


def scored(*found: Proof, window_days: float = 35) -> Score:
    return score(wanted(), found, (), at_utc=NOW, window=timedelta(days=window_days))


def state(found: Score, region: str = TARGET, purpose: str = "general", kind: str = "fault") -> State:
    return next(
        s.state for s in found.standings if (s.cell.kind, s.cell.region, s.cell.purpose) == (kind, region, purpose)
    )


def test_what_is_declared_is_the_denominator() -> None:
    """Every drill in every region for every key, and its alarms in every region: run or not."""
    never = scored()

    assert len(never.standings) == 3 * 3 + 3
    assert {s.state for s in never.standings} == {State.NEVER}
    assert never.share == 0


def test_one_run_proves_its_region_and_its_keys_alone() -> None:
    """And the alarms of that region."""
    found = scored(proof(1, purposes=("general",)))

    assert state(found) is State.PROVEN
    assert state(found, purpose="payment") is State.NEVER
    assert state(found, region=REGIONS[1]) is State.NEVER
    assert state(found, kind="alarm", purpose="") is State.PROVEN
    assert found.proven == 2


@pytest.mark.parametrize(("days", "expected"), [(35.0, State.PROVEN), (35.01, State.EXPIRED)])
def test_a_proof_is_good_for_the_window(days: float, expected: State) -> None:
    """To the second."""
    assert state(scored(proof(days))) is expected


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        pytest.param(Verdict.INCONCLUSIVE, State.INCONCLUSIVE, id="inconclusive is not passed"),
        pytest.param(Verdict.BROKE, State.BROKE, id="broken"),
    ],
)
def test_what_did_not_hold_counts_nothing(last: Verdict, expected: State) -> None:
    """Whatever else it is called."""
    found = scored(proof(1, verdict=last))

    assert state(found) is expected
    assert found.proven == 0


def test_what_broke_later_takes_the_proof_back_and_what_is_unclear_does_not() -> None:
    """A newer HELD gives it again."""
    held, broke, unclear = proof(20), proof(10, verdict=Verdict.BROKE), proof(5, verdict=Verdict.INCONCLUSIVE)

    assert state(scored(held, broke)) is State.BROKE
    assert state(scored(held, unclear)) is State.PROVEN
    assert state(scored(held, broke, proof(1))) is State.PROVEN


def test_the_trend_is_the_score_at_each_month_s_end() -> None:
    """None before the first run; expired again when nothing followed."""
    found = dict(scored(proof(150)).trend)

    assert len(found) == 12
    assert found["2026-06"] is None  # the run was on July 4
    assert found["2026-07"] == found["2026-07"] == round(4 / 12, 4)
    assert found["2026-08"] == 0
    assert found["2026-12"] == 0


def test_a_run_that_ended_later_is_not_seen() -> None:
    """A score of then is what was known then: neither proof nor break of tomorrow is in it."""
    found = [proof(20), proof(1, verdict=Verdict.BROKE)]

    then = score(wanted(), found, (), at_utc=NOW - timedelta(days=10))
    before = score(wanted(), found, (), at_utc=NOW - timedelta(days=25))

    assert state(then) is State.PROVEN
    assert state(before) is State.NEVER


def test_a_drill_for_some_keys_declares_those_alone() -> None:
    """What a drill cannot prove is no debt."""
    narrow = drill().model_copy(update={"workload": drill().workload.model_copy(update={"purposes": ("pii",)})})

    found = declared([narrow], regions=REGIONS, purposes=PURPOSES)

    assert {cell.purpose for cell in found.cells if cell.kind == "fault"} == {"pii"}


def test_the_forms_say_the_same() -> None:
    """Markdown, HTML and JSON; 99 of 100 is never shown as all."""
    found = score(wanted(), [proof(3)], [Doubt(run_id="x", why="<b>|edited")], at_utc=NOW)

    page, text, values = scores.html(found), scores.markdown(found), found.to_json()

    assert "33 %" in page
    assert "33 %" in text
    assert values["proven"] == 4
    assert "proven, 3 d" in page
    assert "proven, 3 d" in text
    assert "<b>" not in page
    assert "\\<b\\>\\|edited" in text
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert scores.percent(0.999) == "99 %"


def finished(story: Story) -> Story:
    verdict = str(judge(story.journal()).verdict)
    return story.add(END + 2, "verdict", verdict=verdict, claims={}).add(END + 3, "closed", by="drill", verdict=verdict)


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., DrillFolder]:
    """Return what puts a made-up run into a state folder, with the verdict that its journal proves."""

    def put(story: Story, run_id: str = RUN_ID, **said: str) -> DrillFolder:
        where = DrillFolder(tmp_path / "drills" / run_id)
        make_folder(where.path)
        told = story.changed(of("run-started"), run_id=run_id)
        where.journal.write_bytes(told.raw())
        where.verdict.write_text(json.dumps(judge(told.journal()).to_json() | said))
        return where

    return put


def doubts(state_dir: Path) -> list[str]:
    return [doubt.why for doubt in proofs.found(state_dir)[1]]


def test_a_run_is_judged_again_by_its_journal(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """And what counts is from the journal, too: regions, keys, alarms, when it ended."""
    keep(finished(held_story()))

    ((found,), doubted) = proofs.found(tmp_path)

    assert doubted == ()
    assert (found.verdict, found.hurt, found.purposes) == (Verdict.HELD, (TARGET,), ("general", "payment"))
    assert found.alarms == (("HighErrorRate", TARGET),)


def test_a_verdict_that_the_journal_does_not_prove_is_named_and_not_counted(
    tmp_path: Path, keep: Callable[..., DrillFolder]
) -> None:
    """Somebody has put HELD where it says BROKE."""
    broke = held_story().without(of("fault-removed"))
    keep(finished(broke), verdict="HELD")

    assert proofs.found(tmp_path)[0] == ()
    assert doubts(tmp_path) == ["verdict.json says verdict HELD, the journal BROKE"]


def test_a_verdict_of_another_journal_is_named(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """The hash up to which it was judged is part of it."""
    keep(finished(held_story()), journal_head="f" * 64)

    assert "verdict.json says journal_head" in doubts(tmp_path)[0]


def test_a_journal_that_contradicts_itself_is_named(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """Its last word is not what its lines prove."""
    story = held_story().without(of("fault-removed")).add(END + 2, "verdict", verdict="HELD", claims={})
    keep(story.add(END + 3, "closed", by="drill", verdict="HELD"))

    assert doubts(tmp_path) == ["the journal says HELD, and proves BROKE"]


def test_an_edited_journal_is_named(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """One digit is enough."""
    where = keep(finished(held_story()))
    where.journal.write_bytes(where.journal.read_bytes().replace(b'"seconds":0.9', b'"seconds":0.1', 1))

    assert "the journal is broken" in doubts(tmp_path)[0]


def test_a_journal_in_another_run_s_folder_is_named(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """To copy a good run is not to run it again."""
    where = keep(finished(held_story()))
    copy = DrillFolder(tmp_path / "drills" / "20261201T000000Z-region-blackhole")
    make_folder(copy.path)
    copy.journal.write_bytes(where.journal.read_bytes())

    assert doubts(tmp_path) == [f"its journal is that of {RUN_ID}"]


def test_a_verdict_without_a_journal_is_named(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """It proves nothing by itself."""
    keep(finished(held_story())).journal.unlink()

    assert "the journal is broken" in doubts(tmp_path)[0]


def test_a_run_that_is_not_finished_is_open_and_not_suspect(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """It may be running."""
    keep(held_story())

    (doubt,) = proofs.found(tmp_path)[1]

    assert doubt.open


def test_a_healed_run_has_no_verdict_file_and_is_counted_as_what_it_proves(
    tmp_path: Path, keep: Callable[..., DrillFolder]
) -> None:
    """INCONCLUSIVE, so as not passed."""
    healed = held_story().add(
        END + 1, "healed", by="healer", reason="owner_dead", proxies=[], torn_line=False, finding=""
    )
    keep(healed.add(END + 2, "closed", by="healer", verdict=None)).verdict.unlink()

    ((found,), doubted) = proofs.found(tmp_path)

    assert (found.verdict, doubted) == (Verdict.INCONCLUSIVE, ())


def configured(folder: Path) -> Path:
    path = folder / "watchdog.toml"
    path.write_text(
        '[estate]\naccount_id = "123456789012"\nprimary_region = "us-east-1"\n'
        'regions = ["us-east-1", "us-west-2", "eu-west-1"]\n[keys.general]\nalias = "alias/a"\n'
        f'[keys.payment]\nalias = "alias/b"\n[state]\ndir = "{folder}"\n'
    )
    return path


def test_the_command_says_what_is_not_proven_by_its_exit_code(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """3: something is not proven; 1: a run cannot be believed; 2: a window that is none."""
    config = configured(tmp_path)
    keep(finished(held_story()))

    listed = CliRunner().invoke(cli, ["score", "--config", str(config), "--json", "--window", "3650d"])
    keep(finished(held_story()), "20261125T000000Z-region-blackhole", verdict="BROKE")
    doubted = CliRunner().invoke(cli, ["score", "--config", str(config)])
    usage = CliRunner().invoke(cli, ["score", "--config", str(config), "--window", "soon"])

    assert listed.exit_code == 3, listed.output
    values = json.loads(listed.stdout)
    assert {c["purpose"] for c in values["cells"] if c["state"] == "proven"} == {"general", "payment", ""}
    assert doubted.exit_code == 1
    assert "20261125T000000Z-region-blackhole" in doubted.stdout
    assert usage.exit_code == 2


def sight(found: Score, alarm: str, system: str, mode: Mode) -> AlarmSight:
    return next(one for one in found.alarms if (one.alarm, one.system, one.mode) == (alarm, system, mode))


def alarm_proof(days_ago: float, *, told: bool = True, restored: bool = True) -> AlarmProof:
    fired = NOW - timedelta(days=days_ago)
    return AlarmProof(
        alarm="FaultLeaked",
        name="ParkerFlight-KMS-FaultLeaked",
        region=TARGET,
        by="arn:aws:iam::123456789012:role/R",
        run_id=f"{fired:%Y%m%dT%H%M%SZ}-alarm-proof",
        fired_at_utc=fired,
        told_at_utc=fired + timedelta(seconds=2) if told else None,
        restored_at_utc=fired + timedelta(seconds=3) if restored else None,
    )


def test_every_alarm_of_the_table_is_listed_and_never_is_nothing() -> None:
    """In both systems, live and as a twin, where there is one."""
    found = scored()

    expected = [
        (row.name, system, mode)
        for row in ALARMS
        for system, there in (("prometheus", row.prometheus), ("cloudwatch", row.cloudwatch))
        if not isinstance(there, NoneBecause)
        for mode in row.modes
    ]
    assert [(one.alarm, one.system, one.mode) for one in found.alarms] == expected
    assert {(one.last, one.days, one.lately) for one in found.alarms} == {(None, None, False)}
    assert (found.alarms_seen, found.to_json()["alarms_seen"]) == (0, 0)


def test_a_drill_has_seen_its_twins_fire() -> None:
    """By its journal, with the times of CloudWatch; the live alarms that it only looked at are not seen."""
    journal = held_story().journal()
    found = score(
        wanted(), [replace(proof(3), sightings=of_drill(RUN_ID, journal))], (), at_utc=NOW, window=timedelta(days=35)
    )

    twin = sight(found, "HighErrorRate", "cloudwatch", Mode.DRILL)
    assert twin.last is not None
    assert twin.last.run_id == RUN_ID
    assert twin.last.cleared_at_utc is not None
    assert journal.records[0].at_utc < twin.last.fired_at_utc < twin.last.cleared_at_utc
    assert twin.lately
    assert found.alarms_seen == 1
    assert sight(found, "HighErrorRate", "cloudwatch", Mode.LIVE).last is None
    assert sight(found, "HighErrorRate", "prometheus", Mode.DRILL).last is None


@pytest.mark.parametrize(("days", "lately"), [(35.0, True), (35.01, False)])
def test_a_proof_of_an_alarm_is_good_for_the_window(days: float, *, lately: bool) -> None:
    """To the second; the newest counts, and what came later than the score is not seen."""
    proofs_of_alarms = [alarm_proof(days), alarm_proof(100), alarm_proof(-1), alarm_proof(1, told=False)]
    found = score(wanted(), (), (), at_utc=NOW, window=timedelta(days=35), alarm_proofs=proofs_of_alarms)

    one = sight(found, "FaultLeaked", "cloudwatch", Mode.LIVE)
    assert one.last is not None
    assert (one.days, one.lately) == (days, lately)
    assert found.alarms_seen == int(lately)
    assert one.to_json()["by"] == one.last.run_id


def test_the_forms_say_when_alarms_were_seen() -> None:
    """Never, long ago, and one that nobody saw clear."""
    found = score(wanted(), (), (), at_utc=NOW, alarm_proofs=[alarm_proof(3), alarm_proof(2, restored=False)])

    page, text, values = scores.html(found), scores.markdown(found), found.to_json()

    heading = f"1 of {len(found.alarms)} alarms, in both systems, live and twins, were seen to fire within 35 days."
    for form in (page, text):
        assert heading in form
        assert "2 d, alarm-proof, not cleared" in form
        assert "never" in form
    [told] = [one for one in values["alarms"] if one["by"]]
    assert (told["alarm"], told["mode"], told["cleared_at_utc"], told["days"]) == ("FaultLeaked", "live", None, 2.0)


def test_the_command_reads_what_prove_has_written(tmp_path: Path) -> None:
    """From the same state folder; a record that was edited is named, and counts nothing."""
    config = configured(tmp_path)
    fired = alarm_proof(0)
    clock = ManualClock(start_utc=NOW)
    notes = ProofJournal(alarm_proofs.folder(tmp_path, fired.run_id), clock)
    notes.write("proof-started", run_id=fired.run_id, by=fired.by, slot="", regions=[TARGET])
    notes.write("alarm-proved", **replace(fired, fired_at_utc=datetime(2020, 1, 1, tzinfo=UTC)).to_fields())
    notes.close()

    listed = CliRunner().invoke(cli, ["score", "--config", str(config), "--json"])
    shown = CliRunner().invoke(cli, ["score", "--config", str(config)])
    path = alarm_proofs.folder(tmp_path, fired.run_id).journal
    path.write_bytes(path.read_bytes().replace(b"FaultLeaked", b"HighLatency"))
    edited = CliRunner().invoke(cli, ["score", "--config", str(config), "--json"])

    assert [(one["alarm"], one["by"]) for one in json.loads(listed.stdout)["alarms"] if one["by"]] == [
        ("FaultLeaked", fired.run_id)
    ]
    assert "alarm-proof" in shown.stdout
    values = json.loads(edited.stdout)
    assert not [one for one in values["alarms"] if one["by"]]
    assert "the record is broken" in values["not_counted"][0]["why"]
    assert (listed.exit_code, edited.exit_code) == (3, 1)
