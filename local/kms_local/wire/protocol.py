"""HTTP/1.1 on one connection: parsing by httptools, one request after the other, keep-alive."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import httptools

from kms_local.clock import Clock
from kms_local.wire.exchange import MAX_BODY_BYTES, Handler, Request, Response, wire_form

_IDLE_SECONDS = 120.0  # longer than clients keep a pooled connection, so that it is never us who makes one stale
_REQUEST_SECONDS = 30.0  # a client that sends its request drop by drop is cut off
_MAX_HEADER_BYTES = 64 * 1024
_MAX_PIPELINED = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the connections of one listener share."""

    handler: Handler
    clock: Clock
    connections: set[HttpProtocol] = field(default_factory=set)


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
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = _Incoming()
        self._waiting: deque[tuple[Request, bool]] = deque()  # complete requests, and whether to keep the connection
        self._answering: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._closing = False  # no further request is taken
        self._deadline = self._loop.time() + _REQUEST_SECONDS
        self._timer: asyncio.TimerHandle | None = None

    # -- asyncio --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self._service.connections.add(self)
        self._timer = self._loop.call_at(self._deadline, self._look_at_deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a request that was taken is carried out all the same, as a service does whose client gave up."""
        del exc
        self._service.connections.discard(self)
        self._closing = True
        self._waiting.clear()
        self._writable.set()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(Response(status=400))
        except httptools.HttpParserError:  # what a callback raises comes as this too
            self._refuse(Response(status=400))

    def pause_writing(self) -> None:
        """Answer nothing more to a client that does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()

    # -- httptools ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request; from now on it has a time limit."""
        self._incoming = _Incoming()
        self._deadline = self._loop.time() + _REQUEST_SECONDS

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._incoming.url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._count_header(len(name) + len(value))
        headers, key, text = self._incoming.headers, name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text

    def on_headers_complete(self) -> None:
        """Encourage a client that waits for it before it sends the body."""
        if self._incoming.headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._incoming.body_bytes += len(body)
        if self._incoming.body_bytes > MAX_BODY_BYTES:
            self._refuse(Response(status=413))
        else:
            self._incoming.body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, after those before it."""
        if self._closing:
            return
        self._waiting.append((self._request(), self._parser.should_keep_alive()))
        if len(self._waiting) >= _MAX_PIPELINED:
            self.transport.pause_reading()
        if self._answering is None:
            self._answering = self._loop.create_task(self._answer_waiting())

    # -- answering ------------------------------------------------------------------------------------------------

    def shut_down(self) -> Iterator[asyncio.Task[None]]:
        """Close as soon as the answer under way is out; return who is working on it."""
        self._closing = True
        self._waiting.clear()
        if self._answering is None:
            self.transport.close()
        else:
            yield self._answering

    async def _answer_waiting(self) -> None:
        while self._waiting:
            request, keep_alive = self._waiting.popleft()
            self.transport.resume_reading()
            response = await self._response(request)
            await self._writable.wait()
            keep_alive = keep_alive and not self._closing
            self._send(response, keep_alive=keep_alive, head_only=request.method == "HEAD")
            if not keep_alive:
                self._waiting.clear()
        self._answering = None
        self._deadline = self._loop.time() + _IDLE_SECONDS

    async def _response(self, request: Request) -> Response:
        try:
            return await self._service.handler(request)
        except Exception:  # noqa: BLE001  the outermost border: one bad request may not end the server
            _log.exception("request.failed", extra={"path": request.path})
            return Response(status=500)

    def _send(self, response: Response, *, keep_alive: bool, head_only: bool) -> None:
        if self.transport.is_closing():
            return
        now = self._service.clock.now()
        self.transport.write(wire_form(response, now=now, keep_alive=keep_alive, head_only=head_only))
        if not keep_alive:
            self._closing = True
            self.transport.close()

    def _refuse(self, response: Response) -> None:
        """Answer what is no request, or none that is served, and close."""
        if not self._closing:
            self._send(response, keep_alive=False, head_only=False)

    def _request(self) -> Request:
        incoming = self._incoming
        target = httptools.parse_url(incoming.url)
        peer = self.transport.get_extra_info("peername")
        return Request(
            method=self._parser.get_method().decode("latin-1"),
            path=(target.path or b"/").decode("latin-1"),
            query=(target.query or b"").decode("latin-1"),
            headers=incoming.headers,
            body=b"".join(incoming.body),
            peer_port=peer[1] if peer else 0,
        )

    def _count_header(self, size: int) -> None:
        self._incoming.header_bytes += size
        if self._incoming.header_bytes > _MAX_HEADER_BYTES:
            self._refuse(Response(status=431))

    def _look_at_deadline(self) -> None:
        """Cut off a client that is idle or too slow; one that waits for its answer is neither."""
        now = self._loop.time()
        if self._answering is None and now >= self._deadline:
            self._closing = True
            self.transport.close()
            return
        self._timer = self._loop.call_at(max(self._deadline, now + 1.0), self._look_at_deadline)
