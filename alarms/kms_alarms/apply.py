"""Put the rendered alarms, and the topics they speak to, into CloudWatch and SNS of every publishing region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kms_alarms import cloudwatch
from kms_watchdog import alarm_definitions, aws
from kms_watchdog.alarm_definitions import Change
from kms_watchdog.alarm_services import AwsAlarmServices
from kms_watchdog.config import Settings


class ApplyError(RuntimeError):
    """AWS refused or could not be reached; the message names the region, the call and AWS's own code."""


OWNER_TAG = {"Key": "managed-by", "Value": "kms-alarms"}
"""On every alarm that `apply` made: it changes no other."""
_STACK_TAG = "aws:cloudformation:stack-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One alarm that has to be made, or changed."""

    change: Change
    owner: str = ""
    """Whose it is, in words, if it is there and not ours; empty: ours, or not there yet."""
    adoptable: bool = False
    """Whether it is nobody's: who asks for it may take it over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose an alarm is."""

    name: str = ""
    """In words; empty: ours."""
    stack: str = ""
    """The CloudFormation stack that it belongs to."""
    nobody: bool = False
    """Whether no tag says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionPlan:
    """What has to change in one region."""

    region: str
    changes: tuple[Planned, ...]
    topics: tuple[str, ...] = ()
    """Topics that are not there."""

    @property
    def nothing(self) -> bool:
        """Whether all is as it should be."""
        return not self.changes and not self.topics


def plan(settings: Settings) -> tuple[RegionPlan, ...]:
    """Return what is missing or different, by region, and whose what differs is. Reads only.

    Raises:
        ApplyError: a region's alarms cannot be read.
    """
    return tuple(
        RegionPlan(region=region, changes=_planned(settings, region), topics=_missing_topics(settings, region))
        for region in settings.publish_regions
    )


def _missing_topics(settings: Settings, region: str) -> tuple[str, ...]:
    services = AwsAlarmServices(settings, region)
    arns = {name: alarm_definitions.topic_arn(settings, name, region) for name in alarm_definitions.topics(settings)}
    return tuple(
        name
        for name, arn in arns.items()
        if _call(region, "GetTopicAttributes", lambda arn=arn: services.topic(arn)) is None
    )


def _planned(settings: Settings, region: str) -> tuple[Planned, ...]:
    client = aws.client(settings, "cloudwatch", region)
    there = present(client, region, settings.cloudwatch.alarm_prefix)
    changes = alarm_definitions.changes(cloudwatch.render(settings, alarm_region=region), there)
    return tuple(
        _with_owner(client, region, change) if change.present else Planned(change=change) for change in changes
    )


def _with_owner(client: Any, region: str, change: Change) -> Planned:
    found = owner_of(client, region, change.present["AlarmArn"])
    return Planned(change=change, owner=found.name, adoptable=found.nobody)


def owner_of(client: Any, region: str, arn: str) -> Owner:
    """Return whose the alarm `arn` is, by its tags.

    Raises:
        ApplyError: they cannot be read.
    """
    answer = _call(region, "ListTagsForResource", lambda: client.list_tags_for_resource(ResourceARN=arn))
    tags = {tag["Key"]: tag["Value"] for tag in answer["Tags"]}
    if stack := tags.get(_STACK_TAG):
        return Owner(name=f"the CloudFormation stack {stack}", stack=stack)
    if tags.get(OWNER_TAG["Key"]) == OWNER_TAG["Value"]:
        return Owner()
    owner = tags.get(OWNER_TAG["Key"], "")
    return Owner(name=owner or "nobody by its tags", nobody=not owner)


def apply(settings: Settings, plans: tuple[RegionPlan, ...], *, adopt: bool = False) -> tuple[str, ...]:
    """Create the topics and put the alarms that `plans` name and that are ours; return the names of those that are not.

    `adopt` takes over what is nobody's.

    Raises:
        ApplyError: AWS refused; what was put before stays, and a second run goes on from there.
    """
    left = []
    for region_plan in plans:
        sns = aws.client(settings, "sns", region_plan.region)
        for topic in region_plan.topics:
            _call(region_plan.region, "CreateTopic", lambda name=topic, to=sns: to.create_topic(Name=name))
        alarms = aws.client(settings, "cloudwatch", region_plan.region)
        for planned in region_plan.changes:
            if planned.owner and not (adopt and planned.adoptable):
                left.append(f"{region_plan.region}  {planned.change.name}")
                continue
            _put(alarms, region_plan.region, planned)
    return tuple(left)


def _put(client: Any, region: str, planned: Planned) -> None:
    wanted, present = planned.change.wanted, planned.change.present
    composite = "AlarmRule" in wanted
    call, put = (
        ("PutCompositeAlarm", client.put_composite_alarm) if composite else ("PutMetricAlarm", client.put_metric_alarm)
    )
    _call(region, call, lambda: put(**wanted, **({} if present else {"Tags": [OWNER_TAG]})))
    if planned.owner:
        arn = present["AlarmArn"]
        _call(region, "TagResource", lambda: client.tag_resource(ResourceARN=arn, Tags=[OWNER_TAG]))


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


def present(client: Any, region: str, prefix: str = "") -> tuple[Any, ...]:
    """Return a region's alarms, as CloudWatch describes them, whose names begin with `prefix`.

    Raises:
        ApplyError: they cannot be read.
    """
    kinds = ("MetricAlarms", "CompositeAlarms")
    named = {"AlarmNamePrefix": prefix} if prefix else {}

    def pages() -> Iterator[Any]:
        types = [kind.removesuffix("s") for kind in kinds]
        yield from client.get_paginator("describe_alarms").paginate(**named, AlarmTypes=types)

    found = _call(region, "DescribeAlarms", lambda: list(pages()))
    return tuple(alarm for page in found for kind in kinds for alarm in page.get(kind, ()))


def _call(region: str, name: str, call: Any) -> Any:
    try:
        return call()
    except aws.AwsError as e:
        raise ApplyError(f"{region}: {name}: {aws.error_code(e)}") from e
