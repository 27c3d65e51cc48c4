"""What is told of a drill, and who can be told: SNS topics and a webhook."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

from kms_watchdog import aws
from kms_watchdog.config import Settings

SCHEMA = 1
MAX_SUBJECT = 100
"""Characters of ASCII, without control characters: SNS's own limit (API reference, "Publish")."""
_WEBHOOK_SECONDS = 5.0


class Phase(StrEnum):
    """What there is to tell."""

    STARTED = "started"
    ENDED = "ended"
    ABORTED = "aborted"


class UndeliveredError(Exception):
    """A receiver was not told; the message says why, and holds no address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is told, and the members of its JSON."""

    phase: Phase
    estate: str
    drill: str
    run_id: str
    slot: str
    regions: tuple[str, ...]
    """Those that it hurts; none while a trainee has to find out."""
    started_by: str
    """ARN."""
    reason: str
    """Why it was started, where somebody said so."""
    host: str
    """The machine that it runs on, where `report` is."""
    verdict: str | None = None
    """None while there is none, and when nobody judged."""
    interrupted: str = ""
    """What cut it short."""
    report: str = ""
    """The report's path; empty: there is none."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"schema": SCHEMA, **asdict(self), "phase": str(self.phase), "regions": list(self.regions)}

    @property
    def text(self) -> str:
        """The one JSON document that every receiver gets."""
        return json.dumps(self.to_json(), ensure_ascii=False)

    @property
    def subject(self) -> str:
        """It in a line, as SNS takes it."""
        where = f" on {', '.join(self.regions)}" if self.regions else ""
        told = f": {self.verdict}" if self.verdict else ""
        line = f"Drill {self.phase}{told}: {self.drill}{where} ({self.estate})"
        plain = line.encode("ascii", "replace").decode()
        return "".join(c if c.isprintable() else " " for c in plain)[:MAX_SUBJECT]


class Receiver(Protocol):
    """One that is told."""

    where: str
    """Which, for people; never a secret."""

    def send(self, news: News) -> None:
        """Tell it; from the receiver's own thread.

        Raises:
            UndeliveredError: it did not take it.
        """


class Topic:
    """An SNS topic. Make it in the main thread."""

    def __init__(self, settings: Settings, arn: str) -> None:
        self.where = arn
        self._sns = aws.client(settings, "sns", arn.split(":")[3])

    def send(self, news: News) -> None:
        """Publish it.

        Raises:
            UndeliveredError: with AWS's own code.
        """
        try:
            self._sns.publish(TopicArn=self.where, Subject=news.subject, Message=news.text)
        except aws.AwsError as e:
            raise UndeliveredError(aws.error_code(e)) from e


class _Unmoved(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: one would turn the POST into a GET, and nobody be told."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Leave it an error."""


class Webhook:
    """An address that takes JSON."""

    where = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(_Unmoved)

    def send(self, news: News) -> None:
        """Post it.

        Raises:
            UndeliveredError: no answer, or not one of success.
        """
        head = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(self._url, data=news.text.encode(), headers=head, method="POST")  # noqa: S310 - the configuration takes http and https alone
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
