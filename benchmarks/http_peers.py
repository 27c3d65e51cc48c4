"""Servers that answer beside the daemon, each a process of its own: the standard library's, and prometheus_client's.

`python -m benchmarks.http_peers NAME` serves until it is ended, and prints its port.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Gauge, start_http_server

HTTP_SERVER, EXPORTER = "http.server", "prometheus_client"
_BODY = json.dumps({"status": "healthy", "regions": {"us-east-1": True, "us-west-2": True, "eu-west-1": True}}).encode()


class Constant(http.server.BaseHTTPRequestHandler):
    """Answers with a constant, over connections that are kept."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_BODY)))
        self.end_headers()
        self.wfile.write(_BODY)

    def log_message(self, *_: object) -> None:
        """Say nothing: the daemon does not log requests either."""


class Server(http.server.ThreadingHTTPServer):
    """As it is, but for a queue that takes the load's connections."""

    request_queue_size = 256


@contextlib.contextmanager
def serving(name: str) -> Iterator[tuple[str, int]]:
    """Run the peer `name` for the block, and give its URL and the process's id."""
    command = [sys.executable, "-m", "benchmarks.http_peers", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this very module
        try:
            assert process.stdout is not None  # noqa: S101 - it was started with a pipe
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/", process.pid
        finally:
            process.terminate()


def _serve(name: str) -> None:
    if name == EXPORTER:
        registry = CollectorRegistry()
        Gauge("up", "As the only gauge.", registry=registry).set(1)
        server, _ = start_http_server(0, "127.0.0.1", registry)
        _tell(server.server_port)
        threading.Event().wait()
    with Server(("127.0.0.1", 0), Constant) as constant:
        _tell(constant.server_port)
        constant.serve_forever()


def _tell(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
