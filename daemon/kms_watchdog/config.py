"""One TOML file, read by all five commands: a frozen value, wrong at birth or right for ever.

Unknown keys are refused with the nearest known name; every refusal is one line that names file, key and expectation.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from kms_core import CoreConfig, KeyConfig
from kms_core.config import GUIDE_NAMES, MAX_FRAME_LENGTH, asks_account

REGION_NAME = r"^[a-z]{2}(-[a-z]+)+-\d$"
Region = Annotated[str, Field(pattern=REGION_NAME)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Names = Annotated[tuple[Region, ...], Field(strict=False)]
RoleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9+=,.@_-]{1,64}$")]
RoleNames = Annotated[tuple[RoleName, ...], Field(strict=False)]
FilePath = Annotated[Path, Field(strict=False)]
HttpsUrl = Annotated[str, Field(pattern=r"^https://[^/\s]+$")]

EXPECTED = {
    REGION_NAME: "an AWS region, such as us-east-1",
    r"^[A-Za-z0-9+=,.@_-]{1,64}$": "a role's name (not its ARN)",
    r"^https://[^/\s]+$": "https://HOST, with :PORT where needed and no path",
    r"^[a-z0-9-]{1,40}$": "1 to 40 of a-z, 0-9 and -",
    r"^\d{12}$": "12 digits, in quotes",
    r"^alias/[A-Za-z0-9/_-]{1,250}$": "alias/NAME, of letters, digits and /_-",
    r"^mrk-[0-9a-f]{32}$": "mrk- and 32 hex digits",
    r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$": "HOST:PORT, such as 127.0.0.1:9464",
    r"^[A-Za-z0-9_./#:-]{1,240}$": "1 to 240 of letters, digits and _./#:-",
    r"^[A-Za-z0-9-]{1,100}$": "1 to 100 of letters, digits and -",
    r"^http://[^/\s]+:\d{1,5}$": "http://HOST:PORT",
}
"""What each pattern here asks for, in words; a test sees that none is forgotten."""

CANARY_CONTEXT = {"canary": "true"}
"""The pair every canary and drill sends and every policy confines the watchdog to (DESIGN §6): spelt here alone."""


class ConfigError(ValueError):
    """The configuration cannot be used; the message is one line naming file, key and what is expected."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Estate(_Section):
    """Which account, which regions, and where this process runs."""

    name: str = Field(default="production", pattern=r"^[a-z0-9-]{1,40}$")
    account_id: str = Field(pattern=r"^\d{12}$")
    primary_region: Region
    regions: Names = Field(min_length=1)
    home_region: Region | None = None  # None: the first of `regions`
    ca_bundle: FilePath | None = None  # None: the system's own certificate authorities
    watchdog_role: RoleName = "KmsWatchdogRole"  # with drill_role: key policies let them see canaries alone
    drill_role: RoleName = "KmsDrillRole"
    break_glass_role: RoleName = "KmsBreakGlassRole"  # the only one that may disable or delete a key

    @model_validator(mode="after")
    def _regions_agree(self) -> Self:
        if len(set(self.regions)) != len(self.regions):
            raise ValueError("regions must not repeat")
        for name in ("primary_region", "home_region"):
            value = getattr(self, name)
            if value is not None and value not in self.regions:
                raise ValueError(f"{name} must be one of regions")
        return self

    @field_validator("ca_bundle")
    @classmethod
    def _is_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"an existing file with PEM certificates; {value} is not there")
        return value


class Key(_Section):
    """One purpose's multi-Region key."""

    alias: str = Field(pattern=r"^alias/[A-Za-z0-9/_-]{1,250}$")
    description: str = Field(default="", max_length=8192)
    key_id: str | None = Field(default=None, pattern=r"^mrk-[0-9a-f]{32}$")
    strict_key_state: bool | None = None  # None: true for `payment`, as in the core
    used_by: RoleNames = ()  # the application's roles: key policies deny the key's use to everybody else


class Endpoint(_Section):
    """Where a region's services answer, when not at AWS's own names."""

    kms: HttpsUrl | None = None
    cloudwatch: HttpsUrl | None = None
    sns: HttpsUrl | None = None
    sts: HttpsUrl | None = None


