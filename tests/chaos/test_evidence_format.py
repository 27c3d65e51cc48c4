"""docs/evidence-format.md is enough for a stranger: a verifier written from it alone, and its example, recomputed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from evidence_kit import SEED, STARTED, make_run, previous, private_key_file

from kms_chaos.evidence import checking
from kms_chaos.evidence.run_checks import Trust
from kms_chaos.evidence.sealing import seal
from kms_chaos.evidence.signing import FileSigner
from kms_chaos.evidence.verifying import FolderTree, verify
from kms_core.testing import ManualClock

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "evidence-format.md"


# --- The stranger's verifier: nothing of ours, only what the document says. ---


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def journal_of(folder: Path) -> tuple[list[dict], str]:
    """Section 8, steps 1 and 2."""
    lines, prev = [], "0" * 64
    *whole, torn = (folder / "journal.ndjson").read_bytes().split(b"\n")
    for number, raw in enumerate(whole):
        try:
            line = json.loads(raw)
            bare = raw.replace(b'"hash":"' + line["hash"].encode() + b'",', b"", 1)
            chained = (line["seq"], line["prev"], line["hash"]) == (number, prev, sha256(bare))
        except (ValueError, KeyError, TypeError):
            chained = False
        if not chained:
            return lines, "bad"
        lines.append(line)
        prev = line["hash"]
    if not lines or torn or lines[-1]["event"] != "closed":
        return lines, "unclear"
    started = lines[0]["event"] == "run-started" and lines[0]["run_id"] == folder.name
    return lines, "good" if started else "bad"


def verdict_agrees(folder: Path, lines: list[dict]) -> bool:
    """Step 3."""
    given = json.loads((folder / "verdict.json").read_bytes())
    said = next(line for line in lines if line["event"] == "verdict")
    claims = {claim["name"]: claim["verdict"] for claim in given["claims"]}
    return (given["verdict"], claims, given["figures"], given["journal_head"]) == (
        said["verdict"], said["claims"], said["figures"], said["prev"],
    )  # fmt: skip


def manifest_agrees(folder: Path, lines: list[dict]) -> bool:
    """Step 5."""
    given = json.loads((folder / "manifest.json").read_bytes())
    there = {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in {"manifest.json", "stored.json"}}
    files = {name: {"bytes": len(content), "sha256": sha256(content)} for name, content in there.items()}
    about = (given["run_id"], given["started_at_utc"], given["journal_head"], given["records"])
    return given["files"] == files and about == (folder.name, lines[0]["at_utc"], lines[-1]["hash"], len(lines))


def signature_agrees(folder: Path, lines: list[dict], public_key: bytes) -> bool:
    """Step 6, of ED25519."""
    if not (folder / "signature.json").exists():
        return False
    given = json.loads((folder / "signature.json").read_bytes())
    stated = json.loads(given["statement"])
    about = (stated["purpose"], stated["run_id"], stated["records"], stated["journal_head"])
    files = all((folder / n).exists() and sha256((folder / n).read_bytes()) == h for n, h in stated["files"].items())
    try:
        load_pem_public_key(public_key).verify(base64.b64decode(given["signature"]), given["statement"].encode())
    except InvalidSignature:
        return False
    return files and about == ("kms-watchdog drill evidence", folder.name, len(lines), lines[-1]["hash"])


def stranger(drills: Path, public_key: bytes) -> str:
    """Return `good`, `bad` or `unclear`."""
    runs, found = [], set()
    for folder in (path for path in drills.iterdir() if (path / "journal.ndjson").exists()):
        lines, result = journal_of(folder)
        found.add(result)
        if result != "bad":
            agrees = verdict_agrees(folder, lines) and signature_agrees(folder, lines, public_key)
            found.add("good" if agrees else "bad")
            sealed = (folder / "manifest.json").exists()
            found.add("unclear" if not sealed else "good" if manifest_agrees(folder, lines) else "bad")
        runs.append(lines)
    ends = {lines[0]["run_id"]: [line["hash"] for line in lines] for lines in runs if lines}
    named = [lines[0]["previous"] for lines in runs if lines and lines[0]["previous"]]
    for before in named:  # step 7
        hashes = ends.get(before["run_id"], [])
        right = hashes[-1:] if before["state"] == "closed" else [*hashes, "0" * 64]
        found.add("good" if hashes and before["head"] in right else "bad")
    return next((answer for answer in ("bad", "unclear", "good") if answer in found), "unclear")


# --- The two must agree. ---


@pytest.fixture
def signer(tmp_path: Path) -> FileSigner:
    return FileSigner(private_key_file(tmp_path))


@pytest.fixture
def drills(tmp_path: Path, signer: FileSigner) -> Path:
    """Three signed drills, a month apart."""
    folder, before = tmp_path / "drills", None
    for month in range(3):
        started = STARTED + timedelta(days=30 * month)
        where = make_run(
            folder, f"{started:%Y%m%dT%H%M%SZ}-example", before=before, signing=signer.about(), started=started, more=5
        )
        seal(where, signer, ManualClock(start_utc=started + timedelta(minutes=2)))
        before = previous(where)
    return folder


def runs(drills: Path) -> list[Path]:
    return sorted(drills.iterdir())


def lines_of(run: Path) -> list[bytes]:
    return (run / "journal.ndjson").read_bytes().splitlines(keepends=True)


def write_lines(run: Path, lines: list[bytes]) -> None:
    (run / "journal.ndjson").write_bytes(b"".join(lines))


def edit_line(drills: Path) -> None:
    first, *rest = lines_of(runs(drills)[1])
    write_lines(runs(drills)[1], [first, rest[0].replace(b'"ok":true', b'"ok":null'), *rest[1:]])


def space_in_line(drills: Path) -> None:
    first, *rest = lines_of(runs(drills)[1])
    write_lines(runs(drills)[1], [first.replace(b'{"at_utc"', b'{ "at_utc"'), *rest])


def take_line(drills: Path) -> None:
    lines = lines_of(runs(drills)[0])
    write_lines(runs(drills)[0], lines[:2] + lines[3:])


def take_last_line(drills: Path) -> None:
    write_lines(runs(drills)[2], lines_of(runs(drills)[2])[:-1])


def swap_lines(drills: Path) -> None:
    a, b, c, *rest = lines_of(runs(drills)[0])
    write_lines(runs(drills)[0], [a, c, b, *rest])


def tear_line(drills: Path) -> None:
    lines = lines_of(runs(drills)[2])
    write_lines(runs(drills)[2], [*lines, b'{"half'])


def take_drill(drills: Path) -> None:
    for path in runs(drills)[1].iterdir():
        path.unlink()
    runs(drills)[1].rmdir()


def write_anew(drills: Path) -> None:
    """A whole drill written anew by somebody who knows the format: its chain holds."""
    run = runs(drills)[1]
    first = json.loads(lines_of(run)[0])
    for path in run.iterdir():
        path.unlink()
    run.rmdir()
    make_run(drills, run.name, before=first["previous"], signing=first["evidence"]["signing"], more=4)


def edit_report(drills: Path) -> None:
    (runs(drills)[0] / "report.html").write_text("<title>BROKE</title>")


def edit_verdict(drills: Path) -> None:
    path = runs(drills)[0] / "verdict.json"
    path.write_text(path.read_text().replace("1.25", "0.25"))


def take_file(drills: Path) -> None:
    (runs(drills)[0] / "undo.json").unlink()


def add_file(drills: Path) -> None:
    (runs(drills)[0] / "approval.json").write_text("{}")


def take_signature(drills: Path) -> None:
    (runs(drills)[2] / "signature.json").unlink()


def take_manifest(drills: Path) -> None:
    (runs(drills)[2] / "manifest.json").unlink()


def edit_signature(drills: Path) -> None:
    path = runs(drills)[2] / "signature.json"
    given = json.loads(path.read_text())
    path.write_text(json.dumps({**given, "signature": base64.b64encode(bytes(64)).decode()}))


def other_signature(drills: Path) -> None:
    (runs(drills)[2] / "signature.json").write_bytes((runs(drills)[1] / "signature.json").read_bytes())


def rename(drills: Path) -> None:
    runs(drills)[2].rename(drills / "20990101T000000Z-example")


def nothing(drills: Path) -> None:
    return


@pytest.mark.parametrize(
    ("tamper", "answer"),
    [
        pytest.param(nothing, "good", id="nothing"),
        pytest.param(edit_line, "bad", id="line-edited"),
        pytest.param(space_in_line, "bad", id="a-space-more"),
        pytest.param(take_line, "bad", id="line-missing"),
        pytest.param(take_last_line, "bad", id="last-line-missing"),
        pytest.param(swap_lines, "bad", id="lines-swapped"),
        pytest.param(tear_line, "bad", id="torn"),
        pytest.param(take_drill, "bad", id="drill-missing"),
        pytest.param(write_anew, "bad", id="drill-written-anew"),
        pytest.param(edit_report, "bad", id="report-edited"),
        pytest.param(edit_verdict, "bad", id="verdict-edited"),
        pytest.param(take_file, "bad", id="file-missing"),
        pytest.param(add_file, "bad", id="file-added"),
        pytest.param(take_signature, "bad", id="signature-missing"),
        pytest.param(take_manifest, "unclear", id="manifest-missing"),
        pytest.param(edit_signature, "bad", id="signature-edited"),
        pytest.param(other_signature, "bad", id="signature-of-another-drill"),
        pytest.param(rename, "bad", id="renamed"),
    ],
)
def test_a_stranger_comes_to_the_same_answer(
    drills: Path, signer: FileSigner, tamper: Callable[[Path], None], answer: str
) -> None:
    """Ours may find more than one thing; the answer to all of it is the same."""
    pem = signer.public_key()
    tamper(drills)

    ours = verify(FolderTree(drills), Trust(public_key=checking.load(pem)))

    assert (stranger(drills, pem), str(ours.result)) == (answer, answer), ours.findings


# --- The example. ---


def block(kind: str) -> bytes:
    """Return a fenced block of the document, with one newline at its end."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return found.encode()


