"""Evidence of real drills: streamed while they run, whole at the end, chained, signed, and without a secret in it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from evidence_kit import private_key_file

from kms_chaos.cli import cli
from kms_chaos.evidence.segments import Cut, folder
from kms_chaos.evidence.signing import FileSigner
from kms_chaos.ledger import Ledger, Sealed
from kms_core.kms import KeyMaterial
from kms_watchdog.config import load
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, folders

Wait = Callable[[Callable[[], bool], float, str], None]
MakeConfig = Callable[..., Path]


@pytest.fixture
def evidence_config(make_config: MakeConfig, tmp_path: Path) -> Path:
    """A configuration with a store in a folder, small segments, and a key."""
    config = make_config()
    key = private_key_file(tmp_path)
    (tmp_path / "public.pem").write_bytes(FileSigner(key).public_key())
    with config.open("a", encoding="utf-8") as more:
        more.write(f'\n[drills.evidence]\nstore = "dir:{tmp_path}/kept"\nsegment_seconds = 0.5\n')
        more.write(f'signing = {{kind = "ed25519", private_key_file = "{key}"}}\n')
    return config


def forms(secret: bytes) -> tuple[bytes, ...]:
    """Return how bytes may look when they leak; a part is as bad as the whole."""
    head = secret[:15]  # a multiple of three: base64 of what follows begins anew
    return head, head.hex().encode(), base64.b64encode(head), base64.urlsafe_b64encode(head), repr(head)[2:-1].encode()


@contextmanager
def secrets_of_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[bytes]]:
    """Yield a set that fills with every data key and every plaintext of the ledger that comes to be in the block."""
    found: set[bytes] = set()
    keep = Ledger.keep

    def born(self: KeyMaterial, *_: object) -> None:
        found.add(bytes(self))

    def kept(self: Ledger, sealed: Sealed) -> None:
        found.add(sealed.plaintext)
        keep(self, sealed)

    with monkeypatch.context() as watched:
        watched.setattr(KeyMaterial, "__init__", born)
        watched.setattr(Ledger, "keep", kept)
        yield found


def whole_store(tmp_path: Path) -> dict[str, bytes]:
    files = (path for path in (tmp_path / "kept").rglob("*") if path.is_file())
    return {path.relative_to(tmp_path / "kept").as_posix(): path.read_bytes() for path in files}


def verify(tmp_path: Path, place: str) -> Any:
    return CliRunner().invoke(
        cli, ["verify", str(tmp_path / place), "--public-key", str(tmp_path / "public.pem"), "--json"]
    )


@pytest.mark.slow
@pytest.mark.usefixtures("daemon_lives")
def test_two_drills_make_a_chain_that_a_stranger_can_trust(
    local_aws: Any,
    evidence_config: Path,
    short_drill: Path,
    tmp_path: Path,
    wait_until: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store fails in the first: its verdict is the same, the journal says it, the next run sends what is left."""
    first = start(local_aws, evidence_config, short_drill)
    kept = tmp_path / "kept"
    try:
        wait_until(lambda: len(list(kept.rglob("*.ndjson"))) >= 2, 40.0, "segments while the drill runs")
        kept.rename(tmp_path / "away")
        kept.write_text("not a folder any more")
        code = first.wait(90)
    finally:
        first.kill()
        first.wait()
    (where,) = folders(tmp_path / "state")
    failing = [r for r in journal.read(where.journal).records if r.event == "evidence-failing"]
    assert code == 3  # INCONCLUSIVE, for this drill speaks of no alarm; as without a store
    assert len(failing) == 1
    assert where.manifest.exists()
    assert where.signature.exists()
    assert not (where.path / "stored.json").exists()

    kept.unlink()
    (tmp_path / "away").rename(kept)
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    with secrets_of_this_process(monkeypatch) as secrets:
        second = CliRunner().invoke(cli, ["run", str(short_drill), "--config", str(evidence_config)])

    assert second.exit_code == 3, second.output
    store = whole_store(tmp_path)
    for run in folders(tmp_path / "state"):
        assert_whole(run, store)
    for place in ("kept", "state/drills"):
        verified = verify(tmp_path, place)
        assert verified.exit_code == 0, verified.output
        assert len(json.loads(verified.stdout)["runs"]) == 2
    assert_says_where_it_comes_from(folders(tmp_path / "state"), evidence_config)
    assert_no_secret(store, secrets, local_aws)