class Core(_Section):
    """The crypto core's settings; names and defaults are those of `kms_core.CoreConfig`, which a test compares."""

    @model_validator(mode="before")
    @classmethod
    def _guides_names(cls, given: Any) -> Any:
        """Take the setup guide's names too, as the application does, which reads the same file."""
        if not isinstance(given, dict):
            return given
        named = {name: given[name] for name in GUIDE_NAMES if name in given}
        found = {name: value for name, value in given.items() if name not in named}
        for name, value in named.items():
            target, scale = GUIDE_NAMES[name]
            if target in found:
                raise ValueError(f"{target} is given twice")
            found[target] = value * scale if scale != 1.0 and isinstance(value, int | float) else value
        return found

    region_preference: Names = ()
    data_key_ttl_seconds: Seconds = 300.0
    max_encryptions_per_key: int = Field(default=1000, ge=1, le=2**32)
    circuit_breaker_threshold: int = Field(default=3, ge=1, le=100)
    max_retries: int = Field(default=5, ge=0, le=20)
    deadline_seconds: Seconds = 8.0
    connect_timeout_seconds: Seconds = 1.0
    read_timeout_seconds: Seconds = 2.0
    attempt_timeout_seconds: Seconds = 2.5
    breaker_open_seconds: Seconds = 5.0
    slow_call_seconds: Seconds = 1.0
    max_encrypted_data_keys: int = Field(default=3, ge=1, le=65_535)
    frame_length: int = Field(default=65_536, ge=1, le=MAX_FRAME_LENGTH)
    hedging: bool = False
    failover_on_access_denied: bool = False
    edk_arn: Literal["response", "primary"] = "response"
    stale_if_unavailable: bool = False
    stale_max_age_seconds: Seconds = 900.0
    accept_legacy_suites: bool = False
    role_arn: str | None = None
    web_identity_token_file: str | None = None
    verify_account: bool | None = None  # None: as in the application (`kms_core.config.asks_account`)


class Canaries(_Section):
    """How often each canary looks, and how long it may take."""

    interval_seconds: Seconds = 30.0
    deadline_seconds: Seconds = 10.0

    @model_validator(mode="after")
    def _deadline_within_interval(self) -> Self:
        if self.deadline_seconds >= self.interval_seconds:
            raise ValueError("deadline_seconds must be below interval_seconds")
        return self


class State(_Section):
    """Where undo records, journals, history and the metric queue live: a local disk, never a network file system."""

    dir: FilePath


