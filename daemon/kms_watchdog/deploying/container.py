"""What holds for the container on every platform; daemon/Dockerfile says the same, and a test compares the two."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from kms_watchdog.config import Settings
from kms_watchdog.configuring.refusal import ConfigError
from kms_watchdog.healthcheck import DEFAULT_URL

USER = 65532
STATE_FOLDER = "/var/lib/kms-watchdog"
SCRATCH_FOLDER = "/tmp"  # noqa: S108 - the container's own, where nobody else is
RUN = ("kms-watchdog", "run")
DRILL = ("kms-chaos", "run")
DRILL_BY_DEFAULT = "region-blackhole"
TOXIPROXY = ("-host=127.0.0.1", "-port=8474")
"""Its API lets anybody in, so it is reached from within the task or the pod alone."""

HTTPS = 443
"""Where AWS answers."""
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PORTS = {"http": 80, "https": HTTPS}

STOP_MARGIN_SECONDS = 15
"""What the daemon needs at a stop after its drills: listener, schedule and last metrics take below 10 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """How often a platform asks, and when it believes the answer."""

    interval_seconds: int = 30
    timeout_seconds: int = 5
    retries: int = 3
    start_seconds: int = 60


def probe(settings: Settings, path: str = "/livez") -> tuple[str, ...]:
    """Return the command that asks `path` of the daemon in the same container: no shell, no curl."""
    url = f"http://127.0.0.1:{port(settings)}{path}"
    return ("kms-watchdog", "healthcheck", *(() if url == DEFAULT_URL else ("--url", url)))


def port(settings: Settings) -> int:
    """Return the port that is listened on.

    Raises:
        ConfigError: it is another one at each start, so nobody outside could ask.
    """
    _, found = settings.http.address
    if not found:
        raise ConfigError("http.listen: a port is needed here that is the same at each start, not 0")
    return found


def listens_to_others(settings: Settings) -> bool:
    """Return whether anybody outside the container's own network is let in."""
    host, _ = settings.http.address
    return host not in _LOOPBACK


def egress_ports(settings: Settings) -> tuple[int, ...]:
    """Return the ports that must be let out to, in order: AWS's, and those of the addresses that the file says openly.

    An address that is a secret is not known to who renders: it is on one of these, or somebody else lets out to it.

    Raises:
        ConfigError: an address has no port that there can be.
    """
    found = (_port_elsewhere(key, url) for key, url in _asked(settings))
    return tuple(sorted({HTTPS, *(each for each in found if each is not None)}))


def _asked(settings: Settings) -> Iterator[tuple[str, str]]:
    """Return by key the addresses that are connected to, but for secret ones."""
    for region, services in settings.endpoints.items():
        yield from ((f"endpoints.{region}.{name}", url) for name, url in services if url is not None)
    if settings.otel.enabled:
        yield "otel.endpoint", settings.otel.endpoint
    yield "drills.toxiproxy_url", settings.drills.toxiproxy_url


def _port_elsewhere(key: str, url: str) -> int | None:
    """Return the port of an address; None: it is within the task or the pod, where nothing is in the way."""
    try:
        address = urlsplit(url)
        found = _PORTS[address.scheme] if address.port is None else address.port
    except ValueError as e:
        raise ConfigError(f"{key}: {url} is no address that can be let out to: {e}") from e
    if not found:
        raise ConfigError(f"{key}: {url} is no address that can be let out to: port 0")
    return None if address.hostname in _LOOPBACK else found


def stop_seconds(settings: Settings, *, most: int | None = None) -> int:
    """Return how long the platform must wait between SIGTERM and SIGKILL: drills restore first.

    Raises:
        ConfigError: longer than `most`, which is all that the platform gives.
    """
    needed = math.ceil(settings.drills.shutdown_seconds) + STOP_MARGIN_SECONDS
    if most is not None and needed > most:
        raise ConfigError(
            f"drills.shutdown_seconds: at most {most - STOP_MARGIN_SECONDS} here, where a stop may take {most} s"
        )
    return needed
