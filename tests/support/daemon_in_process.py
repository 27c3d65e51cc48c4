"""A daemon of a few lines in this process, named in a state folder: for guards that ask it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Answers:
    """What it says on each path, status and body; a path that it does not know is not found."""

    answers: dict[str, tuple[int, bytes]] = field(default_factory=lambda: {"/livez": (200, b"")})
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Each request's path, and what it showed to be let in."""


@contextmanager
def daemon_in_process(state_dir: Path) -> Iterator[Answers]:
    """Yield what it says, which may be changed, while it lives."""
    said = Answers()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said.asked.append((self.path, self.headers.get("Authorization", "")))
            status, body = said.answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}"
        (state_dir / "http.json").write_text(json.dumps({"url": url}), encoding="utf-8")
        try:
            yield said
        finally:
            server.shutdown()
            serving.join()
