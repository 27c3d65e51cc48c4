"""HTTP/1.1 on one connection: parsing by httptools, one request after the other, keep-alive, limits."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import httptools

from kms_local.clock import Clock
from kms_local.wire.exchange import MAX_BODY_BYTES, Cut, Handler, Request, Response, answer_cut, wire_parts

_AROUND_A_HEADER = 4  # colon, space, end of line
_MAX_KNOWN_NAMES, _MAX_COMMON_BYTES = 512, 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may take of a listener's time and memory."""

    request_seconds: float = 30.0  # from a connection or a request's first byte to its last, the TLS handshake included
    idle_seconds: float = (
        120.0  # longer than clients keep a pooled connection, so that it is never us who makes one stale
    )
    stall_seconds: float = 30.0  # for a client that does not read its answers
    linger_seconds: float = 2.0  # for a client that goes on sending what was refused, so that it can read why
    header_bytes: int = 64 * 1024  # target and headers together
    pipelined: int = 16  # requests waiting for their turn, above which no more are read
    pipelined_bytes: int = 2 * MAX_BODY_BYTES
    connections: int = 4096  # of one listener; above it the one that has been idle the longest gives way


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the connections of one listener share."""

    handler: Handler
    clock: Clock
    limits: Limits = field(default_factory=Limits)
    connections: set[HttpProtocol] = field(default_factory=set)


class Channel(Protocol):
    """Where a connection's bytes go: a socket's transport, or TLS on top of one."""

    def write(self, data: bytes, /) -> None:
        """Send bytes; over TLS as a record, or several if they are many."""
        ...

    def write_eof(self) -> None:
        """Say that nothing more will be sent, and go on reading."""
        ...

    def close(self) -> None:
        """Close when everything has been sent."""
        ...

    def abort(self) -> None:
        """Close now."""
        ...

    def is_closing(self) -> bool:
        """Say whether it is closed or about to be."""
        ...

    def pause_reading(self) -> None:
        """Leave further bytes where they are."""
        ...

    def resume_reading(self) -> None:
        """Read again."""
        ...

    def get_extra_info(self, name: str, /) -> Any:
        """Return what is known about the connection, as asyncio's transports do."""
        ...


@dataclass(slots=True)
class _Incoming:
    """The request that is being received."""

    url: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    header_bytes: int = 0
    body: list[bytes] = field(default_factory=list)
    body_bytes: int = 0


