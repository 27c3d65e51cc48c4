"""Topics and subscriptions of one region."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field

from kms_local.clock import iso_utc
from kms_local.gate import Gate
from kms_local.sns.delivery import deliver
from kms_local.wire.errors import ServiceError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}(?:\.fifo)?")
_MAX_TOPICS = 10_000
_MAX_DELIVERIES = 1000  # under way at once; more are dropped, as a queue that never ends would be
MAX_MESSAGE_BYTES = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Who is told; confirmed from the beginning, because nobody is there to confirm."""

    arn: str
    protocol: str
    endpoint: str


@dataclass(slots=True)
class Topic:
    """One topic."""

    arn: str
    attributes: dict[str, str]
    subscriptions: list[Subscription] = field(default_factory=list)


class Topics:
    """The topics of one region, and the notifications on their way."""

    def __init__(self, gate: Gate) -> None:
        self.account_id = gate.account_id
        self._gate = gate
        self._topics: dict[str, Topic] = {}
        self._deliveries: set[asyncio.Task[bool]] = set()

    def create(self, name: str, attributes: dict[str, str]) -> Topic:
        """Make a topic, or return the one of that name."""
        if not _NAME.fullmatch(name):
            raise ServiceError("InvalidParameter", "Invalid parameter: Topic Name")
        arn = f"arn:aws:sns:{self._gate.region}:{self.account_id}:{name}"
        if arn not in self._topics and len(self._topics) >= _MAX_TOPICS:
            raise ServiceError("TopicLimitExceeded", "Too many topics", status=403)
        return self._topics.setdefault(arn, Topic(arn, dict(attributes)))

    def all(self) -> list[Topic]:
        """Return every topic, oldest first."""
        return list(self._topics.values())

    def get(self, arn: str) -> Topic:
        """Return one topic.

        Raises:
            ServiceError: NotFound.
        """
        if arn not in self._topics:
            raise ServiceError("NotFound", "Topic does not exist", status=404)
        return self._topics[arn]

    def delete(self, arn: str) -> None:
        """Delete a topic; one that does not exist is no error."""
        self._topics.pop(arn, None)

    def subscribe(self, arn: str, protocol: str, endpoint: str) -> Subscription:
        """Subscribe an HTTP endpoint; the same one twice is one subscription."""
        topic = self.get(arn)
        if protocol != "http" or not endpoint.startswith("http://"):
            raise ServiceError("InvalidParameter", "Invalid parameter: only http endpoints are delivered to here")
        for known in topic.subscriptions:
            if known.endpoint == endpoint:
                return known
        subscription = Subscription(arn=f"{arn}:{self._gate.new_id()}", protocol=protocol, endpoint=endpoint)
        topic.subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription_arn: str) -> None:
        """Take a subscription away; one that does not exist is no error."""
        for topic in self._topics.values():
            topic.subscriptions = [known for known in topic.subscriptions if known.arn != subscription_arn]

    def publish(self, arn: str, subject: str, message: str) -> str:
        """Send a message to every subscriber, in the background, and return its id."""
        topic = self.get(arn)
        message_id = self._gate.new_id()
        for subscription in topic.subscriptions:
            self._send(topic, subscription, message_id, subject, message)
        return message_id

    def publish_for_alarm(self, arn: str, subject: str, message: str) -> bool:
        """Send an alarm's notification; False if there is no such topic here."""
        if arn not in self._topics:
            return False
        self.publish(arn, subject, message)
        return True

    async def close(self) -> None:
        """End the deliveries that are still under way."""
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)

    def _send(self, topic: Topic, subscription: Subscription, message_id: str, subject: str, message: str) -> None:
        if len(self._deliveries) >= _MAX_DELIVERIES:
            return
        content = {
            "Type": "Notification",
            "MessageId": message_id,
            "TopicArn": topic.arn,
            **({"Subject": subject} if subject else {}),
            "Message": message,
            "Timestamp": iso_utc(self._gate.now()),
        }
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "x-amz-sns-message-type": "Notification",
            "x-amz-sns-message-id": message_id,
            "x-amz-sns-topic-arn": topic.arn,
            "x-amz-sns-subscription-arn": subscription.arn,
        }
        task = asyncio.create_task(deliver(subscription.endpoint, headers, json.dumps(content).encode()))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
