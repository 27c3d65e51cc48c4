"""What the environment says: the core's settings under the setup guide's names, and the service's own.

`PORT` and `HOST`; `READINESS_SECONDS` between two looks at the keys; `SHUTDOWN_SECONDS` for requests that are under way
at the end; `CLOUDWATCH_REGIONS`, where metrics are published too; `HEALTH_TOKEN`, which shows the detail of `/health`;
`KMS_ENDPOINTS_FILE` with addresses other than AWS's own: VPC endpoints without private DNS, or the local AWS;
`KMS_OVERRIDES_FILE`, the watchdog's `[overrides] file`, where people's word on regions stands (`evacuate`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import boto3

from kms_core import ConfigurationError, CoreConfig

MAX_PORT = 65_535
SHUTDOWN_SECONDS = 20
MAX_SHUTDOWN_SECONDS = 90
"""Fargate kills a task 120 s after SIGTERM at the latest, and the metrics must still be sent."""
_SERVICES = ("kms", "sts", "cloudwatch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that the service must know."""

    core: CoreConfig
    host: str = "127.0.0.1"
    port: int = 3000
    """0 takes a free one."""
    readiness_seconds: float = 30.0
    """Each look is two KMS requests a key and region: about 5 dollars a month for three keys in three regions."""
    shutdown_seconds: int = SHUTDOWN_SECONDS
    """More than a request may take: 10 s for its body, 8 s for the core, 1 s in its queue."""
    cloudwatch_regions: tuple[str, ...] = ()
    """Empty: Prometheus alone."""
    cloudwatch_endpoints: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    overrides_file: Path | None = None
    """None: nobody can have a region asked last."""
    health_token: str = field(default="", repr=False)
    """Empty: nobody is shown the detail."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Return what `environ` says.

        Raises:
            ConfigurationError: something is missing or cannot be used; the variable's name is in the text.
        """
        given = {name: value.strip() for name, value in environ.items() if value.strip()}
        core = CoreConfig.from_env(given)
        endpoints = _read_endpoints(given["KMS_ENDPOINTS_FILE"]) if "KMS_ENDPOINTS_FILE" in given else _Endpoints()
        core = _at(core, endpoints)
        publish = tuple(name.strip() for name in given.get("CLOUDWATCH_REGIONS", "").split(",") if name.strip())
        _refuse_unknown_regions(core, publish, endpoints)
        return cls(
            core=core,
            host=given.get("HOST", "127.0.0.1"),
            port=int(_number(given, "PORT", 3000, 0, MAX_PORT, whole=True)),
            readiness_seconds=_number(given, "READINESS_SECONDS", 30, 1, 300),
            shutdown_seconds=int(
                _number(given, "SHUTDOWN_SECONDS", SHUTDOWN_SECONDS, 1, MAX_SHUTDOWN_SECONDS, whole=True)
            ),
            cloudwatch_regions=publish,
            cloudwatch_endpoints=endpoints.of("cloudwatch"),
            overrides_file=Path(given["KMS_OVERRIDES_FILE"]) if "KMS_OVERRIDES_FILE" in given else None,
            health_token=given.get("HEALTH_TOKEN", ""),
        )


@dataclass(frozen=True, slots=True)
class _Endpoints:
    """Region to service to URL; and whose certificates to trust there."""

    regions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ca_bundle: str | None = None

    def of(self, service: str) -> dict[str, str]:
        """Return by region where `service` is."""
        return {region: urls[service] for region, urls in self.regions.items() if service in urls}


def _read_endpoints(path: str) -> _Endpoints:
    """Return what the file says, in the form of `kms-local serve`'s endpoints.json; other members are not ours."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigurationError(f"KMS_ENDPOINTS_FILE: {path} cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise ConfigurationError(f"KMS_ENDPOINTS_FILE: {path} is not JSON") from e
    regions = document.get("regions") if isinstance(document, dict) else None
    if not isinstance(regions, dict) or not all(_are_urls(urls) for urls in regions.values()):
        form = '{"regions": {"us-east-1": {"kms": "https://…"}}}'
        raise ConfigurationError(f"KMS_ENDPOINTS_FILE: {path} should be {form}")
    return _Endpoints(regions, document.get("ca_bundle"))


def _are_urls(urls: Any) -> bool:
    return isinstance(urls, dict) and all(isinstance(urls.get(service, ""), str) for service in _SERVICES)


def _at(core: CoreConfig, endpoints: _Endpoints) -> CoreConfig:
    """Return `core` with these addresses, of the regions that it has."""
    asked = {*core.regions, core.home_region}
    try:
        return dataclasses.replace(
            core,
            endpoints={region: url for region, url in endpoints.of("kms").items() if region in core.regions},
            sts_endpoints={region: url for region, url in endpoints.of("sts").items() if region in asked},
            ca_bundle=core.ca_bundle or endpoints.ca_bundle,
        )
    except ConfigurationError as e:
        raise ConfigurationError(f"KMS_ENDPOINTS_FILE: {e}") from e


def _refuse_unknown_regions(core: CoreConfig, publish: tuple[str, ...], endpoints: _Endpoints) -> None:
    """Refuse a region that AWS does not have: to the core, a mistyped one looks like one that is down."""
    known = {*boto3.session.Session().get_available_regions("kms", core.partition), *endpoints.regions}
    named = {"AWS_REGION": (core.home_region,), "KMS_REGIONS": core.regions, "CLOUDWATCH_REGIONS": publish}
    for variable, regions in named.items():
        if unknown := [region for region in regions if region not in known]:
            raise ConfigurationError(f"{variable}: {unknown[0]} is no region of AWS's that boto3 knows")


def _number(
    given: Mapping[str, str], variable: str, default: float, low: float, high: float, *, whole: bool = False
) -> float:
    text = given.get(variable, str(default))
    try:
        value = float(int(text) if whole else float(text))
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ConfigurationError(f"{variable} must be {kind} from {low:g} to {high:g}, not {text!r}")
    return value
