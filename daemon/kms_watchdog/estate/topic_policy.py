"""Whether CloudWatch may publish to a topic: a pure function of the topic's attributes and one alarm.

A service has no policies of its own: the topic's policy alone must let it in, by naming the service or everybody.
Sources: Amazon SNS Developer Guide, "Example cases for Amazon SNS access control" (CloudWatch alarms; the default
policy, which lets in everybody who acts for the topic's owner) and "Setting up Amazon SNS topic encryption with an
encrypted queue"; repost.aws/knowledge-center/cloudwatch-configure-alarm-sns (encrypted topics).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kms_watchdog.estate.policy import Effect, Principals, Request, parse_policy

CLOUDWATCH = "cloudwatch.amazonaws.com"
EVENTS = "events.amazonaws.com"
PUBLISH = "sns:Publish"
AWS_OWN_KEY = "alias/aws/sns"


def who_may_publish(topics: Sequence[Any]) -> dict[str, Any]:
    """Return, in CloudFormation's words, the policy of topics that alarms and tripwires of their account speak to.

    EventBridge puts nothing into its requests that a condition could compare: with one, it would be refused (Amazon
    EventBridge User Guide, "Using resource-based policies", Amazon SNS permissions).
    """
    ours = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {**_publish("AlarmsOfThisAccount", CLOUDWATCH, topics), "Condition": ours},
            _publish("Tripwires", EVENTS, topics),
        ],
    }


def _publish(sid: str, service: str, topics: Sequence[Any]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": PUBLISH,
        "Resource": list(topics),
    }


def why_refused(
    attributes: Mapping[str, str], *, topic_arn: str, alarm_arn: str, watched_keys: Collection[str] = ()
) -> str:
    """Return why an alarm cannot speak to a topic, in one line; empty when it can.

    Args:
        attributes: as GetTopicAttributes returns them; the account is that of the topic.
        topic_arn: whom to speak to.
        alarm_arn: who speaks.
        watched_keys: ids and aliases of the keys that this product watches.

    Raises:
        kms_watchdog.estate.policy.PolicyError: the topic's policy cannot be evaluated.
    """
    key = attributes.get("KmsMasterKeyId", "").rpartition(":")[2]
    if key == AWS_OWN_KEY:
        return f"it is encrypted under {AWS_OWN_KEY}, which CloudWatch cannot use"
    if key.removeprefix("key/") in watched_keys:
        return f"it is encrypted under {key}, which is watched: the alarm that it is broken would not get out"
    request = Request(
        action=PUBLISH, resource=topic_arn, principal=CLOUDWATCH, context=_surroundings(topic_arn, alarm_arn)
    )
    return _refused(request, attributes.get("Policy", ""))


def _refused(request: Request, document: str) -> str:
    policy = parse_policy(document, of_resource=True)
    speaking = [one for one in policy.statements if _names(one.principals, CLOUDWATCH) and one.applies(request)]
    denying = next((one for one in speaking if one.effect is Effect.DENY), None)
    if denying is not None:
        return f"its policy denies CloudWatch to publish{f' ({denying.sid})' if denying.sid else ''}"
    return "" if speaking else "its policy does not let CloudWatch publish"


def _names(who: Principals | None, service: str) -> bool:
    """Say whether a statement is about `service`: named, or among everybody."""
    return who is not None and ("*" in who.aws or service in who.services) != who.negated


def _surroundings(topic_arn: str, alarm_arn: str) -> dict[str, str]:
    """Return the condition keys of a service that acts for an alarm of the topic's own account."""
    _, _, _, region, account_id, _ = topic_arn.split(":", 5)
    return {
        "aws:SourceAccount": account_id,
        "aws:SourceOwner": account_id,
        "aws:SourceArn": alarm_arn,
        "aws:PrincipalIsAWSService": "true",
        "aws:PrincipalServiceName": CLOUDWATCH,
        "aws:ViaAWSService": "false",
        "aws:SecureTransport": "true",
        "aws:RequestedRegion": region,
    }
