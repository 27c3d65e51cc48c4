"""Drills with a watchdog of their own, from end to end: the real command, in a process over the drill's own proxies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tls_endpoint import certificate, rude, server_context
from waiting import wait_until

from kms_chaos.cli import cli
from kms_chaos.drill import SHIPPED
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, folders

pytestmark = [pytest.mark.slow, pytest.mark.minutes(2), pytest.mark.timeout(240)]

MakeConfig = Callable[..., Path]
SHORT = {
    "baseline_at_least_seconds = 4": "baseline_at_least_seconds = 2",
    "hold_at_least_seconds = 20": "hold_at_least_seconds = 11",
    "hold_at_least_seconds = 30": "hold_at_least_seconds = 15",
}


def drill_file(tmp_path: Path, name: str) -> Path:
    """The shipped drill, shorter, and without the alarms that this estate has not."""
    text = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8").partition("[[alarms.")[0]
    for long, short in SHORT.items():
        text = text.replace(long, short)
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


def fast(config: Path) -> Path:
    """Canaries that look often: the drill's own watchdog looks no less often than the estate's."""
    with config.open("a", encoding="utf-8") as more:
        more.write("\n[canaries]\ninterval_seconds = 2.5\ndeadline_seconds = 2.4\n")
    return config


def only_run(config: Path) -> DrillFolder:
    (found,) = folders(config.parent / "state")
    return found


def proxies_of_drills(url: str) -> list[str]:
    with Toxiproxy(url) as server:
        return [name for name in server.proxies() if name.startswith("kmswd.")]


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


@pytest.mark.usefixtures("daemon_lives")
@pytest.mark.parametrize("name", ["watchdog-killed", "watchdog-cold-start", "cloudwatch-unreachable", "sts-dark"])
def test_a_drill_with_its_own_watchdog_is_held_and_leaves_nothing(
    name: str, local_aws: Any, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    real_toxiproxy_url: str | None,
) -> None:  # fmt: skip
    """Every claim but that of alarms, of which it speaks none; on a real Toxiproxy, where there is one."""
    for variable, value in local_aws.environment.items():
        monkeypatch.setenv(variable, value)
    url = real_toxiproxy_url or local_aws.toxiproxy_url
    config = fast(make_config(toxiproxy_url=url))

    result = CliRunner().invoke(cli, ["run", str(drill_file(tmp_path, name)), "--config", str(config), "--json"])

    assert result.exit_code == 3, result.output
    claims = {claim["name"]: claim for claim in json.loads(result.stdout)["claims"]}
    assert {n: c["finding"] for n, c in claims.items() if c["verdict"] != "HELD"}.keys() == {"alarms"}, claims
    assert claims["watchdog-goes-on"]["verdict"] == "HELD"
    where = only_run(config)
    pids = [r.fields["pid"] for r in journal.read(where.journal).records if r.event == "watchdog-started"]
    assert len(pids) == (2 if name == "watchdog-killed" else 1)
    assert not any(lives(pid) for pid in pids)
    assert proxies_of_drills(url) == []
    assert not (where.path / "watchdog").exists()
    assert (where.path / "watchdog.log").exists()


@pytest.mark.usefixtures("daemon_lives")
def test_a_drill_that_is_killed_takes_its_watchdog_along(
    local_aws: Any, make_config: MakeConfig, tmp_path: Path
) -> None:
    """A pipe tells it; the proxies, those of the service too, are healed as ever."""
    config = fast(make_config())
    drill = subprocess.Popen(
        [sys.executable, "-m", "kms_chaos", "run", str(drill_file(tmp_path, "sts-dark")), "--config", str(config)],
        env=local_aws.environment,
        stdout=subprocess.DEVNULL,
    )

    def started() -> list[int]:
        found = folders(config.parent / "state")
        records = journal.read(found[0].journal).records if found and found[0].journal.exists() else ()
        return [r.fields["pid"] for r in records if r.event == "watchdog-started"]

    try:
        wait_until(started, says="the drill's own watchdog is started", seconds=60)
        (pid,) = started()
        assert lives(pid)
    finally:
        drill.kill()
        drill.wait()

    wait_until(lambda: not lives(pid), says="the watchdog ends with the drill", seconds=30)
    assert len(proxies_of_drills(local_aws.toxiproxy_url)) == 6
    assert CliRunner().invoke(cli, ["heal", "--config", str(config)]).exit_code == 0
    assert proxies_of_drills(local_aws.toxiproxy_url) == []


ASK = """
import socket, sys, boto3
from botocore.config import Config
from kms_chaos.own_watchdog_process import on_ways
ways = {"sts.us-east-1.amazonaws.com:443": ("127.0.0.1", int(sys.argv[1]))}
socket.getaddrinfo = on_ways(ways, socket.getaddrinfo, print)
sts = boto3.client("sts", region_name="us-east-1", verify=sys.argv[2], config=Config(retries={"total_max_attempts": 1}))
try:
    print(sts.get_caller_identity()["Account"])
except Exception as e:
    print(type(e).__name__)
"""
ANSWER = (
    b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>"
)
ANSWER += b"</GetCallerIdentityResponse>"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("sts.us-east-1.amazonaws.com", "123456789012", id="right"),
        pytest.param("sts.example", "SSLError", id="another"),
    ],
)
def test_aws_own_names_lead_to_the_drills_proxies_and_are_verified(tmp_path: Path, name: str, says: str) -> None:
    """Stock boto3 at AWS's own name: dialled elsewhere, with the real Host header; no other certificate will do."""
    pem = certificate(tmp_path, name)
    context, hosts = server_context(pem), []

    def answer(connection: socket.socket) -> None:
        connection.settimeout(5)
        with context.wrap_socket(connection, server_side=True) as tls:
            asked = b""
            while b"Action=GetCallerIdentity" not in asked and (more := tls.recv(4096)):
                asked += more
            hosts.extend(re.findall(rb"Host: (\S+)", asked))
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))

    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": os.devnull}

    with rude(answer) as port:
        done = subprocess.run(
            [sys.executable, "-c", ASK, str(port), str(pem)],
            env={**os.environ, **keys}, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip

    assert done.stdout.split() == ["sts.us-east-1.amazonaws.com:443", says]
    assert hosts == ([b"sts.us-east-1.amazonaws.com"] if says.isdecimal() else [])


def test_its_process_ends_when_nobody_holds_the_pipe(tmp_path: Path) -> None:
    """Also one that is deaf to SIGTERM: it is killed."""
    code = (
        "import os, signal, threading\n"
        "from kms_chaos.own_watchdog_process import end_with\n"
        "from kms_core.testing import ManualClock\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "threading.Thread(target=end_with, args=(0, ManualClock(auto_advance=True)), daemon=True).start()\n"
        "print('up', flush=True)\n"
        "threading.Event().wait()\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        try:
            assert process.wait(30) == -signal.SIGKILL
        finally:
            process.kill()
