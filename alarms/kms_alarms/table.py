"""The one table of alarms: what is looked at, when it is bad, who is told, what to do, and which drill proves it.

Each row is a template rendered twice, live and drill (DESIGN §6). Metric names come from `kms_watchdog.metrics` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kms_watchdog.config import Settings
from kms_watchdog.metrics import CW_CANARY_FAILURES, CW_CANARY_RUNS, CloudWatchMetric
from kms_watchdog.results import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One row: an alarm on metric math over one region's metrics, in every region of the estate."""

    name: str
    title: str
    severity: Literal["warning", "critical"]
    owner: str
    runbook: str
    """File in `alarms/runbooks/`."""
    proven_by: str
    """The drill that makes the twin fire and clear: an alarm nobody has seen fire is a rumour."""
    inputs: Mapping[str, tuple[CloudWatchMetric, str]]
    """Id in the expression: (metric, statistic). Every metric here has the dimension `Region` alone."""
    expression: str
    comparison: Literal["GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold"]
    threshold: float
    evaluation_periods: int
    datapoints_to_alarm: int
    missing: Literal["missing", "notBreaching", "breaching", "ignore"]

    def __post_init__(self) -> None:
        if not 1 <= self.datapoints_to_alarm <= self.evaluation_periods:
            raise ValueError(f"{self.name}: datapoints_to_alarm must be 1 to evaluation_periods")
        if wrong := [m.name for m, _ in self.inputs.values() if m.dimensions != ("Region",)]:
            raise ValueError(f"{self.name}: {wrong[0]} does not have exactly the dimension Region")

    def slowest_seconds(self, period_seconds: int) -> int:
        """Return the longest this alarm may take to fire once every run fails: one period may have just begun."""
        return (self.datapoints_to_alarm + 1) * period_seconds


HIGH_ERROR_RATE = Alarm(
    name="HighErrorRate",
    title="Round trips through KMS fail in this region",
    severity="critical",
    owner="sre",
    runbook="high-error-rate.md",
    proven_by="region-blackhole",
    inputs={"runs": (CW_CANARY_RUNS, "Sum"), "failures": (CW_CANARY_FAILURES, "Sum")},
    # Zeros are published, so no FILL; absence is not this alarm's business, hence notBreaching.
    expression="IF(runs > 0, 100 * failures / runs, 0)",
    comparison="GreaterThanThreshold",
    threshold=5.0,
    evaluation_periods=5,
    datapoints_to_alarm=3,
    missing="notBreaching",
)

ALARMS: tuple[Alarm, ...] = (HIGH_ERROR_RATE,)


def alarm(name: str) -> Alarm:
    """Return the row called `name`.

    Raises:
        KeyError: no row has that name.
    """
    for row in ALARMS:
        if row.name == name:
            return row
    raise KeyError(name)


def alarm_name(settings: Settings, name: str, region: str, mode: Mode) -> str:
    """Return what CloudWatch calls the alarm `name` for `region`: the live one, or its drill twin.

    Raises:
        KeyError: no row has that name.
    """
    twin = "Drill-" if mode is Mode.DRILL else ""
    return f"{settings.cloudwatch.alarm_prefix}-{twin}{alarm(name).name}-{region}"
