"""The process of a drill's own watchdog, as the drill holds it: started, asked over HTTP, killed, ended."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kms_chaos import own_watchdog_settings
from kms_chaos.faults.line import Address
from kms_chaos.own_watchdog import ANSWER_SECONDS, Look
from kms_watchdog import metrics
from kms_watchdog.config import Settings
from kms_watchdog.json_text import read_json
from kms_watchdog.results import Kind
from kms_watchdog.state_folder import StateFolder
from kms_watchdog.status_client import running_url

_STOP_SECONDS = 12.0
"""What the watchdog itself may take to stop, and some."""
_OK = 200
_LOG = "watchdog.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Where the watchdog's connections are dialled: each end point's `host:port`, what it is called, and its proxy."""

    names: Mapping[str, str]
    """End point to a name, such as `kms us-east-1`."""
    addresses: Mapping[str, Address]


class OwnProcess:
    """A process of `own_watchdog_process`."""

    def __init__(self, settings: Settings, folder: Path, ways: Ways, *, publishes: bool) -> None:
        """Start it; its files are in `folder`, which is made if need be; its log is beside it in the end.

        Raises:
            OSError: it cannot be started.
        """
        folder.mkdir(exist_ok=True)
        self._log = folder / _LOG  # not beside the folder yet: a healer may seal what is there while it is written
        self._folder, self._ways, self._state = folder, ways, StateFolder(folder / "state")
        configuration, self._looked_up = folder / "watchdog.toml", folder / "looked-up"
        values = own_watchdog_settings.document(settings, self._state.path, publishes=publishes)
        configuration.write_text(own_watchdog_settings.toml(values), encoding="utf-8")
        (folder / "ways.json").write_text(json.dumps(dict(ways.addresses)), encoding="utf-8")
        arguments = [str(folder / "ways.json"), str(self._looked_up), "run", "--config", str(configuration)]
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "kms_chaos.own_watchdog_process", *arguments],
                env=own_watchdog_settings.environment(settings, os.environ),
                stdin=subprocess.PIPE,  # whose other end nobody has but this process
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the drill's, which ends it in its turn
            )
        self.pid = self._popen.pid

    def look(self) -> Look:
        """Return what it says of itself; it answers nothing for some seconds after its start."""
        url = running_url(self._state.http)
        if url is None or self._popen.poll() is not None or not self._is_ours():
            return Look()
        try:
            return read(lambda path: _get(url, path))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return Look()

    def _is_ours(self) -> bool:
        """Return whether the address is of this very process: one that was killed leaves its own behind."""
        try:
            return bool(read_json(self._state.http.read_text(encoding="utf-8"))["pid"] == self.pid)
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def looked_up(self) -> Mapping[str, int]:
        """Return how often a connection was opened on each way, by all processes of this folder so far."""
        try:
            lines = self._looked_up.read_text(encoding="utf-8").split()
        except OSError:
            return {}
        return Counter(self._ways.names[line] for line in lines if line in self._ways.names)

    def kill(self) -> int:
        """End it with SIGKILL."""
        self._popen.kill()
        return self._ended()

    def stop(self) -> int:
        """End it with SIGTERM, or SIGKILL when it takes too long; its folder goes, what it said is on the tape."""
        self._popen.terminate()
        try:
            self._popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        code = self._ended()
        with suppress(OSError):  # a log that is lost is no reason to end otherwise
            shutil.move(self._log, self._folder.with_name(f"{self._folder.name}.log"))
        shutil.rmtree(self._folder, ignore_errors=True)
        return code

    def _ended(self) -> int:
        code = self._popen.wait()
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        return code


Get = Callable[[str], tuple[int, bytes]]
"""Asks for a path, and returns HTTP's code and the body."""


def read(get: Get) -> Look:
    """Return what a watchdog says at its addresses.

    Raises:
        OSError, http.client.HTTPException: it does not answer. ValueError, KeyError, TypeError: not as one.
    """
    ready_code, _ = get("/readyz")
    health_code, _ = get("/health")
    code, body = get("/api/v1/status")
    if code != _OK:
        return Look(answers=True, health_code=health_code)
    document = read_json(body)
    canaries = document["canaries"]
    failover = [one for one in canaries if one["canary"] == Kind.FAILOVER_PATH]
    numbers = _numbers(get("/metrics")[1].decode("utf-8", "replace"))
    return Look(
        answers=True,
        ready=ready_code == _OK,
        health_code=health_code,
        status=str(document["status"]),
        regions={one["region"]: bool(one["healthy"]) for one in document["regions"]},
        keys_usable=all(one["usable"] for one in document["keys"]),
        failover_up=bool(failover) and all(one["state"] == "up" for one in failover),
        history_since_utc=min((run["first_at_utc"] for one in canaries for run in one["runs"]), default=""),
        queued=numbers.get(metrics.CLOUDWATCH_QUEUE.full_name, {}),
        accepted=numbers.get(metrics.CLOUDWATCH_DATUMS.full_name, {}),
        dropped=sum(numbers.get(metrics.CLOUDWATCH_DROPPED.full_name, {}).values()),
    )


_SAMPLE = re.compile(r'^(\w+)\{[^}]*region="([^"]+)"[^}]*\} (\S+)', re.MULTILINE)


def _numbers(exposition: str) -> dict[str, dict[str, int]]:
    """Return the sums of all samples that have a region, by metric and region."""
    found: dict[str, Counter[str]] = {}
    for name, region, value in _SAMPLE.findall(exposition):
        if name.startswith(metrics.PREFIX + "cloudwatch_"):
            found.setdefault(name, Counter())[region] += int(float(value))
    return {name: dict(values) for name, values in found.items()}


def _get(url: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.status, response.read()
    finally:
        connection.close()
