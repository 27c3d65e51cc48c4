"""What systemd is told, over a socket as it opens one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from daemon_kit import cloud
from running_daemon import Start, config, provisioned, start
from waiting import wait_until

from kms_watchdog.service_manager import ServiceManager

__all__ = ["cloud", "config", "provisioned", "start"]  # fixtures


class Listener:
    """systemd's end."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(0)
        self.heard: list[str] = []

    def hears(self, what: str) -> bool:
        with suppress(BlockingIOError):
            while True:
                self.heard.append(self._socket.recv(4096).decode())
        return what in self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(str(tmp_path / "notify"))
    yield listener
    listener.close()


def test_a_daemon_tells_of_its_life(start: Start, config: Path, systemd: Listener, tmp_path: Path) -> None:
    """Ready, then alive every second or so, and that it stops before it does."""
    daemon = start(config, NOTIFY_SOCKET=str(tmp_path / "notify"))
    wait_until(lambda: systemd.hears("READY=1"), says="it is ready")
    wait_until(lambda: systemd.hears("WATCHDOG=1"), says="it is alive")
    code = daemon.stop()

    assert systemd.hears("STOPPING=1")
    assert code == 0
    assert list(dict.fromkeys(systemd.heard)) == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_it_serves_when_it_says_that_it_is_ready(start: Start, config: Path, systemd: Listener, tmp_path: Path) -> None:
    """Whoever is started after it may ask it at once."""
    daemon = start(config, NOTIFY_SOCKET=str(tmp_path / "notify"))
    wait_until(lambda: systemd.hears("READY=1"), says="it is ready")

    assert daemon.get("/livez")[0] == 200


def test_one_that_stands_still_does_not_say_that_it_lives(systemd: Listener, tmp_path: Path) -> None:
    """By what /livez says: then WatchdogSec runs out."""
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})

    manager.tell_alive(lambda: False)
    silent = not systemd.hears("WATCHDOG=1")
    manager.tell_alive(lambda: True)

    assert silent
    assert systemd.hears("WATCHDOG=1")


def test_processes_that_it_starts_do_not_speak_in_its_name(tmp_path: Path) -> None:
    """A drill is a child: the address is not handed on."""
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "PATH": "/bin"}

    ServiceManager(environ)

    assert environ == {"PATH": "/bin"}


def test_an_abstract_address_is_understood() -> None:
    """As systemd spells it where there is no file for it."""
    name = f"kms-watchdog-test-{os.getpid()}"
    listener = Listener(f"\0{name}")
    try:
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()

        assert listener.hears("READY=1")
    finally:
        listener.close()


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="nobody wants to know"),
        pytest.param({"NOTIFY_SOCKET": "/nowhere/notify"}, id="nobody is there"),
    ],
)
def test_it_goes_on_where_nobody_listens(environ: dict[str, str]) -> None:
    """Elsewhere than under systemd, or when that has gone."""
    manager = ServiceManager(environ)

    manager.ready()
    manager.tell_alive(lambda: True)
    manager.stopping()
