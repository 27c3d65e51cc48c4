"""The archive for auditors: whole, the same bytes for the same input, and what cannot be believed is in it, marked."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from kms_chaos.archive import Archive, NothingThereError, Period, build
from kms_chaos.cli import cli
from kms_chaos.durable import make_folder
from kms_chaos.judge import judge
from kms_chaos.score import declared
from kms_chaos.testing import END, PURPOSES, REGIONS, RUN_ID, Story, drill, held_story, of
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.verdict import Verdict

pytestmark = pytest.mark.slow  # each renders several reports, a second and a half apiece

NOW = datetime(2026, 12, 15, 12, tzinfo=UTC)
CLAIMS_EVERY_DRILL_MAKES = {claim.name for claim in judge(held_story().journal()).claims}


def finished(story: Story) -> Story:
    verdict = str(judge(story.journal()).verdict)
    return story.add(END + 2, "verdict", verdict=verdict, claims={}).add(END + 3, "closed", by="drill", verdict=verdict)


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., DrillFolder]:
    def put(story: Story, run_id: str = RUN_ID) -> DrillFolder:
        where = DrillFolder(tmp_path / "drills" / run_id)
        make_folder(where.path)
        told = story.changed(of("run-started"), run_id=run_id)
        where.journal.write_bytes(told.raw())
        where.verdict.write_text(json.dumps(judge(told.journal()).to_json()))
        where.undo.write_text("{}")
        return where

    return put


def made(folder: Path, name: str = "out.zip", period: str = "2026") -> Archive:
    wanted = declared([drill()], regions=REGIONS, purposes=PURPOSES)
    return build(folder / name, folder, Period.parse(period), wanted, now_utc=NOW)


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_everything_is_there_and_its_hash_is_right(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """What a run left, as it was found; what was made of it again; score, controls, index, manifest."""
    where = keep(finished(held_story()))

    archive = made(tmp_path)

    found = contents(tmp_path / "out.zip")
    assert found[f"runs/{RUN_ID}/journal.ndjson"] == where.journal.read_bytes()
    assert found[f"runs/{RUN_ID}/verdict.json"] == where.verdict.read_bytes()
    assert {f"runs/{RUN_ID}/undo.json", "score.html", "score.json", "score.md", "controls.md"} <= found.keys()
    assert b"HELD" in found[f"runs/{RUN_ID}/judged-again/report.html"]
    assert json.loads(found[f"runs/{RUN_ID}/judged-again/report.json"])["judgement"]["verdict"] == "HELD"
    manifest = json.loads(found["manifest.json"])
    assert {f["path"] for f in manifest["files"]} == found.keys() - {"manifest.json"}
    for file in manifest["files"]:
        assert (file["bytes"], file["sha256"]) == (
            len(found[file["path"]]),
            hashlib.sha256(found[file["path"]]).hexdigest(),
        )
    sums = dict(reversed(line.split("  ")) for line in found["SHA256SUMS"].decode().splitlines())
    assert sums.keys() == found.keys() - {"manifest.json", "SHA256SUMS"}
    assert all(hashlib.sha256(found[path]).hexdigest() == sha256 for path, sha256 in sums.items())
    assert archive.sha256 == hashlib.sha256((tmp_path / "out.zip").read_bytes()).hexdigest()
    assert archive.doubtful == ()


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """The times of files are not in it, nor their order."""
    where = keep(finished(held_story()))
    first = made(tmp_path, "a.zip")
    where.verdict.write_bytes(where.verdict.read_bytes())
    where.undo.unlink()
    where.undo.write_text("{}")

    assert made(tmp_path, "b.zip").sha256 == first.sha256
    assert not list(tmp_path.glob(".*"))


def test_a_broken_journal_is_in_it_and_marked(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """Evidence of tampering is evidence."""
    where = keep(finished(held_story()))
    where.journal.write_bytes(where.journal.read_bytes().replace(b'"seconds":0.9', b'"seconds":0.1', 1))

    archive = made(tmp_path)

    found = contents(tmp_path / "out.zip")
    assert [entry.run_id for entry in archive.doubtful] == [RUN_ID]
    assert found[f"runs/{RUN_ID}/journal.ndjson"] == where.journal.read_bytes()
    assert f"runs/{RUN_ID}/judged-again/report.html" not in found
    assert "edited" in json.loads(found["manifest.json"])["runs"][0]["not_counted"]
    assert b"Not counted: the journal is broken" in found["index.html"]
    assert json.loads(found["score.json"])["proven"] == 0
    assert [doubt["run_id"] for doubt in json.loads(found["score.json"])["not_counted"]] == [RUN_ID]


def test_an_open_run_is_in_it_and_no_reason_for_alarm(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """It may be running while somebody asks for the archive."""
    keep(held_story())

    archive = made(tmp_path)

    assert archive.doubtful == ()
    assert "not closed" in archive.entries[0].doubt


@pytest.mark.parametrize(
    ("period", "there"), [("2026", True), ("2026-Q4", True), ("2026-11", True), ("2026-12", False)]
)
def test_a_period_has_the_runs_that_began_in_it(
    tmp_path: Path, keep: Callable[..., DrillFolder], period: str, *, there: bool
) -> None:
    """And an archive of nothing is not made."""
    keep(finished(held_story()))

    if there:
        assert len(made(tmp_path, period=period).entries) == 1
    else:
        with pytest.raises(NothingThereError):
            made(tmp_path, period=period)
        assert not (tmp_path / "out.zip").exists()


def test_a_broken_run_belongs_to_the_period_of_its_name(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """Its journal cannot say when it began."""
    keep(finished(held_story())).journal.write_bytes(b"{}\n")

    assert len(made(tmp_path, period="2026-11").entries) == 1
    with pytest.raises(NothingThereError):
        made(tmp_path, period="2026-10")


@pytest.mark.parametrize(
    ("name", "since", "until"),
    [
        ("2026", (2026, 1), (2027, 1)),
        ("2026-Q4", (2026, 10), (2027, 1)),
        ("2026-Q1", (2026, 1), (2026, 4)),
        ("2026-12", (2026, 12), (2027, 1)),
        ("2026-02", (2026, 2), (2026, 3)),
    ],
)
def test_periods(name: str, since: tuple[int, int], until: tuple[int, int]) -> None:
    """Half open, in UTC."""
    period = Period.parse(name)

    assert ((period.since.year, period.since.month), (period.until.year, period.until.month)) == (since, until)


@pytest.mark.parametrize("name", ["", "26", "2026-13", "2026-Q5", "2026-1", "1999", "9999", "2026-00", "last year"])
def test_what_is_no_period(name: str) -> None:
    """Refused, with an example."""
    with pytest.raises(ValueError, match="2026-Q1"):
        Period.parse(name)


def test_a_period_that_is_over_is_scored_at_its_end() -> None:
    """The same for ever; one that lasts, at the end of today: the same all day."""
    assert Period.parse("2026").as_of(datetime(2027, 3, 1, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    assert Period.parse("2026").as_of(NOW) == datetime(2026, 12, 16, tzinfo=UTC)


def test_the_controls_are_those_of_the_documentation() -> None:
    """One text in two places: the archive's comes with the package. Every claim is mapped."""
    root = Path(__file__).parents[2]
    shown = (root / "docs/controls.md").read_text(encoding="utf-8")

    assert shown == (root / "chaos/kms_chaos/controls.md").read_text(encoding="utf-8")
    assert "To be confirmed by your auditor" in shown
    assert {name for name in CLAIMS_EVERY_DRILL_MAKES if f"| `{name}` |" not in shown} == set()
    assert all(f"`{verdict}`" in shown for verdict in Verdict)


