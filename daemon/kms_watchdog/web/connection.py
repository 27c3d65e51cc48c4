"""One client's connection, bounded: uvicorn's own protocol lets a client be silent, slow or wordy for ever.

Whoever keeps us waiting too long (for a request, or for taking the answer) is cut off; when all places are taken, the
one who has kept us waiting longest gives way, so that a crowd of sleepers cannot lock out who asks `/livez`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What clients may take up."""

    connections: int = 256
    """Those served; a newcomer beyond them takes the place of who waits, or is told to come back (503)."""
    refused_at_once: int = 128
    """So many more may be told so; beyond that they are cut off unheard: file descriptors are the canaries' too."""
    client_seconds: float = 30.0
    """How long a client may take to ask, or to take the answer."""
    check_seconds: float = 5.0
    """How often that is looked at."""
    gives_way_seconds: float = 1.0
    """Who has kept us waiting that long gives way to a newcomer when all places are taken."""
    head_bytes: int = 32 * 1024
    """Of one request's address and headers, as nginx has it."""


_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class TooLargeError(Exception):
    """The head of a request is beyond all reason."""


class BoundedProtocol(HttpToolsProtocol):
    """Adds the bounds; it lives in the event loop's thread."""

    def __init__(self, *arguments: Any, bounds: Bounds, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._bounds = bounds
        self.owes_since: float | None = None
        """Since when the client has the next move, in the loop's time; None: it is ours."""
        self._head_bytes = 0
        self._in_head = True
        self._too_large = False
        self._check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Take a client, if there is a place."""
        super().connection_made(transport)
        self.owes_since = self.loop.time()
        if len(self.connections) > self._bounds.connections:
            self._make_room()
        self._check = self.loop.call_later(self._bounds.check_seconds, self._cut_off_if_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a client."""
        if self._check is not None:
            self._check.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what a client sends, up to a head of reasonable size."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)  # a line without end reaches no callback below, and fills the memory
            if self._head_bytes > self._bounds.head_bytes:
                self._too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin a request: the client has its time anew."""
        super().on_message_begin()
        self.owes_since = self.loop.time()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is too large."""
        self._in_head, self._head_bytes = False, 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._bounds.head_bytes:
            self._too_large = True
            raise TooLargeError  # the parser makes it an error of its own, and uvicorn that an answer: the next method
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Have the next move: the client has said all."""
        super().on_message_complete()
        if not self.cycle.response_complete:
            self.owes_since = None

    def on_response_complete(self) -> None:
        """Give the client the next move: to take the answer, and to ask again."""
        super().on_response_complete()
        self.owes_since = self.loop.time()

    def pause_writing(self) -> None:
        """Wait for a client that takes the answer slowly."""
        super().pause_writing()
        if self.owes_since is None:
            self.owes_since = self.loop.time()

    def resume_writing(self) -> None:
        """Go on: the client took what was there."""
        super().resume_writing()
        if self.cycle is not None and not self.cycle.response_complete:
            self.owes_since = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or none of reasonable size, and hang up."""
        if self.transport.is_closing():
            return
        if not self._too_large:
            super().send_400_response(msg)
            return
        self.transport.write(_TOO_LARGE)
        self.transport.close()

    def _make_room(self) -> None:
        now = self.loop.time()
        waiting = [
            other
            for other in self.connections
            if isinstance(other, BoundedProtocol)
            and other is not self
            and other.owes_since is not None
            and now - other.owes_since > self._bounds.gives_way_seconds
        ]
        if waiting:
            min(waiting, key=lambda other: other.owes_since or now).transport.abort()
        elif len(self.connections) > self._bounds.connections + self._bounds.refused_at_once:
            self.transport.abort()
        else:
            self.limit_concurrency = 0  # uvicorn then answers 503, and hangs up, once the request has been read

    def _cut_off_if_slow(self) -> None:
        if self.owes_since is not None and self.loop.time() - self.owes_since > self._bounds.client_seconds:
            self.transport.abort()
        else:
            self._check = self.loop.call_later(self._bounds.check_seconds, self._cut_off_if_slow)
