"""The example service as a process over a local AWS of its own, and what it answers."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from kms_local.testing import LocalAws, start_local_aws

EXAMPLES = Path(__file__).parents[2] / "examples"
FIELDS = {"booking": "LHR-JFK 12A", "passport": "X1234567", "card": "4111111111111111"}
ALL = {"reference": "PF4K2Q", "fields": FIELDS}
NO_CACHE = {"KMS_DATA_KEY_TTL_MS": "1"}
"""Has each request ask KMS."""
CALM = {
    "KMS_CONNECT_TIMEOUT_SECONDS": "10",
    "KMS_READ_TIMEOUT_SECONDS": "10",
    "KMS_ATTEMPT_TIMEOUT_SECONDS": "10",
    "KMS_SLOW_CALL_SECONDS": "10",
    "KMS_DEADLINE_SECONDS": "40",
}
"""Has a busy machine not look like a slow region, where the test is not about slowness."""
SECONDS = 60.0
"""For what takes one or two on a machine of its own."""

Answer = tuple[int, Mapping[str, str], Any]


def provision(aws: LocalAws) -> None:
    """Make the keys under the setup guide's names, as the README of the examples does."""
    config = aws.directory / "watchdog.toml"
    config.write_text(_command("kms_local", "configuration", "--dir", str(aws.directory)), encoding="utf-8")
    steps = ("--yes", "--steps", "keys,aliases,rotation")
    alone = credentials(aws) | {
        "TMPDIR": str(aws.directory)
    }  # one at a time is for estates of that name, not for tests
    _command("kms_watchdog", "provision", "apply", *steps, "--config", str(config), env=alone)


def credentials(aws: LocalAws, role: str | None = None) -> dict[str, str]:
    """Return this process's environment without what it says of AWS, and with credentials for the local one."""
    given = aws.endpoints["credentials"] if role is None else aws.endpoints["roles"][role]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KMS_"))}
    nobody = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
    return inherited | nobody | {name.upper(): value for name, value in given.items()}


def environment(aws: LocalAws, role: str | None = None, **changes: str) -> dict[str, str]:
    """Return what the service is started with; a change to the empty text leaves a variable out."""
    usual = CALM | {
        "AWS_ACCOUNT_ID": aws.account_id,
        "AWS_REGION": "us-east-1",
        "KMS_ENDPOINTS_FILE": str(aws.directory / "endpoints.json"),
        "PORT": "0",
        "PYTHONPATH": str(EXAMPLES),
    }
    return {name: value for name, value in (credentials(aws, role) | usual | changes).items() if value}


def serve_once(environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Start a service that is going to end by itself."""
    command = [sys.executable, "-m", "parker_flight_api", "serve"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=2 * SECONDS)


@dataclass
class Flight:
    """A service on its way."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.said())
        assert found, self.said()
        return int(found[1])

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, path: str, document: Any = None, **headers: str) -> Answer:
        """Ask on a connection of its own; what is given besides bytes is sent as JSON."""
        with closing(self.connect()) as connection:
            return ask(connection, path, document, **headers)

    def status(self, path: str, document: Any = None) -> int:
        return self.ask(path, document)[0]

    def value(self, series: str) -> float:
        """Return the sum of the metric's values whose line begins with `series`."""
        lines = [line for line in self.ask("/metrics")[2].splitlines() if line.startswith(series)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def ask(connection: http.client.HTTPConnection, path: str, document: Any = None, **headers: str) -> Answer:
    """Ask on `connection`; return status, headers and the document, or the text of what is none."""
    body = document if isinstance(document, bytes | None) else json.dumps(document).encode()
    connection.request("GET" if body is None else "POST", path, body, headers)
    response = connection.getresponse()
    text = response.read().decode()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, dict(response.headers), json.loads(text) if is_json else text


Start = Callable[..., Flight]


@pytest.fixture(scope="session")
def flight_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """Three local regions with the service's keys; faults are the tests' to undo."""
    flags = ("--creating-seconds", "0.1")
    with start_local_aws(tmp_path_factory.mktemp("flight-aws"), toxiproxy=False, flags=flags) as aws:
        provision(aws)
        yield aws


@contextmanager
def flights(aws: LocalAws, folder: Path) -> Iterator[Start]:
    """Give what starts services that listen; whoever is left at the end of the block is killed."""
    made: list[Flight] = []

    def start(environ: Mapping[str, str] | None = None, *, until: str = "listening on", **changes: str) -> Flight:
        log = folder / f"flight-{len(made)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "parker_flight_api", "serve"],
                env=environ or environment(aws, **changes),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        made.append(Flight(process, log))
        wait_until(
            lambda: until in made[-1].said() or process.poll() is not None, says=f"it says {until!r}", seconds=SECONDS
        )
        assert process.poll() is None, made[-1].said()
        return made[-1]

    try:
        yield start
    finally:
        for flight in made:
            flight.process.kill()
            flight.process.wait(10)


@pytest.fixture
def start_flight(flight_aws: LocalAws, tmp_path: Path) -> Iterator[Start]:
    with flights(flight_aws, tmp_path) as start:
        yield start


def _command(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=2 * SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout
