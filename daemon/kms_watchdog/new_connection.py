"""A new TLS connection to one server: each step timed apart, the whole never longer than it may take.

The kept connections of an SDK hide a name that no longer resolves, a path that no longer leads there and a certificate
that ends. Trust is never less than an SDK's: chain, name and, but for `without_times`, validity are always checked.
"""

from __future__ import annotations

import base64
import errno
import http.client
import io
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from kms_core import taxonomy
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.name_lookup import Resolver, SocketAddress

DNS, TCP, TLS, ANSWER = "dns", "tcp", "tls", "answer"
"""The steps, in order; an answer is read only by who asks for one."""
HANDSHAKE_TIMEOUT = "HandshakeTimeout"
HTTPS_PORT, PROXY_PORT = 443, 8080
_MAX_HEAD_BYTES = 65_536
_LEAST_SECONDS = 0.001  # 0 would mean "do not wait" to a socket
# OpenSSL's x509_vfy.h
_NO_CHECK_TIME = 0x200000
_NOT_YET_VALID, _HAS_EXPIRED = 9, 10
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN})
"""What is wrong with this machine alone: no descriptor, memory or port left."""


class ConnectionFault(Exception):  # noqa: N818  what is wrong there or here; the canaries' word for an answer, not a bug
    """The connection did not come about, or broke."""

    def __init__(
        self,
        step: str,
        code: str,
        detail: str = "",
        *,
        ours: bool = False,
        timed_out: bool = False,
        verify_code: int = 0,
    ) -> None:
        super().__init__(f"{step}: {detail or code}")
        self.step = step
        """One of the steps above."""
        self.code = code
        """Its name, where possible one of `kms_core.taxonomy`."""
        self.detail = detail
        self.ours = ours
        """Whether this machine could not even try."""
        self.timed_out = timed_out
        self.expired = verify_code == _HAS_EXPIRED
        """Whether the certificate, or one above it, has expired by this machine's clock."""
        self.outside_validity = verify_code in {_HAS_EXPIRED, _NOT_YET_VALID}
        """Whether nothing is wrong with a certificate but the time, by this machine's clock."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that the way out leads through."""

    address: Address
    authorization: str = field(default="", repr=False)
    over_tls: bool = False
    """Whether it wants to be spoken to over TLS: TLS within TLS, which is not spoken here."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the proxy that a URL such as `http://user:password@proxy:3128` names."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        given = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        basic = f"Basic {base64.b64encode(given.encode()).decode()}" if parts.username else ""
        return cls(Address(parts.hostname or "", parts.port or PROXY_PORT), basic, over_tls=parts.scheme == "https")


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection that stands."""

    tls: ssl.SSLSocket
    address: str
    """Where it leads: the IP address that was connected to, the proxy's where there is one."""

    @property
    def certificate_issuer(self) -> str:
        """Who signed the server's certificate, by common name."""
        names = {name: value for rdn in self._certificate["issuer"] for name, value in rdn}
        return str(names.get("commonName") or names.get("organizationName") or "unnamed")[:120]

    @property
    def certificate_ends_at(self) -> float:
        """The end of the certificate's validity, in POSIX seconds."""
        return float(ssl.cert_time_to_seconds(self._certificate["notAfter"]))

    @property
    def _certificate(self) -> dict[str, Any]:
        return self.tls.getpeercert() or {}  # it is verified, so there is one


class Budget:
    """The time of one look, all its steps together."""

    def __init__(self, steps: Steps, deadline_seconds: float) -> None:
        self.steps, self.deadline_seconds = steps, deadline_seconds

    def left(self) -> float:
        """Return the seconds that are left, a millisecond at least.

        Raises:
            TimeoutError: none are.
        """
        seconds = self.deadline_seconds - self.steps.elapsed_seconds()
        if seconds <= 0:
            raise TimeoutError
        return max(seconds, _LEAST_SECONDS)


