"""Evidence of runs that were killed: sealed, signed and sent once they are healed; what fails is told, and no more."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from evidence_kit import SIGNED, STARTED, make_run, private_key_file, write_config

from kms_chaos.cli import cli
from kms_chaos.evidence import late
from kms_chaos.evidence.late import Kept
from kms_chaos.undo_record import write as write_undo
from kms_core.testing import ManualClock
from kms_watchdog.config import Settings, load
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, folder
from kms_watchdog.drills.undo import UndoRecord

FIRST, SECOND = "20261124T031500Z-a", "20261224T031500Z-b"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_utc=STARTED + timedelta(hours=1))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The store's folder."""
    return tmp_path / "kept"


@pytest.fixture
def config(tmp_path: Path, kept: Path) -> Path:
    """A configuration with a store and a key."""
    key = private_key_file(tmp_path)
    signing = f'signing = {{kind = "ed25519", private_key_file = "{key}"}}'
    return write_config(tmp_path, f'store = "dir:{kept}"\n{signing}\n')


@pytest.fixture
def settings(config: Path) -> Settings:
    return load(config)


def run_in(settings: Settings, run_id: str = FIRST, *, closed: bool = True) -> DrillFolder:
    """Write a run that promised to be signed."""
    return make_run(settings.state.dir / "drills", run_id, signing=SIGNED, closed=closed)


def stored(kept: Path, where: DrillFolder) -> set[str]:
    return {path.name for path in (kept / "runs" / where.run_id).glob("*") if path.is_file()}


def test_every_closed_run_is_sealed_signed_and_sent(settings: Settings, kept: Path, clock: ManualClock) -> None:
    """Those of earlier days, too; twice is harmless."""
    runs = run_in(settings, FIRST), run_in(settings, SECOND)

    done = list(late.keep(settings, clock))

    assert done == [Kept(run_id=run.run_id, place=f"dir:{kept}") for run in runs]
    for run in runs:
        assert {"journal.ndjson", "signature.json", "manifest.json"} <= stored(kept, run)
    assert list(late.keep(settings, clock)) == []


def test_only_the_run_that_is_named_is_kept(settings: Settings, kept: Path, clock: ManualClock) -> None:
    """The daemon heals one by one."""
    first, second = run_in(settings, FIRST), run_in(settings, SECOND)

    done = list(late.keep(settings, clock, SECOND))

    assert [one.run_id for one in done] == [SECOND]
    assert (stored(kept, first), first.manifest.exists(), second.signature.exists()) == (set(), False, True)


def test_a_run_whose_owner_lives_is_left_to_it(settings: Settings, kept: Path, clock: ManualClock) -> None:
    """It streams its own lines."""
    where = run_in(settings, closed=False)

    with where.owned():
        done = list(late.keep(settings, clock, FIRST))

    assert (done, stored(kept, where), where.manifest.exists()) == ([], set(), False)


def test_what_is_open_is_not_sealed(settings: Settings, kept: Path, clock: ManualClock) -> None:
    """As where the healing failed: its lines are sent, and nobody vouches for it."""
    where = run_in(settings, closed=False)

    done = list(late.keep(settings, clock))

    assert (done, where.manifest.exists(), where.signature.exists()) == ([], False, False)


def test_a_store_that_cannot_be_used_is_told_and_the_run_sealed_all_the_same(
    settings: Settings, kept: Path, clock: ManualClock
) -> None:
    """Signed now, sent when the store is back."""
    where = run_in(settings)
    kept.write_text("a file, where the folder should be")

    (told,) = late.keep(settings, clock)
    kept.unlink()
    (later,) = late.keep(settings, clock)

    assert told.error.startswith(f"not stored: dir:{kept}")
    assert (later.error, "signature.json" in stored(kept, where)) == ("", True)


def test_a_key_that_cannot_be_read_is_told_and_nothing_sealed(
    settings: Settings, kept: Path, clock: ManualClock, tmp_path: Path
) -> None:
    """A manifest without the signature that was promised would say that all is there."""
    where = run_in(settings)
    key = next(tmp_path.glob("*.pem"))
    key.unlink()

    (told,) = late.keep(settings, clock)

    assert (told.run_id, told.error.startswith(f"not signed: {key}: cannot be read")) == (FIRST, True)
    assert (stored(kept, where), where.manifest.exists()) == (set(), False)


def killed(settings: Settings) -> DrillFolder:
    """Write a run that died with its fault on, on a server that is gone since."""
    where = run_in(settings, closed=False)
    lines = where.journal.read_bytes().splitlines(keepends=True)
    where.journal.write_bytes(lines[0])  # the verdict was never given
    record = UndoRecord(
        run_id=where.run_id,
        drill="example",
        toxiproxy_url="http://127.0.0.1:1",
        created_at_utc=STARTED,
        expires_at_utc=STARTED,
        proxies=(),
    )
    write_undo(where, record)
    return where


@pytest.mark.parametrize("named", [True, False])
def test_heal_closes_signs_and_sends_a_run_that_was_killed(
    config: Path, settings: Settings, kept: Path, *, named: bool
) -> None:
    """What the drill itself does at its end."""
    where = killed(settings)

    done = CliRunner().invoke(cli, ["heal", *(("--run", FIRST) if named else ()), "--config", str(config)])

    assert done.exit_code == 0, done.output
    assert f"{FIRST}: evidence sealed, all of it in dir:{kept}" in done.output
    statement = json.loads(json.loads(where.signature.read_bytes())["statement"])
    assert (statement["closed_by"], statement["verdict"]) == ("healer", None)
    assert (kept / "runs" / FIRST / "journal.ndjson").read_bytes() == where.journal.read_bytes()
    assert not where.verdict.exists()


def test_heal_ends_well_although_the_evidence_cannot_be_kept(config: Path, settings: Settings, kept: Path) -> None:
    """The fault is gone, which is what its exit code tells; the rest is one line."""
    where = killed(settings)
    kept.write_text("a file, where the folder should be")

    done = CliRunner().invoke(cli, ["heal", "--run", FIRST, "--config", str(config)])

    assert done.exit_code == 0, done.output
    told = [line for line in done.stderr.splitlines() if "evidence" in line]
    assert len(told) == 1
    assert told[0].startswith(f"kms-chaos: {FIRST}: evidence not stored: dir:{kept}")
    assert journal.read(folder(settings.state.dir, FIRST).journal).closed
    assert where.signature.exists()
