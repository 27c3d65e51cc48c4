"""HTTP/1.1 listeners, TLS in the event loop: a stalled handshake keeps nobody waiting."""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import Callable

from kms_local.clock import Clock
from kms_local.wire.exchange import Handler
from kms_local.wire.protocol import HttpProtocol, Limits, Service
from kms_local.wire.tls import ReadBuffer, TlsChannel

_BACKLOG = 4096  # a burst of a thousand connections must not wait for repeated SYNs
_CLOSING_SECONDS = 1.0
_ACCEPTING_TURNS = 4  # of the loop, from asyncio's accepting a connection to its telling our protocol of it
_OTHER_DESCRIPTORS = 256  # of the process: files, listeners, the Toxiproxy server's pipes


class Listener:
    """One listening socket and its open connections."""

    def __init__(self, server: asyncio.Server, service: Service) -> None:
        self._server = server
        self._service = service
        self.port: int = server.sockets[0].getsockname()[1]

    @property
    def connections(self) -> int:
        """How many are open, those in their TLS handshake included."""
        return len(self._service.connections)

    async def close(self) -> None:
        """Stop listening, let running requests end for a second, and cut what is left."""
        for listening in self._server.sockets:  # first: a closed server forgets a connection that it is just accepting
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(_ACCEPTING_TURNS):
            await asyncio.sleep(0)
        self._server.close()
        running = [task for connection in list(self._service.connections) for task in connection.shut_down()]
        if running:
            await asyncio.wait(running, timeout=_CLOSING_SECONDS)
        for connection in list(self._service.connections):
            connection.channel.abort()
        await asyncio.sleep(0)  # lets every transport report its loss before the loop ends


async def listen(
    handler: Handler, clock: Clock, *, host: str, port: int, tls: ssl.SSLContext | None, limits: Limits | None = None
) -> Listener:
    """Serve `handler` at `host`:`port` (0 = a free one).

    Args:
        handler: answers requests.
        clock: what answers are stamped with.
        host: the address to listen on.
        port: the port.
        tls: None for plain HTTP.
        limits: what one client may take.

    Raises:
        OSError: the address cannot be bound.
    """
    limits = limits or Limits()
    _allow_descriptors(limits.connections)
    service = Service(handler=handler, clock=clock, limits=limits)
    server = await asyncio.get_running_loop().create_server(_factory(service, tls), host, port, backlog=_BACKLOG)
    return Listener(server, service)


def _factory(service: Service, tls: ssl.SSLContext | None) -> Callable[[], asyncio.BaseProtocol]:
    if tls is None:
        return lambda: HttpProtocol(service)
    buffer = ReadBuffer()
    return lambda: TlsChannel(tls, HttpProtocol(service), buffer)


def _allow_descriptors(connections: int) -> None:
    """Raise this process's own limit as far as it may, so that a crowd of clients does not use it up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
