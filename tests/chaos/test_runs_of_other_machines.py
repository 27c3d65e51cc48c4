"""Who counts drills counts the estate's: runs that are in the evidence store alone count as those on this disk do."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from evidence_kit import BUCKET, MoodyStore, make_bucket, moto_aws

from kms_chaos import proofs
from kms_chaos.cli import cli
from kms_chaos.evidence.segments import Cut
from kms_chaos.evidence.sending import finish
from kms_chaos.guards import NotHeldError
from kms_chaos.guards.blast_radius import held_on_general
from kms_chaos.judge import judge
from kms_chaos.testing import END, RUN_ID, STARTED, TARGET, Story, drill, held_story, of
from kms_core.testing import ManualClock
from kms_watchdog.config import Settings, load
from kms_watchdog.drills.copies import all_folders, copies_dir, copy_new
from kms_watchdog.drills.elsewhere import LARGEST_JOURNAL_BYTES
from kms_watchdog.drills.folder import DrillFolder, folder
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.evidence.store import DirStore, Store, StoreError
from kms_watchdog.readiness.checklist import Checklist
from kms_watchdog.readiness.items import Answer, State

__all__ = ["moto_aws"]

ACCOUNT = "123456789012"
NOW = STARTED + timedelta(days=3)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DAYS = timedelta(days=1)


def finished(story: Story) -> Story:
    verdict = str(judge(story.journal()).verdict)
    return story.add(END + 2, "verdict", verdict=verdict, claims={}).add(END + 3, "closed", by="drill", verdict=verdict)


def begun(run_id: str = RUN_ID, account: str = ACCOUNT) -> dict[str, Any]:
    """What the engine's first record says besides what the story has."""
    return {
        "run_id": run_id,
        "drill": "region-blackhole",
        "region": TARGET,
        "config": {"estate": {"account_id": account}},
    }


@dataclass
class Estate:
    """This machine, another one that drills, and the store in which both keep their evidence."""

    here: Path
    settings: Settings
    config: Path
    there: Path
    store: Store

    def ran(self, story: Story | None = None, run_id: str = RUN_ID, account: str = ACCOUNT) -> DrillFolder:
        """Let the other machine run it, and keep its evidence."""
        told = (story or finished(held_story())).changed(of("run-started"), **begun(run_id, account))
        where = folder(self.there, run_id)
        where.path.mkdir(parents=True, exist_ok=True)
        where.journal.write_bytes(told.raw())
        where.verdict.write_text(json.dumps(judge(told.journal()).to_json()))
        self.keep(where)
        return where

    def keep(self, where: DrillFolder) -> None:
        sent = finish(where, self.store, None, ManualClock(start_utc=NOW), Cut(seconds=10, size_bytes=1 << 14))
        assert sent.error == ""

    def copy(self, since_utc: datetime = LONG_AGO) -> list[str]:
        """Copy what is new, and return what was said."""
        said: list[str] = []
        copy_new(self.settings, self.store, since_utc, said.append)
        return said

    def known(self) -> list[str]:
        return [where.run_id for where in all_folders(self.settings.state.dir)]

    def counts(self) -> list[str]:
        return [proof.run_id for proof in proofs.found(self.settings.state.dir)[0]]

    def doubts(self) -> list[str]:
        return [doubt.why for doubt in proofs.found(self.settings.state.dir)[1]]


def configured(folder_: Path, place: str) -> Path:
    path = folder_ / "watchdog.toml"
    path.write_text(
        f'[estate]\naccount_id = "{ACCOUNT}"\nprimary_region = "us-east-1"\n'
        'regions = ["us-east-1", "us-west-2", "eu-west-1"]\n[keys.general]\nalias = "alias/a"\n'
        f'[keys.payment]\nalias = "alias/b"\n[state]\ndir = "{folder_ / "here"}"\n'
        f'[drills.evidence]\nstore = "{place}"\n'
    )
    (folder_ / "here").mkdir(exist_ok=True)
    return path


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    config = configured(tmp_path, f"dir:{tmp_path / 'store'}")
    return Estate(tmp_path / "here", load(config), config, tmp_path / "there", MoodyStore(tmp_path / "store"))