def test_the_command_in_both_spellings(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """0 made; 1 made, and a run is not believed; 3 nothing there; 2 usage."""
    config = tmp_path / "watchdog.toml"
    config.write_text(
        '[estate]\naccount_id = "123456789012"\nprimary_region = "us-east-1"\n'
        'regions = ["us-east-1", "us-west-2", "eu-west-1"]\n[keys.general]\nalias = "alias/a"\n'
        f'[state]\ndir = "{tmp_path}"\n'
    )
    keep(finished(held_story()))

    def run(*words: str) -> int:
        return CliRunner().invoke(cli, ["evidence", *words, "--config", str(config)]).exit_code

    short, long = str(tmp_path / "short.zip"), str(tmp_path / "long.zip")
    assert run("--period", "2026-11", "--output", short) == 0
    assert run("archive", "--period", "2026-11", "--output", long) == 0
    assert Path(short).read_bytes() == Path(long).read_bytes()
    assert run("--period", "2025", "--output", short) == 3
    assert run("--period", "whenever") == 2
    assert run() == 2
    keep(finished(held_story()), "20261125T000000Z-other").verdict.write_text("{}")
    assert run("archive", "--period", "2026-11", "--output", long) == 1


def test_a_link_in_a_runs_folder_is_not_followed(tmp_path: Path, keep: Callable[..., DrillFolder]) -> None:
    """Whoever makes the archive may read more than whoever laid the link: none of that goes to the auditors."""
    where = keep(finished(held_story()))
    (secret := tmp_path / "secret").write_text("not for auditors")
    (where.path / "notes.txt").symlink_to(secret)

    made(tmp_path)

    found = contents(tmp_path / "out.zip")
    assert [name for name, content in found.items() if b"not for auditors" in content or "notes" in name] == []
