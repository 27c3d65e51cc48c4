"""Send one botocore client's bytes through a proxy on loopback, while everything above TCP stays real.

URL, SNI, certificate check, Host header and SigV4 remain those of the client's own endpoint: only the socket is dialled
elsewhere. The public event `before-send` hands over the request; a session of ours, for this one endpoint, sends it.
TLS verification cannot be turned off. Two points are semi-private, `URLLib3Session._manager` and urllib3's `_new_conn`
(urllib3's own SOCKS support uses the latter): `route_check` tries them before each drill.

Route a client before it has asked anything: a pooled connection that does not run through the proxy feels no fault.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from botocore.awsrequest import AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.httpsession import URLLib3Session
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

Address = tuple[str, int]
_HTTPS_PORT = 443


class RouteError(ValueError):
    """The client may not be routed like this: not loopback, not HTTPS, not its own endpoint, or no verification."""


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


def _routed_pool(target: Address) -> type[Any]:
    class RoutedConnection(AWSHTTPSConnection):  # type: ignore[misc] # botocore has no types
        def _new_conn(self) -> socket.socket:
            try:
                return create_connection(
                    target, self.timeout, source_address=self.source_address, socket_options=self.socket_options
                )
            except TimeoutError as e:
                raise ConnectTimeoutError(self, f"{self.host} through {target[0]}:{target[1]}: timed out") from e
            except OSError as e:
                raise NewConnectionError(self, f"{self.host} through {target[0]}:{target[1]}: {e}") from e

    class RoutedPool(AWSHTTPSConnectionPool):  # type: ignore[misc] # as above
        ConnectionCls = RoutedConnection

    return RoutedPool


class RoutedSession(URLLib3Session):  # type: ignore[misc] # botocore has no types
    """botocore's HTTP session for exactly one endpoint, dialling `target`; anything else is refused."""

    def __init__(self, endpoint: Endpoint, target: Address, *, verify: str | bool = True, **options: Any) -> None:
        if not _is_loopback(target[0]):
            raise RouteError(f"a drill's route must stay on loopback, not go to {target[0]}")
        if not verify:
            raise RouteError("TLS verification must stay on")
        super().__init__(verify=verify, **options)
        self._endpoint = endpoint
        self._manager.pool_classes_by_scheme = {"https": _routed_pool(target)}

    def send(self, request: Any) -> Any:
        """Send `request`, whose URL must be the endpoint's.

        Raises:
            RouteError: it is for somebody else.
        """
        if Endpoint.of(request.url) != self._endpoint:
            raise RouteError(f"this route is for https://{self._endpoint} only, not for {request.url}")
        return super().send(request)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def route(client: Any, target: Address, *, verify: str | bool = True) -> Callable[[], None]:
    """Route `client` through `target`, and return what undoes it.

    Timeouts and pool size are the client's own; `verify` is a CA bundle's path or True for the system's, and must be
    what the client has.

    Raises:
        RouteError: the target is not on loopback, the endpoint not https, or verification is off.
    """
    _refuse_unverified(client)
    config = client.meta.config
    session = RoutedSession(
        endpoint_of(client),
        target,
        verify=verify,
        timeout=(config.connect_timeout, config.read_timeout),
        max_pool_connections=config.max_pool_connections,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    event = f"before-send.{client.meta.service_model.service_id.hyphenize()}"
    unique_id = f"kms-chaos-route-{id(session)}"

    def send(request: Any, **_: Any) -> Any:
        return session.send(request)

    client.meta.events.register_first(event, send, unique_id=unique_id)

    def undo() -> None:
        client.meta.events.unregister(event, send, unique_id=unique_id)
        session.close()

    return undo


def _refuse_unverified(client: Any) -> None:
    """Refuse a client that was made with verification off: its drill would prove a thing that production is not."""
    own = getattr(cast("Any", client)._endpoint.http_session, "_verify", True)  # noqa: SLF001 - nothing public tells
    if own is False:
        raise RouteError("TLS verification must stay on; this client has it off")
