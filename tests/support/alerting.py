"""A real Prometheus and a real Alertmanager on loopback, with the shipped rules and routes, and who is told by them."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ports import free
from waiting import wait_until

from kms_alarms import prometheus
from kms_watchdog.config import Settings

ROOT = Path(__file__).parents[2]
SCALE = 1 / 20
"""Every time in the rules: a minute is three seconds. Windows must hold a few scrapes, which are a second apart."""


def binary(*names: str) -> str:
    """Return the path of a program; skip the test where there is none."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        assert os.environ.get("CI") != "true", f"CI installs {names[0]}"
        pytest.skip(f"no {names[0]} on PATH")
    return found


@dataclass(frozen=True, slots=True)
class Told:
    """One alert as a receiver got it."""

    receiver: str
    status: str
    """`firing` or `resolved`."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass
class Receivers:
    """Everybody who is told, by the path of their URL."""

    url: str
    told: list[Told] = field(default_factory=list)

    def of(self, receiver: str, alert: str, status: str, **labels: str) -> list[Told]:
        """Return what one receiver was told of one alert."""
        return [
            one
            for one in tuple(self.told)
            if (one.receiver, one.status, one.labels["alertname"]) == (receiver, status, alert)
            and labels.items() <= one.labels.items()
        ]


@contextmanager
def receivers() -> Iterator[Receivers]:
    """Listen on loopback for webhooks."""
    found = Receivers("")

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                found.told.append(
                    Told(self.path.strip("/"), alert["status"], alert["labels"], alert.get("annotations", {}))
                )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True, slots=True)
class Alerting:
    """A Prometheus that scrapes the watchdog, and its Alertmanager."""

    prometheus: str
    told: Receivers

    def states(self) -> set[tuple[str, str]]:
        """Return every alert that is pending or firing now: its name and state."""
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/alerts", timeout=10) as answer:  # noqa: S310 - ours
            alerts = json.load(answer)["data"]["alerts"]
        return {(one["labels"]["alertname"], one["state"]) for one in alerts}


@contextmanager
def alerting(
    settings: Settings,
    *daemon_urls: str,
    folder: Path,
    scale: float = SCALE,
    at_most_seconds: float = math.inf,
    scrape_seconds: int = 1,
) -> Iterator[Alerting]:
    """Start both over daemons, with the shipped rules and routes, all times shortened alike.

    None is longer than `at_most_seconds` then. Windows must hold a few scrapes, one each `scrape_seconds`.
    """
    prometheus_bin, alertmanager_bin = binary("prometheus"), binary("prometheus-alertmanager", "alertmanager")
    folder.mkdir()
    with ExitStack() as stack:
        told = stack.enter_context(receivers())
        ports = {name: free() for name in ("prometheus", "alertmanager")}
        (folder / "rules.yml").write_text(
            prometheus.render(settings, scale=scale, at_most_seconds=at_most_seconds), encoding="utf-8"
        )
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(_routes(told.url)), encoding="utf-8")
        (folder / "prometheus.yml").write_text(
            yaml.safe_dump(_scrapes(daemon_urls, ports["alertmanager"], scrape_seconds)), encoding="utf-8"
        )
        stack.enter_context(
            _running(
                folder / "alertmanager.log",
                alertmanager_bin,
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
                "--cluster.listen-address=",
            )
        )
        stack.enter_context(
            _running(
                folder / "prometheus.log",
                prometheus_bin,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            )
        )
        url = f"http://127.0.0.1:{ports['prometheus']}"
        wait_until(lambda: _answers(f"{url}/-/ready"), seconds=60, says="Prometheus is ready")
        yield Alerting(url, told)


def _routes(receiver_url: str) -> dict[str, Any]:
    """Return the shipped example with its receivers replaced, and without its waits."""
    text = (ROOT / "alarms" / "prometheus" / "alertmanager.example.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text.replace("http://127.0.0.1:9/", f"{receiver_url}/"))
    for route in (found["route"], *found["route"]["routes"]):
        route.update({name: "1s" for name in ("group_wait", "group_interval") if name in route})
    return found


def _scrapes(daemon_urls: Sequence[str], alertmanager_port: int, seconds: int) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": f"{seconds}s", "scrape_timeout": f"{seconds}s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]},
        "scrape_configs": [
            {
                "job_name": "kms-watchdog",
                "static_configs": [{"targets": [url.removeprefix("http://") for url in daemon_urls]}],
            }
        ],
    }


@contextmanager
def _running(log: Path, *argv: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, cwd=log.parent)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - ours, on 127.0.0.1
            return bool(answer.status == 200)
    except OSError:
        return False
