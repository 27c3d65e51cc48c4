"""The record of proofs: written so that a kill loses nothing, read by the daemon, and shown as metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from daemon_kit import REGIONS, START

from kms_core.testing import FakeEstate, ManualClock, core_over
from kms_watchdog import alarm_proofs
from kms_watchdog.alarm_proofs import AlarmProof, Forced, ProofJournal, ProofWatch, standing, to_be_proven
from kms_watchdog.config import Settings, load
from kms_watchdog.daemon import Daemon
from kms_watchdog.drills.folder import FolderBusyError
from kms_watchdog.results import Kind
from kms_watchdog.sinks.prometheus import Exposition, PrometheusSink
from kms_watchdog.sinks.sink import AlarmMoved
from kms_watchdog.state_folder import StateFolder

HERE, THERE = REGIONS[:2]
RUN_ID = "20260101T000000Z-alarm-proof"
NAME = "ParkerFlight-KMS-FaultLeaked"
FORCED = {"name": NAME, "region": HERE, "proof": "PROOF 1", "state": "OK", "reason": "well"}


def proof(
    *, days: float = 0.0, region: str = HERE, told: bool = True, restored: bool = True, **more: Any
) -> AlarmProof:
    fired = START + timedelta(days=days)
    return AlarmProof(
        alarm="FaultLeaked",
        name=NAME,
        region=region,
        by="arn:aws:iam::123456789012:role/R",
        run_id=RUN_ID,
        fired_at_utc=fired,
        told_at_utc=fired + timedelta(seconds=2) if told else None,
        restored_at_utc=fired + timedelta(seconds=3) if restored else None,
        **more,
    )


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock) -> ProofJournal:
    return ProofJournal(alarm_proofs.folder(tmp_path, RUN_ID), clock)


def test_a_proof_is_read_as_it_was_written(tmp_path: Path, journal: ProofJournal) -> None:
    """With times and who did it; closed is closed."""
    one, other = proof(), proof(told=False, restored=False, finding="nobody heard")
    journal.write("proof-started", run_id=RUN_ID, by=one.by, slot="", regions=[HERE])
    for each in (one, other):
        journal.write("alarm-proved", **each.to_fields())
    journal.write("verdict", verdict="BROKE")
    journal.write("closed", by="prove", verdict="BROKE")
    journal.close()

    [run] = alarm_proofs.read_all(tmp_path)

    assert run.proofs == (one, other)
    assert (run.run_id, run.closed, run.left, run.broken) == (RUN_ID, True, (), "")


def test_what_was_set_off_and_not_put_back_is_left(tmp_path: Path, journal: ProofJournal) -> None:
    """The state of before is the first that was noted; a torn line is not believed."""
    journal.write("alarm-forced", **FORCED)
    journal.write("alarm-forced", **{**FORCED, "state": "ALARM"})
    journal.write("alarm-forced", **{**FORCED, "name": "other"})
    journal.write("alarm-restored", name="other", region=HERE, state="OK")
    journal.close()
    path = alarm_proofs.folder(tmp_path, RUN_ID).journal
    path.write_bytes(path.read_bytes() + b'{"event":"alarm-restored"')

    [run] = alarm_proofs.read_all(tmp_path)

    assert run.left == (Forced(**FORCED),)
    assert not run.closed


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda raw: raw.replace(b"2026", b"2027", 1), id="edited"),
        pytest.param(lambda raw: raw.replace(RUN_ID.encode(), b"20260101T000000Z-another", 1), id="renamed"),
        pytest.param(lambda raw: b"\xff\n" + raw, id="no-text"),
    ],
)
def test_an_edited_record_proves_nothing(
    tmp_path: Path, journal: ProofJournal, change: Callable[[bytes], bytes]
) -> None:
    """Nobody becomes proven with an editor."""
    journal.write("proof-started", run_id=RUN_ID, by="x", slot="", regions=[HERE])
    journal.write("alarm-proved", **proof().to_fields())
    journal.close()
    path = alarm_proofs.folder(tmp_path, RUN_ID).journal
    path.write_bytes(change(path.read_bytes()))

    [run] = alarm_proofs.read_all(tmp_path)

    assert run.proofs == ()
    assert run.broken


def test_a_record_in_another_runs_folder_proves_nothing(tmp_path: Path, journal: ProofJournal) -> None:
    """To copy a good run is not to run it again."""
    journal.write("proof-started", run_id=RUN_ID, by="x", slot="", regions=[HERE])
    journal.close()
    found = alarm_proofs.folder(tmp_path, RUN_ID)
    found.path.rename(found.path.with_name("20260201T000000Z-alarm-proof"))

    [run] = alarm_proofs.read_all(tmp_path)

    assert run.broken == f"ValueError: its journal is that of {RUN_ID}"


def test_one_proof_or_drill_at_a_time(tmp_path: Path) -> None:
    """The lock is the drills' own."""
    with (
        alarm_proofs.no_drill_meanwhile(tmp_path),
        pytest.raises(FolderBusyError),
        alarm_proofs.no_drill_meanwhile(tmp_path),
    ):
        pytest.fail("it was taken twice")


