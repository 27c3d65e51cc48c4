"""A configuration, results of any kind, a core over fakes; and a local AWS with keys, for the whole folder's tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from waiting import wait_until

from kms_core import Core
from kms_core.testing import FakeEstate, ManualClock, core_over
from kms_watchdog import aws
from kms_watchdog.config import Settings, load
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder
from kms_watchdog.drills.undo import ProxyUndo, UndoRecord
from kms_watchdog.results import CanaryResult, Kind, Mode, Outcome, Reason

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
KEYS_ALONE = ("--steps", "keys,aliases,rotation,tags")
"""What tests of one account share no roles by: each has keys of its own."""
PURPOSES = ("general", "pii", "payment")
START = datetime(2026, 1, 1, tzinfo=UTC)

BASE = """
[estate]
name = "test"
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]

[keys.general]
alias = "alias/general"

[keys.payment]
alias = "alias/payment"

[state]
dir = "state"
"""


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Write a configuration: the base one, and what is given after it."""

    def write(more: str = "", *, base: str = BASE, name: str = "watchdog.toml") -> Path:
        path = tmp_path / name
        path.write_text(base + more, encoding="utf-8")
        return path

    return write


@pytest.fixture
def settings(write_config: Callable[..., Path]) -> Settings:
    return load(write_config())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto_advance=True)


@pytest.fixture
def estate(clock: ManualClock) -> FakeEstate:
    """Three regions in memory, with the keys of the base configuration."""
    made = FakeEstate(REGIONS, clock=clock)
    made.create_key("alias/general")
    made.create_key("alias/payment")
    return made


@pytest.fixture
def core(estate: FakeEstate, settings: Settings) -> Iterator[Core]:
    with core_over(estate, settings.core_config()) as made:
        yield made


def result(
    outcome: Outcome = Outcome.OK,
    *,
    region: str = "us-east-1",
    key: str = "general",
    at: float = 0.0,
    seconds: float = 0.02,
    mode: Mode = Mode.LIVE,
    reason: Reason | None = None,
    **more: Any,
) -> CanaryResult:
    """A result that began `at` seconds after the start of 2026."""
    usual = {Outcome.OK: None, Outcome.FAILED: Reason.TIMEOUT, Outcome.BLIND: Reason.NO_CREDENTIALS}
    return CanaryResult(
        canary="round_trip",
        region=region,
        key=key,
        mode=mode,
        outcome=outcome,
        reason=reason or usual[outcome],
        started_at_utc=START + timedelta(seconds=at),
        duration_seconds=seconds,
        **more,
    )


@dataclass
class JournalFile:
    """Writes a drill's journal as the drill engine does, line by line, on demand."""

    folder: DrillFolder
    seq: int = 0
    prev: str = journal.GENESIS

    def line(self, event: str, *, at: float = 0.0, **fields: Any) -> bytes:
        """Return the next line, and go on from it."""
        at_utc = START + timedelta(seconds=at)
        raw, self.prev = journal.line(seq=self.seq, at_utc=at_utc, t=at, event=event, fields=fields, prev=self.prev)
        self.seq += 1
        return raw

    def append(self, event: str, *, at: float = 0.0, **fields: Any) -> None:
        self.append_raw(self.line(event, at=at, **fields))

    def append_raw(self, raw: bytes) -> None:
        with self.folder.journal.open("ab") as file:
            file.write(raw)

    def begin(self, drill: str = "region-blackhole", region: str = "us-east-1", *, at: float = 0.0) -> None:
        self.append("run-started", at=at, drill=drill, target=region, region=region)


@pytest.fixture
def new_drill(tmp_path: Path) -> Callable[..., JournalFile]:
    """Make a drill's folder under `state`, with an empty journal."""

    def make(run_id: str = "20260101T000000Z-region-blackhole", *, state: Path | None = None) -> JournalFile:
        folder = DrillFolder((state or tmp_path / "state") / "drills" / run_id)
        folder.path.mkdir(parents=True)
        return JournalFile(folder)

    return make


