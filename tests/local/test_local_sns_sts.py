"""SNS and STS over the wire with stock boto3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_a_topic_is_made_once(local_aws: Any) -> None:
    """CreateTopic twice is one topic, with the attributes of the first time."""
    sns = local_aws.client("sns", "us-west-2")
    first = sns.create_topic(Name="once", Attributes={"DisplayName": "a <b> & c"})["TopicArn"]

    assert sns.create_topic(Name="once")["TopicArn"] == first
    assert [one["TopicArn"] for one in sns.list_topics()["Topics"]].count(first) == 1
    found = sns.get_topic_attributes(TopicArn=first)["Attributes"]
    assert (found["DisplayName"], found["SubscriptionsConfirmed"]) == ("a <b> & c", "0")


def test_subscriptions(local_aws: Any) -> None:
    """An HTTP endpoint is subscribed once, listed, and can leave; other protocols are refused."""
    sns = local_aws.client("sns")
    topic = sns.create_topic(Name="subscribed")["TopicArn"]
    arguments = {"TopicArn": topic, "Protocol": "http", "Endpoint": "http://127.0.0.1:9/"}
    arn = sns.subscribe(**arguments)["SubscriptionArn"]

    assert sns.subscribe(**arguments)["SubscriptionArn"] == arn
    found = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert [(one["Protocol"], one["Endpoint"]) for one in found] == [("http", "http://127.0.0.1:9/")]
    sns.unsubscribe(SubscriptionArn=arn)
    assert sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] == []
    assert refusal(sns.subscribe, TopicArn=topic, Protocol="email", Endpoint="a@b.example") == (400, "InvalidParameter")


def test_unknown_topics_are_not_found(local_aws: Any) -> None:
    """What does not exist has AWS's code and status."""
    sns = local_aws.client("sns")
    arn = "arn:aws:sns:us-east-1:123456789012:nobody"

    assert refusal(sns.publish, TopicArn=arn, Message="x") == (404, "NotFound")
    assert refusal(sns.get_topic_attributes, TopicArn=arn) == (404, "NotFound")
    sns.delete_topic(TopicArn=arn)


def test_the_query_protocol_checks_signatures_too(local_aws: Any) -> None:
    """A wrong secret is a SignatureDoesNotMatch, a stranger an InvalidClientTokenId; both are 403."""
    assert refusal(local_aws.client("sns", aws_secret_access_key="x").list_topics) == (403, "SignatureDoesNotMatch")
    stranger = local_aws.client("sts", aws_access_key_id="AKIAIOSFODNN7EXAMPLE")
    assert refusal(stranger.get_caller_identity) == (403, "InvalidClientTokenId")


def test_unknown_actions(local_aws: Any) -> None:
    """What is not served is refused by name."""
    assert refusal(local_aws.client("sns").list_platform_applications) == (400, "InvalidAction")


def test_the_caller_is_told_who_it_is(local_aws: Any) -> None:
    """GetCallerIdentity names the account."""
    found = local_aws.client("sts", "eu-west-1").get_caller_identity()

    assert found["Account"] == "123456789012"
    assert found["Arn"].startswith("arn:aws:iam::123456789012:")
