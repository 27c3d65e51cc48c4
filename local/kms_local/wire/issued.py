"""Certificates made in a process of their own: what makes them takes 5 MiB, and is needed once."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What one run needs of its certificate authority, in PEM."""

    ca: str
    """The certificate that clients must trust."""
    authority: str = field(repr=False)
    """The authority itself, key and all: what the next run may go on with."""
    servers: dict[str, str] = field(repr=False)
    """Key and certificate of each listener, by its name."""


def issue(listeners: Mapping[str, tuple[str, ...]], *, now: float, authority: str | None = None) -> Issued:
    """Make certificates for `listeners`, in a child process that is gone afterwards.

    Args:
        listeners: by the name of each, the host names and addresses its certificate shall be good for.
        now: POSIX seconds.
        authority: `Issued.authority` of an earlier run; a new one is made if there is none, or if it ends within a day.

    Raises:
        ValueError: `authority` is none.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(writing, listeners, now, authority)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        made = json.loads(answer.read() or b'{"error": "the process that makes certificates ended"}')
    os.waitpid(child, 0)
    if "error" in made:
        raise ValueError(made["error"])
    return Issued(**made)


def tls_context(server: str) -> ssl.SSLContext:
    """Return the context of a listener, from its key and certificate in PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _readable(server.encode()) as path:
        context.load_cert_chain(path)
    return context


def _answer(writing: int, listeners: Mapping[str, tuple[str, ...]], now: float, authority: str | None) -> None:
    """Be the child: write what was made, or what was wrong, and end without any of the parent's own endings."""
    try:
        from kms_local.wire import certificates  # noqa: PLC0415  here and nowhere else: see the module

        try:
            maker = authority and certificates.read_authority(authority.encode(), now=now)
            maker = maker or certificates.make_authority(now=now)
            servers = {name: certificates.server_pem(maker, good_for).decode() for name, good_for in listeners.items()}
            made = asdict(Issued(ca=maker.pem.decode(), authority=maker.secret_pem.decode(), servers=servers))
        except ValueError as e:
            made = {"error": str(e) or "the authority cannot be read"}
        with os.fdopen(writing, "wb") as answer:
            answer.write(json.dumps(made).encode())
    finally:
        os._exit(0)


@contextmanager
def _readable(secret_pem: bytes) -> Iterator[str]:
    """Have a path for a key, since `ssl` reads keys from files: in memory where that can be, else of mode 0600."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("server-key"), "wb", buffering=0) as file:
            file.write(secret_pem)
            yield f"/proc/self/fd/{file.fileno()}"
        return
    import tempfile  # noqa: PLC0415  not where it is not needed: it loads every kind of compression

    with tempfile.NamedTemporaryFile(suffix=".pem") as named:
        named.write(secret_pem)
        named.flush()
        yield named.name