class Http(_Section):
    """The one listener: status page, health, metrics."""

    listen: str = Field(default="127.0.0.1:9464", pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; port 0 takes a free one."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class Prometheus(_Section):
    """Whether `/metrics` is served."""

    enabled: bool = True


class CloudWatch(_Section):
    """Where metrics are pushed, and how finely."""

    enabled: bool = True
    namespace: str = Field(default="ParkerFlight/KMS", pattern=r"^[A-Za-z0-9_./#:-]{1,240}$")
    regions: Names = ()  # empty: the home region and one other
    period_seconds: Literal[10, 60] = 60  # 10 is high resolution
    alarm_prefix: str = Field(default="ParkerFlight-KMS", pattern=r"^[A-Za-z0-9-]{1,100}$")
    alerts_topic: str = "parker-flight-alerts"
    critical_topic: str = "parker-flight-critical-alerts"
    drills_topic: str = "parker-flight-drill-alerts"

    @field_validator("namespace")
    @classmethod
    def _is_our_own(cls, value: str) -> str:
        if value.startswith("AWS/"):
            raise ValueError(f"a namespace of our own; {value!r} belongs to AWS")
        return value

    @property
    def drill_namespace(self) -> str:
        """The namespace in which a drill's numbers live, apart from the live ones (DESIGN §6)."""
        return f"{self.namespace}/Drill"


class Drills(_Section):
    """How drills reach Toxiproxy, and how the daemon looks after them."""

    toxiproxy_url: str = Field(default="http://127.0.0.1:8474", pattern=r"^http://[^/\s]+:\d{1,5}$")
    check_seconds: Seconds = 2.0


class Log(_Section):
    """What the process says about itself, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"  # auto: colours on a terminal, JSON elsewhere


class Settings(_Section):
    """The whole file."""

    estate: Estate
    keys: dict[str, Key] = Field(min_length=1)
    endpoints: dict[Region, Endpoint] = Field(default_factory=dict)
    core: Core = Core()
    canaries: Canaries = Canaries()
    state: State
    http: Http = Http()
    prometheus: Prometheus = Prometheus()
    cloudwatch: CloudWatch = CloudWatch()
    drills: Drills = Drills()
    log: Log = Log()

    @field_validator("keys")
    @classmethod
    def _purposes_are_words(cls, value: dict[str, Key]) -> dict[str, Key]:
        for purpose in value:
            if not re.fullmatch(r"[a-z0-9]{1,32}", purpose):
                raise ValueError(f"a purpose is 1 to 32 of a-z and 0-9, not {purpose!r}")
        return value

    @model_validator(mode="after")
    def _regions_are_known(self) -> Self:
        for where, named in (
            ("endpoints", self.endpoints),
            ("core.region_preference", self.core.region_preference),
        ):
            if unknown := sorted(set(named) - set(self.estate.regions)):
                raise ValueError(f"{where} names {unknown[0]}, which is not in estate.regions")
        return self

    @property
    def home_region(self) -> str:
        """Where this process runs."""
        return self.estate.home_region or self.estate.regions[0]

    @property
    def publish_regions(self) -> tuple[str, ...]:
        """The regions that get CloudWatch metrics: as configured, else home and one other (DESIGN §6)."""
        if self.cloudwatch.regions:
            return self.cloudwatch.regions
        others = [region for region in self.estate.regions if region != self.home_region]
        return (self.home_region, *others[:1])

    @property
    def monitor(self) -> str:
        """This watchdog's name among others of the same estate: CloudWatch's `Monitor` dimension."""
        return f"{self.estate.name}-{self.home_region}"

    def core_config(self) -> CoreConfig:
        """Return what `kms_core.Core` wants of this file.

        Raises:
            kms_core.errors.ConfigurationError: the core refuses a combination of settings.
        """
        ca_bundle, core = self.estate.ca_bundle, self.core.model_dump()
        endpoints = {region: e.kms for region, e in self.endpoints.items() if e.kms}
        sts_endpoints = {region: e.sts for region, e in self.endpoints.items() if e.sts}
        if core["verify_account"] is None:
            core["verify_account"] = asks_account(endpoints, sts_endpoints)
        return CoreConfig(
            account_id=self.estate.account_id,
            regions=self.estate.regions,
            home_region=self.home_region,
            keys={
                purpose: KeyConfig(alias=key.alias, key_id=key.key_id, strict_key_state=key.strict_key_state)
                for purpose, key in self.keys.items()
            },
            endpoints=endpoints,
            sts_endpoints=sts_endpoints,
            primary_region=self.estate.primary_region,
            ca_bundle=str(ca_bundle) if ca_bundle else None,
            **core,
        )


def fingerprint(path: Path) -> str:
    """Return what tells one content of the file from another: 12 hex digits of its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def load(path: Path) -> Settings:
    """Read, check and freeze the configuration in `path`; relative paths in it count from its folder.

    Raises:
        ConfigError: not readable, not TOML, an unknown key, a value out of range; one line each.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from e
    _anchor_paths(document, path.resolve().parent)
    try:
        return Settings.model_validate(document)
    except ValidationError as e:
        raise ConfigError(f"{path}: {_first_line(e)}") from e


def _anchor_paths(document: dict[str, Any], folder: Path) -> None:
    for section, key in (("estate", "ca_bundle"), ("core", "web_identity_token_file"), ("state", "dir")):
        table = document.get(section)
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str(folder / Path(table[key]).expanduser())


def _first_line(error: ValidationError) -> str:
    # What is misspelt also shows as missing elsewhere: the misspelling is the cause.
    found = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return _describe(found[0]) + more


def _describe(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), _known_keys(error["loc"][:-1]), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{where}: unknown key{hint}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{where}: missing; a value is expected here"
    if error["type"] == "string_pattern_mismatch":
        message = f"should be {EXPECTED[error['ctx']['pattern']]}, not {error['input']!r}"
    return f"{where}: {message[0].lower()}{message[1:]}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the section at `location` knows."""
    schema: Any = Settings
    for part in location:
        of_tables = typing.get_origin(schema) is dict  # [keys.NAME] and [endpoints.NAME]: any name, one kind of table
        schema = typing.get_args(schema)[1] if of_tables else schema.model_fields[part].annotation
    return list(schema.model_fields)
