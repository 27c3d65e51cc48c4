"""`kms-chaos verify`: names what was edited, is missing or stands elsewhere; and never takes the unknown for good."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from evidence_kit import BUCKET, STARTED, make_bucket, make_run, moto_aws, previous, private_key_file, write_config

from kms_chaos.cli import cli
from kms_chaos.evidence import sending
from kms_chaos.evidence.sealing import seal
from kms_chaos.evidence.segments import Cut
from kms_chaos.evidence.signing import FileSigner, Signer, signature_file, signer
from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.config import load
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.evidence.choice import open_store

pytestmark = pytest.mark.slow  # each verifies whole drills

__all__ = ["moto_aws"]

CUT = Cut(seconds=10, size_bytes=900)


@pytest.fixture
def key(tmp_path: Path) -> FileSigner:
    return FileSigner(private_key_file(tmp_path))


@pytest.fixture
def public(tmp_path: Path, key: FileSigner) -> Path:
    path = tmp_path / "public.pem"
    path.write_bytes(key.public_key())
    return path


def make_runs(drills: Path, by: Signer | None, count: int = 3) -> list[DrillFolder]:
    """Return sealed runs, a day apart, each naming the one before."""
    runs: list[DrillFolder] = []
    for day in range(count):
        started = STARTED + timedelta(days=day)
        where = make_run(
            drills,
            f"{started:%Y%m%dT%H%M%SZ}-example",
            before=previous(runs[-1]) if runs else None,
            signing=by.about() if by else None,
            started=started,
            more=6,
        )
        seal(where, by, ManualClock(start_utc=started + timedelta(minutes=1)))
        runs.append(where)
    return runs


def verify(place: Path | str, *options: object) -> Result:
    return CliRunner().invoke(cli, ["verify", str(place), *map(str, options)])


def bad(result: Result) -> list[tuple[str, str]]:
    """Return run and detail of everything that is not good, of a `--json` answer."""
    return [(f["run"], f["detail"]) for f in json.loads(result.stdout)["findings"] if f["result"] != "good"]


def test_good_evidence_is_good(tmp_path: Path, key: FileSigner, public: Path) -> None:
    """A table for people, JSON for programs, exit code 0; no configuration is read."""
    make_runs(tmp_path / "drills", key)

    shown = verify(tmp_path / "drills", "--public-key", public, "--config", tmp_path / "absent.toml")
    told = verify(tmp_path / "drills", "--public-key", public, "--json")

    assert shown.exit_code == 0, shown.output
    assert "good 3 drills" in shown.output
    assert "3 drills, none missing between them" in shown.output
    assert (told.exit_code, json.loads(told.stdout)["result"], bad(told)) == (0, "good", [])
    assert len(json.loads(told.stdout)["runs"]) == 3


def test_one_run_alone_is_verified_too(tmp_path: Path, key: FileSigner, public: Path) -> None:
    """The one before it is not missed: nobody asked for the chain. Its folder's name counts."""
    runs = make_runs(tmp_path / "drills", key)
    good = verify(runs[1].path, "--public-key", public)
    runs[1].path.rename(runs[1].path.with_name("20990101T000000Z-other"))

    assert good.exit_code == 0, good.output
    assert verify(tmp_path / "drills" / "20990101T000000Z-other", "--public-key", public).exit_code == 1


