"""The SNS operations."""

from __future__ import annotations

import json
from collections.abc import Callable

from kms_local.sns.topics import MAX_MESSAGE_BYTES, Subscription, Topic, Topics
from kms_local.wire.errors import ServiceError
from kms_local.wire.query_front import Entries, Form, XmlValue

NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"
_MAX_SUBJECT = 100


def create_topic(topics: Topics, form: Form) -> XmlValue:
    """Make a topic; one that is there already is returned."""
    return {"TopicArn": topics.create(form.text("Name"), form.entries("Attributes")).arn}


def delete_topic(topics: Topics, form: Form) -> XmlValue:
    """Delete a topic."""
    topics.delete(form.text("TopicArn"))
    return None


def list_topics(topics: Topics, form: Form) -> XmlValue:
    """List every topic."""
    del form
    return {"Topics": [{"TopicArn": topic.arn} for topic in topics.all()]}


def get_topic_attributes(topics: Topics, form: Form) -> XmlValue:
    """Return a topic's attributes."""
    topic = topics.get(form.text("TopicArn"))
    attributes = {
        "TopicArn": topic.arn,
        "Owner": topics.account_id,
        "DisplayName": "",
        "SubscriptionsConfirmed": str(len(topic.subscriptions)),
        "SubscriptionsPending": "0",
        "SubscriptionsDeleted": "0",
        "Policy": _default_policy(topic, topics.account_id),
        **topic.attributes,
    }
    return {"Attributes": Entries(attributes)}


def set_topic_attributes(topics: Topics, form: Form) -> XmlValue:
    """Change one attribute of a topic."""
    topics.get(form.text("TopicArn")).attributes[form.text("AttributeName")] = form.optional("AttributeValue") or ""
    return None


def subscribe(topics: Topics, form: Form) -> XmlValue:
    """Subscribe an HTTP endpoint."""
    subscription = topics.subscribe(form.text("TopicArn"), form.text("Protocol"), form.text("Endpoint"))
    return {"SubscriptionArn": subscription.arn}


def unsubscribe(topics: Topics, form: Form) -> XmlValue:
    """Take a subscription away."""
    topics.unsubscribe(form.text("SubscriptionArn"))
    return None


def list_subscriptions_by_topic(topics: Topics, form: Form) -> XmlValue:
    """List the subscriptions of one topic."""
    topic = topics.get(form.text("TopicArn"))
    return {"Subscriptions": [_shown(topics, topic, one) for one in topic.subscriptions]}


def list_subscriptions(topics: Topics, form: Form) -> XmlValue:
    """List the subscriptions of all topics."""
    del form
    return {"Subscriptions": [_shown(topics, topic, one) for topic in topics.all() for one in topic.subscriptions]}


def publish(topics: Topics, form: Form) -> XmlValue:
    """Publish a message."""
    message, subject = form.text("Message"), form.optional("Subject") or ""
    if not message:
        raise ServiceError("InvalidParameter", "Invalid parameter: Empty message")
    if len(message.encode()) > MAX_MESSAGE_BYTES:
        raise ServiceError("InvalidParameter", "Invalid parameter: Message too long")
    if len(subject) > _MAX_SUBJECT:
        raise ServiceError("InvalidParameter", "Invalid parameter: Subject")
    arn = form.optional("TopicArn") or form.text("TargetArn")
    return {"MessageId": topics.publish(arn, subject, message)}


def _shown(topics: Topics, topic: Topic, subscription: Subscription) -> XmlValue:
    return {
        "SubscriptionArn": subscription.arn,
        "Owner": topics.account_id,
        "Protocol": subscription.protocol,
        "Endpoint": subscription.endpoint,
        "TopicArn": topic.arn,
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
    "Unsubscribe": unsubscribe,
    "ListSubscriptions": list_subscriptions,
    "ListSubscriptionsByTopic": list_subscriptions_by_topic,
    "Publish": publish,
}
