"""A subscriber of our own for the time of a proof: an HTTP endpoint that SNS delivers to, and what came there when.

What SNS sends is believed because nobody else can know where to: the endpoint's path is as random as a key, and is
known to this process and to SNS alone. That SNS asks it to confirm, and takes the token back from our own credentials,
shows that it is reached.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kms_core.clock import Clock
from kms_watchdog.json_text import read_json

MARK = "kms-alarms-proof-"
"""What the last part of our endpoint's path begins with: it is nobody whom an alarm should tell."""
_MAX_BODY_BYTES = 512 * 1024  # twice what SNS delivers at the most
_TIMEOUT_SECONDS = 5.0
_TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One notification of an alarm that arrived."""

    topic: str
    """ARN."""
    alarm: str
    """ARN."""
    state: str
    reason: str
    at_utc: datetime
    at: float
    """The same on the clock that never goes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """SNS asks whether the endpoint wants to be told of a topic."""

    topic: str
    """ARN."""
    token: str


class Inbox:
    """What has arrived, in order. For any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._receipts: list[Receipt] = []
        self._confirmations: list[Confirmation] = []

    def take(self, body: bytes) -> bool:
        """Take in one delivery; return whether it is of a kind that SNS sends."""
        found = parse(body, self._clock.now_utc(), self._clock.monotonic())
        with self._lock:
            if isinstance(found, Receipt):
                self._receipts.append(found)
            elif isinstance(found, Confirmation):
                self._confirmations.append(found)
        return found is not None

    def mark(self) -> int:
        """Return a place after which `since` looks."""
        with self._lock:
            return len(self._receipts)

    def since(self, mark: int) -> tuple[Receipt, ...]:
        """Return what arrived after `mark`."""
        with self._lock:
            return tuple(self._receipts[mark:])

    def confirmations(self) -> tuple[Confirmation, ...]:
        """Return the confirmations that were asked for since the last call."""
        with self._lock:
            found, self._confirmations = tuple(self._confirmations), []
        return found


def parse(body: bytes, at_utc: datetime, at: float) -> Receipt | Confirmation | None:
    """Return what SNS has delivered: an alarm's notification, or the question whether to subscribe; None: neither.

    Source: Amazon SNS Developer Guide, "Parsing Amazon SNS message formats".
    """
    try:
        said = read_json(body)
        topic = str(said["TopicArn"])
        if said["Type"] == "SubscriptionConfirmation":
            return Confirmation(topic=topic, token=str(said["Token"]))
        told = read_json(said["Message"])
        return Receipt(
            topic=topic,
            alarm=str(told["AlarmArn"]),
            state=str(told["NewStateValue"]),
            reason=str(told.get("NewStateReason", "")),
            at_utc=at_utc,
            at=at,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where we listen."""

    url: str
    """As SNS is told, with the secret part."""
    inbox: Inbox


@contextmanager
def listening(
    host: str, port: int, url: str | None, clock: Clock, *, entropy: Callable[[int], bytes]
) -> Iterator[Endpoint]:
    """Listen while the block runs.

    Args:
        host: address to listen on.
        port: 0 is a free one.
        url: at which SNS reaches that address, such as a proxy's that ends TLS; None: directly.
        clock: when something arrives.
        entropy: returns so many random bytes.

    Raises:
        OSError: the address cannot be listened on.
    """
    inbox, secret = Inbox(clock), MARK + entropy(_TOKEN_BYTES).hex()
    handler = type("_Receiver", (_Receiver,), {"inbox": inbox, "secret": secret})
    with ThreadingHTTPServer((host, port), handler) as server:
        server.daemon_threads = True
        base = url or f"http://{host}:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="receipts", daemon=True)
        thread.start()
        try:
            yield Endpoint(url=f"{base.rstrip('/')}/{secret}", inbox=inbox)
        finally:
            server.shutdown()
            thread.join(_TIMEOUT_SECONDS)


class _Receiver(BaseHTTPRequestHandler):
    """Takes one delivery."""

    timeout = _TIMEOUT_SECONDS
    inbox: Inbox
    secret: str

    def do_POST(self) -> None:
        """Take it, if it comes to the place that only SNS knows."""
        asked = self.path.partition("?")[0].rpartition("/")[2]
        if not hmac.compare_digest(asked.encode(), self.secret.encode()):
            self.send_error(404)
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and len(length) < 10 and int(length) <= _MAX_BODY_BYTES):  # noqa: PLR2004 - digits that any length has
            self.send_error(413)
            return
        taken = self.inbox.take(self.rfile.read(int(length)))
        self.send_response(200 if taken else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Leave the request untold: its path is a secret."""


def is_ours(subscription: Mapping[str, Any]) -> bool:
    """Return whether one of SNS's subscriptions is a proof's, of this one or of one that was killed."""
    return MARK in str(subscription.get("Endpoint", ""))