class HttpProtocol(asyncio.Protocol):
    """One connection; httptools calls its `on_...` methods."""

    def __init__(self, service: Service) -> None:
        self.channel: Channel = cast("Channel", None)
        self._service = service
        self._limits = service.limits
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = _Incoming()
        self._receiving = False  # a request has begun and is not complete
        self._taking = True  # further requests are read
        self._owes_continue = False
        self._waiting: deque[tuple[Request | Response, bool]] = deque()  # what to answer, and whether to go on then
        self._waiting_bytes = 0
        self._answering: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._deadline = math.inf  # when the client is cut off, in the loop's time
        self._timer: asyncio.TimerHandle | None = None

    # -- asyncio --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin on a transport."""
        self.begin(cast("asyncio.Transport", transport))

    def begin(self, channel: Channel) -> None:
        """Begin; when the listener is full, the longest idle connection gives way, or else this one."""
        self.channel = channel
        connections = self._service.connections
        connections.add(self)
        self._allow(self._limits.request_seconds)
        if len(connections) > self._limits.connections:
            idle = [one for one in connections if one is not self and one.is_idle]
            min(idle, key=HttpProtocol.cut_off_at, default=self).channel.abort()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered."""
        return self._answering is None

    def cut_off_at(self) -> float:
        """Return when this connection is cut off unless its client does something, in the loop's time."""
        return self._deadline

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a request that was taken is carried out all the same, as a service does whose client gave up."""
        del exc
        self._service.connections.discard(self)
        self._taking = False
        self._forget_waiting()
        self._writable.set()
        self._parser = cast(
            "httptools.HttpRequestParser", None
        )  # they know each other, and would wait for the collector
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes | memoryview) -> None:
        """Parse what has come."""
        if not self._taking:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400)
        except httptools.HttpParserError:  # what a callback raises comes as this too
            self._refuse(400)

    def eof_received(self) -> bool:
        """Take no more requests; what was asked before is still answered, the connection open until then."""
        self._taking = False
        return self._answering is not None

    def pause_writing(self) -> None:
        """Answer nothing more to a client that does not read, and cut it off if it never does."""
        self._writable.clear()
        self._allow(self._limits.stall_seconds)

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()
        self._allow(math.inf if self._answering else self._limits.idle_seconds)

    # -- httptools ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request; from now on it has a time limit."""
        self._incoming = _Incoming()
        self._receiving = True
        if self._answering is None:
            self._allow(self._limits.request_seconds)

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._incoming.url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        incoming = self._incoming
        incoming.header_bytes += len(name) + len(value) + _AROUND_A_HEADER
        if incoming.header_bytes > self._limits.header_bytes:
            self._refuse(431)
            return
        headers, key, text = incoming.headers, _known_names.get(name) or _header_name(name), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text

    def on_headers_complete(self) -> None:
        """Refuse a body that is announced as too large, and encourage a client that waits for it to send its body."""
        headers = self._incoming.headers
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BODY_BYTES:
            self._refuse(413)
        elif "expect" in headers and headers["expect"].lower() == "100-continue":
            self._owes_continue = self._parser.get_http_version() != "1.0"
            self._encourage()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._incoming.body_bytes += len(body)
        if self._incoming.body_bytes > MAX_BODY_BYTES:
            self._refuse(413)
        elif self._taking:
            self._incoming.body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, after those before it."""
        self._receiving = self._owes_continue = False
        if self._taking:
            parser = self._parser
            keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
            keep_alive = keep_alive and not parser.should_upgrade()  # declined: what follows would be no HTTP/1.1
            self._queue(self._request(), keep_alive=keep_alive)

    # -- answering ------------------------------------------------------------------------------------------------

    def shut_down(self) -> Iterator[asyncio.Task[None]]:
        """Close as soon as the answer under way is out; return who is working on it."""
        self._taking = False
        self._forget_waiting()
        if self._answering is None:
            self.channel.close()
        else:
            yield self._answering

    def _queue(self, answered: Request | Response, *, keep_alive: bool) -> None:
        self._taking = keep_alive
        self._waiting.append((answered, keep_alive))
        self._waiting_bytes += len(answered.body)
        if len(self._waiting) >= self._limits.pipelined or self._waiting_bytes >= self._limits.pipelined_bytes:
            self.channel.pause_reading()
        if self._answering is None:
            self._allow(math.inf)
            self._answering = self._loop.create_task(self._answer_waiting())

    async def _answer_waiting(self) -> None:
        while self._waiting:
            answered, keep_alive = self._waiting.popleft()
            self._waiting_bytes -= len(answered.body)
            if len(self._waiting) < self._limits.pipelined and self._waiting_bytes < self._limits.pipelined_bytes:
                self.channel.resume_reading()
            if isinstance(answered, Response):  # a refusal
                response, head_only = answered, False
            else:
                response, head_only = await self._response(answered), answered.method == "HEAD"
            if not self._writable.is_set():
                await self._writable.wait()
            self._send(response, keep_alive=keep_alive and (self._taking or bool(self._waiting)), head_only=head_only)
        self._answering = None
        if self._taking:
            self._allow(self._limits.request_seconds if self._receiving else self._limits.idle_seconds)
            self._encourage()

    async def _response(self, request: Request) -> Response:
        try:
            return await self._service.handler(request)
        except Exception:  # noqa: BLE001  the outermost border: one bad request may not end the server
            _log.exception("request.failed", extra={"path": request.path})
            return Response(status=500)

    def _send(self, response: Response, *, keep_alive: bool, head_only: bool) -> None:
        cut = answer_cut.get()
        if cut is not None:
            answer_cut.set(None)
        if self.channel.is_closing():
            return
        now = self._service.clock.now()
        head, body = wire_parts(response, now=now, keep_alive=keep_alive, head_only=head_only)
        if cut is not None:
            self._cut_off(head, body, cut)
            return
        self.channel.write(head + body if body else head)  # over TLS one record, if it is small
        if not keep_alive:
            self._end()

    def _end(self) -> None:
        """Close; a client that is still sending is listened to for a moment: a RST would take away its answer."""
        self._taking = False
        if not self._receiving:
            self.channel.close()
            self._allow(self._limits.stall_seconds)
            return
        try:
            self.channel.write_eof()
        except OSError:  # the client has gone already
            self.channel.abort()
            return
        self.channel.resume_reading()
        self._allow(self._limits.linger_seconds)

    def _cut_off(self, head: bytes, body: bytes, cut: Cut) -> None:
        """Send the beginning of an answer, its head in a record of its own, and end the connection under it."""
        self._taking = False
        self._forget_waiting()
        for piece in (head[: cut.at],) if cut.in_head else (head, body[: cut.at]):
            if piece:
                self.channel.write(piece)
        raw = self.channel.get_extra_info("socket")
        with suppress(OSError):  # the client was faster
            if cut.reset:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                raw.shutdown(socket.SHUT_WR)
        self.channel.abort()

    def _encourage(self) -> None:
        """Tell a client to send the body it holds back, once everything before that is answered."""
        if self._owes_continue and self._answering is None and self._taking:
            self._owes_continue = False
            self.channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, status: int) -> None:
        """Answer what is no request, or none that is served, after what came before it; and close."""
        if self._taking:
            self._queue(Response(status=status), keep_alive=False)

    def _request(self) -> Request:
        incoming = self._incoming
        path, query = _target(incoming.url)
        peer = self.channel.get_extra_info("peername")
        return Request(
            method=self._parser.get_method().decode("latin-1"),
            path=path,
            query=query,
            headers=incoming.headers,
            body=incoming.body[0] if len(incoming.body) == 1 else b"".join(incoming.body),
            peer_port=peer[1] if peer else 0,
        )

    def _count_header(self, size: int) -> None:
        self._incoming.header_bytes += size
        if self._incoming.header_bytes > self._limits.header_bytes:
            self._refuse(431)

    def _forget_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0

    # -- time -----------------------------------------------------------------------------------------------------

    def _allow(self, seconds: float) -> None:
        """Cut the client off in so many seconds, unless something else is decided until then."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        never = math.isinf(self._deadline)
        self._timer = None if never else self._loop.call_at(self._deadline, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        """End an idle connection, and cut off a client that is too slow; one that waits for its answer is neither."""
        self._timer = None
        if self._loop.time() < self._deadline:
            self._arm()
        elif self._taking and not self._receiving and self._writable.is_set():
            self._end()
        else:
            self.channel.abort()


_known_names: dict[bytes, str] = {}  # the same few come with every request


def _header_name(name: bytes) -> str:
    """Return a header's name in lower case, and remember it if it may be a common one."""
    text = name.decode("latin-1").lower()
    if len(_known_names) < _MAX_KNOWN_NAMES and len(name) <= _MAX_COMMON_BYTES:
        _known_names[name] = text
    return text


def _target(url: bytes) -> tuple[str, str]:
    if url == b"/":
        return "/", ""
    parsed = httptools.parse_url(url)
    return (parsed.path or b"/").decode("latin-1"), (parsed.query or b"").decode("latin-1")
