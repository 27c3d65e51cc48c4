"""The unit: what systemd's own tools say of it, and that it fits the configuration and the daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from deploy_kit import ROOT, checker

from kms_watchdog.cli import command
from kms_watchdog.deploying import container, systemd

EXAMPLE = ROOT / "daemon/watchdog.example.toml"
COMMITTED = ROOT / "deploy/systemd/kms-watchdog.service"
SEVERAL = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1"]
[keys.pii]
alias = "alias/pii"
[health]
deadman_url = "${DEADMAN_URL}"
[estates.production.state]
dir = "/var/lib/kms-watchdog/production"
[estates.staging.state]
dir = "/var/lib/kms-watchdog/staging"
"""
EXPOSURE_AT_MOST = 20
"""Tenths; systemd's own services have 20 to 96, and below 25 it says OK."""


def render(config: Path, *more: str) -> Result:
    return CliRunner().invoke(command, ["deploy", "render", "--format", "systemd", "--config", str(config), *more])


def lines(text: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


def test_the_committed_unit_is_what_the_example_makes() -> None:
    """If not: kms-watchdog deploy render --format systemd, with the example, --into deploy/systemd."""
    assert COMMITTED.read_text(encoding="utf-8") == render(EXAMPLE).stdout


def test_systemd_takes_it(tmp_path: Path) -> None:
    """`systemd-analyze verify`: no unknown key, no value it does not understand; over a daemon that is installed."""
    unit = tmp_path / "kms-watchdog.service"
    installed = str(Path(sys.executable).parent)
    unit.write_text(COMMITTED.read_text(encoding="utf-8").replace(systemd.INSTALLED, installed), encoding="utf-8")

    done = subprocess.run(
        [checker("systemd-analyze"), "verify", str(unit)], capture_output=True, text=True, check=False
    )

    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


def test_it_exposes_little() -> None:
    """`systemd-analyze security`, which weighs what a process that was taken over could do."""
    done = subprocess.run(
        [
            checker("systemd-analyze"),
            "security",
            "--offline=yes",
            f"--threshold={EXPOSURE_AT_MOST}",
            "--no-pager",
            str(COMMITTED),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-300:]


def test_it_restarts_what_stands_still_and_waits_for_what_restores() -> None:
    """`WatchdogSec` is fed every second; a stop takes what drills need."""
    text = COMMITTED.read_text(encoding="utf-8")

    assert lines(text, "Type") == ["notify"]
    assert lines(text, "WatchdogSec") == ["30"]
    assert lines(text, "Restart") == ["always"]
    assert lines(text, "TimeoutStopSec") == ["40"] == [str(25 + container.STOP_MARGIN_SECONDS)]
    assert lines(text, "KillMode") == ["mixed"]
    assert lines(text, "ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert lines(text, "LimitCORE") == ["0"]


def test_one_of_several_estates(tmp_path: Path) -> None:
    """Its name, its folder; the secrets it takes are not asked for here."""
    config = tmp_path / "watchdog.toml"
    config.write_text(SEVERAL, encoding="utf-8")

    done = render(config, "--estate", "staging")

    assert done.exit_code == 0, done.output
    assert '"KMS_WATCHDOG_ESTATE=staging"' in lines(done.stdout, "Environment")
    assert lines(done.stdout, "StateDirectory") == ["kms-watchdog/staging"]
    assert lines(done.stdout, "EnvironmentFile") == ["-/etc/kms-watchdog/environment"]


@pytest.mark.parametrize("folder", ["/srv/watchdog", "/var/lib", "state"])
def test_a_state_folder_that_systemd_does_not_make_is_refused(tmp_path: Path, folder: str) -> None:
    """Nothing else of the disk can be written by the unit."""
    config = tmp_path / "watchdog.toml"
    config.write_text(SEVERAL.replace("/var/lib/kms-watchdog/staging", folder), encoding="utf-8")

    done = render(config, "--estate", "staging")

    assert done.exit_code == 2
    assert "state.dir: should be below /var/lib" in done.output


PROCESSES_ALONE = """
import sys
from pathlib import Path
from kms_watchdog.state_folder import file_system, mounts
print(file_system(Path(sys.argv[1]), mounts()))
"""


def test_it_sees_what_its_state_folder_lies_on(tmp_path: Path) -> None:
    """Where /proc shows processes alone, as in the unit: a daemon that sees no mounts takes NFS for a disk."""
    assert lines(COMMITTED.read_text(encoding="utf-8"), "ProcSubset") == ["pid"]
    mounted = f"mount -t proc -o subset=pid proc /proc && mount -t tmpfs tmpfs {tmp_path}"
    alone = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c"]
    if subprocess.run([*alone, mounted], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount in a namespace of their own")

    done = subprocess.run(
        [*alone, f'{mounted} && exec "$@"', "sh", sys.executable, "-c", PROCESSES_ALONE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "tmpfs\n", done.stderr


REFUSE_WRITABLE_CODE = """
import ctypes, mmap, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, as systemd does it
    sys.exit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
EVERYTHING = """
import kms_watchdog.allocator, kms_watchdog.daemon, kms_watchdog.web.server, kms_chaos.cli, matplotlib.pyplot
kms_watchdog.allocator.settle()
"""


@pytest.mark.slow
def test_its_libraries_need_no_memory_that_is_written_and_run() -> None:
    """`MemoryDenyWriteExecute` would end a daemon with a library that makes code as it goes."""
    done = subprocess.run(
        [sys.executable, "-c", REFUSE_WRITABLE_CODE, EVERYTHING], capture_output=True, text=True, check=False
    )

    if done.returncode == 77:
        pytest.skip("this kernel cannot refuse it: Linux 6.3 can")
    assert done.returncode == 0, done.stderr
