"""The guard of where the services beside KMS are that a drill hurts, as its own clients would reach them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from kms_chaos.guards.checking import NotHeldError
from kms_watchdog.config import Settings

_NAMES: Mapping[str, str] = {"cloudwatch": "monitoring", "sts": "sts"}
"""As AWS's own end points are called. Source: AWS General Reference, "Service endpoints and quotas"."""
_HTTPS_PORT = 443


def services_are_allowed(settings: Settings, upstreams: Mapping[tuple[str, str], str]) -> str:
    """See that each service is on the list of `drills.endpoints`, as KMS must be.

    `upstreams` is where the drill's clients go, by service and region: HOST:PORT. Without the list that must be what
    `[endpoints]` says, or else AWS's own name.
    """
    allowed = frozenset(settings.drills.endpoints)
    for (service, region), upstream in upstreams.items():
        right = upstream in allowed if allowed else _is_the_service(upstream, service, region, settings)
        if not right:
            raise NotHeldError(f"{service} of {region} is {upstream}, which is not on the list of drills.endpoints")
    return ", ".join(f"{service} {upstream}" for (service, _), upstream in upstreams.items())


def _is_the_service(upstream: str, service: str, region: str, settings: Settings) -> bool:
    endpoint = settings.endpoints.get(region)
    if endpoint is not None and (configured := getattr(endpoint, service)):
        parts = urlsplit(configured)
        return upstream == f"{parts.hostname}:{parts.port or _HTTPS_PORT}"
    domain = r"(amazonaws\.com(\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn)"
    names = rf"{_NAMES[service]}(-fips)?\.{re.escape(region)}\.{domain}:{_HTTPS_PORT}"
    return re.fullmatch(names, upstream) is not None
