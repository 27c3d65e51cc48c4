"""A TLS server that does what it is told, under a certificate made to order; and what finds it under any name."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tls_kms import Rude

from kms_watchdog.name_lookup import Resolver, SocketAddress
from kms_watchdog.new_connection import Address, Connector, without_times

HOST = "kms.us-east-1.amazonaws.com"
ENDS = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def certificate(folder: Path, name: str = HOST, *, ends: dt.datetime = ENDS, starts: dt.datetime = LONG_AGO) -> Path:
    """Write a certificate for `name` that signs itself, with its key, and return the PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test Authority")])
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
        .not_valid_before(starts)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}-{ends.year}-{starts.year}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@contextlib.contextmanager
def rude(behave: Callable[[socket.socket], None] | None) -> Iterator[int]:
    """Run a server that does `behave` with every connection, and yield its port."""
    server = Rude(behave)
    try:
        yield int(server.url.rpartition(":")[2])
    finally:
        server.close()


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def _is_whole(request: bytes) -> bool:
    head, empty_line, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    return bool(empty_line) and len(body) >= (int(length[1]) if length else 0)


def tls_server(pem: Path, answer: bytes = b"", asked: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    """Return a behaviour: shake hands under `pem`, read one whole request, answer, hang up.

    To hang up with a body unread would be to reset the connection, and the answer might be lost with it.
    """
    context = server_context(pem)

    def behave(connection: socket.socket) -> None:
        connection.settimeout(5)
        with context.wrap_socket(connection, server_side=True) as tls:
            head = b""
            while not _is_whole(head) and (more := tls.recv(4096)):
                head += more
            if asked is not None:
                asked.append(head)
            tls.sendall(answer)

    return behave


def connector(
    trusted: Path, *ports: int, host: str = HOST, times: bool = True, resolver: Resolver | None = None
) -> Connector:
    """Return a connector to `host`, which is found at these ports of the loopback, in this order."""

    def lookup(_host: str, _port: int) -> tuple[SocketAddress, ...]:
        return tuple((int(socket.AF_INET), ("127.0.0.1", port)) for port in ports)

    context = ssl.create_default_context(cafile=str(trusted))
    context = context if times else without_times(context)
    return Connector(Address(host, 443), context, resolver or Resolver(lookup))
