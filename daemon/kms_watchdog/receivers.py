"""Whom `[drills.notify]` names: SNS topics and a webhook, and how each is told something."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Protocol

from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.redirects import Unmoved

MAX_SUBJECT = 100
"""Characters of ASCII, without control characters: SNS's own limit (API reference, "Publish")."""
_WEBHOOK_SECONDS = 5.0


class UndeliveredError(Exception):
    """A receiver was not told; the message says why, and holds no address."""


class Message(Protocol):
    """What is told."""

    @property
    def subject(self) -> str:
        """It in a line, as SNS takes it (`subject_line`)."""

    @property
    def text(self) -> str:
        """One JSON document, which every receiver gets."""


def subject_line(line: str) -> str:
    """Return `line` as SNS takes it for a subject."""
    plain = line.encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else " " for c in plain)[:MAX_SUBJECT]


class Receiver(Protocol):
    """One that is told."""

    where: str
    """Which, for people; never a secret."""

    def send(self, message: Message) -> None:
        """Tell it; from the receiver's own thread.

        Raises:
            UndeliveredError: it did not take it.
        """


class Topic:
    """An SNS topic. Make it in the main thread."""

    def __init__(self, settings: Settings, arn: str) -> None:
        self.where = arn
        self._sns = aws.client(settings, "sns", arn.split(":")[3])

    def send(self, message: Message) -> None:
        """Publish it.

        Raises:
            UndeliveredError: with AWS's own code.
        """
        try:
            self._sns.publish(TopicArn=self.where, Subject=message.subject, Message=message.text)
        except aws.AwsError as e:
            raise UndeliveredError(aws.error_code(e)) from e


class Webhook:
    """An address that takes JSON."""

    where = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(Unmoved)

    def send(self, message: Message) -> None:
        """Post it.

        Raises:
            UndeliveredError: no answer, or not one of success.
        """
        head = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(self._url, data=message.text.encode(), headers=head, method="POST")  # noqa: S310 - the configuration takes http and https alone
            with self._opener.open(request, timeout=_WEBHOOK_SECONDS):
                return
        except urllib.error.HTTPError as e:
            e.close()
            raise UndeliveredError(f"it answered {e.code}") from None  # the cause holds the address
        except (OSError, ValueError, http.client.HTTPException) as e:
            reason = e.reason if isinstance(e, urllib.error.URLError) else e
            raise UndeliveredError(f"no answer: {type(reason).__name__}") from None  # as above


def receivers_of(settings: Settings, failed: Callable[[str, str], None]) -> tuple[Receiver, ...]:
    """Return whom the configuration names; `failed` is told where and why of one that cannot even be addressed."""
    wanted, found = settings.drills.notify, list[Receiver]()
    for arn in wanted.sns_topic_arns:
        try:
            found.append(Topic(settings, arn))
        except (*aws.AwsError, ValueError) as e:
            failed(arn, aws.error_code(e))
    if wanted.webhook_url is not None:
        found.append(Webhook(wanted.webhook_url.get_secret_value()))
    return tuple(found)
