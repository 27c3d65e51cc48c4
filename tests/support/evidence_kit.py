"""Small runs with real journals, a store that fails when told, and keys whose bytes are known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from moto import mock_aws

from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.evidence.store import DirStore, StoreError

STARTED = datetime(2026, 11, 24, 3, 15, tzinfo=UTC)
RUN_ID = "20261124T031500Z-example"
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
"""The private key of RFC 8032, section 7.1, test 1: known to everybody, so that anybody can check the example."""
SIGNED = {"kind": "ed25519", "algorithm": "ED25519"}


def private_key_file(folder: Path, seed: bytes = SEED) -> Path:
    """Write the key of `seed` as PEM, and return where."""
    pem = Ed25519PrivateKey.from_private_bytes(seed).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{seed[:4].hex()}.pem"
    path.write_bytes(pem)
    return path


def write_journal(
    path: Path, events: list[tuple[str, Mapping[str, Any]]], started: datetime = STARTED
) -> journal.Journal:
    """Write a journal with one line a second, and return it."""
    lines, prev = [], journal.GENESIS
    for seq, (event, fields) in enumerate(events):
        at = started + timedelta(seconds=seq)
        raw, prev = journal.line(seq=seq, at_utc=at, t=float(seq), event=event, fields=fields, prev=prev)
        lines.append(raw)
    path.write_bytes(b"".join(lines))
    return journal.read(path)


def previous(where: DrillFolder) -> dict[str, str]:
    """Return what the next run's first record says of a closed run."""
    return {"run_id": where.run_id, "head": journal.read(where.journal).head, "state": "closed"}


def make_run(
    drills: Path,
    run_id: str = RUN_ID,
    *,
    before: Mapping[str, Any] | None = None,
    signing: Mapping[str, Any] | None = None,
    started: datetime = STARTED,
    closed: bool = True,
    more: int = 0,
) -> DrillFolder:
    """Write a run that held: its journal (with `more` lines in between), verdict, report and undo record."""
    where = DrillFolder(drills / run_id)
    where.path.mkdir(parents=True)
    first = {
        "run_id": run_id,
        "drill": "example",
        "region": "us-east-1",
        "previous": before,
        "evidence": {"store": None, "store_state": "state folder only", "signing": signing},
    }
    seen = {"verdict": "HELD", "claims": {"nothing-lost": "HELD"}, "figures": {"detect_seconds": 1.25}}
    events: list[tuple[str, Mapping[str, Any]]] = [("run-started", first)]
    events += [("operation", {"op": number, "ok": True}) for number in range(more)]
    events.append(("verdict", seen))
    if closed:
        events.append(("closed", {"by": "drill", "verdict": "HELD"}))
    found = write_journal(where.journal, events, started)
    verdict = {
        "schema": 1,
        "run_id": run_id,
        "verdict": "HELD",
        "claims": [{"name": "nothing-lost", "verdict": "HELD"}],
        "figures": {"detect_seconds": 1.25},
        "journal_head": next(record.prev for record in found.records if record.event == "verdict"),
    }
    where.verdict.write_text(json.dumps(verdict) + "\n", encoding="utf-8")
    where.report.write_text("<!doctype html><title>HELD</title>\n", encoding="utf-8")
    where.undo.write_text('{"schema":1}\n', encoding="utf-8")
    return where


class MoodyStore(DirStore):
    """A folder that takes nothing while it is `down`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.down = False
        self.asked = 0

    def put(self, name: str, content: bytes) -> None:
        self._stand()
        super().put(name, content)

    def sizes(self, prefix: str = "") -> Mapping[str, int]:
        self._stand()
        return super().sizes(prefix)

    def folders(self, prefix: str) -> tuple[str, ...]:
        self._stand()
        return super().folders(prefix)

    def _stand(self) -> None:
        self.asked += 1
        if self.down:
            raise StoreError(f"{self.place}: ConnectTimeoutError")


BUCKET = "parker-flight-evidence"
BASE = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[keys.general]
alias = "alias/general"
[state]
dir = "state"
"""


def write_config(folder: Path, evidence: str = "") -> Path:
    """Write a configuration whose `[drills.evidence]` is as given, and return where."""
    path = folder / "watchdog.toml"
    path.write_text(f"{BASE}\n[drills.evidence]\n{evidence}\n", encoding="utf-8")
    (folder / "state").mkdir(exist_ok=True)
    return path


@pytest.fixture
def moto_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """S3 and KMS in every region, in this process, and credentials for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with mock_aws():
        aws._session.cache_clear()  # one that began before the stand-in does not know it
        yield
    aws._session.cache_clear()


def make_bucket(settings: Settings, *, lock: bool = True, versions: bool = True) -> Any:
    """Make the bucket and return its client; a bucket with Object Lock has versions by itself."""
    s3 = aws.client(settings, "s3", "us-east-1")
    s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=lock)
    if versions and not lock:
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return s3