@pytest.fixture
def command(estate: Estate) -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(cli, [*words, "--config", str(estate.config)])


def test_a_run_of_another_machine_counts_and_is_copied_once(estate: Estate) -> None:
    """What is sealed in the store never changes: who asks again asks for the list of runs alone."""
    where = estate.ran()

    said, again = estate.copy(), MoodyStore(Path(str(estate.store.place).removeprefix("dir:")))
    copy_new(estate.settings, again, LONG_AGO, said.append)

    assert said == [f"copying 1 run of other machines from {estate.store.place}"]
    assert estate.counts() == [RUN_ID]
    assert again.asked == 1
    (copied,) = all_folders(estate.settings.state.dir)
    assert {p.name: p.read_bytes() for p in copied.path.iterdir()} == {
        p.name: p.read_bytes() for p in where.path.iterdir() if p.name != "stored.json"
    }


def test_a_run_that_is_here_itself_counts_once(estate: Estate) -> None:
    """Its own machine keeps evidence, too."""
    where = estate.ran()
    estate.copy()
    own = folder(estate.settings.state.dir, RUN_ID)
    own.path.parent.mkdir()
    where.path.rename(own.path)

    assert [one.path for one in all_folders(estate.settings.state.dir)] == [own.path]
    assert estate.copy() == []
    assert estate.counts() == [RUN_ID]


def test_a_run_of_another_account_does_not_count_and_is_not_asked_for_again(estate: Estate) -> None:
    """Two estates may share a bucket."""
    estate.ran(account="999999999999")

    assert len(estate.copy()) == 1
    assert estate.copy() == []
    assert (estate.counts(), estate.doubts()) == ([], [])
    assert list((copies_dir(estate.settings.state.dir) / RUN_ID).iterdir()) == []


def test_what_began_before_is_left_where_it_is(estate: Estate) -> None:
    """Seven years of drills are gigabytes; a name that tells no time is looked at in any case."""
    estate.ran()
    estate.ran(run_id="undated")

    estate.copy(since_utc=STARTED + timedelta(seconds=1))
    later = estate.known()
    estate.copy(since_utc=STARTED)

    assert later == ["undated"]
    assert estate.known() == [RUN_ID, "undated"]


def test_runs_are_in_order_of_time_wherever_they_are(estate: Estate) -> None:
    """The names begin with it; a draft that somebody left, or a file, is no run."""
    names = [f"2026112{day}T031500Z-x" for day in (5, 6, 7)]
    for name in (names[0], names[2]):
        estate.ran(run_id=name)
    folder(estate.settings.state.dir, names[1]).path.mkdir(parents=True)
    estate.copy()
    copies = copies_dir(estate.settings.state.dir)
    (copies / f".{names[0]}.7").mkdir()
    (copies / "20261128T031500Z-a-file").write_text("")

    assert estate.known() == names
    assert [path.stat().st_mode & 0o777 for path in (copies, copies / names[0])] == [0o750, 0o750]


def test_a_run_without_a_line_is_left_for_the_next_time(estate: Estate) -> None:
    """Its machine has not sent the first one yet; hidden files are drafts."""
    inside = Path(str(estate.store.place).removeprefix("dir:")) / "runs" / RUN_ID
    inside.mkdir(parents=True)
    (inside / "a.json").write_text("{}")

    estate.copy()
    none_yet = estate.known()
    (inside / "segments").mkdir()
    (inside / "segments" / "00000.ndjson").write_bytes(b"[]\n")
    (inside / ".draft").write_text("")
    estate.copy()

    assert none_yet == []
    (copied,) = all_folders(estate.settings.state.dir)
    assert {path.name: path.read_bytes() for path in copied.path.iterdir()} == {
        "a.json": b"{}",
        "journal.ndjson": b"[]\n",
    }


