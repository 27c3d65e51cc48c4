"""The sockets of one proxied connection, and how they close."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import Callable, Mapping
from typing import cast

from kms_local.toxiproxy.links import Link
from kms_local.toxiproxy.relay_loop import RelayLoop
from kms_local.toxiproxy.toxics import DOWNSTREAM, UPSTREAM, Toxic
from kms_local.toxiproxy.traffic import Counters

_CHUNK_BYTES = 32 * 1024
_LAST_READS = 4  # before a socket is closed
_LINGER_ZERO = struct.pack("ii", 1, 0)  # closing sends RST and throws away what was not sent

# One buffer for all sockets: the loop fills it and calls `buffer_updated` before it looks at another socket.
_BUFFER = memoryview(bytearray(_CHUNK_BYTES))


class Endpoint(asyncio.BufferedProtocol):
    """One of the two sockets of a connection. It reads nothing before `connect` has told it where to."""

    def __init__(self, on_open: Callable[[Endpoint], None] | None = None) -> None:
        self.full = False
        self.gone = False
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._on_open = on_open
        self._paused = True
        self._reset = False
        self._feeds: Link | None = None  # the link that this socket is the source of
        self._fed_by: Link | None = None  # the link that it is the sink of
        self._on_lost: Callable[[], None] | None = None
        self._descriptor = -1

    def connect(self, *, feeds: Link, fed_by: Link, on_lost: Callable[[], None]) -> None:
        """Tell the socket its links; it begins to read."""
        self._feeds, self._fed_by, self._on_lost = feeds, fed_by, on_lost
        loop = asyncio.get_running_loop()
        if isinstance(loop, RelayLoop) and self._descriptor >= 0:
            loop.watch(self._descriptor, self)
        feeds.work()

    def read_now(self) -> bool | None:
        """Read a chunk and pass it on: the way that most data take."""
        if self.gone:  # the descriptor may be somebody else's by now
            return None
        if self._paused or self._feeds is None or self.transport.is_closing():
            return False
        try:
            data = os.read(self._descriptor, _CHUNK_BYTES)
        except OSError:
            return None
        return self._feeds.receive(data) if data else None

    def reset_on_close(self) -> None:
        """From now on every close of this socket is a RST."""
        self._reset = True  # own flag: a closed socket cannot be asked
        raw: socket.socket | None = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, without reading: bytes left in the kernel turn our close into a RST if the upstream refuses."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            self._descriptor = raw.fileno()
            # asyncio leaves Nagle's delay on where the listener was made with protocol 0, as ours is
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.transport.set_write_buffer_limits(high=0)  # what the kernel does not take stops the reader, as in Go
        if self._on_open is not None:
            self._on_open(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the common buffer."""
        del sizehint
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read."""
        if self._feeds is not None:
            self._feeds.receive(bytes(_BUFFER[:nbytes]))

    def eof_received(self) -> bool:
        """Pass on the end of the stream, and keep the socket open for what still comes the other way."""
        if self._feeds is not None:
            self._feeds.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the socket is gone."""
        del exc
        self.gone, self.full = True, False
        loop = asyncio.get_running_loop()
        if isinstance(loop, RelayLoop):
            loop.unwatch(self._descriptor)
        self._descriptor = -1
        if self._feeds is not None and self._fed_by is not None and self._on_lost is not None:
            self._feeds.end()
            self._fed_by.sink_has_room()  # what is held for a dead socket may be forgotten
            self._on_lost()

    def pause_writing(self) -> None:
        """Remember that the kernel takes no more."""
        self.full = True

    def resume_writing(self) -> None:
        """Go on."""
        self.full = False
        if self._fed_by is not None:
            self._fed_by.sink_has_room()

    def pause(self) -> None:
        """Stop reading."""
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self.gone:
            self._paused = False
            self.transport.resume_reading()

    def write(self, data: bytes) -> bool:
        """Write, or forget the data if the socket is closing; say whether all is in the kernel now."""
        if self.transport.is_closing():
            return False
        if not self.full:  # the transport has nothing to write before this
            try:
                sent = os.write(self._descriptor, data)
            except OSError:  # full or broken: the transport will find out which
                sent = 0
            if sent == len(data):
                return True
            data = data[sent:]
        self.transport.write(data)
        return False

    def finish(self) -> None:
        """Close after what was written; a connection that resets does not wait for it."""
        self._drain()
        if self._reset:
            self.transport.abort()
        else:
            self.transport.close()

    def _drain(self) -> None:
        """Take what has come meanwhile, as the real server's readers have: left in the kernel it would make a RST."""
        for _ in range(_LAST_READS):
            if self.read_now() is None:
                return

    def abort(self) -> None:
        """Close now: `close` would wait for a peer that does not read."""
        self.transport.abort()


class Connection:
    """A client, an upstream, and the two links between them."""

    def __init__(
        self,
        *,
        client: Endpoint,
        upstream: Endpoint,
        chains: Mapping[str, list[Toxic]],
        counters: Mapping[str, Counters],
        rng: random.Random,
        on_end: Callable[[Connection], None],
    ) -> None:
        self._ends = (client, upstream)
        self._on_end = on_end
        if any(toxic.kind == "reset_peer" for chain in chains.values() for toxic in chain):
            for end in self._ends:  # whatever the toxicity says: so does the real server
                end.reset_on_close()
        up = Link(source=client, sink=upstream, toxics=chains[UPSTREAM], rng=rng, counters=counters[UPSTREAM])
        down = Link(source=upstream, sink=client, toxics=chains[DOWNSTREAM], rng=rng, counters=counters[DOWNSTREAM])
        self.links = {UPSTREAM: up, DOWNSTREAM: down}
        client.connect(feeds=up, fed_by=down, on_lost=self._lost)
        upstream.connect(feeds=down, fed_by=up, on_lost=self._lost)

    def abort(self) -> None:
        """Close both sockets now."""
        for end in self._ends:
            end.abort()

    def _lost(self) -> None:
        if all(end.gone for end in self._ends):
            for link in self.links.values():
                link.dispose()
            self._on_end(self)
