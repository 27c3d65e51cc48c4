"""What a person gets wrong: one line that says so, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "daemon" / "watchdog.example.toml").read_text(encoding="utf-8")
MADE_UP = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_EC2_METADATA_DISABLED": "true"}
READERS = [
    pytest.param(("kms_watchdog", "run"), id="watchdog-run"),
    pytest.param(("kms_watchdog", "once"), id="watchdog-once"),
    pytest.param(("kms_watchdog", "check-config"), id="check-config"),
    pytest.param(("kms_watchdog", "provision", "plan"), id="provision"),
    pytest.param(("kms_chaos", "run", "region-blackhole"), id="chaos-run"),
    pytest.param(("kms_chaos", "heal"), id="chaos-heal"),
    pytest.param(("kms_alarms", "plan"), id="alarms-plan"),
]


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, argv)],
        env={**os.environ, **MADE_UP},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("command", READERS)
def test_an_unknown_key_is_named(command: Sequence[str], tmp_path: Path) -> None:
    """All commands read one file, and refuse it alike: file, key, and the nearest known name."""
    config = tmp_path / "watchdog.toml"
    config.write_text(EXAMPLE.replace("interval_seconds", "intervall_seconds", 1), encoding="utf-8")

    done = run(*command, "--config", config)

    refused(done, str(config), "canaries.intervall_seconds", "interval_seconds?")
    assert [path.name for path in tmp_path.iterdir()] == ["watchdog.toml"]


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    """Before anything is started."""
    config = tmp_path / "watchdog.toml"
    config.write_text(EXAMPLE.replace("[estate]", '[estate]\nca_bundle = "nowhere.pem"', 1), encoding="utf-8")

    refused(run("kms_watchdog", "run", "--config", config), "estate.ca_bundle", "nowhere.pem")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The daemon, the local AWS and the Toxiproxy server say which address it is."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        local = run("kms_local", "serve", "--dir", tmp_path / "aws", "--first-port", str(port))
        toxiproxy = run("kms_local", "toxiproxy", "-port", str(port))

    refused(local, str(port))
    assert not (tmp_path / "aws").exists()
    assert toxiproxy.returncode != 0
    assert str(port) in toxiproxy.stderr + toxiproxy.stdout


def test_an_unknown_drill_is_refused(tmp_path: Path) -> None:
    """The known ones are named."""
    config = tmp_path / "watchdog.toml"
    config.write_text(EXAMPLE, encoding="utf-8")

    refused(run("kms_chaos", "run", "region-blackhol", "--config", config), "region-blackhole")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No traceback for a path with a slip in it."""
    refused(run("kms_watchdog", "check-config", "--config", tmp_path / "nowhere.toml"), "nowhere.toml")
