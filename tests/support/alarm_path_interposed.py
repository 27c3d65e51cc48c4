"""Somebody between a client and one of the local AWS's end points: passes all on, and alters what he is told to.

A middle box that opens TLS, as companies have them: with it KMS seems to hand back another key, to look at no
context, to have another clock or a certificate that is about to end, and takes no new connections while old ones live.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kms_local.wire.cbor import encode
from kms_local.wire.certificates import make_authority, server_pem

_AUTHORITY_DAYS = 30
"""How long what `make_authority` makes is good for."""
_DAY_SECONDS = 86_400.0
_OWN_HEADERS = frozenset({"connection", "content-length", "date", "transfer-encoding"})


@dataclass
class Passed:
    """One request, and its true answer, which may be altered."""

    operation: str
    request: dict[str, Any]
    status: int
    body: bytes
    content_type: str = ""

    @property
    def answer(self) -> dict[str, Any]:
        """The answer's members."""
        found: dict[str, Any] = json.loads(self.body or b"{}")
        return found

    @property
    def code(self) -> str:
        """The error's code, empty if it is none."""
        return "" if self.status < http.client.BAD_REQUEST else str(self.answer.get("__type", "")).rpartition("#")[2]

    def give(self, members: dict[str, Any], status: int = 200) -> None:
        """Answer with these members instead."""
        cbor = "cbor" in self.content_type
        self.status, self.body = status, encode(members) if cbor else json.dumps(members).encode()


Alter = Callable[[Passed], None]


def another_key(purpose: str) -> Alter:
    """Return what hands back another data key, where the context says that purpose."""

    def alter(passed: Passed) -> None:
        asked = passed.request.get("EncryptionContext", {}).get("purpose") == purpose
        if passed.operation == "Decrypt" and passed.status == http.client.OK and asked:
            passed.give({**passed.answer, "Plaintext": base64.b64encode(b"\x2a" * 32).decode()})

    return alter


def no_look_at_the_context(key_arn: str) -> Alter:
    """Return what opens every data key, whatever its context; `key_arn` is an alias's, under which it says it did."""

    def alter(passed: Passed) -> None:
        if passed.operation == "Decrypt" and passed.code == "InvalidCiphertextException":
            plaintext, asked = base64.b64encode(b"\x2a" * 32).decode(), str(passed.request.get("KeyId"))
            key_id = asked if asked.startswith("arn:") else key_arn
            passed.give({"KeyId": key_id, "Plaintext": plaintext, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})

    return alter


def another_refusal(code: str) -> Alter:
    """Return what refuses a wrong context with another code than KMS does."""

    def alter(passed: Passed) -> None:
        if passed.operation == "Decrypt" and passed.code == "InvalidCiphertextException":
            passed.give({"__type": code, "message": "no"}, http.client.BAD_REQUEST)

    return alter


def refuses_metrics(passed: Passed) -> None:
    """Refuse every datum, as if each had a value that CloudWatch does not take."""
    if passed.operation == "PutMetricData":
        passed.give({"__type": "InvalidParameterValueException", "message": "no"}, http.client.BAD_REQUEST)


@dataclass(frozen=True, slots=True)
class Papers:
    """Certificates for 127.0.0.1, and the authorities that clients must trust for them."""

    good: Path
    ends_soon: Path
    """Its certificate ends in ten days."""
    authorities: bytes


def papers(folder: Path, now: float) -> Papers:
    """Write both certificates, each with its key, into `folder`; `now` is POSIX time."""
    lasting, ending = (make_authority(now=now - days * _DAY_SECONDS) for days in (0, _AUTHORITY_DAYS - 10))
    found = Papers(folder / "good.pem", folder / "ends-soon.pem", lasting.pem + ending.pem)
    for path, authority in ((found.good, lasting), (found.ends_soon, ending)):
        path.write_bytes(server_pem(authority, ["127.0.0.1", "localhost"]))
    return found


@dataclass
class Interposed:
    """One of them, before one end point."""

    upstream: str
    trusted: Path
    """The authority of the end point itself."""
    papers: Papers
    alter: Alter | None = None
    dark: bool = False
    """Whether every request is left without an answer, its connection ended."""
    ends_soon: bool = False
    """Whether new connections are shown the certificate that ends in ten days."""
    clock_ahead_seconds: float = 0.0
    """By how much the answers' `Date` is ahead of the truth."""
    port: int = 0
    _server: ThreadingHTTPServer | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"https://127.0.0.1:{self.port}"

    def listen(self) -> None:
        """Take new connections, always at the same port."""
        outer = self

        class Handler(_Handler):
            interposed = outer

        server = _Server(("127.0.0.1", self.port), Handler)
        self.port, self._server = server.server_port, server
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def refuse(self) -> None:
        """Take no new connections; those that are open go on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def context(self) -> ssl.SSLContext:
        """Return what the next connection is opened with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.papers.ends_soon if self.ends_soon else self.papers.good)
        return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients hang up as part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    interposed: Interposed
    timeout = 600

    def setup(self) -> None:
        self.request = self.interposed.context().wrap_socket(self.request, server_side=True)
        address = urlsplit(self.interposed.upstream)
        trusted = ssl.create_default_context(cafile=str(self.interposed.trusted))
        self.further = http.client.HTTPSConnection(address.hostname or "", address.port, timeout=30, context=trusted)
        super().setup()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.further.close()
        self.request.close()  # the server closes what it accepted, and that is inside this one

    def pass_on(self) -> None:
        """Ask the end point the same, alter its answer, and give it."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.interposed.dark:
            self.close_connection = True
            return
        try:
            answer = self._ask(body)
            kind = answer.headers.get("Content-Type", "")
            passed = Passed(self._operation(), _members(body), answer.status, answer.read(), kind)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        if self.interposed.alter is not None:
            self.interposed.alter(passed)
        self.send_response_only(passed.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        self.send_header("Date", self._date(answer.headers["Date"]))
        self.send_header("Content-Length", str(len(passed.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(passed.body)

    do_GET = do_HEAD = do_POST = pass_on  # noqa: N815 - the base class asks for these names

    def _ask(self, body: bytes) -> http.client.HTTPResponse:
        """Ask the end point; anew if it has ended a connection that was idle for long."""
        try:
            self.further.request(self.command, self.path, body or None, dict(self.headers.items()))
            return self.further.getresponse()
        except (OSError, http.client.HTTPException):
            self.further.close()
            self.further.request(self.command, self.path, body or None, dict(self.headers.items()))
            return self.further.getresponse()

    def _operation(self) -> str:
        target = self.headers.get("X-Amz-Target")
        return self.path.rpartition("/")[2] if target is None else str(target).rpartition(".")[2]

    def _date(self, said: str) -> str:
        ahead = timedelta(seconds=self.interposed.clock_ahead_seconds)
        return format_datetime(parsedate_to_datetime(said) + ahead, usegmt=True)

    def log_message(self, *_: object) -> None: ...


def _members(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError:  # compressed, or another protocol's
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def interposed(upstream: str, trusted: Path, certificates: Papers) -> Iterator[Interposed]:
    """Run one before `upstream`, on a free port."""
    made = Interposed(upstream, trusted, certificates)
    made.listen()
    try:
        yield made
    finally:
        made.refuse()
