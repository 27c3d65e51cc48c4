"""The admin port: HTTP/1.x on one connection, with the limits of the real server's `http.Server`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

from kms_local.clock import Clock, http_date
from kms_local.toxiproxy.http_messages import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    Head,
    HttpError,
    Line,
    Request,
    Response,
    read_head,
    request_line,
    wire_form,
)

_READ_SECONDS = 15.0  # for a whole request
_WRITE_SECONDS = 30.0  # for a client to take its answer
_IDLE_SECONDS = 60.0
_LINGER_SECONDS = 0.5  # between our FIN and the close, so that a RST does not overtake the answer
_MOST_DISCARDED_BYTES = 256 * 1024  # of a body that nobody looked at; with more the connection ends
_READ_AHEAD_BYTES = 256 * 1024
_BACKLOG = 4096
_HEAD_END = re.compile(rb"\n\r?\n")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")
_MAX_CHUNK_LINE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the connections of one admin port share."""

    handler: Callable[[Request], Awaitable[Response]]
    reads_body: Callable[[Head], bool]
    """Whether the handler of a request looks at its body: only then is a client told to go on and send it."""
    clock: Clock
    connections: set[AdminConnection] = field(default_factory=set)


class AdminConnection(asyncio.Protocol):
    """One connection: one request after the other, pipelined ones in their order."""

    def __init__(self, site: Site) -> None:
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._site = site
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._line: Line | None = None
        self._head: Head | None = None
        self._chunks: list[bytes] | None = None  # of a chunked body, as far as they have come
        self._chunk_bytes = 0
        self._answering: asyncio.Task[None] | None = None
        self._ended = False  # the client sends nothing more
        self._closing = False  # no further request is looked at
        self._started = self._encouraged = False
        self._timer: asyncio.TimerHandle | None = None

    # -- asyncio --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self._site.connections.add(self)
        self._wait(_READ_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Look at what has come."""
        if self._closing:
            return
        if not self._buffer and not self._started:
            self._started = True
            self._wait(_READ_SECONDS)
        self._buffer += data
        if self._answering is None:
            self._proceed()
        elif len(self._buffer) > _READ_AHEAD_BYTES:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Answer what has come completely, and close."""
        self._ended = True
        if self._answering is None and not self._closing:
            self._proceed()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a request that was taken is carried out all the same."""
        del exc
        self._closing = True
        self._site.connections.discard(self)
        self._stop_waiting()

    def pause_writing(self) -> None:
        """Give a client that does not read its time."""
        self._wait(_WRITE_SECONDS)

    # -- requests -------------------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Take the next request if it is complete, and close where there can be none."""
        try:
            request = self._next()
        except HttpError as error:
            self.transport.write(error.wire_form())
            self._linger()
            return
        if request is not None:
            self._answering = self._loop.create_task(self._answer(request))
        elif self._ended:
            self._closing = True
            self.transport.close()

    def _next(self) -> Request | None:
        """Return the next request, or None when it is not complete.

        Raises:
            HttpError: what has come is none.
        """
        if self._head is None and not self._read_head():
            return None
        head = self._head
        assert head is not None  # noqa: S101  it has just been read
        if head.expects_else:
            return Request(head=head)
        if head.expects_continue and not self._encouraged:
            if not self._site.reads_body(head):
                return Request(head=head)
            self._encouraged = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self._chunked(head) if head.chunked else self._plain(head)

    def _read_head(self) -> bool:
        if self._line is None:
            line, newline, rest = self._buffer.partition(b"\n")
            if not newline:
                return self._no_head(begun=bool(self._buffer))
            self._line, self._buffer = request_line(bytes(line.removesuffix(b"\r"))), rest
        found = _HEAD_END.search(b"\n" + self._buffer)
        if found is None:
            return self._no_head(begun=True)
        raw = bytes(self._buffer[: max(0, found.start() - 1)])
        if len(raw) > MAX_HEAD_BYTES:
            raise HttpError("431 Request Header Fields Too Large")
        del self._buffer[: found.end() - 1]
        self._head = read_head(self._line, raw.removesuffix(b"\r"))
        return True

    def _no_head(self, *, begun: bool) -> bool:
        if len(self._buffer) > MAX_HEAD_BYTES:
            raise HttpError("431 Request Header Fields Too Large")
        if self._ended and begun:
            raise HttpError("400 Bad Request")
        return False

    def _plain(self, head: Head) -> Request | None:
        if head.length > MAX_BODY_BYTES:
            raise HttpError("413 Request Entity Too Large")
        if len(self._buffer) < head.length:
            return Request(head=head, body=bytes(self._buffer), cut=True) if self._ended else None
        body = bytes(self._buffer[: head.length])
        del self._buffer[: head.length]
        return Request(head=head, body=body)

    def _chunked(self, head: Head) -> Request | None:
        """Read chunk after chunk; a mistake in them is the end of the body, and told to the handler."""
        if self._chunks is None:
            self._chunks = []
        while True:
            line, newline, _ = self._buffer.partition(b"\n")
            if not newline and len(self._buffer) <= _MAX_CHUNK_LINE:
                return self._partly(head)
            size = line.partition(b";")[0].strip(b" \t\r")
            wrong = _wrong_size(bytes(size), bytes(line))
            if wrong is not None:
                return Request(head=head, body=b"".join(self._chunks), end=wrong)
            count, start = int(size, 16), len(line) + 1
            if count == 0:
                return self._trailer(head, start)
            if self._chunk_bytes + count > MAX_BODY_BYTES:
                raise HttpError("413 Request Entity Too Large")
            if len(self._buffer) < start + count + 2:
                return self._partly(head)
            self._chunks.append(bytes(self._buffer[start : start + count]))
            self._chunk_bytes += count
            if self._buffer[start + count : start + count + 2] != b"\r\n":
                return Request(head=head, body=b"".join(self._chunks), end="malformed chunked encoding")
            del self._buffer[: start + count + 2]

    def _partly(self, head: Head) -> Request | None:
        return Request(head=head, body=b"".join(self._chunks or []), cut=True) if self._ended else None

    def _trailer(self, head: Head, start: int) -> Request | None:
        found = _HEAD_END.search(b"\n" + self._buffer[start:])
        if found is None:
            return self._partly(head)
        del self._buffer[: start + found.end() - 1]
        return Request(head=head, body=b"".join(self._chunks or []))

    # -- answers --------------------------------------------------------------------------------------------------

    async def _answer(self, request: Request) -> None:
        self._stop_waiting()
        head = request.head
        if head.expects_else:
            response = Response(status=417, headers=(("Connection", "close"),))
        else:
            try:
                response = await self._site.handler(request)
            except Exception as e:  # noqa: BLE001  as the real server does: a failing handler costs its connection
                self._loop.call_exception_handler({"message": "a request failed", "exception": e})
                self._closing = True
                self.transport.abort()
                return
        unread = request.cut or request.end != "EOF" or (head.expects_continue and not self._encouraged)
        unread = unread or (len(request.body) > _MOST_DISCARDED_BYTES and not self._site.reads_body(head))
        close = unread or head.expects_else or self._closing or not head.keep_alive
        if not self.transport.is_closing():
            date = http_date(self._site.clock.now())
            silently = request.cut and not (self._encouraged or head.chunked) and self._site.reads_body(head)
            said = close and not silently and not head.expects_else
            self.transport.write(wire_form(head, response, date=date, close=said))
        self._answering = self._line = self._head = self._chunks = None
        self._chunk_bytes, self._started, self._encouraged = 0, bool(self._buffer), False
        if close:
            self._linger()
            return
        self._wait(_READ_SECONDS if self._buffer else _IDLE_SECONDS)
        self.transport.resume_reading()
        if self._buffer or self._ended:
            self._proceed()

    def _linger(self) -> None:
        """Send our FIN, and close a little later."""
        self._closing = True
        self._buffer.clear()
        if self._ended or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write_eof()
        self._wait(_LINGER_SECONDS)

    def shut_down(self) -> asyncio.Task[None] | None:
        """Close as soon as the answer under way is out; return who is working on it."""
        self._closing = True
        if self._answering is None:
            self.transport.close()
        return self._answering

    # -- time -----------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self._loop.call_later(seconds, self._time_is_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        """Close; a handler that was to have a body is told why it has none."""
        if self._head is None or self._closing or self._answering is not None:
            self._closing = True
            self.transport.abort()
            return
        local, remote = (self.transport.get_extra_info(name) for name in ("sockname", "peername"))
        end = f"read tcp {local[0]}:{local[1]}->{remote[0]}:{remote[1]}: i/o timeout"
        body = bytes(self._buffer) if self._chunks is None else b"".join(self._chunks)
        self._answering = self._loop.create_task(self._answer(Request(head=self._head, body=body, end=end)))


def _wrong_size(size: bytes, line: bytes) -> str | None:
    if len(line) > _MAX_CHUNK_LINE:
        return "header line too long"
    if not line.endswith(b"\r"):
        return "chunked line ends with bare LF"
    if not size:
        return "empty hex number for chunk length"
    if not _CHUNK_SIZE.fullmatch(size):
        return "http chunk length too large" if re.fullmatch(rb"[0-9a-fA-F]+", size) else "invalid byte in chunk length"
    return None


class AdminPort:
    """The listening socket of the API and its connections."""

    def __init__(self, server: asyncio.Server, site: Site) -> None:
        self._server = server
        self._site = site
        self.port: int = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, let running requests end for a second, and cut what is left."""
        self._server.close()
        running = [task for connection in list(self._site.connections) if (task := connection.shut_down())]
        if running:
            await asyncio.wait(running, timeout=1.0)
        for connection in list(self._site.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # lets every transport report its loss before the loop ends


async def open_admin_port(site: Site, host: str, port: int) -> AdminPort:
    """Serve at `host`:`port` (0 = a free one).

    Raises:
        OSError: the address cannot be bound.
    """
    server = await asyncio.get_running_loop().create_server(lambda: AdminConnection(site), host, port, backlog=_BACKLOG)
    return AdminPort(server, site)
