"""A `kms-watchdog run` as a process, and what it answers; over the keys that a local AWS has."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from daemon_kit import KEYS_ALONE, LocalCloud
from waiting import wait_until

from kms_core.clock import SystemClock

CLOCK = SystemClock()


@dataclass
class Running:
    """A daemon on its way."""

    process: subprocess.Popen[str]
    folder: Path
    log: Path
    started: float

    @property
    def url(self) -> str:
        return str(json.loads((self.folder / "state" / "http.json").read_text())["url"])

    def get(self, path: str) -> tuple[int, str]:
        """Ask it; (0, "") while nobody answers."""
        address = urlsplit(self.url)
        with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)) as connection:
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except OSError:
                return 0, ""

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series that carry `labels`."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            series, _, number = line.rpartition(" ")
            if re.match(rf"kms_watchdog_{name}(\{{|$)", series) and all(
                f'{k}="{v}"' in series for k, v in labels.items()
            ):
                total += float(number)
        return total

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of that name."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for event in found if event["event"] == name]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


Start = Callable[..., Running]


@pytest.fixture
def start(cloud: LocalCloud) -> Iterator[Start]:
    """Start daemons; whoever is left at the end is killed."""
    made: list[Running] = []

    def run(config: Path, **environment: str) -> Running:
        log = config.parent / "daemon.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "kms_watchdog", "run", "--config", str(config)],
                env={**cloud.environment, **environment},
                stdout=subprocess.DEVNULL,
                stderr=file,
                text=True,
            )
        made.append(Running(process, config.parent, log, CLOCK.monotonic()))
        wait_until(
            lambda: (config.parent / "state" / "http.json").exists() or process.poll() is not None, says="it listens"
        )
        assert process.poll() is None, log.read_text()
        return made[-1]

    yield run
    for running in made:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait(10)


@pytest.fixture(scope="module")
def provisioned(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The prefix of keys that exist."""
    config = cloud.config(tmp_path_factory.mktemp("provision"), prefix="daemon")
    assert cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config).returncode == 0
    return "daemon"


@pytest.fixture
def config(cloud: LocalCloud, provisioned: str, tmp_path: Path) -> Path:
    return cloud.config(tmp_path, prefix=provisioned)