BOTH: Mapping[str, frozenset[str]] = {NAME: frozenset({HERE, THERE})}


def test_an_alarm_is_as_proven_as_where_it_was_proven_least() -> None:
    """One region's alarm says nothing about the other's way."""
    old, new = proof(days=1), proof(days=5, region=THERE)

    assert standing([new], BOTH) == {}
    assert standing([new, old, proof(days=0)], BOTH) == {
        NAME: AlarmMoved(
            fired_at=old.fired_at_utc.timestamp(), cleared_at=(old.fired_at_utc + timedelta(seconds=3)).timestamp()
        )
    }


def test_what_nobody_was_told_of_is_no_proof() -> None:
    """Nor does it take an earlier one away; one that was not put back has not cleared."""
    first = proof(days=1, restored=False)

    assert standing([proof(told=False)], {NAME: {HERE}}) == {}
    assert standing([first, proof(days=2, told=False)], {NAME: {HERE}}) == {
        NAME: AlarmMoved(fired_at=first.fired_at_utc.timestamp())
    }
    assert standing([first], {"another": {HERE}}) == {}


@pytest.fixture
def managed(write_config: Callable[..., Path], tmp_path: Path) -> Settings:
    """A configuration whose alarms are rendered."""
    for region in (HERE, THERE):
        alarms = [{"AlarmName": NAME}, {"AlarmName": "ParkerFlight-KMS-Drill-HighErrorRate-us-east-1"}]
        (tmp_path / f"{region}.json").write_text(json.dumps(alarms), encoding="utf-8")
    return load(write_config(f'[canaries.alarm_path]\ndefinitions = "{tmp_path}"\n'), environ={})


def test_what_has_to_be_proven_is_what_is_rendered(managed: Settings, settings: Settings) -> None:
    """Live ones, for drills prove the twins; where nothing is rendered, nobody knows which there should be."""
    off = managed.model_copy(update={"cloudwatch": managed.cloudwatch.model_copy(update={"enabled": False})})

    assert to_be_proven(managed) == BOTH
    assert to_be_proven(settings) == {}
    assert to_be_proven(off) == {}


def test_a_definition_that_is_gone_is_not_waited_for(managed: Settings, tmp_path: Path) -> None:
    """The canary says so."""
    (tmp_path / f"{THERE}.json").unlink()

    assert to_be_proven(managed) == {NAME: frozenset({HERE})}


def test_the_watch_tells_what_is_new(tmp_path: Path, journal: ProofJournal) -> None:
    """At the start what was proven before it, then each proof as it comes; and nothing twice."""
    told: list[Mapping[str, AlarmMoved]] = []
    watch = ProofWatch(tmp_path, {NAME: {HERE}}, told.append)
    watch.look()
    journal.write("proof-started", run_id=RUN_ID, by="x", slot="", regions=[HERE])
    journal.write("alarm-proved", **proof().to_fields())
    watch.look()
    watch.look()
    journal.write("alarm-proved", **proof(days=40).to_fields())
    watch.look()
    journal.close()

    assert [one[NAME].fired_at for one in told] == [
        START.timestamp(),
        (START + timedelta(days=40)).timestamp(),
    ]