def undo_record(run_id: str, *, url: str = "http://127.0.0.1:1", expires_in: float = 60.0, **more: Any) -> UndoRecord:
    values: dict[str, Any] = {
        "run_id": run_id,
        "drill": "region-blackhole",
        "toxiproxy_url": url,
        "created_at_utc": START,
        "expires_at_utc": START + timedelta(seconds=expires_in),
        "proxies": (
            ProxyUndo(
                name=f"kmswd.{run_id}.us-east-1",
                region="us-east-1",
                listen="127.0.0.1:2",
                upstream="127.0.0.1:3",
                made_by_drill=True,
            ),
        ),
    }
    return UndoRecord(**{**values, **more})


def write_undo(record: UndoRecord, folder: DrillFolder) -> None:
    folder.undo.write_text(json.dumps(record.to_json()), encoding="utf-8")


@dataclass
class LocalCloud:
    """A running `kms-local serve`, and configurations that lead to it."""

    directory: Path
    endpoints: Mapping[str, Any]
    process: subprocess.Popen[bytes]
    written: list[Path] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to be let in."""
        given = self.endpoints["credentials"]
        return {
            **os.environ,
            "AWS_ACCESS_KEY_ID": given["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": given["aws_secret_access_key"],
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def config(
        self,
        folder: Path,
        more: str = "",
        *,
        prefix: str = "test",
        interval_seconds: float = 1.0,
        kinds: Sequence[str] = (Kind.ROUND_TRIP,),
    ) -> Path:
        """Write a configuration with fast canaries of some kinds; `prefix` names keys of its own."""
        lines = ["[estate]", f'name = "{prefix}"', 'account_id = "123456789012"', 'primary_region = "us-east-1"']
        lines += [f"regions = {json.dumps(REGIONS)}", f'ca_bundle = "{self.endpoints["ca_bundle"]}"']
        for purpose in PURPOSES:
            lines += [f"[keys.{purpose}]", f'alias = "alias/{prefix}-{purpose}"', 'used_by = ["ServiceRole"]']
        for region, services in self.endpoints["regions"].items():
            lines += [f"[endpoints.{region}]", *(f'{name} = "{url}"' for name, url in services.items())]
        lines += [
            "[canaries]",
            f"interval_seconds = {interval_seconds}",
            f"deadline_seconds = {interval_seconds * 0.9}",
            f"kinds = {json.dumps(kinds)}",
        ]
        lines += ["[state]", 'dir = "state"', "[http]", 'listen = "127.0.0.1:0"', "[cloudwatch]", "period_seconds = 10"]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "watchdog.toml"
        path.write_text("\n".join(lines) + "\n" + more, encoding="utf-8")
        self.written.append(path)
        return path

    def client(self, service: str, region: str = "us-east-1", **more: Any) -> Any:
        """Return an administrator's client; `more` as boto3 takes it."""
        return boto3.session.Session().client(
            service,
            region_name=region,
            endpoint_url=self.endpoints["regions"][region][service],
            verify=self.endpoints["ca_bundle"],
            **self.endpoints["credentials"],
            **more,
        )

    def run(self, *arguments: str, config: Path, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run `kms-watchdog` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "kms_watchdog", *arguments, "--config", str(config)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
            **more,
        )


@contextmanager
def serving(directory: Path) -> Iterator[LocalCloud]:
    """Serve three local regions from `directory` for the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kms_local", "serve", "--dir", str(directory), "--creating-seconds", "0.2"],
        stdout=subprocess.DEVNULL,
    )
    try:
        ready = directory / "endpoints.json"
        wait_until(lambda: ready.exists() or process.poll() is not None, says="kms-local serves")
        yield LocalCloud(directory, json.loads(ready.read_text()), process)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """Three local regions, for all tests that need them; each test has keys of its own."""
    with serving(tmp_path_factory.mktemp("cloud")) as served:
        yield served


@pytest.fixture
def cloud_here(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCloud]:
    """The local AWS for clients in the test's own process: its credentials where boto3 looks for them."""
    for name, value in cloud.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    aws._session.cache_clear()  # it keeps the credentials it has found
    yield cloud
    aws._session.cache_clear()
