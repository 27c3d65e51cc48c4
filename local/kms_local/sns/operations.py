"""The SNS operations."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence

from kms_local.sns.messages import invalid, parse_message
from kms_local.sns.topics import PENDING, PENDING_ARN, RAW, Subscription, Topic, Topics, check_topic_attribute
from kms_local.wire.errors import ServiceError
from kms_local.wire.query_front import Entries, Form, ListOf, Shape, XmlValue, members_of

NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"
UNSIGNED = frozenset({"ConfirmSubscription"})
"""What a GET may ask for without a signature, as the `SubscribeURL` of a confirmation does: the token is the proof."""
_PAGE = 100
_MAX_TAGS = 50
_TOKEN = re.compile(rb"from:(\d{1,9})")
_TAGS: Mapping[str, Shape] = {"Tags": ListOf({"Key": str, "Value": str})}
_KEYS: Mapping[str, Shape] = {"TagKeys": ListOf(str)}


def create_topic(topics: Topics, form: Form) -> XmlValue:
    """Make a topic; one that is there already is returned."""
    return {"TopicArn": topics.create(form.text("Name"), form.entries("Attributes"), _tags(form)).arn}


def delete_topic(topics: Topics, form: Form) -> XmlValue:
    """Delete a topic."""
    topics.delete(form.text("TopicArn"))
    return None


def list_topics(topics: Topics, form: Form) -> XmlValue:
    """List the topics, a hundred a page."""
    return _page(form, "Topics", [{"TopicArn": topic.arn} for topic in topics.all()])


def get_topic_attributes(topics: Topics, form: Form) -> XmlValue:
    """Return a topic's attributes."""
    topic = topics.get(form.text("TopicArn"))
    confirmed = sum(one.confirmed for one in topic.subscriptions)
    attributes = {
        "TopicArn": topic.arn,
        "Owner": topics.account_id,
        "DisplayName": "",
        "SubscriptionsConfirmed": str(confirmed),
        "SubscriptionsPending": str(len(topic.subscriptions) - confirmed),
        "SubscriptionsDeleted": "0",
        "Policy": _default_policy(topic, topics.account_id),
        **topic.attributes,
    }
    return {"Attributes": Entries(attributes)}


def set_topic_attributes(topics: Topics, form: Form) -> XmlValue:
    """Change one attribute of a topic."""
    topic, name = topics.get(form.text("TopicArn")), form.text("AttributeName")
    check_topic_attribute(name)
    topic.attributes[name] = form.optional("AttributeValue") or ""
    return None


def subscribe(topics: Topics, form: Form) -> XmlValue:
    """Subscribe an HTTP endpoint."""
    subscription = topics.subscribe(
        form.text("TopicArn"),
        form.text("Protocol"),
        form.text("Endpoint"),
        form.entries("Attributes"),
        base_url=form.base_url,
    )
    known = subscription.confirmed or form.optional("ReturnSubscriptionArn") == "true"
    return {"SubscriptionArn": subscription.arn if known else PENDING_ARN}


def confirm_subscription(topics: Topics, form: Form) -> XmlValue:
    """Confirm a subscription with the token that its end point was sent."""
    return {"SubscriptionArn": topics.confirm(form.text("TopicArn"), form.text("Token")).arn}


def get_subscription_attributes(topics: Topics, form: Form) -> XmlValue:
    """Return a subscription's attributes."""
    found = topics.subscription(form.text("SubscriptionArn"))
    attributes = {
        "SubscriptionArn": found.arn,
        "TopicArn": found.topic_arn,
        "Owner": topics.account_id,
        "Protocol": found.protocol,
        "Endpoint": found.endpoint,
        "ConfirmationWasAuthenticated": "false",
        PENDING: "false" if found.confirmed else "true",
        RAW: "true" if found.raw else "false",
    }
    return {"Attributes": Entries(attributes)}


def set_subscription_attributes(topics: Topics, form: Form) -> XmlValue:
    """Change one attribute of a subscription."""
    found = topics.subscription(form.text("SubscriptionArn"))
    topics.set_attribute(found, form.text("AttributeName"), form.optional("AttributeValue") or "")
    return None


def unsubscribe(topics: Topics, form: Form) -> XmlValue:
    """Take a subscription away."""
    topics.unsubscribe(form.text("SubscriptionArn"))
    return None


