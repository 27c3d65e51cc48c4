"""SNS over the wire: what is published and delivered, the handshake of a subscription, and listings by the page."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from http_subscriber import Subscriber, subscriber


def refusal(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}"


@pytest.fixture
def sns(local_aws: Any) -> Any:
    return local_aws.client("sns", "eu-west-1")


@pytest.fixture
def topic(sns: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A topic of the test's own."""
    arn = str(sns.create_topic(Name="".join(c if c.isalnum() else "-" for c in request.node.name))["TopicArn"])
    yield arn
    sns.delete_topic(TopicArn=arn)


@pytest.fixture
def endpoint() -> Iterator[Subscriber]:
    with subscriber() as one:
        yield one


def test_a_message_is_delivered_with_its_attributes(
    sns: Any, topic: str, endpoint: Subscriber, eventually: Callable[..., None]
) -> None:
    """The JSON of AWS: text, subject, attributes with type and value, and the ids in the headers."""
    subscription = sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint.url)["SubscriptionArn"]
    attributes = {
        "severity": {"DataType": "String", "StringValue": "page <me> & you"},
        "tries": {"DataType": "Number", "StringValue": "3"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
    }
    sent = sns.publish(TopicArn=topic, Message="text ✓", Subject="subject", MessageAttributes=attributes)
    eventually(lambda: bool(endpoint.bodies))

    message, headers = endpoint.messages()[0], endpoint.headers[0]
    assert (message["Type"], message["Message"], message["Subject"]) == ("Notification", "text ✓", "subject")
    assert message["MessageId"] == headers["x-amz-sns-message-id"] == sent["MessageId"]
    assert message["MessageAttributes"] == {
        "severity": {"Type": "String", "Value": "page <me> & you"},
        "tries": {"Type": "Number", "Value": "3"},
        "raw": {"Type": "Binary", "Value": "AAE="},
    }
    assert headers["x-amz-sns-subscription-arn"] == subscription


def test_a_message_can_have_a_text_for_each_protocol(
    sns: Any, topic: str, endpoint: Subscriber, eventually: Callable[..., None]
) -> None:
    """MessageStructure=json chooses the text for http, else the default."""
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint.url)
    for texts in ({"default": "d", "http": "h"}, {"default": "d", "email": "e"}):
        sns.publish(TopicArn=topic, Message=json.dumps(texts), MessageStructure="json")
    eventually(lambda: len(endpoint.bodies) == 2)

    assert {message["Message"] for message in endpoint.messages()} == {"h", "d"}


def test_raw_delivery(sns: Any, topic: str, endpoint: Subscriber, eventually: Callable[..., None]) -> None:
    """RawMessageDelivery sends the text and nothing else."""
    raw = {"RawMessageDelivery": "true"}
    arn = sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint.url, Attributes=raw)["SubscriptionArn"]
    sns.publish(TopicArn=topic, Message="as it is")
    eventually(lambda: bool(endpoint.bodies))

    assert endpoint.bodies == [b"as it is"]
    assert endpoint.headers[0]["x-amz-sns-rawdelivery"] == "true"
    sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName="RawMessageDelivery", AttributeValue="false")
    assert sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]["RawMessageDelivery"] == "false"


def test_the_handshake_of_a_subscription(
    local_aws: Any, sns: Any, topic: str, endpoint: Subscriber, eventually: Callable[..., None]
) -> None:
    """Asked for with PendingConfirmation=true: nothing is delivered until the token, or its URL, has come back."""
    asked = {"TopicArn": topic, "Protocol": "http", "Endpoint": endpoint.url}
    pending = {"Attributes": {"PendingConfirmation": "true"}}
    assert sns.subscribe(**asked, **pending)["SubscriptionArn"] == "pending confirmation"
    eventually(lambda: bool(endpoint.bodies))
    invitation = endpoint.messages()[0]
    assert invitation["Type"] == endpoint.headers[0]["x-amz-sns-message-type"] == "SubscriptionConfirmation"
    sns.publish(TopicArn=topic, Message="too early")
    attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert (attributes["SubscriptionsConfirmed"], attributes["SubscriptionsPending"]) == ("0", "1")
    listed = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"][0]
    assert listed["SubscriptionArn"] == "PendingConfirmation"

    assert refusal(sns.confirm_subscription, TopicArn=topic, Token="x") == "InvalidParameter: Invalid parameter: Token"
    context = ssl.create_default_context(cafile=local_aws.endpoints["ca_bundle"])
    with urllib.request.urlopen(invitation["SubscribeURL"], context=context, timeout=10) as answer:  # noqa: S310  https
        assert topic in answer.read().decode()
    confirmed = sns.confirm_subscription(TopicArn=topic, Token=invitation["Token"])["SubscriptionArn"]
    assert sns.subscribe(**asked, ReturnSubscriptionArn=True)["SubscriptionArn"] == confirmed
    sns.publish(TopicArn=topic, Message="now")
    eventually(lambda: len(endpoint.bodies) == 2)
    assert endpoint.messages()[1]["Message"] == "now"


