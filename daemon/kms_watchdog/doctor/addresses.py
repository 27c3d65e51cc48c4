"""Where a name leads: privately, publicly, to this machine; and whether it is AWS's own. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from enum import StrEnum

_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""RFC 1918, RFC 6598 (which VPCs may use too) and RFC 4193."""
_OWN = re.compile(
    r"(?P<service>[a-z0-9-]+?)(-fips)?\.(?P<region>[a-z]{2}(-[a-z]+)+-\d)\.(amazonaws\.com(\.cn)?|api\.aws)"
)
_OF_ENDPOINT = re.compile(r"vpce-[\w-]+\.(?P<service>[a-z0-9-]+)\.(?P<region>[a-z]{2}(-[a-z]+)+-\d)\.vpce\..+")


class Place(StrEnum):
    """Where addresses lie."""

    PRIVATE = "private"
    PUBLIC = "public"
    MIXED = "partly private"
    HERE = "this machine"
    NOWHERE = "nowhere"


def place(addresses: Iterable[str]) -> Place:
    """Return where all of `addresses` lie; loopback counts as this machine only if they all are."""
    found = {_place(address) for address in addresses}
    if not found:
        return Place.NOWHERE
    return found.pop() if len(found) == 1 else Place.MIXED


def _place(text: str) -> Place:
    address = ipaddress.ip_address(text.partition("%")[0])  # fe80::1%eth0 has a zone
    if address.is_loopback:
        return Place.HERE
    private = address.is_link_local or any(address in network for network in _PRIVATE)
    return Place.PRIVATE if private else Place.PUBLIC


def is_own_name(host: str) -> bool:
    """Say whether `host` is a name that AWS itself gives to a service of a region."""
    return _OWN.fullmatch(host) is not None


def region_in(host: str) -> str | None:
    """Return the region that AWS's name `host`, of a service or of a VPC endpoint, is of; None: it does not say."""
    found = _OWN.fullmatch(host) or _OF_ENDPOINT.fullmatch(host)
    return found["region"] if found else None
