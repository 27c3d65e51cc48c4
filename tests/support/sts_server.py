"""A regional STS over a real socket that answers what the test wants."""

from __future__ import annotations

import http.server
import threading
from typing import Any
from urllib.parse import parse_qs

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


class Sts:
    """Says `account` to who asks whose credentials he has, and gives `keys`, token and all, to who assumes a role.

    Close it.
    """

    def __init__(self) -> None:
        self.account = "123456789012"
        self.status = 200
        self.code = ""
        """Error code of every answer when set."""
        self.keys: tuple[str, ...] = ("", "", "")
        self.asked: list[str] = []
        self.forms: list[dict[str, list[str]]] = []
        """What each request said."""
        self.page: bytes | None = None
        """What every answer holds in place of AWS's XML when set: a proxy's page, or nothing."""
        self.hold: threading.Event | None = None
        """Answers wait for it."""
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        return Handler

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        form = parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
        (action,) = form["Action"]
        self.asked.append(action)
        self.forms.append(form)
        if self.hold is not None:
            self.hold.wait(30)
        body = self._error() if self.code else self._result(action)
        body = body if self.page is None else self.page
        handler.send_response(self.status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _error(self) -> bytes:
        return f"<ErrorResponse xmlns='{NAMESPACE}'><Error><Code>{self.code}</Code></Error></ErrorResponse>".encode()

    def _result(self, action: str) -> bytes:
        inner = f"<Account>{self.account}</Account>"
        if action != "GetCallerIdentity":
            inner = (
                f"<Credentials><AccessKeyId>{self.keys[0]}</AccessKeyId>"
                f"<SecretAccessKey>{self.keys[1]}</SecretAccessKey>"
                f"<SessionToken>{self.keys[2]}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
            )
        xml = f"<{action}Response xmlns='{NAMESPACE}'><{action}Result>{inner}"
        return f"{xml}</{action}Result></{action}Response>".encode()