def list_subscriptions_by_topic(topics: Topics, form: Form) -> XmlValue:
    """List the subscriptions of one topic, a hundred a page."""
    topic = topics.get(form.text("TopicArn"))
    return _page(form, "Subscriptions", [_shown(topics, one) for one in topic.subscriptions])


def list_subscriptions(topics: Topics, form: Form) -> XmlValue:
    """List the subscriptions of all topics, a hundred a page."""
    found = [_shown(topics, one) for topic in topics.all() for one in topic.subscriptions]
    return _page(form, "Subscriptions", found)


def publish(topics: Topics, form: Form) -> XmlValue:
    """Publish a message to a topic."""
    if form.optional("PhoneNumber") is not None:
        raise invalid("PhoneNumber: text messages are not sent from here")
    arn = form.optional("TopicArn") or form.optional("TargetArn")
    if arn is None:
        raise invalid("TopicArn or TargetArn Reason: no value for required parameter")
    topics.get(arn)
    message = parse_message(form, topics.new_id())
    topics.publish(arn, message)
    return {"MessageId": message.id}


def tag_resource(topics: Topics, form: Form) -> XmlValue:
    """Add tags to a topic."""
    topic = _tagged(topics, form)
    tags = {**topic.tags, **_tags(form)}
    if len(tags) > _MAX_TAGS:
        raise ServiceError("TagLimitExceeded", "Could not complete request: tag quota of per resource exceeded")
    topic.tags = tags
    return {}


def untag_resource(topics: Topics, form: Form) -> XmlValue:
    """Take tags from a topic."""
    topic = _tagged(topics, form)
    for key in members_of(form, _KEYS).get("TagKeys", []):
        topic.tags.pop(key, None)
    return {}


def list_tags_for_resource(topics: Topics, form: Form) -> XmlValue:
    """Return a topic's tags."""
    return {"Tags": [{"Key": key, "Value": value} for key, value in _tagged(topics, form).tags.items()]}


def _tags(form: Form) -> dict[str, str]:
    return {one.get("Key", ""): one.get("Value", "") for one in members_of(form, _TAGS).get("Tags", [])}


def _tagged(topics: Topics, form: Form) -> Topic:
    arn = form.text("ResourceArn")
    try:
        return topics.get(arn)
    except ServiceError as e:
        raise ServiceError("ResourceNotFound", "Resource does not exist", status=404) from e


def _page(form: Form, name: str, items: Sequence[XmlValue]) -> XmlValue:
    start = _start(form.optional("NextToken"))
    end = start + _PAGE
    token = base64.b64encode(f"from:{end}".encode()).decode() if end < len(items) else None
    return {name: list(items[start:end]), "NextToken": token}


def _start(token: str | None) -> int:
    if not token:
        return 0
    try:
        match = _TOKEN.fullmatch(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError):
        match = None
    if match is None:
        raise invalid("NextToken")
    return int(match[1])


def _shown(topics: Topics, subscription: Subscription) -> XmlValue:
    return {
        "SubscriptionArn": subscription.shown_arn,
        "Owner": topics.account_id,
        "Protocol": subscription.protocol,
        "Endpoint": subscription.endpoint,
        "TopicArn": subscription.topic_arn,
    }


def _default_policy(topic: Topic, account_id: str) -> str:
    statement = {
        "Sid": "__default_statement_ID",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["SNS:GetTopicAttributes", "SNS:Subscribe", "SNS:Publish"],
        "Resource": topic.arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": account_id}},
    }
    return json.dumps({"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]})


OPERATIONS: dict[str, Callable[[Topics, Form], XmlValue]] = {
    "CreateTopic": create_topic,
    "DeleteTopic": delete_topic,
    "ListTopics": list_topics,
    "GetTopicAttributes": get_topic_attributes,
    "SetTopicAttributes": set_topic_attributes,
    "Subscribe": subscribe,
    "ConfirmSubscription": confirm_subscription,
    "GetSubscriptionAttributes": get_subscription_attributes,
    "SetSubscriptionAttributes": set_subscription_attributes,
    "Unsubscribe": unsubscribe,
    "ListSubscriptions": list_subscriptions,
    "ListSubscriptionsByTopic": list_subscriptions_by_topic,
    "Publish": publish,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
}
