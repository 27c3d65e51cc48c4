"""Which values each dimension has in an installation, and what its alarms are called. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kms_alarms import cloudwatch as alarms
from kms_alarms.parts import MetricAlarm
from kms_alarms.table import alarm
from kms_watchdog.config import Settings
from kms_watchdog.sinks.series import KMS_OPERATIONS


def values_of(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    """Return the values that a dimension can have, by its name."""
    return {
        "Region": tuple(settings.estate.regions),
        "Key": tuple(settings.keys),
        "Canary": tuple(str(kind) for kind in settings.canaries.kinds),
        "Monitor": settings.monitors,
        "Operation": KMS_OPERATIONS,
        "Success": ("true", "false"),
        "Drill": _drills(settings),
    }


def alarm_arn(settings: Settings, name: str, region: str) -> str:
    """Return the ARN of the alarm `name` in `region`."""
    return f"arn:{settings.core_config().partition}:cloudwatch:{region}:{settings.estate.account_id}:alarm:{name}"


def alarm_arns(settings: Settings, region: str) -> frozenset[str]:
    """Return the ARNs of all alarms that are rendered for `region`."""
    rendered = alarms.render(settings, alarm_region=region)
    return frozenset(alarm_arn(settings, one["AlarmName"], region) for one in rendered)


def _drills(settings: Settings) -> tuple[str, ...]:
    """Return the drills that are scheduled, as the alarm on those that broke names them."""
    watch = alarm("DrillFailed").cloudwatch
    if not isinstance(watch, MetricAlarm):
        raise TypeError("DrillFailed has no alarm in CloudWatch")
    return tuple(member[0] for member in alarms.members(settings, watch))
