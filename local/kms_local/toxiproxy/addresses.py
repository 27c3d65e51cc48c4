"""Addresses as Go's `net` package reads them, its error texts included."""

from __future__ import annotations

import socket
from typing import NamedTuple

from kms_local.toxiproxy.lookups import lookup

_MAX_PORT = 65_535


class AddressError(ValueError):
    """An address that cannot be listened on or dialled, in Go's words."""


class Address(NamedTuple):
    """A host, possibly empty, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_address(text: str) -> Address:
    """Take `host:port` or `[host]:port` apart; an empty text is every host and any port.

    Raises:
        AddressError: it is neither.
    """
    if not text:
        return Address("", 0)
    host, port = _host_and_port(text)
    return Address(host, _port(port))


async def resolve(text: str) -> Address:
    """Return `text` with its host as an IP address, IPv4 where there is a choice; an empty host stays empty.

    Raises:
        AddressError: it has no such form, or its host is unknown.
    """
    address = split_address(text)
    if not address.host or _is_ip(address.host):
        return address
    if address.host == "localhost":
        return Address("127.0.0.1", address.port)
    hosts = await _addresses(address.host)
    return Address(next((host for host in hosts if ":" not in host), hosts[0]), address.port)


async def resolve_all(text: str) -> list[Address]:
    """Return every address that `text` stands for, to be dialled one after the other; no host is this machine.

    Raises:
        AddressError: it has no such form, or its host is unknown.
    """
    address = split_address(text)
    if not address.host or _is_ip(address.host):
        return [Address(address.host or "127.0.0.1", address.port)]
    return [Address(host, address.port) for host in await _addresses(address.host)]


async def _addresses(host: str) -> list[str]:
    try:
        return await lookup(host)
    except OSError as e:
        raise AddressError(str(e)) from e


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        return _bracketed(text)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise AddressError(f"address {text}: missing port in address")
    if ":" in host:
        raise AddressError(f"address {text}: too many colons in address")
    return host, port


def _bracketed(text: str) -> tuple[str, str]:
    host, bracket, rest = text[1:].partition("]")
    if not bracket:
        raise AddressError(f"address {text}: missing ']' in address")
    if not rest.startswith(":"):
        raise AddressError(f"address {text}: missing port in address")
    if ":" in rest[1:]:
        raise AddressError(f"address {text}: too many colons in address")
    return host, rest[1:]


def _port(text: str) -> int:
    if not text:
        return 0
    if text.isdecimal():
        if int(text) > _MAX_PORT:
            raise AddressError(f"address {text}: invalid port")
        return int(text)
    try:
        return socket.getservbyname(text, "tcp")
    except OSError as e:
        raise AddressError(f"lookup tcp/{text}: unknown port") from e


def _is_ip(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
