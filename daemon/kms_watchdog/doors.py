"""The ways from this process to the regions' services: address, trust and proxy as boto3 takes them, one resolver."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.name_lookup import Resolver
from kms_watchdog.new_connection import HTTPS_PORT, Address, Connector, Proxy, without_times


class Doors:
    """Makes connectors. Use it in the main thread; what it makes may be used from any."""

    def __init__(self, settings: Settings, resolver: Resolver | None = None) -> None:
        self._settings = settings
        self._resolver = resolver or Resolver()
        self._ways: dict[tuple[str, str], aws.Way] = {}
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}

    def to_kms(self, region: str, *, check_times: bool = True) -> Connector:
        """Return what opens connections to `region`'s KMS; `check_times` as in `new_connection.without_times`."""
        return self.to("kms", region, check_times=check_times)

    def to(self, service: str, region: str, *, check_times: bool = True) -> Connector:
        """Return what opens connections to `service` in `region`; `check_times` as for `to_kms`."""
        if (service, region) not in self._ways:
            self._ways[service, region] = aws.way_to(self._settings, service, region)
        way = self._ways[service, region]
        parts = urlsplit(way.url)
        return Connector(
            Address(parts.hostname or "", parts.port or HTTPS_PORT),
            self._context(way.ca_file, check_times=check_times),
            self._resolver,
            proxy=Proxy.of(way.proxy_url) if way.proxy_url else None,
        )

    def _context(self, ca_file: str, *, check_times: bool) -> ssl.SSLContext:
        """Return one context for all regions: a hundred authorities and more take a megabyte and 20 ms to read."""
        wanted = (ca_file, check_times)
        if wanted not in self._contexts:
            context = ssl.create_default_context(cafile=ca_file)
            self._contexts[wanted] = context if check_times else without_times(context)
        return self._contexts[wanted]
