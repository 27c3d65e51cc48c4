"""Guards of where a drill is: whose account, which servers, and whether Toxiproxy has a way to KMS at all."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit

from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import ProxyState
from kms_chaos.guards.checking import CannotTellError, NotHeldError
from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.identity import Identity

PROBE_SECONDS = 5.0
"""For each step of a connection through the probe."""
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/.+")


class Prober(Protocol):
    """What probing needs of a Toxiproxy."""

    def create(self, name: str, *, upstream: str) -> ProxyState:
        """Create a proxy."""

    def proxy(self, name: str) -> ProxyState | None:
        """Return one proxy."""

    def delete(self, name: str) -> None:
        """Delete it."""


def account_is_allowed(settings: Settings, who: Identity) -> str:
    """See that the drill's clients act in an account where drills may run: the estate's own where none is named.

    The drill's cores take another role where `core.role_arn` names one: then that one's account counts too.
    """
    allowed = settings.drills.accounts or (settings.estate.account_id,)
    role = _ROLE.fullmatch(settings.core.role_arn or "")
    if settings.core.role_arn and role is None:
        raise CannotTellError(f"core.role_arn names no account: {settings.core.role_arn}")
    for account in dict.fromkeys((who.account_id, role.group(1) if role else settings.estate.account_id)):
        if account not in allowed:
            raise NotHeldError(f"account {account} ({who.arn}) is not one where drills may run: {', '.join(allowed)}")
    if settings.estate.account_id not in allowed:
        raise NotHeldError(f"the estate's account {settings.estate.account_id} is not one where drills may run")
    return f"{who.arn} in {who.account_id}"


def endpoints_are_allowed(settings: Settings, upstreams: Mapping[str, str]) -> str:
    """See that Toxiproxy and KMS are servers that drills may touch.

    `upstreams` is where the drill's clients really go, by region: HOST:PORT. Without `drills.endpoints` that must be
    what `[endpoints]` says, or else one of AWS's own names for KMS there: no variable of the environment decides it.
    """
    allowed = frozenset(settings.drills.endpoints)
    for region, upstream in upstreams.items():
        right = upstream in allowed if allowed else _is_kms(upstream, region, settings)
        if not right:
            raise NotHeldError(f"KMS of {region} is {upstream}, which is not on the list of drills.endpoints")
    toxiproxy = urlsplit(settings.drills.toxiproxy_url).netloc
    if allowed and toxiproxy not in allowed:
        raise NotHeldError(f"Toxiproxy is {toxiproxy}, which is not on the list of drills.endpoints")
    return f"Toxiproxy {toxiproxy}; KMS {', '.join(upstreams.values())}"


def _is_kms(upstream: str, region: str, settings: Settings) -> bool:
    endpoint = settings.endpoints.get(region)
    if endpoint is not None and endpoint.kms:
        parts = urlsplit(endpoint.kms)
        return upstream == f"{parts.hostname}:{parts.port or 443}"
    # AWS General Reference, "AWS Key Management Service endpoints": plain, FIPS, dual stack, and China's domain.
    names = rf"kms(-fips)?\.{re.escape(region)}\.(amazonaws\.com(\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn):443"
    return re.fullmatch(names, upstream) is not None


def toxiproxy_leads_to_kms(server: Prober, settings: Settings, upstreams: Mapping[str, str]) -> str:
    """See that each region's KMS answers through Toxiproxy: TLS, its certificate checked, nothing asked of KMS.

    Each probe is a proxy of our own without a toxic, deleted at once. One that a crash leaves behind passes bytes on
    and harms nobody; the next drill of the estate deletes it, so its name has no run in it.
    """
    for region, upstream in upstreams.items():
        name = f"kmswd-probe.{settings.estate.name}.{region}"
        try:
            with _proxy(server, name, upstream) as probe:
                _shake_hands(probe.address, settings, region)
        except ToxiproxyError as e:
            raise CannotTellError(f"Toxiproxy cannot be asked for a way to {region}: {e}") from e
        except OSError as e:  # as are the errors of SSL
            raise NotHeldError(f"Toxiproxy has no way to {upstream}: {type(e).__name__}: {e}") from e
    return f"TLS through Toxiproxy to {', '.join(upstreams)}, certificates checked"


@contextmanager
def _proxy(server: Prober, name: str, upstream: str) -> Iterator[ProxyState]:
    _delete(server, name)
    try:
        yield server.create(name, upstream=upstream)
    finally:
        _delete(server, name)


def _delete(server: Prober, name: str) -> None:
    if server.proxy(name) is not None:  # not disabled first: one killed in between would leave a disabled proxy
        server.delete(name)


def _shake_hands(address: tuple[str, int], settings: Settings, region: str) -> None:
    """Speak TLS with the server behind `address` as a client of `region`'s KMS does, and hang up.

    Raises:
        OSError: nobody is there, or not who should be.
    """
    way = aws.way_to_kms(settings, region)
    context = ssl.create_default_context(cafile=way.ca_file)
    with (
        socket.create_connection(address, timeout=PROBE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=urlsplit(way.url).hostname),
    ):
        pass