def test_the_example_is_what_we_write(tmp_path: Path) -> None:
    """Byte for byte: a change of format changes the document, or this fails."""
    signer = FileSigner(private_key_file(tmp_path, SEED))
    where = make_run(tmp_path / "drills", signing=signer.about())
    seal(where, signer, ManualClock(start_utc=STARTED + timedelta(seconds=3)))

    assert where.journal.read_bytes() == block("ndjson")
    assert where.verdict.read_bytes() == block("verdict")
    assert signer.public_key() == block("pem")
    assert where.signature.read_bytes() == block("signature")
    assert where.manifest.read_bytes() == block("manifest")


def test_a_stranger_finds_the_example_good(tmp_path: Path) -> None:
    """From the document's own words alone."""
    run = tmp_path / "drills" / "20261124T031500Z-example"
    run.mkdir(parents=True)
    blocks = {
        "journal.ndjson": "ndjson",
        "verdict.json": "verdict",
        "signature.json": "signature",
        "manifest.json": "manifest",
    }
    for name, kind in blocks.items():
        (run / name).write_bytes(block(kind))
    (run / "report.html").write_bytes(b"<!doctype html><title>HELD</title>\n")
    (run / "undo.json").write_bytes(b'{"schema":1}\n')

    assert stranger(run.parent, block("pem")) == "good"
