"""A real Prometheus over a daemon, with the shipped rules, for dashboards: patient with a busy machine.

`alerting` scrapes each second and gives up after one: right for the times of alerts, and on a machine under load a
picture full of holes.
"""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from alerting import binary
from ports import free
from waiting import wait_until

from kms_alarms import prometheus
from kms_alarms.rows.watchdog import JOB
from kms_watchdog.config import Settings

SCRAPE_SECONDS = 3
SCALE = 1 / 8
"""Every time in the rules: a minute is seven seconds and a half, in which there are two scrapes."""


@contextmanager
def scraping(settings: Settings, daemon_url: str, folder: Path) -> Iterator[str]:
    """Start one; return its address."""
    program = binary("prometheus")
    folder.mkdir()
    address = f"127.0.0.1:{free()}"
    every = f"{SCRAPE_SECONDS}s"
    target = {"job_name": JOB, "static_configs": [{"targets": [daemon_url.removeprefix("http://")]}]}
    document = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [target],
    }
    (folder / "rules.yml").write_text(prometheus.render(settings, scale=SCALE), encoding="utf-8")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    argv = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen([*argv, f"--web.listen-address={address}"], stdout=output, stderr=output, cwd=folder)
        try:
            wait_until(lambda: _answers(f"http://{address}/-/ready"), seconds=120, says="Prometheus is ready")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - ours, on 127.0.0.1
            return bool(answer.status == 200)
    except OSError:
        return False
