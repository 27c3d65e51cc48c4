"""`kill -9` in the middle of a fault: the daemon heals it, and journal and metrics say so."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import wait_until
from whole_processes import CLOCK, read_journal, records

from kms_local import leash
from kms_local.demo.configuration import DemoFolder, credentials, read_endpoints
from kms_local.demo.stage import Stage
from kms_watchdog.drills.folder import folders

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  our own address on 127.0.0.1
        return str(answer.read().decode())


def start_drill(folder: DemoFolder, log: Path) -> leash.Leashed:
    environment = {**os.environ, **credentials(read_endpoints(folder))}
    config = str(folder.configuration)
    with log.open("wb") as output:
        argv = [sys.executable, "-m", "kms_chaos", "run", "region-blackhole", "--config", config]
        return leash.start(argv, env=environment, stdout=output, stderr=output)


@pytest.mark.slow
def test_the_daemon_heals_a_drill_that_was_killed(stage: Stage, tmp_path: Path) -> None:
    """No toxic, no proxy, a closed journal whose chain holds, and a metric that tells."""
    folder = DemoFolder(next(iter((tmp_path / "stage").iterdir())))
    toxiproxy = read_endpoints(folder)["toxiproxy"]["url"]
    url = stage.start_daemon()
    drill = start_drill(folder, tmp_path / "drill.log")
    wait_until(lambda: folders(folder.state), seconds=30, says="the drill has a folder")
    run = folders(folder.state)[0]
    wait_until(lambda: records(run, "fault-injected"), seconds=60, says="the fault is in place")
    wait_until(lambda: records(run, "breaker-moved"), seconds=60, says="the fault is felt")
    assert "timeout" in get(f"{toxiproxy}/proxies")

    os.kill(drill.pid, signal.SIGKILL)
    killed_at = CLOCK.now_utc()

    wait_until(lambda: read_journal(run).closed, seconds=60, says="the journal is closed by the healer")
    [healed] = records(run, "healed")
    print(f"healed {(healed.at_utc - killed_at).total_seconds():.1f} s after SIGKILL")
    assert healed.fields["by"] == "healer"
    assert healed.fields["reason"] == "owner_dead"
    assert records(run, "closed")[-1].fields["by"] == "healer"
    assert json.loads(get(f"{toxiproxy}/proxies")) == {}
    wait_until(
        _says(url, 'kms_watchdog_faults_healed_total{drill="region-blackhole",reason="owner_dead"} 1.0'),
        seconds=30,
        says="the metric tells of the healing",
    )
    wait_until(lambda: not _active_faults(get(f"{url}/metrics")), seconds=30, says="no fault is active")
    drill.terminate(1)


def _says(url: str, line: str) -> Callable[[], bool]:
    return lambda: line in get(f"{url}/metrics")


def _active_faults(metrics: str) -> list[str]:
    lines = [line for line in metrics.splitlines() if line.startswith("kms_watchdog_faults_active{")]
    return [line for line in lines if not line.endswith(" 0.0")]