def test_a_subscriber_that_hangs_is_nobody_elses_trouble(
    sns: Any, topic: str, endpoint: Subscriber, eventually: Callable[..., None]
) -> None:
    """Ten that accept and never answer, and ten that are not there: the last one still gets every message."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as deaf, socket.create_server(("127.0.0.1", 0)) as dead:
        ports = [one.getsockname()[1] for one in (deaf, dead)]
        dead.close()
        for path in range(10):
            for port in ports:
                sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"http://127.0.0.1:{port}/{path}")
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint.url)
        for number in range(150):
            sns.publish(TopicArn=topic, Message=str(number))
        eventually(lambda: len(endpoint.bodies) == 150)

    assert sorted(int(message["Message"]) for message in endpoint.messages()) == list(range(150))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param({"Message": ""}, "InvalidParameter: Invalid parameter: Empty message", id="empty"),
        pytest.param(
            {"Message": "é" * 131_073}, "InvalidParameter: Invalid parameter: Message too long", id="too-long"
        ),
        pytest.param({"Subject": "x" * 101}, "InvalidParameter: Invalid parameter: Subject", id="long-subject"),
        pytest.param({"Subject": "a\nb"}, "InvalidParameter: Invalid parameter: Subject", id="subject-of-two-lines"),
        pytest.param({"Subject": " a"}, "InvalidParameter: Invalid parameter: Subject", id="subject-with-a-blank"),
        pytest.param(
            {"MessageStructure": "json"},
            "InvalidParameter: Invalid parameter: Message Structure - JSON message body failed to parse",
            id="not-json",
        ),
        pytest.param(
            {"MessageStructure": "json", "Message": "{}"},
            "InvalidParameter: Invalid parameter: Message Structure - No default entry in JSON message body",
            id="no-default",
        ),
        pytest.param({"MessageStructure": "xml"}, "InvalidParameter: Invalid parameter: Mess", id="structure"),
        pytest.param(
            {"MessageAttributes": {"a": {"DataType": "Text", "StringValue": "x"}}}, "ParameterValueInvalid", id="type"
        ),
        pytest.param(
            {"MessageAttributes": {"a": {"DataType": "Number", "StringValue": "x"}}},
            "ParameterValueInvalid",
            id="number",
        ),
        pytest.param({"MessageAttributes": {"a": {"DataType": "String"}}}, "ParameterValueInvalid", id="no-value"),
        pytest.param(
            {"MessageAttributes": {"a..b": {"DataType": "String", "StringValue": "x"}}},
            "ParameterValueInvalid",
            id="name",
        ),
        pytest.param({"TopicArn": None, "PhoneNumber": "+1"}, "InvalidParameter: Invalid parameter: Phone", id="phone"),
        pytest.param({"TopicArn": None}, "InvalidParameter: Invalid parameter: TopicArn", id="no-topic"),
    ],
)
def test_messages_that_cannot_be_are_refused(sns: Any, topic: str, members: dict[str, Any], expected: str) -> None:
    """Publish checks what SNS checks."""
    request = {"TopicArn": topic, "Message": "x", **members}
    given = {name: value for name, value in request.items() if value is not None}

    assert refusal(sns.publish, **given).startswith(expected)


@pytest.mark.parametrize(
    "endpoint_url",
    [
        pytest.param("https://127.0.0.1/", id="https"),
        pytest.param("http:///x", id="no-host"),
        pytest.param("http://127.0.0.1:99999/", id="port"),
        pytest.param("http://127.0.0.1/a b", id="blank"),
        pytest.param("http://[::1/", id="half-an-address"),
    ],
)
def test_endpoints_that_cannot_be_reached_are_refused(sns: Any, topic: str, endpoint_url: str) -> None:
    """What could not be delivered to is not subscribed."""
    arguments = {"TopicArn": topic, "Protocol": "http", "Endpoint": endpoint_url}

    assert refusal(sns.subscribe, **arguments).startswith("InvalidParameter")
    bad = {"Attributes": {"FilterPolicy": "{}"}}
    assert refusal(sns.subscribe, **{**arguments, "Endpoint": "http://127.0.0.1:9/"}, **bad).startswith("InvalidParam")


def test_listings_come_by_the_page(local_aws: Any) -> None:
    """A hundred topics or subscriptions a page; a wrong token is refused."""
    sns = local_aws.client("sns", "us-west-2")
    arns = [sns.create_topic(Name=f"page-{number}")["TopicArn"] for number in range(130)]
    for number in range(130):
        sns.subscribe(TopicArn=arns[0], Protocol="http", Endpoint=f"http://127.0.0.1:9/{number}")

    topics = [one["TopicArn"] for page in sns.get_paginator("list_topics").paginate() for one in page["Topics"]]
    assert set(arns) <= set(topics)
    pages = list(sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arns[0]))
    assert [len(page["Subscriptions"]) for page in pages] == [100, 30]
    assert refusal(sns.list_topics, NextToken="x") == "InvalidParameter: Invalid parameter: NextToken"
    for arn in arns:
        sns.delete_topic(TopicArn=arn)


def test_topics_have_tags_and_attributes(sns: Any, topic: str) -> None:
    """A topic of the same name with other attributes or tags is an error; tags change by their own operations."""
    name = topic.rpartition(":")[2]
    sns.tag_resource(ResourceArn=topic, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    sns.untag_resource(ResourceArn=topic, TagKeys=["a"])
    assert sns.list_tags_for_resource(ResourceArn=topic)["Tags"] == [{"Key": "b", "Value": "2"}]

    assert "already exists with different tags" in refusal(
        sns.create_topic, Name=name, Tags=[{"Key": "c", "Value": ""}]
    )
    other = {"DisplayName": "other"}
    assert "already exists with different attributes" in refusal(sns.create_topic, Name=name, Attributes=other)
    assert refusal(sns.create_topic, Name=name, Attributes={"Colour": "red"}).startswith("InvalidParameter")
    assert refusal(sns.create_topic, Name="a b").startswith("InvalidParameter")
    unknown = {"TopicArn": topic, "AttributeName": "Colour", "AttributeValue": "red"}
    assert refusal(sns.set_topic_attributes, **unknown).startswith("InvalidParameter")
    assert refusal(sns.list_tags_for_resource, ResourceArn=f"{topic}x").startswith("ResourceNotFound")
