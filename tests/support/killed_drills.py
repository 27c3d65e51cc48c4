"""Drills that are there to be killed, and the one alarm that they speak of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from daemon_kit import LocalCloud

from kms_alarms.cloudwatch import alarm_name
from kms_watchdog.config import load
from kms_watchdog.results import Kind, Mode

LOOKS = (Kind.ROUND_TRIP, Kind.KEY_STATE, Kind.REPLICA_DRIFT, Kind.HEADROOM)
"""What a daemon must look at so that the drills' guards let one in."""
ALARM = "HighErrorRate"
MORE = """
[core]
breaker_open_seconds = 1
connect_timeout_seconds = 0.5
read_timeout_seconds = 0.8
"""
DRILL = """
title = "Killed"
why = "To be killed at any instant."
mode = "sustained"
[target]
region = "primary"
{faults}
[timing]
baseline_at_least_seconds = 1
baseline_at_most_seconds = 30
hold_at_least_seconds = 3
hold_at_most_seconds = 20
[workload]
purposes = ["general"]
operations_per_second = 10.0
canary_interval_seconds = 0.5
[objectives]
failed_operations = 1000
p99_seconds = 20.0
rto_seconds = 60.0
[[alarms.must_not_fire]]
alarm = "HighErrorRate"
region = "all"
mode = "live"
"""
FAULTS = {
    "toxic": '[[faults]]\nkind = "blackhole"',
    "refused": '[[faults]]\nkind = "refused"',
    "flapping": '[[faults]]\nkind = "flapping"\ninner = "refused"\non_seconds = 1.0\noff_seconds = 0.5',
    "several": (
        '[[faults]]\nkind = "latency"\nlatency_ms = 400\nramp_seconds = 1.0\n'
        '[[faults]]\nkind = "refused"\nregion = "us-west-2"\nafter_seconds = 0.5\nfor_seconds = 1.5'
    ),
}
"""Toxics; a disabled proxy; one that is disabled again and again; several at once, in two regions."""


def write_drills(folder: Path) -> Mapping[str, Path]:
    """Write one drill a kind of fault; return where each is."""
    found = {name: folder / f"{name}.toml" for name in FAULTS}
    for name, path in found.items():
        path.write_text(DRILL.format(faults=FAULTS[name]), encoding="utf-8")
    return found


def make_alarms(cloud: LocalCloud, config: Path) -> None:
    """Make the one alarm that the drills speak of, and no other: nobody publishes what the rest look at."""
    settings = load(config)
    for reader in settings.estate.regions:
        cloudwatch = cloud.client("cloudwatch", reader)
        for region in settings.estate.regions:
            name = alarm_name(settings, ALARM, region, Mode.LIVE)
            cloudwatch.put_metric_alarm(
                AlarmName=name, Namespace="killed", MetricName="none", Statistic="Sum", Period=60, Threshold=1.0,
                EvaluationPeriods=1, ComparisonOperator="GreaterThanThreshold", TreatMissingData="notBreaching",
            )  # fmt: skip
            cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="nobody publishes it")
        cloudwatch.close()
