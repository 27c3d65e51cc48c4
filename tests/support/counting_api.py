"""A door in front of Toxiproxy's API that counts the requests, and can do something at one of them."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Literal

Moment = Literal["before", "behind", "answered"]
"""Before Toxiproxy gets the request; once it has done it, and nobody knows; once its answer is on its way."""


class CountingApi:
    """A server in threads of its own; `url` is where Toxiproxy seems to be."""

    def __init__(self, toxiproxy: tuple[str, int]) -> None:
        self._toxiproxy = toxiproxy
        self._lock = threading.Lock()
        self._act: Callable[[], None] | None = None
        self._at: tuple[int, Moment] = (0, "before")
        self.requests = 0
        """How many there were since `watch`."""
        door = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                door.pass_on(self)

            def do_POST(self) -> None:
                door.pass_on(self)

            def do_DELETE(self) -> None:
                door.pass_on(self)

            def log_message(self, *_args: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="counting-api", daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def watch(self, act: Callable[[], None] | None = None, *, at: int = 0, moment: Moment = "before") -> None:
        """Count from here on, and do `act` at request number `at`, the first being 1."""
        with self._lock:
            self.requests, self._act, self._at = 0, act, (at, moment)

    def pass_on(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Do one request; whoever asked may be gone by the time of the answer."""
        with self._lock:
            self.requests += 1
            number = self.requests
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self._reach(number, "before")
        status, answer = self._ask(request.command, request.path, body, request.headers.get("Content-Type", ""))
        self._reach(number, "behind")
        try:
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(answer)))
            request.end_headers()
            request.wfile.write(answer)
            request.wfile.flush()
        except OSError:
            return  # it was killed
        self._reach(number, "answered")

    def _reach(self, number: int, moment: Moment) -> None:
        if (number, moment) == self._at and self._act is not None:
            self._act()

    def _ask(self, method: str, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        headers = {"Content-Type": content_type} if content_type else {}
        with closing(http.client.HTTPConnection(*self._toxiproxy, timeout=10)) as connection:
            try:
                connection.request(method, path, body=body or None, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except OSError:
                return 502, b"{}"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
