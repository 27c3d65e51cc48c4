"""The real Prometheus and Alertmanager, where both are installed, with the shipped rules and routes.

Their times are shortened as CloudWatch's periods are, so that one game day sees both systems within minutes.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kms_alarms import bounds, prometheus
from kms_watchdog.config import Settings

_PROGRAMS = {"prometheus": ("prometheus",), "alertmanager": ("prometheus-alertmanager", "alertmanager")}
"""Debian calls the second one by the first name."""
_LISTENING = re.compile(r'msg="Listening on" address=\S*?:(\d+)')
_NOBODY = "http://127.0.0.1:9/"
"""Where the shipped routes lead until somebody puts a pager there."""
_DURATION = re.compile(r"^(\d+)(s|m)$")
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the two programs are."""

    prometheus: str
    alertmanager: str


def programs() -> Programs | None:
    """Return the two programs; None: one is not installed."""
    found = {
        name: next((path for alias in aliases if (path := shutil.which(alias))), None)
        for name, aliases in _PROGRAMS.items()
    }
    whole = all(found.values())
    return Programs(prometheus=str(found["prometheus"]), alertmanager=str(found["alertmanager"])) if whole else None


def routes(shipped: str, pager_url: str, *, scale: float) -> str:
    """Return Alertmanager's configuration: the shipped example, its receivers at the pager, its waits shortened."""
    document: dict[str, Any] = yaml.safe_load(shipped.replace(_NOBODY, pager_url))
    for route in (document["route"], *document["route"]["routes"]):
        for wait in ("group_wait", "group_interval"):
            if wait in route:
                route[wait] = prometheus.duration(_seconds(route[wait]) * scale)
    return yaml.safe_dump(document, sort_keys=False)


def scrapes(daemon_url: str, alertmanager_port: int, *, scale: float) -> str:
    """Return Prometheus's configuration, with `rules.yml` beside it."""
    scrape = prometheus.duration(bounds.SCRAPE_SECONDS * scale)
    return yaml.safe_dump(
        {
            "global": {
                "scrape_interval": scrape,
                "scrape_timeout": scrape,
                "evaluation_interval": prometheus.duration(bounds.EVALUATION_SECONDS * scale),
            },
            "rule_files": ["rules.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]},
            "scrape_configs": [
                {
                    "job_name": "kms-watchdog",
                    "static_configs": [{"targets": [daemon_url.removeprefix("http://")]}],
                }
            ],
        },
        sort_keys=False,
    )


def rules(settings: Settings, *, scale: float) -> str:
    """Return the shipped rules as they are rendered for these settings, their times shortened."""
    return prometheus.render(settings, scale=scale)


def port_of(log: Path) -> int | None:
    """Return the port that one of the programs says it listens on; None: it has not said it yet."""
    found = _LISTENING.search(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else None
    return int(found[1]) if found else None


def firing(port: int) -> set[tuple[str, str]]:
    """Return the live alerts that fire: each one's name, and its region, empty where it has none.

    Raises:
        OSError, ValueError: Prometheus does not answer, or not so.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/api/v1/alerts")
        alerts = json.loads(connection.getresponse().read())["data"]["alerts"]
    finally:
        connection.close()
    return {
        (one["labels"]["alertname"], one["labels"].get("region", ""))
        for one in alerts
        if one["state"] == "firing" and one["labels"].get("mode") != "drill"
    }


def _seconds(duration: str) -> int:
    found = _DURATION.match(duration)
    if found is None:
        raise ValueError(f"not a time of Alertmanager's example: {duration!r}")
    return int(found[1]) * {"s": 1, "m": 60}[found[2]]
