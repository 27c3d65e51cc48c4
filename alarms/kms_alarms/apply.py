"""Put the rendered alarms, and the topics they speak to, into CloudWatch and SNS of every publishing region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kms_alarms import cloudwatch
from kms_alarms.cloudwatch import Change
from kms_watchdog import aws
from kms_watchdog.config import Settings


class ApplyError(RuntimeError):
    """AWS refused or could not be reached; the message names the region, the call and AWS's own code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionPlan:
    """What has to change in one region."""

    region: str
    changes: tuple[Change, ...]


def plan(settings: Settings) -> tuple[RegionPlan, ...]:
    """Return what is missing or different, by region. Reads only.

    Raises:
        ApplyError: a region's alarms cannot be read.
    """
    return tuple(
        RegionPlan(
            region=region,
            changes=cloudwatch.changes(cloudwatch.render(settings, alarm_region=region), _present(settings, region)),
        )
        for region in settings.publish_regions
    )


def apply(settings: Settings, plans: tuple[RegionPlan, ...]) -> None:
    """Create the topics (idempotent) and put what `plans` name.

    Raises:
        ApplyError: AWS refused; what was put before stays, and a second run goes on from there.
    """
    for region_plan in plans:
        sns = aws.client(settings, "sns", region_plan.region)
        for topic in cloudwatch.topics(settings):
            _call(region_plan.region, "CreateTopic", lambda name=topic, to=sns: to.create_topic(Name=name))
        alarms = aws.client(settings, "cloudwatch", region_plan.region)
        for change in region_plan.changes:
            _call(region_plan.region, "PutMetricAlarm", lambda c=change, to=alarms: to.put_metric_alarm(**c.wanted))


def _present(settings: Settings, region: str) -> tuple[Any, ...]:
    client = aws.client(settings, "cloudwatch", region)
    prefix = settings.cloudwatch.alarm_prefix

    def pages() -> Iterator[Any]:
        yield from client.get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix, AlarmTypes=["MetricAlarm"])

    found = _call(region, "DescribeAlarms", lambda: list(pages()))
    return tuple(alarm for page in found for alarm in page.get("MetricAlarms", ()))


def _call(region: str, name: str, call: Any) -> Any:
    try:
        return call()
    except aws.AwsError as e:
        raise ApplyError(f"{region}: {name}: {aws.error_code(e)}") from e