class Connector:
    """Opens new connections to one server; any thread may, at any time."""

    def __init__(
        self, server: Address, context: ssl.SSLContext, resolver: Resolver, *, proxy: Proxy | None = None
    ) -> None:
        self.server, self._context, self._resolver, self._proxy = server, context, resolver, proxy

    @contextmanager
    def open(self, budget: Budget) -> Iterator[Opened]:
        """Open a connection and close it at the end; its steps are `dns`, `tcp` and `tls`.

        Raises:
            ConnectionFault: it did not come about in time.
        """
        _check_descriptors()
        with budget.steps.step(DNS):
            addresses = self._look_up(budget)
        with budget.steps.step(TCP):
            raw, address = _connect(addresses, budget)
        with raw:
            if self._proxy is not None:
                with budget.steps.step(TCP):
                    _pass_proxy(raw, self.server, self._proxy, budget)
            tls = self._context.wrap_socket(raw, server_hostname=self.server.host, do_handshake_on_connect=False)
            with tls:
                with budget.steps.step(TLS):
                    _shake_hands(tls, budget)
                yield Opened(tls, address)

    def _look_up(self, budget: Budget) -> Sequence[SocketAddress]:
        asked = self._proxy.address if self._proxy else self.server
        try:
            return self._resolver.addresses(asked.host, asked.port, budget.left())
        except TimeoutError as e:
            raise ConnectionFault(DNS, taxonomy.DNS_FAILURE, f"{asked.host}: no answer", timed_out=True) from e
        except RuntimeError as e:
            raise ConnectionFault(DNS, "NoThread", str(e), ours=True) from e
        except UnicodeError as e:
            raise ConnectionFault(DNS, taxonomy.DNS_FAILURE, f"{asked.host}: no name") from e
        except socket.gaierror as e:
            ours = e.errno == socket.EAI_MEMORY
            raise ConnectionFault(DNS, taxonomy.DNS_FAILURE, f"{asked.host}: {e.strerror}", ours=ours) from e
        except OSError as e:
            raise _fault(DNS, e) from e


