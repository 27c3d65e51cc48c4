"""What a boto3 client meets on a real socket comes out under the core's own names, after exactly one request."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ports
import pytest
from botocore import exceptions as botocore_errors
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kms_core import Core, CoreConfig, KeyConfig
from kms_core._kms_boto3 import Boto3Kms, connector, translate
from kms_core.errors import ConfigurationError
from kms_core.kms import KmsFailure
from kms_core.taxonomy import is_unclassified

ARN = "arn:aws:kms:us-east-1:123456789012:key/mrk-" + "0" * 32
Behaviour = Callable[[socket.socket], None]

pytestmark = pytest.mark.usefixtures("made_up_credentials")


class Server:
    """Accepts connections on a free port and does with each what `behave` says."""

    def __init__(self) -> None:
        self.behave: Behaviour = lambda connection: None
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="test-kms")
        self._thread.start()

    def answer(self, status: int, body: bytes, *headers: str, length: int | None = None) -> None:
        """Answer each request with this, on a connection that closes afterwards."""
        lines = [f"HTTP/1.1 {status} Some", f"Content-Length: {len(body) if length is None else length}", *headers]
        reply = "\r\n".join([*lines, "x-amzn-RequestId: req-1", "Connection: close", "", ""]).encode() + body
        self.behave = lambda connection: self._answer(connection, reply)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                self.behave(connection)

    def _answer(self, connection: socket.socket, reply: bytes) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        head, _, body = request.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        connection.sendall(reply)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@contextlib.contextmanager
def client(endpoint: str, **changes: Any) -> Iterator[Boto3Kms]:
    config = CoreConfig(
        account_id="123456789012",
        regions=("us-east-1",),
        home_region="us-east-1",
        keys={"general": KeyConfig(alias="alias/general")},
        endpoints={"us-east-1": endpoint},
        connect_timeout_seconds=0.5,
        read_timeout_seconds=0.3,
    )
    kms = connector(dataclasses.replace(config, **changes), None)("us-east-1")
    try:
        yield kms
    finally:
        kms.close()


def failure(endpoint: str, **changes: Any) -> KmsFailure:
    with client(endpoint, **changes) as kms, pytest.raises(KmsFailure) as failed:
        kms.decrypt(b"blob", ARN, {"a": "b"})
    assert not is_unclassified(failed.value.code, failed.value.status)
    return failed.value


def url(server: Server, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.port}"


def good(**changes: Any) -> bytes:
    return json.dumps({"KeyId": ARN, "Plaintext": "AAEC", "CiphertextBlob": "AwQ="} | changes).encode()


def test_a_request_says_who_asks(server: Server) -> None:
    """One user agent, ours: AWS support finds our requests by it, and botocore's own would cost a part of each call."""
    server.answer(200, good())
    with client(url(server)) as kms:
        kms.decrypt(b"blob", ARN, {"a": "b"})
    head = server.requests[0].partition(b"\r\n\r\n")[0].decode()
    [agent] = [line for line in head.splitlines() if line.lower().startswith("user-agent:")]

    assert agent.partition(": ")[2].startswith("kms-core Botocore/")


def test_an_answer_comes_out_whole(server: Server) -> None:
    """Fields and request id, for each of the three operations; the request carries key and context."""
    server.answer(200, good())
    with client(url(server)) as kms:
        opened = kms.decrypt(b"blob", ARN, {"a": "b"})
        made = kms.generate_data_key(ARN, {"a": "b"})
        server.answer(200, json.dumps({"KeyMetadata": {"Arn": ARN, "KeyId": "mrk-x"}}).encode())
        described = kms.describe_key("alias/general")

    assert (opened.plaintext, opened.key_arn, opened.request_id) == (b"\0\1\2", ARN, "req-1")
    assert (made.plaintext, made.wrapped, made.key_arn) == (b"\0\1\2", b"\3\4", ARN)
    assert described.key_arn == ARN
    head, _, body = server.requests[1].partition(b"\r\n\r\n")
    assert json.loads(body) == {"KeyId": ARN, "NumberOfBytes": 32, "EncryptionContext": {"a": "b"}}
    assert b"kms-core" in head


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="empty object"),
        pytest.param(good(Plaintext=""), id="empty plaintext"),
        pytest.param(json.dumps({"KeyId": ARN}).encode(), id="no plaintext"),
        pytest.param(good()[:-9], id="half an object"),
        pytest.param(b"<html>captive portal</html>", id="no json"),
    ],
)
def test_an_answer_without_its_fields_is_truncated(server: Server, body: bytes) -> None:
    """Botocore reports some of these as a success."""
    server.answer(200, body)
    assert failure(url(server)).code == "Truncated"


def test_an_answer_that_is_cut_short_is_truncated(server: Server) -> None:
    """The connection closes before the promised length."""
    server.answer(200, good()[:20], length=200)
    assert failure(url(server)).code == "Truncated"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "AccessDeniedException"),
        (400, "ThrottlingException"),
        (400, "DisabledException"),
        (400, "KMSInvalidStateException"),
        (400, "NotFoundException"),
        (400, "InvalidCiphertextException"),
        (400, "IncorrectKeyException"),
        (400, "InvalidKeyUsageException"),
        (400, "InvalidGrantTokenException"),
        (400, "ExpiredTokenException"),
        (400, "UnrecognizedClientException"),
        (400, "LimitExceededException"),
        (500, "KMSInternalException"),
        (500, "KeyUnavailableException"),
        (503, "DependencyTimeoutException"),
    ],
)
def test_kms_own_errors_keep_their_code_and_cost_one_request(server: Server, status: int, code: str) -> None:
    """Botocore must not retry: the core alone decides."""
    body = json.dumps({"__type": code, "message": "no"}).encode()
    server.answer(status, body)

    failed = failure(url(server))

    assert (failed.code, failed.status, failed.request_id) == (code, status, "req-1")
    assert len(server.requests) == 1


