"""HTTP/1.1 listeners, TLS in the event loop: a stalled handshake keeps nobody waiting."""

from __future__ import annotations

import asyncio
import ssl

from kms_local.clock import Clock
from kms_local.wire.exchange import Handler
from kms_local.wire.protocol import HttpProtocol, Service

_BACKLOG = 4096  # a burst of a thousand connections must not wait for repeated SYNs
_HANDSHAKE_SECONDS = 30.0
_CLOSING_SECONDS = 1.0


class Listener:
    """One listening socket and its open connections."""

    def __init__(self, server: asyncio.Server, service: Service) -> None:
        self._server = server
        self._service = service
        self.port: int = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, let running requests end for a second, and cut what is left."""
        self._server.close()
        running = [task for connection in list(self._service.connections) for task in connection.shut_down()]
        if running:
            await asyncio.wait(running, timeout=_CLOSING_SECONDS)
        for connection in list(self._service.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # lets every transport report its loss before the loop ends


async def listen(handler: Handler, clock: Clock, *, host: str, port: int, tls: ssl.SSLContext | None) -> Listener:
    """Serve `handler` at `host`:`port` (0 = a free one).

    Raises:
        OSError: the address cannot be bound.
    """
    service = Service(handler=handler, clock=clock)
    server = await asyncio.get_running_loop().create_server(
        lambda: HttpProtocol(service),
        host,
        port,
        ssl=tls,
        ssl_handshake_timeout=_HANDSHAKE_SECONDS if tls else None,
        backlog=_BACKLOG,
    )
    return Listener(server, service)
