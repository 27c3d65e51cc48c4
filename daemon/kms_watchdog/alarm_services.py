"""One region's CloudWatch and SNS, as far as one must see them to know whether an alarm reaches anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kms_watchdog import aws
from kms_watchdog.alarm_definitions import Parameters
from kms_watchdog.config import Settings

_NOT_FOUND = frozenset({"NotFound", "NotFoundException"})


class AlarmServices(Protocol):
    """What is there. Each call may raise one of `kms_watchdog.aws.AwsError`; any thread may call."""

    def alarms(self, prefix: str) -> tuple[Parameters, ...]:
        """Return metric and composite alarms whose names begin with `prefix`, as CloudWatch describes them."""

    def topic(self, arn: str) -> Mapping[str, str] | None:
        """Return a topic's attributes; None: there is no such topic."""

    def confirmed_subscribers(self, arn: str) -> int:
        """Return how many subscribers a topic has that have confirmed."""


class AwsAlarmServices:
    """The real ones. Make it in the main thread."""

    def __init__(self, settings: Settings, region: str) -> None:
        self._cloudwatch = aws.client(settings, "cloudwatch", region)
        self._sns = aws.client(settings, "sns", region)

    def alarms(self, prefix: str) -> tuple[Parameters, ...]:
        """Return metric and composite alarms whose names begin with `prefix`."""
        pages = self._cloudwatch.get_paginator("describe_alarms").paginate(
            AlarmNamePrefix=prefix, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        kinds = ("MetricAlarms", "CompositeAlarms")
        return tuple(alarm for page in pages for kind in kinds for alarm in _whole(page, *kinds).get(kind, ()))

    def topic(self, arn: str) -> Mapping[str, str] | None:
        """Return a topic's attributes; None: there is no such topic."""
        try:
            answer = self._sns.get_topic_attributes(TopicArn=arn)
        except aws.AwsError as e:
            if aws.error_code(e) in _NOT_FOUND:
                return None
            raise
        found: Mapping[str, str] = _whole(answer, "Attributes")["Attributes"]
        return found

    def confirmed_subscribers(self, arn: str) -> int:
        """Return how many subscribers a topic has that have confirmed: those that have an ARN of their own."""
        pages = self._sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
        found = (one["SubscriptionArn"] for page in pages for one in _whole(page, "Subscriptions")["Subscriptions"])
        return sum(subscription.startswith("arn:") for subscription in found)


def _whole(answer: Mapping[str, Any], *members: str) -> Mapping[str, Any]:
    """Return `answer` if it has one of `members`: what is not there in half an answer may well be there."""
    if not any(member in answer for member in members):
        raise aws.TruncatedAnswerError
    return answer