def test_a_broken_record_is_told_once(tmp_path: Path, journal: ProofJournal) -> None:
    """And what other runs prove stands."""
    journal.close()
    path = alarm_proofs.folder(tmp_path, RUN_ID).journal
    path.write_bytes(b"nonsense\n")
    watch = ProofWatch(tmp_path, {NAME: {HERE}}, lambda _: None)

    with structlog.testing.capture_logs() as logs:
        watch.look()
        watch.look()

    assert [one["event"] for one in logs] == ["alarm_proof.journal_broken"]


def shown(sink: PrometheusSink) -> dict[str, float]:
    lines = sink.exposition.render("")[0].decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line.startswith("kms_watchdog_alarm_last_"))
    return {name.removeprefix("kms_watchdog_alarm_last_").partition("_")[0]: float(value) for name, _, value in pairs}


def test_the_newest_sight_of_an_alarm_stands() -> None:
    """Whether a drill's or a proof's, and in whichever order they are read; after a reload too."""
    sink = PrometheusSink(Exposition(), regions=REGIONS)
    new = AlarmMoved(fired_at=200.0, cleared_at=210.0)
    sink.on_alarms({NAME: new})
    sink.on_alarms({NAME: AlarmMoved(fired_at=100.0, cleared_at=110.0)})
    before = shown(sink)
    again = PrometheusSink(sink.exposition, regions=REGIONS)
    again.begin(sink)
    again.on_alarms({NAME: AlarmMoved(fired_at=100.0, cleared_at=110.0)})
    reloaded = shown(again)
    again.on_alarms({NAME: replace(new, fired_at=300.0, cleared_at=None)})

    assert before == reloaded == {"fired": 200.0, "cleared": 210.0}
    assert shown(again) == {"fired": 300.0, "cleared": 210.0}


@pytest.fixture
def make_daemon(
    managed: Settings, estate: FakeEstate, clock: ManualClock, tmp_path: Path
) -> Iterator[Callable[[], Daemon]]:
    """Return what builds a daemon whose alarms are rendered; it looks at fakes."""
    quiet = managed.model_copy(update={"canaries": managed.canaries.model_copy(update={"kinds": (Kind.ROUND_TRIP,)})})
    folder = StateFolder(managed.state.dir)
    folder.prepare()
    with ExitStack() as ending:

        def make() -> Daemon:
            made = Daemon(
                quiet,
                tmp_path / "watchdog.toml",
                folder,
                clock,
                make_core=lambda config, observer: core_over(estate, config, observer=observer),
            )
            ending.callback(made.core.close)
            ending.callback(made.kept.close)
            return made

        yield make


def test_the_daemon_shows_never_and_then_what_is_proven(
    make_daemon: Callable[[], Daemon], managed: Settings, clock: ManualClock
) -> None:
    """0 from the start, as the rule for never needs; a proof in both regions, and no less, ends that."""
    daemon = make_daemon()
    [look] = [job.action for job in daemon.jobs() if job.id == "alarms.proofs"]
    never = shown(daemon.prometheus)
    for days, region in enumerate((HERE, THERE)):
        notes = ProofJournal(alarm_proofs.folder(managed.state.dir, f"{RUN_ID}-{days}"), clock)
        notes.write("alarm-proved", **proof(days=days, region=region).to_fields())
        notes.close()
        look()
        if region == HERE:
            half = shown(daemon.prometheus)

    assert never == half == {"fired": 0.0, "cleared": 0.0}
    assert shown(daemon.prometheus) == {"fired": START.timestamp(), "cleared": START.timestamp() + 3}
