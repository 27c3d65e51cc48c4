"""Two watchdogs of one estate as processes: both beat, and one that is killed alarms while the other goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from daemon_kit import LocalCloud
from running_daemon import Start, provisioned, start
from waiting import wait_until

from kms_alarms import cloudwatch
from kms_watchdog.config import load

pytestmark = [pytest.mark.slow, pytest.mark.minutes(1.5), pytest.mark.timeout(600)]

__all__ = ["provisioned", "start"]

REPLICAS = """
[replicas]
members = ["east", "west"]
place = "{place}"
"""


def test_one_of_two_that_is_killed_alarms(start: Start, cloud: LocalCloud, provisioned: str, tmp_path: Path) -> None:
    """By the alarm on its own heartbeat, as it is rendered; the other's stays quiet, and its canaries go on."""
    configs = {
        place: cloud.config(tmp_path / place, REPLICAS.format(place=place), prefix=provisioned)
        for place in ("east", "west")
    }
    east, west = (start(config) for config in configs.values())
    wait_until(lambda: east.get("/health")[0] == west.get("/health")[0] == 200, says="both are green")
    assert east.value("canary_up", place="east") == 9
    assert east.value("canary_up", place="west") == 0
    put_alarms(cloud, configs["east"])
    wait_until(lambda: states(cloud) == {"east": "OK", "west": "OK"}, says="both beat", seconds=180)

    west.process.kill()
    west.process.wait(10)

    wait_until(lambda: states(cloud)["west"] == "ALARM", says="the dead one is missed", seconds=240)
    assert states(cloud)["east"] == "OK"
    before = east.value("canary_runs_total", result="success")
    wait_until(lambda: east.value("canary_runs_total", result="success") > before, says="the other looks on")


def put_alarms(cloud: LocalCloud, config: Path) -> None:
    settings = load(config, environ={})
    for parameters in cloudwatch.render(settings, alarm_region="us-east-1"):
        if "HeartbeatMissing" in parameters["AlarmName"]:
            client(cloud).put_metric_alarm(**parameters)


def states(cloud: LocalCloud) -> dict[str, Any]:
    found = client(cloud).describe_alarms(AlarmNamePrefix="ParkerFlight-KMS-HeartbeatMissing-daemon-")["MetricAlarms"]
    return {one["AlarmName"].rpartition("-")[2]: one["StateValue"] for one in found}


def client(cloud: LocalCloud) -> Any:
    return cloud.client("cloudwatch")
