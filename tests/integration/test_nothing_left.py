"""However the demo is ended, nothing is left running or listening, and no fault in place."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from waiting import wait_until
from whole_processes import DemoProcess, records

from kms_local.demo.configuration import read_endpoints

pytestmark = [pytest.mark.alone, pytest.mark.minutes(1.5), pytest.mark.timeout(240)]
DEMO = (sys.executable, "-m", "kms_local", "demo", "--once", "--dir", "{dir}")
MAKE = ("make", "--no-print-directory", "demo", "ARGS=--once --dir {dir}")


def addresses(demo: DemoProcess) -> list[tuple[str, int]]:
    endpoints = read_endpoints(demo.folder)
    urls = [url for services in endpoints["regions"].values() for url in services.values()]
    urls += [endpoints["toxiproxy"]["url"], endpoints["admin"]["url"]]
    return [(str(parts.hostname), int(parts.port or 0)) for parts in map(urlsplit, urls)]


def answers(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(address) == 0


def assert_nothing_is_left(demo: DemoProcess, listening: list[tuple[str, int]]) -> None:
    wait_until(lambda: not demo.alive(), seconds=45, says="every process has ended")
    assert not [address for address in listening if answers(address)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "number"),
    [
        pytest.param(DEMO, signal.SIGTERM, id="demo-sigterm"),
        pytest.param(DEMO, signal.SIGKILL, id="demo-sigkill"),
        pytest.param(MAKE, signal.SIGTERM, id="make-sigterm"),
        pytest.param(MAKE, signal.SIGKILL, id="make-sigkill"),
    ],
)
def test_ended_while_the_daemon_runs(
    start_demo: Callable[..., DemoProcess], argv: tuple[str, ...], number: signal.Signals
) -> None:
    """The demo process or make is signalled, its children are not: they end all the same."""
    if argv[0] == "make" and shutil.which("make") is None:
        pytest.skip("make is not on PATH")
    demo = start_demo(*argv)
    wait_until(lambda: demo.exists("state", "http.json"), seconds=60, says="the daemon is up")
    listening = addresses(demo)
    assert any(answers(address) for address in listening)

    os.kill(demo.process.pid, number)

    assert_nothing_is_left(demo, listening)


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_the_fault(start_demo: Callable[..., DemoProcess]) -> None:
    """The drill itself restores first; the exit code says that nobody can tell."""
    demo = start_demo(*DEMO)
    wait_until(lambda: "fault-injected" in demo.events(), seconds=90, says="the fault is in place")
    listening = addresses(demo)

    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group

    assert_nothing_is_left(demo, listening)
    assert demo.process.wait(10) == 3
    assert records(demo.drill(), "interrupted")
    assert [record.fields["by"] for record in records(demo.drill(), "fault-removed")] == ["drill"]
    assert records(demo.drill(), "closed")[-1].fields["by"] == "drill"
