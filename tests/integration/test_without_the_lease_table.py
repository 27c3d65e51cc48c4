"""DynamoDB is down: canaries go on, drills are refused, and each says why."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from waiting import wait_until

from kms_core.clock import SystemClock
from kms_core.testing import FakeEstate, ManualClock, core_over
from kms_watchdog.config import load
from kms_watchdog.daemon import Daemon
from kms_watchdog.health import Status
from kms_watchdog.results import Outcome
from kms_watchdog.state_folder import StateFolder

pytestmark = pytest.mark.slow

CONFIG = """
[estate]
name = "test"
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[keys.general]
alias = "alias/general"
[canaries]
kinds = ["round_trip", "cross_region", "failover_path"]
interval_seconds = 1.0
deadline_seconds = 0.9
[cloudwatch]
enabled = false
[endpoints.eu-west-1]
dynamodb = "https://127.0.0.1:{port}"
[drills.lease]
table = "kms-drills"
region = "eu-west-1"
[state]
dir = "state"
"""
CLOCK = SystemClock()


@pytest.fixture(params=["silent", "refused"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port on which nobody answers: connections are taken and then nothing comes, or they are refused."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen(16)
        yield listener.getsockname()[1]


@pytest.fixture
def config(tmp_path: Path, port: int) -> Path:
    path = tmp_path / "watchdog.toml"
    path.write_text(CONFIG.format(port=port), encoding="utf-8")
    return path


@pytest.fixture
def daemon(config: Path) -> Iterator[Daemon]:
    settings = load(config, environ={})
    estate = FakeEstate(settings.estate.regions, clock=ManualClock(auto_advance=True))
    estate.create_key("alias/general")
    folder = StateFolder(settings.state.dir)
    folder.prepare()
    made = Daemon(
        settings, config, folder, CLOCK, make_core=lambda core, observer: core_over(estate, core, observer=observer)
    )
    made.start()
    yield made
    assert made.stop()


def test_canaries_go_on_and_drills_are_refused(daemon: Daemon, config: Path) -> None:
    """Guards fail closed: without the lease nobody knows whether another drill runs. Nothing was touched."""
    wait_until(lambda: daemon.health_now().status is Status.HEALTHY, says="the daemon is healthy")
    before = looks(daemon)

    done = run_a_drill(config)

    wait_until(lambda: looks(daemon) > before + 6, says="canaries look")
    assert done.returncode == 4, done.stderr
    assert "the drill lease: DynamoDB table kms-drills: " in done.stderr
    assert not (config.parent / "state" / "drills" / "the-slots-run").exists()
    assert daemon.health_now().status is Status.HEALTHY
    assert {one.outcome for ticks in daemon.history.ticks().values() for one in ticks} == {Outcome.OK}


def looks(daemon: Daemon) -> int:
    return sum(len(ticks) for ticks in daemon.history.ticks().values())


def run_a_drill(config: Path) -> subprocess.CompletedProcess[str]:
    """Run the drill of a slot as the daemon does, to its end."""
    words = [
        "run",
        "region-blackhole",
        "--config",
        str(config),
        "--slot",
        "failover/2026-12",
        "--run-id",
        "the-slots-run",
    ]
    return subprocess.run(
        [sys.executable, "-m", "kms_chaos", *words],
        env={
            **os.environ,
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
