"""How the digest goes to whom `[drills.notify]` names, and that it did is written down as a task done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import click

from kms_core import SystemClock
from kms_watchdog.commands.options import COULD_NOT_TELL, Stop
from kms_watchdog.commands.signing import sign
from kms_watchdog.config import Settings
from kms_watchdog.history.digest import Digest
from kms_watchdog.readiness.tasks import DIGEST
from kms_watchdog.receivers import UndeliveredError, receivers_of, subject_line

SCHEMA = 1
MAX_BYTES = 256 * 1024
"""Of a message to an SNS topic (API reference, "Publish")."""
_STILL_THIS_WEEKS = timedelta(days=1)
"""So long after its end a review, delivered, is the regular task done."""


@dataclass(frozen=True, slots=True)
class Review:
    """The message: a JSON document with the whole review in Markdown."""

    digest: Digest
    markdown: str

    @property
    def subject(self) -> str:
        """It in a line."""
        d = self.digest
        return subject_line(f"KMS review of {d.estate}: {d.since_utc:%Y-%m-%d} to {d.until_utc:%Y-%m-%d}")

    @property
    def text(self) -> str:
        """The document."""
        values = {
            "schema": SCHEMA,
            "kind": "digest",
            "estate": self.digest.estate,
            "since_utc": self.digest.since_utc.isoformat(),
            "until_utc": self.digest.until_utc.isoformat(),
            "markdown": self.markdown,
        }
        return json.dumps(values, ensure_ascii=False)


def deliver(settings: Settings, digest: Digest, markdown: str) -> None:
    """Send the review to all, and write down who took it, unless it is of a time long past.

    Raises:
        Stop: nobody is configured, or it is too long (exit code 2); somebody did not take it, or that somebody did
            cannot be written down (3).
    """
    review = Review(digest, markdown)
    if len(review.text.encode()) > MAX_BYTES:
        raise Stop(f"the review is longer than the {MAX_BYTES // 1024} KiB that SNS takes; choose a shorter time")
    taken, failed = _send(settings, review)
    if not (taken or failed):
        raise Stop("nobody to deliver to: [drills.notify] names neither a topic nor a webhook")
    for where in taken:
        click.echo(f"delivered to {where}")
    if taken and _recent(digest):
        sign(settings, DIGEST, by="kms-watchdog digest --deliver", note=f"delivered to {', '.join(taken)}")
    elif taken:
        click.echo(f"{DIGEST} is not written down as done: this review ended {digest.until_utc:%Y-%m-%d}", err=True)
    if failed:
        raise Stop("not delivered to " + "; ".join(failed), COULD_NOT_TELL)


def _recent(digest: Digest) -> bool:
    """Say whether the review is of what lies just behind us; an old one sent again does not make this week's."""
    return SystemClock().now_utc() - digest.until_utc <= _STILL_THIS_WEEKS


def _send(settings: Settings, review: Review) -> tuple[Sequence[str], Sequence[str]]:
    """Return who took it, and who did not and why."""
    taken, failed = list[str](), list[str]()
    for receiver in receivers_of(settings, lambda where, why: failed.append(f"{where}: {why}")):
        try:
            receiver.send(review)
        except UndeliveredError as e:
            failed.append(f"{receiver.where}: {e}")
        else:
            taken.append(receiver.where)
    return taken, failed
