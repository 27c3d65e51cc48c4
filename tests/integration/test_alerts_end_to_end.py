"""Drill → canary → metric → real Prometheus → real Alertmanager → receiver, by the shipped rules and routes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alerting import Alerting, alerting
from waiting import wait_until

from kms_local.demo.configuration import DemoFolder, credentials, read_endpoints
from kms_local.demo.stage import Stage
from kms_watchdog.config import load

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]

TARGET = "us-east-1"
PATIENCE = 120.0


@pytest.fixture
def folder(stage: Stage, tmp_path: Path) -> DemoFolder:
    return DemoFolder(next(iter((tmp_path / "stage").iterdir())))


def kms_local(folder: DemoFolder, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "kms_local", *arguments, "--dir", str(folder.aws)],
        check=True,
        capture_output=True,
        timeout=60,
    )


def drill(folder: DemoFolder, name: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **credentials(read_endpoints(folder))}
    return subprocess.Popen(
        [sys.executable, "-m", "kms_chaos", "run", name, "--json", "--config", str(folder.configuration)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def seen_until_over(system: Alerting, running: subprocess.Popen[str]) -> set[tuple[str, str]]:
    """Return every alert and state that Prometheus showed while the drill ran."""
    found: set[tuple[str, str]] = set()

    def over() -> bool:
        found.update(system.states())
        return running.poll() is not None

    wait_until(over, seconds=300, says="the drill is over")
    return found


def test_a_drill_is_told_to_the_drills_receiver_and_a_real_outage_to_the_pager(
    stage: Stage, folder: DemoFolder, tmp_path: Path
) -> None:
    """Pending, firing, received, resolved; nobody's sleep is touched by the drill, and somebody's by the outage."""
    url = stage.start_daemon()
    with alerting(load(folder.configuration), url, tmp_path / "alerting") as system:
        told = system.told
        for always in ("Watchdog", "KmsWatchdogHeartbeat"):
            wait_until(
                lambda of=always: told.of("deadman", of, "firing"),
                seconds=PATIENCE,
                says=f"{always} reaches its switch",
            )

        running = drill(folder, "region-blackhole")
        seen = seen_until_over(system, running)
        output, errors = running.communicate()

        assert running.returncode == 0, errors
        assert json.loads(output)["verdict"] == "HELD"
        twins = ("KmsDrillRegionUnhealthy", "KmsDrillCircuitBreakerOpen")
        assert {(name, state) for name in twins for state in ("pending", "firing")} <= seen
        for twin in twins:
            assert told.of("drills", twin, "firing", region=TARGET)
            wait_until(
                lambda of=twin: told.of("drills", of, "resolved", region=TARGET),
                seconds=PATIENCE,
                says=f"{twin} clears",
            )
        assert [one for one in told.told if one.receiver == "pager"] == []
        assert {one.labels["mode"] for one in told.told if one.receiver == "drills"} == {"drill"}

        kms_local(
            folder, "fault", "add", "--region", TARGET, "--service", "kms", "--error-code", "KMSInternalException"
        )
        wait_until(
            lambda: told.of("pager", "KmsRegionUnhealthy", "firing", region=TARGET),
            seconds=PATIENCE,
            says="somebody wakes",
        )
        [page, *_] = told.of("pager", "KmsRegionUnhealthy", "firing", region=TARGET)
        assert page.annotations["summary"] == f"{TARGET} cannot be used"
        assert page.annotations["runbook_url"].endswith("region-unhealthy.md")
        assert page.labels["mode"] == "live"

        kms_local(folder, "fault", "clear")
        wait_until(
            lambda: told.of("pager", "KmsRegionUnhealthy", "resolved", region=TARGET),
            seconds=PATIENCE,
            says="it is over",
        )
