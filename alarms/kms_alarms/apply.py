"""Put the rendered alarms, and the topics they speak to, into CloudWatch and SNS of every publishing region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kms_alarms import cloudwatch
from kms_watchdog import alarm_definitions, aws
from kms_watchdog.alarm_definitions import Change
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
            changes=alarm_definitions.changes(
                cloudwatch.render(settings, alarm_region=region), _present(settings, region)
            ),
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
        for topic in alarm_definitions.topics(settings):
            _call(region_plan.region, "CreateTopic", lambda name=topic, to=sns: to.create_topic(Name=name))
        alarms = aws.client(settings, "cloudwatch", region_plan.region)
        for change in region_plan.changes:
            _call(region_plan.region, "PutMetricAlarm", lambda c=change, to=alarms: to.put_metric_alarm(**c.wanted))


def protocol_of(endpoint: str) -> str:
    """Return SNS's protocol for an endpoint: a URL, the ARN of a function or a queue, or an address of e-mail.

    Raises:
        ValueError: it is none of these.
    """
    service = endpoint.split(":")[2] if endpoint.startswith("arn:") and endpoint.count(":") > 1 else ""
    for protocol, fits in (
        ("https", endpoint.startswith("https://")),
        ("http", endpoint.startswith("http://")),
        (service, service in {"lambda", "sqs"}),
        ("email", "@" in endpoint and ":" not in endpoint),
    ):
        if fits:
            return protocol
    raise ValueError(f"{endpoint}: not a URL, an ARN of Lambda or SQS, or an address of e-mail")


def subscribe(settings: Settings, endpoint: str) -> tuple[str, ...]:
    """Let `endpoint` be told by the topics for people, in every publishing region; twice is once.

    Returns the topics that wait for its confirmation, as `REGION TOPIC`: SNS has asked the endpoint.

    Raises:
        ApplyError: AWS refused.
        ValueError: `endpoint` is none.
    """
    protocol, waiting = protocol_of(endpoint), []
    for region in settings.publish_regions:
        sns = aws.client(settings, "sns", region)
        for topic in alarm_definitions.topics_to_people(settings):
            arn = alarm_definitions.topic_arn(settings, topic, region)
            answer = _call(
                region,
                "Subscribe",
                lambda to=sns, arn=arn: to.subscribe(TopicArn=arn, Protocol=protocol, Endpoint=endpoint),
            )
            if not answer["SubscriptionArn"].startswith("arn:"):
                waiting.append(f"{region} {topic}")
    return tuple(waiting)


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
