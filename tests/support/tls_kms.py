"""A region's KMS over TLS on a real socket, with answers on demand: what botocore makes of them is its own affair."""

from __future__ import annotations

import base64
import collections
import contextlib
import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kms_core.kms import KmsFailure
from kms_core.testing import FakeKms


@dataclass(frozen=True)
class Answer:
    """One reply, in place of the true one."""

    status: int
    code: str = ""
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """Whether the connection ends before the length that was promised."""


class TlsKms:
    """Serves one `FakeKms` in AWS's JSON protocol. Close it."""

    def __init__(self, kms: FakeKms, certificate: Path) -> None:
        self._kms = kms
        self.script: collections.deque[Answer] = collections.deque()
        self.always: Answer | None = None
        self.asked: list[str] = []
        self.key_ids_seen: list[str] = []
        """Access key ids of the requests, in order."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients hang up as part of the tests
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="tls-kms")
        self._thread.start()
        self.url = f"https://127.0.0.1:{server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_POST(self) -> None:
                outer._post(self)

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        operation = handler.headers["X-Amz-Target"].rpartition(".")[2]
        self.asked.append(operation)
        self.key_ids_seen.append(handler.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        scripted = self.script.popleft() if self.script else self.always
        _reply(handler, scripted or Answer(200, body=self._true(operation, request)))

    def _true(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        context = request.get("EncryptionContext", {})
        if operation == "GenerateDataKey":
            made = self._kms.generate_data_key(request["KeyId"], context)
            blob, plaintext = base64.b64encode(made.wrapped), base64.b64encode(made.plaintext)
            return {"KeyId": made.key_arn, "CiphertextBlob": blob.decode(), "Plaintext": plaintext.decode()}
        try:
            opened = self._kms.decrypt(base64.b64decode(request["CiphertextBlob"]), request["KeyId"], context)
        except KmsFailure as e:
            return {"__type": e.code}
        return {"KeyId": opened.key_arn, "Plaintext": base64.b64encode(opened.plaintext).decode()}


def _reply(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    document = {"__type": answer.code, "message": "no"} if answer.body is None else answer.body
    body = json.dumps(document).encode()
    handler.send_response(answer.status)
    for name, value in ({"x-amzn-RequestId": "req-1"} | answer.headers).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) + (100 if answer.cut else 0)))
    handler.end_headers()
    handler.wfile.write(body)


class Rude:
    """Takes connections and does with each what it is told; None: keeps it open, and silent."""

    def __init__(self, behave: Callable[[socket.socket], None] | None) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._held: list[socket.socket] = []
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="rude-kms")
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for connection in self._held:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._behave is None:
                self._held.append(connection)
                continue
            with connection, contextlib.suppress(OSError):
                self._behave(connection)


@contextlib.contextmanager
def deaf_port() -> Iterator[str]:
    """Yield an endpoint whose SYNs are dropped: its backlog is full, and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003 - the standard library takes it by position
            filler.connect_ex(listener.getsockname())
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def certificate(folder: Path, name: str) -> Path:
    """Write a certificate for `name`, an address or a host, with its key, into one PEM file, and return its path."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path
