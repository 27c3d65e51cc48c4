"""A DynamoDB of moto's that processes share, and that writes down what it did, one request after another."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from lease_kit import TABLE, client_of, make_table
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "made-up",
    "AWS_SECRET_ACCESS_KEY": "made-up",
    "AWS_EC2_METADATA_DISABLED": "true",
}
Kind = Literal["acquire", "renew", "release", "write", "settle", "read", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, in the order in which the table took it."""

    kind: Kind
    took: bool
    """Whether what it asked for was done: its conditions held."""
    token: int = 0
    """The fencing token of who asked; of an acquisition the new one. 0: it has none."""
    row: str = ""
    """The row that a write is about."""


@dataclass
class Audit:
    """What the table was asked, by its own account: whoever judges it need not believe the clients."""

    requests: list[Request] = field(default_factory=list)
    url: str = ""

    @property
    def acquisitions(self) -> int:
        """How often the lease was taken."""
        return sum(one.kind == "acquire" and one.took for one in list(self.requests))

    @property
    def slots(self) -> int:
        """How many slots were claimed; each is written once more at its drill's end."""
        return len({one.row for one in list(self.requests) if one.took and one.row.startswith("slot#")})


Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class _Audited:
    """A WSGI application around moto's: one request at a time, written down as it was answered."""

    def __init__(self, audit: Audit) -> None:
        self._inner, self._audit, self._lock = DomainDispatcherApplication(create_backend_app), audit, threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        asked = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(asked)
        statuses: list[str] = []

        def start(status: str, *rest: Any) -> Any:
            statuses.append(status)
            return start_response(status, *rest)

        with self._lock:
            answer = b"".join(self._inner(environ, start))
            target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
            self._audit.requests.append(of(target, json.loads(asked or b"{}"), answer, took=statuses[0][:3] == "200"))
        return [answer]


def of(target: str, asked: dict[str, Any], answer: bytes, *, took: bool) -> Request:
    """Return what a request is in the lease's protocol, from its body alone."""
    match target:
        case "UpdateItem":
            return _update(asked, answer, took=took)
        case "TransactWriteItems":
            item = asked["TransactItems"][1]["Put"]["Item"]
            return Request(kind="write", took=took, token=int(item["tok"]["N"]), row=item["pk"]["S"])
        case _:
            return Request(kind="read" if target == "GetItem" else "other", took=took)


def _update(asked: dict[str, Any], answer: bytes, *, took: bool) -> Request:
    values = asked.get("ExpressionAttributeValues", {})
    if "if_not_exists(tok" in asked["UpdateExpression"]:
        token = int(json.loads(answer)["Attributes"]["tok"]["N"]) if took else 0
        return Request(kind="acquire", took=took, token=token)
    if ":tok" in values:
        return Request(kind="release" if ":nobody" in values else "renew", took=took, token=int(values[":tok"]["N"]))
    return Request(kind="settle", took=took)


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        """Say nothing: there are thousands of requests."""


@contextmanager
def lease_table() -> Iterator[Audit]:
    """Serve the table on a free port of loopback for the block; the clients' variables are set meanwhile."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    audit = Audit()
    server = make_server("127.0.0.1", 0, _Audited(audit), threaded=True, request_handler=_Quiet)
    serving = threading.Thread(target=server.serve_forever, name="lease-table")
    serving.start()
    audit.url = f"http://127.0.0.1:{server.server_port}"
    before = dict(os.environ)
    os.environ |= {**VARIABLES, "AWS_ENDPOINT_URL_DYNAMODB": audit.url}
    client = client_of()
    try:
        make_table(client)
        yield audit
        client.delete_table(TableName=TABLE)  # moto's tables are the process's, not the server's
    finally:
        client.close()
        server.shutdown()
        serving.join()
        server.server_close()
        os.environ.clear()
        os.environ.update(before)
