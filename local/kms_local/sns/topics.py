"""Topics and subscriptions of one region."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from kms_local.gate import Gate
from kms_local.sns.delivery import deliver
from kms_local.sns.messages import Message, confirmation, invalid, notification
from kms_local.wire.errors import ServiceError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")
_MAX_TOPICS = 10_000
_MAX_SUBSCRIPTIONS = 1000  # of one topic
_MAX_SENDERS = 4  # deliveries under way to one subscriber: one that hangs takes nobody else's place
_MAX_WAITING = 200  # messages for one subscriber: more are dropped, as a queue that never ends would be
_TOPIC_ATTRIBUTES = re.compile(
    r"DisplayName|Policy|DeliveryPolicy|KmsMasterKeyId|SignatureVersion|TracingConfig|"
    r"(?:HTTP|Firehose|Lambda|Application|SQS)(?:SuccessFeedbackRoleArn|SuccessFeedbackSampleRate|FailureFeedbackRoleArn)"
)
RAW, PENDING = "RawMessageDelivery", "PendingConfirmation"
PENDING_ARN = "pending confirmation"
"""What Subscribe answers instead of an ARN that is not valid yet."""


@dataclass(slots=True, kw_only=True)
class Subscription:
    """Who is told.

    Subscriptions are confirmed from the beginning, because whoever tests with this server subscribes itself. Whoever
    wants AWS's handshake subscribes with the attribute `PendingConfirmation=true`.
    """

    arn: str
    topic_arn: str
    protocol: str
    endpoint: str
    token: str
    confirmed: bool = True
    raw: bool = False

    @property
    def shown_arn(self) -> str:
        """The ARN in listings, which one that is not confirmed does not have."""
        return self.arn if self.confirmed else "PendingConfirmation"


@dataclass(slots=True)
class Topic:
    """One topic."""

    arn: str
    attributes: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    subscriptions: list[Subscription] = field(default_factory=list)


@dataclass(slots=True)
class _Outbox:
    """What one subscriber is still to get."""

    waiting: deque[tuple[Mapping[str, str], bytes]] = field(default_factory=deque)
    senders: int = 0


def check_topic_attribute(name: str) -> None:
    """Refuse an attribute that topics do not have here.

    Raises:
        ServiceError: InvalidParameter.
    """
    if not _TOPIC_ATTRIBUTES.fullmatch(name):
        raise invalid("AttributeName")


class Topics:
    """The topics of one region, and the notifications on their way."""

    def __init__(self, gate: Gate) -> None:
        self.account_id = gate.account_id
        self._gate = gate
        self._topics: dict[str, Topic] = {}
        self._outboxes: dict[str, _Outbox] = {}  # by ARN of subscription
        self._senders: set[asyncio.Task[None]] = set()

    def new_id(self) -> str:
        """Return a new random id."""
        return self._gate.new_id()

    def create(self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]) -> Topic:
        """Make a topic, or return the one of that name, if it has the attributes and tags that are asked for.

        Raises:
            ServiceError: InvalidParameter or TopicLimitExceeded.
        """
        if not _NAME.fullmatch(name):
            raise invalid("Topic Name")
        for attribute in attributes:
            check_topic_attribute(attribute)
        arn = f"arn:aws:sns:{self._gate.region}:{self.account_id}:{name}"
        existing = self._topics.get(arn)
        if existing is not None:
            if not attributes.items() <= existing.attributes.items():
                raise invalid("Attributes Reason: Topic already exists with different attributes")
            if tags and dict(tags) != existing.tags:
                raise invalid("Tags Reason: Topic already exists with different tags")
            return existing
        if len(self._topics) >= _MAX_TOPICS:
            raise ServiceError("TopicLimitExceeded", "Too many topics", status=403)
        return self._topics.setdefault(arn, Topic(arn, dict(attributes), dict(tags)))

    def take_up(self, topic: Topic) -> None:
        """Add a topic that an earlier run has made."""
        self._topics[topic.arn] = topic

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

    def subscribe(
        self, arn: str, protocol: str, endpoint: str, attributes: Mapping[str, str], *, base_url: str
    ) -> Subscription:
        """Subscribe an HTTP endpoint; the same one twice is one subscription.

        Args:
            arn: the topic's.
            protocol: `http`: nothing else is delivered here.
            endpoint: its URL.
            attributes: `RawMessageDelivery`, and `PendingConfirmation` for a subscription to be confirmed.
            base_url: where this server is reached, for the URL that confirms a subscription.

        Raises:
            ServiceError: NotFound, InvalidParameter or SubscriptionLimitExceeded.
        """
        topic = self.get(arn)
        if protocol != "http":
            raise invalid("Protocol: only http endpoints are delivered to here")
        _check_endpoint(endpoint)
        for known in topic.subscriptions:
            if known.endpoint == endpoint:
                return known
        if len(topic.subscriptions) >= _MAX_SUBSCRIPTIONS:
            raise ServiceError("SubscriptionLimitExceeded", "Too many subscriptions", status=403)
        subscription = Subscription(
            arn=f"{arn}:{self.new_id()}",
            topic_arn=arn,
            protocol=protocol,
            endpoint=endpoint,
            token=self.new_id().replace("-", ""),
        )
        for name, value in attributes.items():
            self.set_attribute(subscription, name, value)
        topic.subscriptions.append(subscription)
        if not subscription.confirmed:
            self._ask(subscription, base_url)
        return subscription

    def set_attribute(self, subscription: Subscription, name: str, value: str) -> None:
        """Change one attribute of a subscription.

        Raises:
            ServiceError: InvalidParameter: it is none that is served here.
        """
        if name not in {RAW, PENDING}:
            raise invalid(f"AttributeName: {name} is not served here")
        if value.lower() not in {"true", "false"}:
            raise invalid(f"{name}: must be true or false")
        if name == RAW:
            subscription.raw = value.lower() == "true"
        else:
            subscription.confirmed = value.lower() == "false"

    def subscription(self, arn: str) -> Subscription:
        """Return one subscription.

        Raises:
            ServiceError: NotFound.
        """
        for topic in self._topics.values():
            for known in topic.subscriptions:
                if known.arn == arn:
                    return known
        raise ServiceError("NotFound", "Subscription does not exist", status=404)

    def confirm(self, topic_arn: str, token: str) -> Subscription:
        """Confirm a subscription; twice is no error.

        Raises:
            ServiceError: NotFound or InvalidParameter.
        """
        for known in self.get(topic_arn).subscriptions:
            if known.token == token:
                known.confirmed = True
                return known
        raise invalid("Token")

    def unsubscribe(self, subscription_arn: str) -> None:
        """Take a subscription away; one that does not exist is no error."""
        for topic in self._topics.values():
            topic.subscriptions = [known for known in topic.subscriptions if known.arn != subscription_arn]

    def publish(self, arn: str, message: Message) -> None:
        """Send a message to every subscriber that is confirmed, in the background.

        Raises:
            ServiceError: NotFound.
        """
        for subscription in self.get(arn).subscriptions:
            if subscription.confirmed:
                self._notify(subscription, message)

    def publish_for_alarm(self, arn: str, subject: str, message: str) -> bool:
        """Send an alarm's notification; False if there is no such topic here."""
        if arn not in self._topics:
            return False
        self.publish(arn, Message(id=self.new_id(), text=message, subject=subject))
        return True

    async def close(self) -> None:
        """End the deliveries that are still under way."""
        for task in self._senders:
            task.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)

    def _notify(self, subscription: Subscription, message: Message) -> None:
        text = message.for_protocol(subscription.protocol)
        whole = notification(message, subscription.topic_arn, subscription.protocol, self._gate.now())
        headers = self._headers("Notification", message.id, subscription.topic_arn)
        headers["x-amz-sns-subscription-arn"] = subscription.arn
        if subscription.raw:
            headers["x-amz-sns-rawdelivery"] = "true"
        self._send(subscription, headers, text.encode() if subscription.raw else whole)

    def _ask(self, subscription: Subscription, base_url: str) -> None:
        """Ask an end point whether it wants to be subscribed."""
        asked = {"Action": "ConfirmSubscription", "TopicArn": subscription.topic_arn, "Token": subscription.token}
        message_id, url = self.new_id(), f"{base_url}/?{urlencode(asked)}"
        body = confirmation(message_id, subscription.topic_arn, subscription.token, url, self._gate.now())
        self._send(subscription, self._headers("SubscriptionConfirmation", message_id, subscription.topic_arn), body)

    @staticmethod
    def _headers(kind: str, message_id: str, topic_arn: str) -> dict[str, str]:
        return {
            "Content-Type": "text/plain; charset=UTF-8",
            "x-amz-sns-message-type": kind,
            "x-amz-sns-message-id": message_id,
            "x-amz-sns-topic-arn": topic_arn,
        }

    def _send(self, subscription: Subscription, headers: Mapping[str, str], body: bytes) -> None:
        outbox = self._outboxes.setdefault(subscription.arn, _Outbox())
        if len(outbox.waiting) >= _MAX_WAITING:
            return
        outbox.waiting.append((headers, body))
        if outbox.senders < _MAX_SENDERS:
            outbox.senders += 1
            task = asyncio.create_task(self._empty(subscription, outbox))
            self._senders.add(task)
            task.add_done_callback(self._senders.discard)

    async def _empty(self, subscription: Subscription, outbox: _Outbox) -> None:
        """Deliver one message after the other, until none waits."""
        try:
            while outbox.waiting:
                headers, body = outbox.waiting.popleft()
                await deliver(subscription.endpoint, headers, body)
        finally:
            outbox.senders -= 1
            if not outbox.senders and not outbox.waiting:
                self._outboxes.pop(subscription.arn, None)


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise invalid("Endpoint must be an http URL")