def start(local_aws: Any, config: Path, drill: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kms_chaos", "run", str(drill), "--config", str(config)]
    return subprocess.Popen(command, env=local_aws.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def assert_whole(run: DrillFolder, store: dict[str, bytes]) -> None:
    """Every file is there as it is here, and the segments are the journal."""
    prefix = f"runs/{run.run_id}/"
    for path in (run.journal, run.verdict, run.report, run.undo, run.signature, run.manifest):
        assert store[prefix + path.name] == path.read_bytes(), path.name
    segments = sorted(name for name in store if name.startswith(folder(run.run_id)))
    assert len(segments) > 2
    assert b"".join(store[name] for name in segments) == run.journal.read_bytes()


def assert_says_where_it_comes_from(runs: tuple[DrillFolder, ...], config: Path) -> None:
    """The second names the first, and both name code, configuration and clock."""
    one, two = (journal.read(run.journal) for run in runs)
    first, second = one.records[0].fields, two.records[0].fields
    assert first["previous"] is None
    assert second["previous"] == {"run_id": runs[0].run_id, "head": one.head, "state": "closed"}
    assert second["previous_sought_in"] == ["state", load(config).drills.evidence.store]
    assert second["evidence"]["store_state"] == "ready"
    assert second["evidence"]["signing"]["key"].startswith("SHA256:")
    assert second["config_fingerprint"] == first["config_fingerprint"]
    assert len(second["config_fingerprint"]) == 12
    assert second["clock"]["kms_offset"]["region"] == "us-east-1"
    assert abs(second["clock"]["kms_offset"]["seconds"]) < 30
    assert second["versions"]["kms-watchdog"]


def assert_no_secret(store: dict[str, bytes], secrets: set[bytes], local_aws: Any) -> None:
    """Not a plaintext, not a data key, not a credential, in no form."""
    assert len([secret for secret in secrets if len(secret) == 32]) > 3  # data keys, or nobody looked
    assert len([secret for secret in secrets if len(secret) != 32]) > 20  # plaintexts
    credentials = {value.encode() for value in local_aws.endpoints["credentials"].values()}
    key = (b"BEGIN PRIVATE KEY", bytes.fromhex("9d61b19deffd5a60ba844af492ec2c"))
    for name, content in store.items():
        for secret in secrets:
            assert not any(form in content for form in forms(secret)), name
        assert not any(each in content for each in (*credentials, *key)), name


@pytest.mark.usefixtures("daemon_lives")
@pytest.mark.parametrize(
    ("evidence", "says"),
    [
        pytest.param('store = "dir:/proc/nothing/kept"', "cannot be made", id="store"),
        pytest.param('signing = {kind = "ed25519", private_key_file = "absent.pem"}', "absent.pem", id="key"),
        pytest.param(
            'signing = {kind = "kms", key_id = "alias/x", regions = ["us-east-1"]}', "hurts us-east-1", id="hurt-region"
        ),
    ],
)
def test_what_could_not_keep_evidence_refuses_the_drill(
    local_aws: Any, make_config: MakeConfig, short_drill: Path, evidence: str, says: str
) -> None:
    """Exit code 4, one line, nothing touched."""
    config = make_config()
    with config.open("a", encoding="utf-8") as more:
        more.write(f"\n[drills.evidence]\n{evidence}\n")

    result = CliRunner().invoke(cli, ["run", str(short_drill), "--config", str(config)], env=local_aws.environment)

    assert result.exit_code == 4, result.output
    assert says in result.output
    assert folders(config.parent / "state") == ()


def test_segments_are_cut_as_configured(evidence_config: Path) -> None:
    """Seconds, and kilobytes of 1024 bytes."""
    assert Cut.of(load(evidence_config)) == Cut(seconds=0.5, size_bytes=256 * 1024)