def edit(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def cut_middle(where: DrillFolder) -> None:
    lines = where.journal.read_bytes().splitlines(keepends=True)
    where.journal.write_bytes(b"".join(lines[:3] + lines[4:]))


def swap(where: DrillFolder) -> None:
    a, b, c, *rest = where.journal.read_bytes().splitlines(keepends=True)
    where.journal.write_bytes(b"".join([a, c, b, *rest]))


def remove(where: DrillFolder) -> None:
    for path in where.path.iterdir():
        path.unlink()
    where.path.rmdir()


@pytest.mark.parametrize(
    ("tamper", "said_of", "says"),
    [
        pytest.param(lambda w: edit(w.journal, b"true", b"null"), 1, "line 2 (seq 1): edited", id="line-edited"),
        pytest.param(cut_middle, 1, "seq 3 is missing", id="line-missing"),
        pytest.param(swap, 1, "line 3 (seq 1): re-ordered", id="line-re-ordered"),
        pytest.param(remove, 2, "20261125T031500Z-example is missing", id="drill-missing"),
        pytest.param(
            lambda w: edit(w.report, b"HELD", b"held"), 1, "report.html is not what the manifest", id="report"
        ),
        pytest.param(lambda w: w.undo.unlink(), 1, "undo.json is missing", id="undo"),
        pytest.param(lambda w: w.signature.unlink(), 1, "absent, though the journal says that ed25519", id="signature"),
        pytest.param(
            lambda w: edit(w.verdict, b'journal_head": "', b'journal_head": "0'),
            1,
            "not what the journal says",
            id="head",
        ),
        pytest.param(lambda w: w.verdict.write_text("{"), 1, "verdict.json cannot be read", id="verdict"),
        pytest.param(lambda w: w.manifest.write_text("[]"), 1, "manifest.json cannot be read", id="manifest"),
        pytest.param(
            lambda w: w.signature.write_text("[]"), 1, "signature.json cannot be read", id="signature-garbled"
        ),
        pytest.param(lambda w: edit(w.manifest, b'records": 9', b'records": 8'), 1, "of another journal", id="records"),
        pytest.param(lambda w: edit(w.manifest, b"2026-11", b"2025-11"), 1, "of another journal", id="start"),
        pytest.param(lambda w: edit(w.signature, b"HELD", b"BROK"), 1, "not by the key", id="statement"),
    ],
)
def test_what_was_done_is_named(
    tmp_path: Path, key: FileSigner, public: Path, tamper: Callable[[DrillFolder], None], said_of: int, says: str
) -> None:
    """With the run that it was done to, or whose word shows it; exit code 1."""
    runs = make_runs(tmp_path / "drills", key)
    tamper(runs[1])

    result = verify(tmp_path / "drills", "--public-key", public, "--json")

    assert result.exit_code == 1
    assert any(run == runs[said_of].run_id and says in detail for run, detail in bad(result)), bad(result)
    assert all(run in {runs[1].run_id, runs[2].run_id} for run, _ in bad(result))


def test_a_file_and_the_manifest_edited_together_show_in_the_signature(
    tmp_path: Path, key: FileSigner, public: Path
) -> None:
    """The manifest is nobody's word: the signature names every file too."""
    (run,) = make_runs(tmp_path / "drills", key, 1)
    edit(run.report, b"HELD", b"held")
    run.manifest.unlink()
    seal(run, None, ManualClock(start_utc=STARTED))  # signed already: the manifest alone is made anew

    result = verify(tmp_path / "drills", "--public-key", public, "--json")

    assert result.exit_code == 1
    assert bad(result) == [(run.run_id, "report.html is not what was signed")]


def test_a_signature_made_for_something_else_does_not_count(tmp_path: Path, key: FileSigner, public: Path) -> None:
    """The key may have signed other things that look alike."""
    (run,) = make_runs(tmp_path / "drills", key, 1)
    stated = json.loads(json.loads(run.signature.read_text())["statement"])
    run.signature.write_bytes(signature_file({**stated, "purpose": "something else"}, key))
    run.manifest.unlink()
    seal(run, key, ManualClock(start_utc=STARTED))

    result = verify(tmp_path / "drills", "--public-key", public, "--json")

    assert result.exit_code == 1
    assert bad(result) == [(run.run_id, "what was signed is no drill's evidence: something else")]


def test_a_drill_written_anew_shows_in_the_next(tmp_path: Path) -> None:
    """Even without signatures: its own chain holds, and is not the one that the next drill saw."""
    runs = make_runs(tmp_path / "drills", None)
    first = journal.read(runs[1].journal).records[0]
    name, before = runs[1].run_id, first.fields["previous"]
    remove(runs[1])
    again = make_run(tmp_path / "drills", name, before=before, started=first.at_utc, more=5)
    seal(again, None, ManualClock(start_utc=STARTED))

    result = verify(tmp_path / "drills", "--unsigned-will-do", "--json")

    assert result.exit_code == 1
    assert bad(result) == [(runs[2].run_id, f"drill {name} was edited since: its journal ended with another line")]


def test_another_key_is_not_good(tmp_path: Path, key: FileSigner) -> None:
    """The forger has one too."""
    make_runs(tmp_path / "drills", FileSigner(private_key_file(tmp_path, bytes(32))), 1)
    (tmp_path / "public.pem").write_bytes(key.public_key())

    result = verify(tmp_path / "drills", "--public-key", tmp_path / "public.pem")

    assert result.exit_code == 1
    assert "not by the key that was given" in result.output


@pytest.mark.parametrize(
    ("signed", "options", "code"),
    [
        pytest.param(True, [], 3, id="signed-by-somebody"),
        pytest.param(True, ["--unsigned-will-do"], 3, id="signed-and-not-checked"),
        pytest.param(False, [], 3, id="unsigned"),
        pytest.param(False, ["--unsigned-will-do"], 0, id="unsigned-will-do"),
        pytest.param(False, ["--public-key", "public.pem"], 1, id="unsigned-though-signatures-are-wanted"),
    ],
)
def test_what_nobody_vouches_for_is_unclear(
    tmp_path: Path, key: FileSigner, public: Path, options: list[str], code: int, *, signed: bool
) -> None:
    """3 is not 0: whoever could write the folder could have written all of it."""
    make_runs(tmp_path / "drills", key if signed else None, 1)
    options = [str(public) if each == "public.pem" else each for each in options]

    result = verify(tmp_path / "drills", *options)

    assert result.exit_code == code, result.output


def test_an_open_run_and_one_that_was_not_sealed_are_unclear(tmp_path: Path) -> None:
    """It may still be running; and nothing at all is no evidence."""
    (tmp_path / "drills").mkdir()
    nothing = verify(tmp_path / "drills", "--unsigned-will-do")
    open_run = make_run(tmp_path / "drills", closed=False)
    opened = verify(tmp_path / "drills", "--unsigned-will-do", "--json")
    remove(open_run)
    make_run(tmp_path / "drills")
    unsealed = verify(tmp_path / "drills", "--unsigned-will-do", "--json")

    assert [nothing.exit_code, opened.exit_code, unsealed.exit_code] == [3, 3, 3]
    assert "no drill is there" in nothing.output
    assert "open: its last line is seq 1, verdict" in bad(opened)[0][1]
    assert "never sealed" in bad(unsealed)[0][1]


def test_what_is_left_of_a_lost_machine_is_said(tmp_path: Path) -> None:
    """Segments alone: they are read as the journal, and it is open. One that is taken away is named."""
    where = make_run(tmp_path / "state" / "drills", closed=False, more=20)
    settings = load(write_config(tmp_path, f'store = "dir:{tmp_path}/kept"'))
    store = open_store(settings, ManualClock())
    assert store is not None
    sending.finish(where, store, None, ManualClock(start_utc=STARTED), CUT)

    left = verify(tmp_path / "kept", "--unsigned-will-do", "--json")
    names = sorted((tmp_path / "kept").rglob("*.ndjson"))
    names[1].unlink()
    less = verify(tmp_path / "kept", "--unsigned-will-do", "--json")

    assert len(names) > 2
    assert (left.exit_code, len(bad(left))) == (3, 1)
    assert less.exit_code == 1
    assert any(names[2].name in detail for _, detail in bad(less))


def test_a_journal_that_is_not_what_was_streamed_is_bad(tmp_path: Path) -> None:
    """Written anew after the drill, chain, manifest and all; the segments were there before."""
    where = make_run(tmp_path / "kept" / "runs", more=9)
    seal(where, None, ManualClock(start_utc=STARTED))
    segments = where.path / "segments"
    segments.mkdir()
    other = make_run(tmp_path / "other", more=8)
    from kms_chaos.evidence.segments import segment_name  # noqa: PLC0415 - the one test that makes a segment

    raw = other.journal.read_bytes()
    (segments / segment_name(0, raw)).write_bytes(raw)

    result = verify(tmp_path / "kept", "--unsigned-will-do", "--json")

    assert result.exit_code == 1
    assert (where.run_id, "the journal is not what was streamed while the drill ran") in bad(result)


def test_two_that_name_the_same_one_before_are_unclear(tmp_path: Path) -> None:
    """Two machines without a common store: no proof of anything, and not the whole truth."""
    (first,) = make_runs(tmp_path / "drills", None, 1)
    for day in (1, 2):
        started = STARTED + timedelta(days=day)
        where = make_run(tmp_path / "drills", f"day-{day}", before=previous(first), started=started)
        seal(where, None, ManualClock(start_utc=started))
    late = make_run(tmp_path / "drills", "day-3", started=STARTED + timedelta(days=3))
    seal(late, None, ManualClock(start_utc=STARTED))

    result = verify(tmp_path / "drills", "--unsigned-will-do", "--json")

    assert result.exit_code == 3
    said = dict(bad(result))
    assert said["day-2"].startswith(f"names {first.run_id} as the drill before it, as day-1 does")
    assert said["day-3"].startswith("names no drill before it")


def test_a_run_that_was_open_then_may_have_been_healed_since(tmp_path: Path) -> None:
    """The line that was its last then is still in it."""
    healed = make_run(tmp_path / "drills", more=3)
    seal(healed, None, ManualClock(start_utc=STARTED))
    seen = journal.read(healed.journal).records[2].hash
    before = {"run_id": healed.run_id, "head": seen, "state": "open"}
    after = make_run(tmp_path / "drills", "after", before=before, started=STARTED + timedelta(days=1))
    seal(after, None, ManualClock(start_utc=STARTED))

    assert verify(tmp_path / "drills", "--unsigned-will-do").exit_code == 0

    remove(after)
    after = make_run(
        tmp_path / "drills", "after", before={**before, "head": "1" * 64}, started=STARTED + timedelta(days=1)
    )
    seal(after, None, ManualClock(start_utc=STARTED))
    result = verify(tmp_path / "drills", "--unsigned-will-do")
    assert result.exit_code == 1
    assert "is not in it" in result.output


def test_the_chain_may_begin_where_retention_ended(tmp_path: Path, key: FileSigner, public: Path) -> None:
    """`--first` says so; any other gap is still one."""
    runs = make_runs(tmp_path / "drills", key)
    remove(runs[0])

    without = verify(tmp_path / "drills", "--public-key", public)
    told = verify(tmp_path / "drills", "--public-key", public, "--first", runs[1].run_id)
    wrong = verify(tmp_path / "drills", "--public-key", public, "--first", runs[2].run_id)

    assert [without.exit_code, told.exit_code, wrong.exit_code] == [1, 0, 1]


@pytest.mark.usefixtures("moto_aws")
def test_a_bucket_is_verified_as_a_folder_is(tmp_path: Path) -> None:
    """And what somebody did to its objects is named."""
    config = write_config(
        tmp_path, f'store = "s3://{BUCKET}/kms"\nsigning = {{kind = "ed25519", private_key_file = "9d61b19d.pem"}}'
    )
    private_key_file(tmp_path)
    settings, clock = load(config), ManualClock(start_utc=STARTED)
    s3, store, by = make_bucket(settings), open_store(settings, clock), signer(settings)
    assert by is not None
    for where in make_runs(tmp_path / "state" / "drills", by):
        assert sending.finish(where, store, by, clock, CUT).error == ""
    public = CliRunner().invoke(cli, ["evidence", "public-key", "--config", str(config)])
    (tmp_path / "public.pem").write_text(public.stdout)
    options = ("--public-key", tmp_path / "public.pem", "--config", config, "--json")

    good = verify(f"s3://{BUCKET}/kms", *options)
    key = f"kms/runs/{where.run_id}/verdict.json"
    s3.delete_object(Bucket=BUCKET, Key=key)
    hidden = verify(f"s3://{BUCKET}/kms", *options)

    assert good.exit_code == 0, good.output
    assert len(json.loads(good.stdout)["runs"]) == 3
    assert hidden.exit_code == 1
    ((run, detail),) = bad(hidden)
    assert (run, "deleted" in detail, f"runs/{where.run_id}/verdict.json" in detail) == ("", True, True)


@pytest.mark.usefixtures("moto_aws")
def test_kms_itself_is_asked_for_an_hmac(tmp_path: Path) -> None:
    """About the configured key: a good MAC by a key of somebody else's is none."""
    config = write_config(
        tmp_path,
        'signing = {kind = "kms", key_id = "alias/evidence", regions = ["us-west-2"], algorithm = "HMAC_SHA_256"}',
    )
    settings = load(config)
    kms = aws.client(settings, "kms", "us-west-2")

    def new_key(alias: str) -> None:
        made: Any = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName=alias, TargetKeyId=made)

    new_key("alias/evidence")
    new_key("alias/forger")
    make_runs(tmp_path / "drills", signer(settings), 1)
    other = settings.drills.evidence.signing
    assert other is not None
    forged = settings.drills.evidence.model_copy(
        update={"signing": other.model_copy(update={"key_id": "alias/forger"})}
    )
    forger = signer(settings.model_copy(update={"drills": settings.drills.model_copy(update={"evidence": forged})}))
    make_runs(tmp_path / "forged", forger, 1)

    offline = verify(tmp_path / "drills", "--config", config)
    asked = verify(tmp_path / "drills", "--ask-kms", "--config", config)
    wrong = verify(tmp_path / "forged", "--ask-kms", "--config", config)

    assert [offline.exit_code, asked.exit_code, wrong.exit_code] == [3, 0, 1]
    assert "--ask-kms" in " ".join(offline.output.split())
    assert "KMS confirms" in asked.output


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["nowhere"], 2, "no such folder", id="folder"),
        pytest.param([".", "--public-key", "absent.pem"], 2, "absent.pem: cannot be read", id="key"),
        pytest.param([".", "--public-key", __file__], 2, "not a public key", id="no-key"),
        pytest.param([".", "--ask-kms"], 2, "names no key in KMS", id="nothing-to-ask"),
        pytest.param(["s3://no-such-bucket"], 3, "s3://no-such-bucket", id="bucket"),
    ],
)
@pytest.mark.usefixtures("moto_aws")
def test_usage_is_two_and_out_of_reach_is_three(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    """One line each."""
    result = verify(arguments[0], *arguments[1:], "--config", write_config(tmp_path))

    assert (result.exit_code, says in result.stderr, result.stderr.count("\n")) == (code, True, 1), result.output


def test_push_says_what_became_of_each(tmp_path: Path, key: FileSigner) -> None:
    """Sent; nothing waiting; nowhere to send; not fit."""
    evidence = f'store = "dir:{tmp_path}/kept"\nsigning = {{kind = "ed25519", private_key_file = "9d61b19d.pem"}}'
    config = write_config(tmp_path, evidence)
    make_runs(tmp_path / "state" / "drills", key, 2)
    make_run(tmp_path / "state" / "drills", "20270101T000000Z-open", closed=False)

    def push() -> Result:
        return CliRunner().invoke(cli, ["evidence", "push", "--config", str(config)])

    sent = push()
    (tmp_path / "state" / "drills" / "20270101T000000Z-open" / "journal.ndjson").unlink()
    again = push()
    write_config(tmp_path)
    nowhere = push()
    write_config(tmp_path, f'store = "dir:{config}"')

    assert sent.exit_code == 0, sent.output
    assert sent.output.splitlines()[0] == "20261124T031500Z-example: sent"
    assert sent.output.splitlines()[2] == "20270101T000000Z-open: its lines sent; it is not closed"
    assert again.output == "nothing is waiting\n"
    assert (nowhere.exit_code, "not configured" in nowhere.stderr) == (2, True)
    assert push().exit_code == 4