@pytest.mark.parametrize("first", [b"", b"{", b"[]", b"{}", b'{"config": 7}'])
def test_a_run_that_does_not_say_whose_it_is_is_copied_and_named(estate: Estate, first: bytes) -> None:
    """To leave out what cannot be read would hide it."""
    inside = Path(str(estate.store.place).removeprefix("dir:")) / "runs" / RUN_ID
    inside.mkdir(parents=True)
    (inside / "manifest.json").write_text("{}")
    (inside / "journal.ndjson").write_bytes(first + b"\n" * bool(first))

    estate.copy()

    (doubt,) = estate.doubts()
    assert doubt.startswith("the journal is broken")
    assert estate.copy() == []


def test_the_journal_is_what_was_sealed_whatever_was_streamed(estate: Estate) -> None:
    """Segments are how the lines came to the store; they may have been lost since."""
    where = estate.ran()
    streamed = Path(str(estate.store.place).removeprefix("dir:")) / "runs" / RUN_ID / "segments"
    for segment in streamed.iterdir():
        segment.unlink()

    estate.copy()

    (copied,) = all_folders(estate.settings.state.dir)
    assert copied.journal.read_bytes() == where.journal.read_bytes()


def test_two_that_copy_at_once_do_not_disturb_each_other(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes second finds the run there; what a dead one left of the same name is gone over."""
    estate.ran()
    copies = copies_dir(estate.settings.state.dir)
    (left := copies / f".{RUN_ID}.{os.getpid()}").mkdir(parents=True)
    (left / "half").write_text("")
    really = Path.rename

    def too_late(draft: Path, target: Path) -> Path:
        really(draft, target)
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(Path, "rename", too_late)
    estate.copy()

    assert estate.counts() == [RUN_ID]
    assert [path.name for path in copies.iterdir()] == [RUN_ID]
    assert not (copies / RUN_ID / "half").exists()


def test_what_stands_in_the_place_of_a_copy_is_said(estate: Estate) -> None:
    """A file of a run's name is nobody's run."""
    estate.ran()
    (copies := copies_dir(estate.settings.state.dir)).mkdir()
    (copies / RUN_ID).write_text("")

    with pytest.raises(StoreError, match="cannot be copied"):
        estate.copy()
    assert [path.name for path in copies.iterdir()] == [RUN_ID]


def test_a_run_that_is_not_sealed_is_known_by_its_lines_and_counts_later(estate: Estate) -> None:
    """Its machine may have died, or it runs still: nobody need look at it, and nobody may leave it out."""
    where = estate.ran(held_story())

    estate.copy()
    (open_run,) = proofs.read(estate.settings.state.dir)
    where.journal.write_bytes(finished(held_story()).changed(
        of("run-started"), run_id=RUN_ID, config={"estate": {"account_id": ACCOUNT}}
    ).raw())  # fmt: skip
    estate.keep(where)
    said = estate.copy()

    assert isinstance(open_run.found, proofs.Doubt)
    assert open_run.found.open
    assert open_run.raw == where.journal.read_bytes()[: len(open_run.raw)]
    assert len(said) == 1
    assert estate.counts() == [RUN_ID]


def test_a_journal_that_the_manifest_does_not_list_is_named(estate: Estate) -> None:
    """Whole in itself, and of no seal."""
    estate.ran()
    estate.copy()
    (copied,) = all_folders(estate.settings.state.dir)
    copied.journal.write_bytes(finished(held_story()).changed(of("run-started"), run_id=RUN_ID, more="later").raw())
    copied.verdict.unlink()
    unlike = estate.doubts()
    copied.manifest.write_text("[]")

    assert unlike == ["its journal is not the one that manifest.json lists"]
    assert estate.doubts() == ["manifest.json cannot be read: TypeError"]
    assert estate.counts() == []


@pytest.mark.parametrize("name", ["..", ".hidden", "approvals", "a" * 81, "with space"])
def test_a_name_that_no_run_has_is_not_copied(tmp_path: Path, estate: Estate, name: str) -> None:
    """Names come from a bucket that others may write to, and become names of folders here."""

    class Named(DirStore):
        def folders(self, prefix: str) -> tuple[str, ...]:
            return (name,)

    copy_new(estate.settings, Named(tmp_path / "store"), LONG_AGO, lambda _: pytest.fail("it was to be copied"))

    assert sorted(p.name for p in estate.here.iterdir()) == []


def test_a_file_larger_than_any_drills_is_not_read(tmp_path: Path, estate: Estate) -> None:
    """Memory is bounded by what a drill leaves, not by what somebody put there; and nothing is half copied."""

    class Sized(DirStore):
        size, read = LARGEST_JOURNAL_BYTES + 1, False

        def sizes(self, prefix: str = "") -> dict[str, int]:
            return dict.fromkeys(super().sizes(prefix), self.size)

        def get(self, name: str) -> bytes:
            self.read = True
            return super().get(name)

    estate.ran()
    store = Sized(tmp_path / "store")

    with pytest.raises(StoreError, match=f"has {LARGEST_JOURNAL_BYTES + 1} bytes"):
        copy_new(estate.settings, store, LONG_AGO, lambda _: None)
    assert not store.read
    assert list(copies_dir(estate.settings.state.dir).iterdir()) == []
    store.size = LARGEST_JOURNAL_BYTES
    copy_new(estate.settings, store, LONG_AGO, lambda _: None)
    assert estate.counts() == [RUN_ID]


def test_a_store_that_fails_half_way_leaves_no_half_run(tmp_path: Path, estate: Estate) -> None:
    """The next one who asks copies what is missing."""

    class Failing(DirStore):
        def get(self, name: str) -> bytes:
            if "verdict" in name:
                raise StoreError("ConnectTimeoutError")
            return super().get(name)

    estate.ran()

    with pytest.raises(StoreError, match="ConnectTimeoutError"):
        copy_new(estate.settings, Failing(tmp_path / "store"), LONG_AGO, lambda _: None)
    assert estate.known() == []
    estate.copy()
    assert estate.counts() == [RUN_ID]


def test_a_state_folder_that_takes_nothing_is_said(estate: Estate) -> None:
    """The reason names the place."""
    estate.ran()
    copies_dir(estate.settings.state.dir).write_text("not a folder")

    with pytest.raises(StoreError, match="cannot be copied"):
        estate.copy()


def test_a_bucket_is_read_as_a_folder_is(tmp_path: Path, moto_aws: None) -> None:
    """Streamed, sealed, and copied from S3, where an object may bear any name."""
    config = configured(tmp_path, f"s3://{BUCKET}/kms")
    settings = load(config)
    s3 = make_bucket(settings)
    store = open_store(settings, ManualClock(start_utc=NOW))
    assert store is not None
    estate = Estate(tmp_path / "here", settings, config, tmp_path / "there", store)
    estate.ran()
    s3.put_object(Bucket=BUCKET, Key=f"kms/runs/{RUN_ID}/..", Body=b"x")

    estate.copy()

    assert estate.counts() == [RUN_ID]


# -- the commands -------------------------------------------------------------------------------------------------


def proven(result: Result) -> int:
    return int(json.loads(result.stdout)["proven"])


def test_the_score_is_that_of_the_estate(estate: Estate, command: Callable[..., Result]) -> None:
    """Whoever asks on a machine that never drilled is told what was proven all the same."""
    estate.ran()

    before = command("score", "--json", "--window", "3650d", "--offline")
    asked = command("score", "--json", "--window", "3650d")
    after = command("score", "--json", "--window", "3650d", "--offline")

    assert proven(before) == 0
    assert before.stderr.startswith(f"kms-chaos: {estate.store.place} was not asked")
    assert proven(asked) > 0
    assert "copying 1 run of other machines" in asked.stderr
    assert after.stdout.splitlines()[3:] == asked.stdout.splitlines()[3:]


def test_no_score_is_told_without_the_store(tmp_path: Path, estate: Estate, command: Callable[..., Result]) -> None:
    """Half of a score looks like a whole one; who wants it says so."""
    estate.ran()
    (tmp_path / "store/runs").rename(tmp_path / "moved")
    (tmp_path / "store/runs").write_text("not a folder")

    refused = command("score", "--json")
    archive = command("evidence", "--period", "2026")

    assert (refused.exit_code, refused.stdout) == (3, "")
    assert refused.stderr.endswith("--offline counts without\n")
    assert archive.exit_code == 3
    assert json.loads(command("score", "--json", "--offline").stdout)["proven"] == 0


@pytest.mark.slow  # renders reports
def test_the_archive_has_the_runs_of_every_machine(
    tmp_path: Path, estate: Estate, command: Callable[..., Result]
) -> None:
    """As they are in the store, and judged again."""
    where = estate.ran()

    none = command("evidence", "archive", "--period", "2026", "--offline", "--output", str(tmp_path / "none.zip"))
    made = command("evidence", "archive", "--period", "2026", "--output", str(tmp_path / "made.zip"))

    assert none.exit_code == 3
    assert made.exit_code == 0, made.output
    with zipfile.ZipFile(tmp_path / "made.zip") as archive:
        assert archive.read(f"runs/{RUN_ID}/journal.ndjson") == where.journal.read_bytes()
        assert f"runs/{RUN_ID}/judged-again/report.html" in archive.namelist()


# -- who else counts drills ---------------------------------------------------------------------------------------


def on_general() -> Story:
    """The drill on `general` alone, as the engine closes it."""
    only = held_story().without(lambda one: one.event == "canary-result" and one.fields["result"]["key"] == "payment")
    told = only.changed(lambda one: one.fields.get("purpose") == "payment", purpose="general").changed(
        of("run-started"),
        purposes=["general"],
        targets=[TARGET],
        run_id=RUN_ID,
        config={"estate": {"account_id": ACCOUNT}},
    )
    return finished(told)


def test_payment_may_be_drilled_where_another_machine_drilled_general(estate: Estate) -> None:
    """A task that a trigger starts has an empty disk: without this it could never drill `payment`."""
    estate.ran(on_general())

    def asked(not_copied: str = "") -> str:
        keys = ("general", "payment")
        return held_on_general(estate.settings.state.dir, drill(), (TARGET,), keys, NOW, not_copied=not_copied)

    with pytest.raises(NotHeldError, match=r"none has$"):
        asked()
    with pytest.raises(NotHeldError, match=r"none has \(the store does not answer\)"):
        asked("the store does not answer")
    estate.copy()
    assert f"{RUN_ID} held on general" in asked("the store does not answer")


def answers(estate: Estate, **more: Any) -> dict[str, Answer]:
    clock = ManualClock(start_utc=NOW)
    asked = Checklist(estate.settings, clock, url=None, not_asked="no credentials", **more)
    return {answer.item.id: answer for answer in asked.answers()}


def test_the_checklist_counts_the_drills_of_every_machine(tmp_path: Path, estate: Estate) -> None:
    """And says so when it cannot see them."""
    told = finished(held_story().changed(of("alarm-state"), name="ParkerFlight-KMS-HighErrorRate"))
    assert judge(told.journal()).verdict is Verdict.HELD
    before = answers(estate)
    estate.ran(told)
    seen = answers(estate)
    (tmp_path / "store/runs").rename(tmp_path / "moved")
    (tmp_path / "store/runs").write_text("not a folder")
    folder_gone = answers(estate)

    assert before["breakers"].state is State.BAD
    assert (seen["breakers"].state, seen["failover"].state) == (State.GOOD, State.GOOD), seen["failover"].finding
    assert folder_gone["breakers"].state is State.UNKNOWN
    assert folder_gone["breakers"].finding.startswith("evidence store: ")


def test_a_bucket_that_nobody_may_ask_is_unknown_and_is_not_asked(tmp_path: Path) -> None:
    """The credentials are of another account, or of none: what is in the store is then not known to be nothing."""
    settings = load(configured(tmp_path, f"s3://{BUCKET}/kms"))
    clock = ManualClock(start_utc=NOW)
    found = {one.item.id: one for one in Checklist(settings, clock, url=None, not_asked="no credentials").answers()}

    assert {each: found[each].evidence[0].seen for each in ("breakers", "failover")} == {
        "breakers": "no credentials",
        "failover": "no credentials",
    }
    assert found["breakers"].evidence[0].state is State.UNKNOWN
