"""Try the TLS route before a drill: a server of our own behind it must be reached, verified, or refused.

The route leans on two semi-private points of botocore and urllib3. Should a new version change them, requests could
pass the proxy by, or verification be lost: then the drill must not start. Takes some 50 ms, all on loopback.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from botocore.awsrequest import AWSRequest
from botocore.exceptions import SSLError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kms_chaos.faults.line import Address
from kms_chaos.faults.route import Endpoint, RoutedSession

_NAME = "kms.route-check.invalid"  # RFC 6761: resolves nowhere, so only a route can reach it
_OTHER_NAME = "kms.other.invalid"
_SECONDS = 2.0
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


class RouteCheckError(RuntimeError):
    """The route does not do what it must; no drill may run with these versions of botocore and urllib3."""


@dataclass(slots=True)
class _Seen:
    """What the server was shown."""

    server_names: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)


def check(now_utc: datetime) -> None:
    """Return if the route reaches a server whose certificate is right, and no other.

    Raises:
        RouteCheckError: it does not, or it reaches one that it must refuse.
    """
    with tempfile.TemporaryDirectory(prefix="kms-chaos-route-") as folder, contextlib.ExitStack() as stack:
        mine = _Authority(Path(folder) / "mine", now_utc)
        stranger = _Authority(Path(folder) / "stranger", now_utc)
        good, seen = stack.enter_context(_server(mine.certify(_NAME)))
        wrong_name, _ = stack.enter_context(_server(mine.certify(_OTHER_NAME)))

        _expect_answer(good, str(mine.ca), seen)
        _expect_refusal(good, str(stranger.ca), "a certificate of an unknown authority")
        _expect_refusal(good, True, "a certificate that the system does not know")  # noqa: FBT003 - botocore's own form
        _expect_refusal(wrong_name, str(mine.ca), "a certificate for another name")


def _ask(target: Address, verify: str | Literal[True]) -> int:
    session = RoutedSession(
        Endpoint(host=_NAME, port=443), target, verify=verify, timeout=(_SECONDS, _SECONDS), max_pool_connections=1
    )
    try:
        request = AWSRequest(method="GET", url=f"https://{_NAME}/")
        return int(session.send(request.prepare()).status_code)
    finally:
        session.close()


def _expect_answer(target: Address, verify: str, seen: _Seen) -> None:
    try:
        status = _ask(target, verify)
    except Exception as e:
        raise RouteCheckError(f"the route did not reach a server of ours: {e}") from e
    shown = (status, seen.server_names, seen.hosts)
    if shown != (200, [_NAME], [_NAME]):
        raise RouteCheckError(f"the route changed what the server is shown: status, SNI, Host: {shown}")


def _expect_refusal(target: Address, verify: str | Literal[True], what: str) -> None:
    try:
        status = _ask(target, verify)
    except SSLError:
        return
    except Exception as e:
        raise RouteCheckError(f"the route failed on {what} in an unforeseen way: {e}") from e
    raise RouteCheckError(f"the route accepted {what} (HTTP {status})")


class _Authority:
    """A certificate authority that lives as long as one check."""

    def __init__(self, folder: Path, now_utc: datetime) -> None:
        folder.mkdir()
        self._folder = folder
        self._now = now_utc
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "route check")])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def certify(self, name: str) -> Path:
        """Return a file with a key and a certificate for `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - timedelta(hours=1))
            .not_valid_after(self._now + timedelta(hours=1))
        )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


@contextmanager
def _server(certificate: Path) -> Iterator[tuple[Address, _Seen]]:
    """Serve one fixed answer over TLS on loopback, and note what each client shows."""
    seen = _Seen()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = lambda _socket, name, _context: seen.server_names.append(name or "")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, tls, seen), name="route-check", daemon=True)
        thread.start()
        try:
            yield listener.getsockname(), seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            thread.join(_SECONDS)


def _serve(listener: socket.socket, tls: ssl.SSLContext, seen: _Seen) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        with plain, contextlib.suppress(OSError):  # refused handshakes are half of what is tried here
            plain.settimeout(_SECONDS)
            with tls.wrap_socket(plain, server_side=True) as connection:
                _answer(connection, seen)


def _answer(connection: ssl.SSLSocket, seen: _Seen) -> None:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 65_536:  # noqa: PLR2004 - more than any header of ours
        if not (chunk := connection.recv(4096)):
            return
        head += chunk
    hosts = [line.partition(b":")[2].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"host:")]
    seen.hosts.extend(host.decode("ascii", "replace") for host in hosts)
    connection.sendall(_ANSWER)