def without_times(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make `context` leave the validity of certificates alone, chain and name being checked as before; return it.

    For one question only: whether this machine's clock is so wrong that good certificates look bad.
    """
    context.verify_flags |= _NO_CHECK_TIME
    return context


def ask_head(opened: Opened, server: Address, budget: Budget) -> http.client.HTTPMessage:
    """Send `GET /`, unsigned, and return the headers of the answer, whatever its status.

    Raises:
        ConnectionFault: no answer in time, or none that is HTTP.
    """
    host = str(server).removesuffix(f":{HTTPS_PORT}")
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kms-watchdog\r\nConnection: close\r\n\r\n"
    return _headers(_exchange(opened.tls, request.encode("ascii"), budget, step=ANSWER), ANSWER)


def _check_descriptors() -> None:
    """Take a descriptor and give it back: a resolver that gets none calls it a failure of the name service."""
    try:
        socket.socket().close()
    except OSError as e:
        raise ConnectionFault(DNS, errno.errorcode.get(e.errno or 0, "OSError"), e.strerror or "", ours=True) from e


def _connect(addresses: Sequence[SocketAddress], budget: Budget) -> tuple[socket.socket, str]:
    """Connect to the first address that takes us; each gets an even share of the time that is left."""
    faults: list[ConnectionFault] = []
    for tried, (family, address) in enumerate(addresses):
        try:
            raw = _connected(family, address, budget.left() / (len(addresses) - tried))
        except OSError as e:
            faults.append(_fault(TCP, e, str(address[0])))
        else:
            return raw, str(address[0])
    raise _worst(faults)


def _connected(family: int, address: tuple[Any, ...], timeout_seconds: float) -> socket.socket:
    raw = socket.socket(family, socket.SOCK_STREAM)
    try:
        raw.settimeout(max(timeout_seconds, _LEAST_SECONDS))
        raw.connect(address)
    except OSError:
        raw.close()
        raise
    return raw


def _worst(faults: Sequence[ConnectionFault]) -> ConnectionFault:
    """Return what all attempts together mean: out of time only if every one was."""
    if not faults:
        return ConnectionFault(TCP, taxonomy.CONNECTION_REFUSED, "the name has no address")
    telling = next((fault for fault in faults if not fault.timed_out), faults[0])
    return ConnectionFault(
        TCP, telling.code, ", ".join(fault.detail for fault in faults), ours=telling.ours, timed_out=telling.timed_out
    )


def _pass_proxy(raw: socket.socket, server: Address, proxy: Proxy, budget: Budget) -> None:
    if proxy.over_tls:
        raise ConnectionFault(
            TCP, "ProxyOverTls", f"{proxy.address}: a proxy of https:// is not looked through", ours=True
        )
    authorization = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    request = f"CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n{authorization}\r\n"
    status = _exchange(raw, request.encode("ascii"), budget, step=TCP).split(b" ", 2)[1:2]
    if status != [b"200"]:
        said = b"".join(status).decode("latin-1")[:3]
        raise ConnectionFault(TCP, f"Proxy{said}", f"{proxy.address}: the proxy refuses: {said}")


def _shake_hands(tls: ssl.SSLSocket, budget: Budget) -> None:
    try:
        tls.settimeout(budget.left())  # of the whole handshake: `ssl` counts it down over all that it receives
        tls.do_handshake()
    except TimeoutError as e:
        raise ConnectionFault(TLS, HANDSHAKE_TIMEOUT, timed_out=True) from e
    except ssl.SSLCertVerificationError as e:
        raise ConnectionFault(TLS, taxonomy.TLS_ERROR, e.verify_message, verify_code=e.verify_code) from e
    except (ssl.SSLEOFError, ConnectionError) as e:  # they hung up: an outage, though it is also SSL's word
        raise ConnectionFault(TLS, taxonomy.CONNECTION_RESET) from e
    except ssl.SSLError as e:
        raise ConnectionFault(TLS, taxonomy.TLS_ERROR, e.reason or "") from e
    except OSError as e:
        raise _fault(TLS, e) from e


def _exchange(connection: socket.socket, request: bytes, budget: Budget, *, step: str) -> bytes:
    """Send `request` and return the answer up to its empty line; time counts for all of it, however it trickles."""
    head = b""
    try:
        connection.settimeout(budget.left())
        connection.sendall(request)
        while b"\r\n\r\n" not in head:
            connection.settimeout(budget.left())
            received = connection.recv(4096)
            head += received
            if not received or len(head) > _MAX_HEAD_BYTES:
                raise ConnectionFault(step, taxonomy.TRUNCATED)
    except OSError as e:
        raise _fault(step, e) from e
    return head


def _headers(head: bytes, step: str) -> http.client.HTTPMessage:
    status_line, _, rest = head.partition(b"\r\n")
    if not status_line.startswith(b"HTTP/1."):
        raise ConnectionFault(step, taxonomy.TRUNCATED, "no HTTP")
    try:
        return http.client.parse_headers(io.BytesIO(rest))
    except http.client.HTTPException as e:
        raise ConnectionFault(step, taxonomy.TRUNCATED, "no HTTP") from e


def _fault(step: str, error: OSError, where: str = "") -> ConnectionFault:
    """Return what an error of the operating system means."""
    timeout = {DNS: taxonomy.DNS_FAILURE, TCP: taxonomy.CONNECT_TIMEOUT, TLS: HANDSHAKE_TIMEOUT}
    timed_out = isinstance(error, TimeoutError)
    if timed_out:
        code = timeout.get(step, taxonomy.READ_TIMEOUT)
    elif isinstance(error, ConnectionRefusedError):
        code = taxonomy.CONNECTION_REFUSED
    elif isinstance(error, ConnectionError | ssl.SSLEOFError):
        code = taxonomy.CONNECTION_RESET
    else:
        code = errno.errorcode.get(error.errno or 0, type(error).__name__)
    detail = " ".join(part for part in (where, code) if part)
    return ConnectionFault(step, code, detail, ours=error.errno in _OURS, timed_out=timed_out)
