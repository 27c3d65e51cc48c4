"""Drill → canary → metric → real Prometheus → real Alertmanager → receiver, by the shipped rules and routes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from alerting import Alerting, alerting
from waiting import wait_until

from kms_local.demo.configuration import DemoFolder, credentials, read_endpoints
from kms_local.demo.stage import Stage
from kms_watchdog.commands.options import REFUSED
from kms_watchdog.config import load
from kms_watchdog.drills.folder import folders

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.minutes(5), pytest.mark.timeout(600)]

TARGET = "us-east-1"
SECOND = "eu-west-1"
PATIENCE = 120.0
TRIES = 10


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


def begun(folder: DemoFolder, name: str) -> subprocess.Popen[str]:
    """Start a drill, again while a guard refuses it, which touches nothing: on a slow machine a canary may be late."""
    for _ in range(TRIES):
        known = set(runs(folder))
        running = drill(folder, name)
        begins = partial(has_begun_or_ended, folder, known, running)
        wait_until(begins, seconds=PATIENCE, says=f"{name} begins, or is refused")
        if running.poll() != REFUSED:
            return running
    raise AssertionError(running.communicate()[1])


def has_begun_or_ended(folder: DemoFolder, known: set[str], running: subprocess.Popen[str]) -> bool:
    return bool(set(runs(folder)) - known) or running.poll() is not None


def runs(folder: DemoFolder) -> list[str]:
    return [found.run_id for found in folders(load(folder.configuration).state.dir)]


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
    with alerting(load(folder.configuration), url, folder=tmp_path / "alerting") as system:
        told = system.told
        for always in ("Watchdog", "KmsWatchdogHeartbeat"):
            wait_until(
                lambda of=always: told.of("deadman", of, "firing"),
                seconds=PATIENCE,
                says=f"{always} reaches its switch",
            )

        running = begun(folder, "region-blackhole")
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


def test_a_real_second_outage_during_a_drill_pages(stage: Stage, folder: DemoFolder, tmp_path: Path) -> None:
    """The drill keeps nobody's alarm quiet, and does not hold over data that a region could not open."""
    url = stage.start_daemon()
    with alerting(load(folder.configuration), url, folder=tmp_path / "alerting") as system:
        told = system.told
        wait_until(
            lambda: told.of("deadman", "KmsWatchdogHeartbeat", "firing"), seconds=PATIENCE, says="canaries are well"
        )
        running = begun(folder, "region-blackhole")
        wait_until(
            lambda: ("KmsDrillCircuitBreakerOpen", "pending") in system.states(),
            seconds=PATIENCE,
            says="the drill's fault is on",
        )
        assert running.poll() is None
        kms_local(
            folder, "fault", "add", "--region", SECOND, "--service", "kms", "--error-code", "KMSInternalException"
        )
        wait_until(
            lambda: told.of("pager", "KmsRegionUnhealthy", "firing", region=SECOND, mode="live"),
            seconds=PATIENCE,
            says="somebody wakes",
        )
        output, errors = running.communicate(timeout=300)

        assert json.loads(output)["verdict"] != "HELD", errors
        assert running.returncode != 0
        assert told.of("pager", "KmsRegionUnhealthy", "firing", region=TARGET) == []
        assert {one.labels["mode"] for one in told.told if one.receiver == "drills"} == {"drill"}

        kms_local(folder, "fault", "clear")
        wait_until(
            lambda: told.of("pager", "KmsRegionUnhealthy", "resolved", region=SECOND),
            seconds=PATIENCE,
            says="it is over",
        )
