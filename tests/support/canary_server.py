"""A server that nobody may ask: it notes every connection, and whoever holds it sees that there was none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Canary:
    """Where it listens, and what was asked there."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    """Method and path of each request."""
    body: bytes = b"{}"
    """What it answers."""

    @property
    def digits(self) -> str:
        """Its address as no rule for loopback knows it, though a resolver does: 127.0.0.1 as one number."""
        return f"2130706433:{self.port}"


@contextmanager
def listening(*, redirect_to: str = "") -> Iterator[Canary]:
    """Listen on a free port of this machine; answer 200, or lead elsewhere with 302."""
    canary = Canary()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            canary.asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(302 if redirect_to else 200)
            if redirect_to:
                self.send_header("Location", redirect_to)
            self.send_header("Content-Length", str(len(canary.body)))
            self.end_headers()
            self.wfile.write(canary.body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer  # noqa: N815 - http.server's own names

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        canary.port = server.server_port
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield canary
        finally:
            server.shutdown()
            serving.join()