def test_a_server_error_without_a_code_is_known_by_its_status(server: Server) -> None:
    """A load balancer answers with no JSON at all."""
    server.answer(503, b"")
    assert failure(url(server)).status == 503


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("x-amz-retry-after: 1500", 1.5), ("Retry-After: 2", 2.0), ("Retry-After: soon", None), ("X-Other: 1", None)],
)
def test_a_wait_that_kms_asks_for_is_kept(server: Server, header: str, seconds: float | None) -> None:
    """Milliseconds in AWS's own header, seconds in HTTP's."""
    server.answer(400, b'{"__type": "ThrottlingException"}', header)
    assert failure(url(server)).retry_after_seconds == seconds


def test_a_port_where_nobody_listens_refuses() -> None:
    """No connection could be made."""
    assert failure(f"http://127.0.0.1:{ports.nobody()}").code == "ConnectionRefused"


def test_a_server_that_says_nothing_is_a_read_timeout(server: Server) -> None:
    """Its connection stands, its answer does not come."""
    server.behave = silence
    assert failure(url(server)).code == "ReadTimeout"


def test_a_tls_handshake_that_stalls_is_a_timeout(server: Server) -> None:
    """Botocore ends it after the connect timeout, and calls it a read timeout."""
    server.behave = silence
    assert failure(url(server, "https")).code in {"ReadTimeout", "ConnectTimeout"}


def silence(connection: socket.socket) -> None:
    while connection.recv(1 << 20):
        pass


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "behave", [pytest.param(reset, id="reset"), pytest.param(lambda connection: connection.recv(1 << 20), id="closed")]
)
def test_a_connection_that_is_cut_is_a_reset(server: Server, behave: Behaviour, scheme: str) -> None:
    """In the handshake too, though botocore then speaks of SSL validation."""
    server.behave = behave
    assert failure(url(server, scheme)).code == "ConnectionReset"


def test_a_name_that_does_not_resolve_is_a_class_of_its_own() -> None:
    """An outage of DNS looks different from one of the region."""
    assert failure("https://kms.us-east-1.invalid").code == "DnsFailure"


def test_a_certificate_that_nobody_vouches_for_is_a_tls_error(server: Server, tmp_path: Path) -> None:
    """It may be an attack or an intercepting proxy."""
    certificate, key = self_signed(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    def handshake(connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), tls.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    server.behave = handshake
    assert failure(url(server, "https")).code == "TlsError"


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """Nothing is sent, and no region is blamed."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert failure(url(server)).code == "NoCredentialsError"
    assert not server.requests


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(botocore_errors.ConnectTimeoutError(endpoint_url="x"), "ConnectTimeout", id="connect timeout"),
        pytest.param(botocore_errors.ProxyConnectionError(proxy_url="x"), "ConnectionRefused", id="proxy"),
        pytest.param(botocore_errors.ParamValidationError(report="x"), "ParamValidationError", id="parameters"),
        pytest.param(
            botocore_errors.CredentialRetrievalError(provider="x", error_msg="y"), "CredentialRetrievalError", id="sts"
        ),
        pytest.param(
            botocore_errors.ClientError({"Error": {"Code": "AccessDenied"}}, "AssumeRole"),
            "CredentialRetrievalError",
            id="sts answered",
        ),
        pytest.param(botocore_errors.SSLError(endpoint_url="x", error="y"), "TlsError", id="ssl without a cause"),
        pytest.param(botocore_errors.HTTPClientError(error=OSError("y")), "ConnectionReset", id="no better name"),
        pytest.param(botocore_errors.HTTPClientError(error=TimeoutError()), "ReadTimeout", id="python's timeout"),
        pytest.param(botocore_errors.ResponseStreamingError(error="y"), "Truncated", id="stream broke"),
        pytest.param(ZeroDivisionError(), "Unclassified", id="nobody foresaw it"),
    ],
)
def test_what_no_socket_shows_here_is_translated_too(error: Exception, code: str) -> None:
    """By class, or by what Python raised beneath it."""
    assert translate(error).code == code


def test_a_missing_file_of_certificates_is_a_wrong_configuration(config: CoreConfig, tmp_path: Path) -> None:
    """At the start, and not as a TLS error of every call."""
    with pytest.raises(ConfigurationError, match="ca_bundle"):
        Core(dataclasses.replace(config, ca_bundle=str(tmp_path / "none.pem")))


def test_each_region_has_one_client_which_is_shown_before_it_is_used(server: Server, config: CoreConfig) -> None:
    """The seam for routes and faults."""
    server.answer(200, json.dumps({"KeyMetadata": {"Arn": ARN}}).encode())
    seen: list[tuple[str, str, int]] = []

    def on_client(region: str, made: Any) -> None:
        seen.append((region, made.meta.region_name, len(server.requests)))

    keys = {"general": KeyConfig(alias="alias/general", key_id="mrk-" + "0" * 32)}
    endpoints = dict.fromkeys(config.regions, url(server))
    with Core(dataclasses.replace(config, keys=keys, endpoints=endpoints), on_client=on_client):
        pass

    assert seen == [(region, region, 0) for region in config.regions]


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36_500))
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "cert.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
