"""uvicorn, with an end in which no request is cut.

uvicorn's own closes, at SIGTERM, connections that were accepted and have not been heard yet, and such as a client is
about to use again: their requests are lost. Here, what waits to be accepted is accepted first; each answer then says
that it is its connection's last; and who is silent is given a moment to ask before uvicorn ends the rest.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

import uvicorn

from kms_core import Clock
from parker_flight_api.ending import Ending

LINGER_SECONDS = 2.0
"""So long may a client that is connected be silent before it asks, once the end has begun."""
KEEP_ALIVE_SECONDS = 75
"""More than the 60 of AWS's load balancer: the one that may use a connection again must be the one to close it."""
_BACKLOG = 2048
_TICK_SECONDS = 0.02

log = logging.getLogger("parker_flight_api")


class ListenError(RuntimeError):
    """The address cannot be listened on; the message is one line."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at `host`:`port` that does not listen yet; port 0 takes a free one.

    Raises:
        ListenError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as e:
        bound.close()
        why = "is in use" if e.errno == errno.EADDRINUSE else f"cannot be listened on: {e.strerror or e}"
        raise ListenError(f"HOST and PORT: {host}:{port} {why}") from e
    return bound


class Server(uvicorn.Server):
    """Serves an ASGI application on one socket until `ending` is asked for; `begin_to_end` is called first then."""

    def __init__(
        self, app: object, ending: Ending, begin_to_end: Callable[[], None], clock: Clock, *, shutdown_seconds: int
    ) -> None:
        config = uvicorn.Config(
            app,  # type: ignore[arg-type] # an ASGI application; uvicorn's own types are private
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=shutdown_seconds,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a stranger's bad request is no news
        super().__init__(config)
        self._ending, self._begin_to_end, self._clock = ending, begin_to_end, clock

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, unless a signal came before uvicorn began to hear them."""
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        log.info("listening on http://%s:%s", host, port)
        self.should_exit = self.should_exit or self._ending.asked

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, answer everybody, and end."""
        for _ in range(2):  # the loop accepts whatever waits, each time it comes round
            await asyncio.sleep(0)
        self._begin_to_end()
        for server in self.servers:
            server.close()
        log.info("ending: nobody is accepted any more; %d connections", len(self.server_state.connections))
        until = self._clock.monotonic() + LINGER_SECONDS
        await asyncio.sleep(_TICK_SECONDS)  # those just accepted are among the connections now
        while self.server_state.connections and self._clock.monotonic() < until:  # noqa: ASYNC110 - a set tells nobody
            await asyncio.sleep(_TICK_SECONDS)
        await super().shutdown(sockets)
