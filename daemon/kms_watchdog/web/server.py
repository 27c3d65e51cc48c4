"""uvicorn in a thread of its own: the listener is bound first, so a port in use is one clear line and nothing begun."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from functools import partial
from typing import Any

import uvicorn

from kms_watchdog.web.connection import BoundedProtocol, Bounds

STOP_SECONDS = 3.0
DEFAULT_BOUNDS = Bounds()
BACKLOG = 128  # so many are taken from the kernel at a time, each with a file descriptor, before any is looked at


class ListenError(RuntimeError):
    """The address cannot be listened on; the message is one line."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket on `host`:`port`; port 0 takes a free one.

    Raises:
        ListenError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as e:
        listener.close()
        why = "is in use" if e.errno == errno.EADDRINUSE else f"cannot be listened on: {e.strerror or e}"
        raise ListenError(f"http.listen: {host}:{port} {why}") from e
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address at which `listener` answers."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class WebServer:
    """Serves an ASGI application; takes over the listener and closes it."""

    def __init__(self, app: Any, listener: socket.socket, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        config = uvicorn.Config(
            app,
            http=partial(BoundedProtocol, bounds=bounds),  # type: ignore[arg-type] # uvicorn calls it, no more
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            backlog=BACKLOG,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=1,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a stranger's bad request is no news
        self._server = uvicorn.Server(config)
        self._listener = listener
        # In a thread that is not the main one uvicorn leaves signals alone.
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)
        self._listener.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])
