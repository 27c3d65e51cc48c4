"""Send one botocore client's bytes through a proxy on loopback, while everything above TCP stays real.

URL, SNI, certificate check, Host header and SigV4 remain those of the client's own endpoint: only the socket is dialled
elsewhere. The public event `before-send` hands over the request; a session of ours, for this one endpoint, sends it.
TLS verification cannot be turned off. Two points are semi-private, `URLLib3Session._manager` and urllib3's `_new_conn`
(urllib3's own SOCKS support uses the latter): `route_check` tries them before each drill.

Route a client before it has asked anything: a pooled connection that does not run through the proxy feels no fault.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from botocore.awsrequest import AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.httpsession import URLLib3Session, create_urllib3_context, get_cert_path
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from kms_chaos.faults import api, asked
from kms_chaos.faults.line import Address, Far, Line, RouteError

__all__ = ["Endpoint", "RouteError", "RoutedSession", "endpoint_of", "route"]

_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a client's requests go by their URL."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """Return the endpoint that `url` names.

        Raises:
            RouteError: it is not an https URL.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise RouteError(f"only https can be routed, not {url}")
        return cls(host=parts.hostname, port=parts.port or _HTTPS_PORT)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def endpoint_of(client: Any) -> Endpoint:
    """Return the endpoint of a botocore client, from the client itself: FIPS and dual-stack have other names."""
    return Endpoint.of(client.meta.endpoint_url)


def _routed_pool(line: Line) -> type[Any]:
    class RoutedConnection(AWSHTTPSConnection):  # type: ignore[misc] # botocore has no types
        def _new_conn(self) -> socket.socket:
            try:
                return create_connection(
                    line.dialled(self.host),
                    self.timeout,
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except socket.gaierror as e:
                raise NameResolutionError(self.host, self, e) from e
            except TimeoutError as e:
                raise ConnectTimeoutError(self, f"{self.host} on a drill's line: timed out") from e
            except OSError as e:
                raise NewConnectionError(self, f"{self.host} on a drill's line: {e}") from e

        def connect(self) -> None:
            super().connect()
            line.opened(self)

        def close(self) -> None:
            with line.closing(self):
                super().close()

        @property
        def is_connected(self) -> bool:  # asked before a pooled connection is used again
            return bool(super().is_connected) and not line.serves_once

    class RoutedPool(AWSHTTPSConnectionPool):  # type: ignore[misc] # as above
        ConnectionCls = RoutedConnection

    return RoutedPool


class RoutedSession(URLLib3Session):  # type: ignore[misc] # botocore has no types
    """botocore's HTTP session for exactly one endpoint, dialling as the line says; anything else is refused."""

    def __init__(
        self, endpoint: Endpoint, target: Address | Line, *, verify: str | bool = True, **options: Any
    ) -> None:
        if not verify:
            raise RouteError("TLS verification must stay on")
        self._line = target if isinstance(target, Line) else Line(target)
        super().__init__(verify=verify, **options)
        self._endpoint = endpoint
        self._manager.pool_classes_by_scheme = {"https": _routed_pool(self._line)}

    def send(self, request: Any) -> Any:
        """Send `request`, whose URL must be the endpoint's.

        Raises:
            RouteError: it is for somebody else.
        """
        if Endpoint.of(request.url) != self._endpoint:
            raise RouteError(f"this route is for https://{self._endpoint} only, not for {request.url}")
        return super().send(request)


def route(client: Any, target: Address | Line, *, verify: str | bool = True) -> Callable[[], None]:
    """Route `client` along a line, or straight to an address, and return what undoes it.

    Timeouts and pool size are the client's own; `verify` is a CA bundle's path or True for the system's, and must be
    what the client has.

    Raises:
        RouteError: the target is not on loopback, the endpoint not https, or verification is off.
    """
    _refuse_unverified(client)
    config = client.meta.config
    line = target if isinstance(target, Line) else Line(target)
    endpoint = endpoint_of(client)
    session = RoutedSession(
        endpoint,
        line,
        verify=verify,
        timeout=(config.connect_timeout, config.read_timeout),
        max_pool_connections=config.max_pool_connections,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    line.leads_to(Far(endpoint.host, functools.partial(_tls, str(get_cert_path(verify)))))

    def send(request: Any, **_: Any) -> Any:
        what = asked.read(request, line.names, read_timeout_seconds=config.read_timeout)

        def really() -> Any:
            response = session.send(request)
            line.names.learn(what, response)
            return response

        return line.exchange(what, really)

    def sign(context: dict[str, Any], signature_version: Any, **_: Any) -> str | None:
        return api.signature_version(context, signature_version, line.off_seconds)

    service = client.meta.service_model.service_id.hyphenize()
    handlers = {f"before-send.{service}": send, f"choose-signer.{service}": sign}
    for event, handler in handlers.items():  # an id stands for one handler of one event
        client.meta.events.register_first(event, handler, unique_id=f"kms-chaos-{event}-{id(session)}")

    def undo() -> None:
        for event, handler in handlers.items():
            client.meta.events.unregister(event, handler, unique_id=f"kms-chaos-{event}-{id(session)}")
        session.close()

    return undo


def _tls(ca_file: str) -> ssl.SSLContext:
    """Return a context that greets as the routed connections do, so that it is answered alike."""
    context: ssl.SSLContext = create_urllib3_context()
    context.load_verify_locations(ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.set_alpn_protocols(["http/1.1"])
    return context


def _refuse_unverified(client: Any) -> None:
    """Refuse a client that was made with verification off: its drill would prove a thing that production is not."""
    own = getattr(cast("Any", client)._endpoint.http_session, "_verify", True)  # noqa: SLF001 - nothing public tells
    if own is False:
        raise RouteError("TLS verification must stay on; this client has it off")
