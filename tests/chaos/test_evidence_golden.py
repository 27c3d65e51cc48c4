"""Golden messages survive the loss of the state folder, and come back only as what they were."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from evidence_kit import STARTED, write_config

from kms_chaos.cli import cli
from kms_chaos.evidence import golden
from kms_core.testing import ManualClock
from kms_watchdog.evidence.store import DirStore, StoreRefusedError
from kms_watchdog.golden_store import GoldenMessage, OwnedGoldenStore, VisitedGoldenStore
from kms_watchdog.state_folder import StateFolder

pytestmark = pytest.mark.slow  # each with a store of its own

NOW = STARTED.timestamp()


def message(created: float, purpose: str = "general") -> GoldenMessage:
    return GoldenMessage(
        purpose=purpose,
        created=created,
        sealed_in="us-east-1",
        context={"canary": "true", "kind": "golden", "purpose": purpose},
        digest=hashlib.sha256(b"synthetic").digest(),
        message=b"\x02sealed",
    )


def fill(state: Path, *messages: GoldenMessage) -> None:
    folder = StateFolder(state)
    folder.prepare()
    store = OwnedGoldenStore(folder, ManualClock(start_utc=STARTED))
    for one in messages:
        store.keep(one)
    store.close()


def kept(state: Path, purpose: str = "general") -> list[GoldenMessage | None]:
    store = VisitedGoldenStore(StateFolder(state), ManualClock(start_utc=STARTED))
    return [store.read(purpose, at) for at in store.created(purpose)]


def run(tmp_path: Path, *arguments: str) -> Result:
    config = write_config(tmp_path, f'store = "dir:{tmp_path}/kept"')
    return CliRunner().invoke(cli, ["evidence", "golden", *arguments, "--config", str(config)])


def test_they_outlive_the_state_folder(tmp_path: Path) -> None:
    """There and back, to the microsecond; a second push sends nothing."""
    messages = [message(NOW - 400 * 86_400.0 + 0.123456), message(NOW - 40 * 86_400.0), message(NOW - 3600)]
    fill(tmp_path / "state", *messages)

    assert run(tmp_path, "push").output == "3 sent, 0 there already\n"
    assert run(tmp_path, "push").output == "0 sent, 3 there already\n"
    for path in (tmp_path / "state").iterdir():
        path.unlink()
    assert run(tmp_path, "pull").output == "3 fetched, 0 there already\n"

    assert kept(tmp_path / "state") == messages
    assert run(tmp_path, "pull").output == "0 fetched, 3 there already\n"


def test_a_running_daemon_keeps_its_folder(tmp_path: Path) -> None:
    """It may be read, and is not written: exit code 4."""
    fill(tmp_path / "state", message(NOW))

    with StateFolder(tmp_path / "state").owned():
        pushed, pulled = run(tmp_path, "push"), run(tmp_path, "pull")

    assert pushed.exit_code == 0
    assert pulled.exit_code == 4
    assert "another daemon" in pulled.output


def test_what_is_stored_is_ciphertext_and_hashes(tmp_path: Path) -> None:
    """No field more than the document says."""
    store = DirStore(tmp_path / "kept")
    fill(tmp_path / "state", message(NOW))
    golden.push(VisitedGoldenStore(StateFolder(tmp_path / "state"), ManualClock()), store, ["general"])

    ((name, _),) = store.sizes().items()

    assert name == f"golden/general/{NOW:017.6f}.json"
    assert json.loads(store.get(name)) == {
        "schema": 1,
        "purpose": "general",
        "created": NOW,
        "sealed_in": "us-east-1",
        "context": {"canary": "true", "kind": "golden", "purpose": "general"},
        "plaintext_sha256": hashlib.sha256(b"synthetic").hexdigest(),
        "message": base64.b64encode(b"\x02sealed").decode(),
    }


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"schema": 2}, id="schema"),
        pytest.param({"plaintext_sha256": "00"}, id="digest"),
        pytest.param({"message": "%%%"}, id="base64"),
        pytest.param({"message": ""}, id="empty"),
        pytest.param({"context": {"customer": "42"}}, id="not-a-canarys"),
        pytest.param({"context": None}, id="no-context"),
        pytest.param({"created": "soon"}, id="time"),
    ],
)
def test_what_is_no_golden_message_is_not_taken(change: dict[str, object]) -> None:
    """A canary that opened somebody's real data would show it to whoever reads the page."""
    raw = json.dumps({**json.loads(golden.to_bytes(message(NOW))), **change}).encode()

    with pytest.raises(StoreRefusedError):
        golden.from_bytes("x", raw)


def test_one_that_lies_under_another_purpose_is_not_taken(tmp_path: Path) -> None:
    """It would be opened under the wrong key, and raise an alarm."""
    store = DirStore(tmp_path / "kept")
    store.put("golden/pii/1.json", golden.to_bytes(message(NOW)))

    with pytest.raises(StoreRefusedError, match="lies under pii"):
        golden.pull(StateFolder(tmp_path / "state"), store, ["pii"], ManualClock(start_utc=STARTED))
