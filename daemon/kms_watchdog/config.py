"""One TOML file, read by all five commands: a frozen value, wrong at birth or right for ever.

Unknown keys are refused with the nearest known name; every refusal is one line that names file, key and expectation.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from kms_core import CoreConfig, KeyConfig
from kms_core.config import GUIDE_NAMES, MAX_FRAME_LENGTH, asks_account
from kms_watchdog.configuring import environment
from kms_watchdog.configuring.document import Document, choose, estate_names, expand, leaves, read
from kms_watchdog.configuring.drill_safety import (
    DrillWindow,
    LeaseTable,
    StandingApproval,
    blocked_days,
    checked_accounts,
    checked_endpoints,
)
from kms_watchdog.configuring.environment import ESTATE_VARIABLE
from kms_watchdog.configuring.evidence import Evidence
from kms_watchdog.configuring.notify import Notify
from kms_watchdog.configuring.published import published
from kms_watchdog.configuring.refusal import ConfigError, nearest
from kms_watchdog.configuring.replicas import Replicas
from kms_watchdog.configuring.shape import Shape
from kms_watchdog.configuring.slot import Proof, Slot
from kms_watchdog.drills.slots import ALARM_PROOF, Plan
from kms_watchdog.drills.windows import Calendar
from kms_watchdog.results import Kind

__all__ = ["ConfigError", "Settings", "fingerprint", "json_schema", "load", "load_document"]

_LAST_PORT = 65535
REGION_NAME = r"^[a-z]{2}(-[a-z]+)+-\d$"
Region = Annotated[str, Field(pattern=REGION_NAME)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
KindName = Annotated[Kind, Field(strict=False)]
Names = Annotated[tuple[Region, ...], Field(strict=False)]
RoleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9+=,.@_-]{1,64}$")]
RoleNames = Annotated[tuple[RoleName, ...], Field(strict=False)]
FilePath = Annotated[Path, Field(strict=False)]
SlotName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
HttpsUrl = Annotated[str, Field(pattern=r"^https://[^/\s]+$")]

EXPECTED = {
    REGION_NAME: "an AWS region, such as us-east-1",
    r"^[A-Za-z0-9+=,.@_-]{1,64}$": "a role's name (not its ARN)",
    r"^https://[^/\s]+$": "https://HOST, with :PORT where needed and no path",
    r"^([01]\d|2[0-3]):[0-5]\d$": "HH:MM in UTC, such as 03:00",
    r"^[a-z0-9-]{1,40}$": "1 to 40 of a-z, 0-9 and -",
    r"^\d{12}$": "12 digits, in quotes",
    r"^alias/[A-Za-z0-9/_-]{1,250}$": "alias/NAME, of letters, digits and /_-",
    r"^mrk-[0-9a-f]{32}$": "mrk- and 32 hex digits",
    r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$": "HOST:PORT, such as 127.0.0.1:9464",
    r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$": "a bucket's name: 3 to 63 of lower-case letters, digits, . and -",
    r"^[A-Za-z0-9_./#:-]{1,240}$": "1 to 240 of letters, digits and _./#:-",
    r"^[A-Za-z0-9-]{1,100}$": "1 to 100 of letters, digits and -",
    r"^http://[^/\s]+:\d{1,5}$": "http://HOST:PORT",
    r"^https?://[^\s@]+$": "http:// or https:// and an address, without credentials (they go into headers)",
    r"^https?://[^\s]+/$": "http:// or https:// and an address that ends with /",
    r"^/[A-Za-z0-9_./-]{1,900}$": "a parameter's name, such as /parker-flight/kms/overrides",
}
"""What each pattern here asks for, in words; a test sees that none is forgotten."""

CANARY_CONTEXT = {"canary": "true"}
"""The pair every canary and drill sends and every policy confines the watchdog to (DESIGN §6): spelt here alone."""


TOKEN = r"[!-~]{16,256}"  # noqa: S105 - what one looks like
TOKEN_IS = "16 to 256 visible ASCII characters, such as `openssl rand -hex 32` prints"  # noqa: S105 - as above


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
    trail_bucket: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")  # empty: no trail is made

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
        try:
            if value is not None:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
        except OSError as e:  # as are the errors of SSL
            raise ValueError(f"a file with PEM certificates; {value} cannot be read as one") from e
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
    ssm: HttpsUrl | None = None
    iam: HttpsUrl | None = None  # of the home region: IAM is global
    cloudtrail: HttpsUrl | None = None
    s3: HttpsUrl | None = None  # of the region of [drills.evidence]
    dynamodb: HttpsUrl | None = None  # of the region of [drills.lease]


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


class Look(_Section):
    """One kind of canary: how often it looks and how long a look may take."""

    interval_seconds: Seconds | None = None  # None: that of [canaries]
    deadline_seconds: Seconds | None = None  # likewise


class ColdConnectionLook(Look):
    """As `Look`; and when a certificate's renewal is overdue."""

    # AWS renews its public certificates 60 days before their end, or 45 where they live half a year (ACM User Guide,
    # "Managed certificate renewal"): with two weeks left something is wrong, and there is time to mend it.
    certificate_days: float = Field(default=14.0, ge=0, le=365)


class ClockOffsetLook(Look):
    """As `Look`; and how wrong this machine's clock may be."""

    # SigV4 refuses a request whose time is 5 minutes off (IAM User Guide, "Elements of an AWS API request signature").
    # A tenth of that is no network's doing, and leaves weeks at the drift of a clock that is merely not corrected.
    max_seconds: float = Field(default=30.0, ge=1, lt=300)


class AlarmPathLook(Look):
    """As `Look`; and what the alarms should be."""

    definitions: FilePath | None = None  # folder of REGION.json (`kms-alarms render --into`); None: not compared


class HeadroomLook(Look):
    """As `Look`; and how much of KMS the canaries may take up."""

    window_seconds: Seconds = 300.0
    # The lowest of the shared request quotas for symmetric keys that AWS has published; large regions have more. Not
    # verified, and yours may differ: Service Quotas, "Cryptographic operations (symmetric) request rate" (aws.md §3).
    quota_requests_per_second: float = Field(default=5500.0, gt=0)
    max_quota_share: float = Field(default=0.05, gt=0, le=1)
    usd_per_10000_requests: float = Field(default=0.03, ge=0)  # list price, not verified: aws.amazon.com/kms/pricing


@dataclass(frozen=True, slots=True)
class Timing:
    """One kind's interval and deadline, in seconds; the deadline is shorter."""

    interval_seconds: float
    deadline_seconds: float


class Canaries(_Section):
    """How often each canary looks, and how long it may take; a table of its own for a kind that differs."""

    interval_seconds: Seconds = 30.0
    deadline_seconds: Seconds = 10.0
    kinds: Annotated[tuple[KindName, ...], Field(strict=False, min_length=1)] = tuple(Kind)
    round_trip: Look = Look()
    cross_region: Look = Look()
    failover_path: Look = Look()
    golden: Look = Look()
    must_fail_core: Look = Look()
    must_fail_kms: Look = Look()
    application_access: Look = Look()
    cold_connection: ColdConnectionLook = ColdConnectionLook()
    clock_offset: ClockOffsetLook = ClockOffsetLook()
    alarm_path: AlarmPathLook = AlarmPathLook()
    key_state: Look = Look()
    replica_drift: Look = Look()
    headroom: HeadroomLook = HeadroomLook()

    @model_validator(mode="after")
    def _deadlines_within_intervals(self) -> Self:
        if self.deadline_seconds >= self.interval_seconds:
            raise ValueError("deadline_seconds must be below interval_seconds")
        for kind in self.kinds:
            timing = self.timing(kind)
            if timing.deadline_seconds >= timing.interval_seconds:
                raise ValueError(
                    f"{kind}.deadline_seconds ({timing.deadline_seconds:g}) must be below its interval_seconds "
                    f"({timing.interval_seconds:g})"
                )
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError("kinds must not repeat")
        if Kind.ROUND_TRIP not in self.kinds:
            raise ValueError("kinds must name round_trip, which alone says whether a key can be used")
        return self

    def timing(self, kind: str) -> Timing:
        """Return how often canaries of `kind` look, and how long they may take."""
        look: Look = getattr(self, kind)
        return Timing(
            interval_seconds=look.interval_seconds or self.interval_seconds,
            deadline_seconds=look.deadline_seconds or self.deadline_seconds,
        )


class State(_Section):
    """Where undo records, journals, history and the metric queue live: a local disk, never a network file system."""

    dir: FilePath


class Http(_Section):
    """The one listener: status page, health, metrics."""

    listen: str = Field(default="127.0.0.1:9464", pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$")
    token: SecretStr | None = None  # who shows it sees errors in detail and may run canaries; None: nobody does
    token_file: FilePath | None = None  # the same, from a file that is read again each time it is needed
    token_over_plain_http: bool = False  # whether a token counts that another machine sends without TLS
    runbooks_url: str | None = Field(default=None, pattern=r"^https?://[^\s]+/$")  # where the page's runbooks are

    @field_validator("listen")
    @classmethod
    def _is_a_port(cls, value: str) -> str:
        if int(value.rpartition(":")[2]) > _LAST_PORT:
            raise ValueError(f"a port is 0 to {_LAST_PORT}")
        return value

    @field_validator("token")
    @classmethod
    def _is_no_guess(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(TOKEN, value.get_secret_value()):
            raise ValueError(TOKEN_IS)
        return value

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token or token_file, not both")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; port 0 takes a free one."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class HealthPing(_Section):
    """The dead man's switch outside: it rings when the pings stop."""

    deadman_url: SecretStr | None = None  # None: no ping
    deadman_method: Literal["GET", "POST"] = "GET"
    deadman_timeout_seconds: Seconds = 5.0

    @field_validator("deadman_url")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"https?://[!-~]+", value.get_secret_value()):
            raise ValueError("http:// or https:// and an address")
        return value


class Prometheus(_Section):
    """Whether `/metrics` is served, and where commands that end before a scrape comes leave their metrics."""

    enabled: bool = True
    max_series: int = Field(default=100_000, ge=1_000)  # a configuration that would make more is refused
    counted_by_key: bool = True  # false: counters and histograms are of all keys together, for thousands of keys
    push_url: SecretStr | None = None  # a Pushgateway, with USER:PASSWORD@ where it wants them; None: no push
    push_timeout_seconds: Seconds = 5.0
    textfile: FilePath | None = None  # NAME.prom in the folder that node_exporter's textfile collector reads

    @field_validator("push_url")
    @classmethod
    def _is_a_gateway(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"https?://[!-~]+", value.get_secret_value()):
            raise ValueError("should be http:// or https:// and an address")
        return value

    @field_validator("textfile")
    @classmethod
    def _is_read_by_the_collector(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix != ".prom":
            raise ValueError("should end in .prom: the collector reads no other files")
        return value


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
    proof: Proof = Proof()

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

    @property
    def own_watchdog_namespace(self) -> str:
        """The namespace of a watchdog that a drill starts beside the live one: no alarm reads it."""
        return f"{self.drill_namespace}/Watchdog"


class Otel(_Section):
    """Whether the daemon exports its metrics by OTLP over HTTP too (extra `otel`)."""

    enabled: bool = False
    endpoint: str = Field(default="http://127.0.0.1:4318/v1/metrics", pattern=r"^https?://[^\s@]+$")
    headers: dict[str, SecretStr] = Field(default_factory=dict)  # such as an API key's
    interval_seconds: Seconds = 60.0
    timeout_seconds: Seconds = 10.0

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in value.items():
            if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not re.fullmatch(r"[ -~]+", secret.get_secret_value()):
                raise ValueError(f"{name!r} should be a header's name, of letters, digits and -, with printable ASCII")
        return value

    @model_validator(mode="after")
    def _ends_before_the_next(self) -> Self:
        if self.timeout_seconds >= self.interval_seconds:
            raise ValueError("timeout_seconds must be below interval_seconds")
        return self


class Overrides(_Section):
    """Where `evacuate` writes people's word on regions, and daemon and application read it (`kms_core.overrides`)."""

    file: FilePath | None = None  # JSON, on a disk that the application reads too
    ssm_parameter: str | None = Field(default=None, pattern=r"^/[A-Za-z0-9_./-]{1,900}$")
    regions: Names = ()  # of the parameter; empty: all of the estate

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.file is not None and self.ssm_parameter is not None:
            raise ValueError("file or ssm_parameter, not both")
        if self.file is not None and self.file.suffix == ".toml":
            raise ValueError("file must be JSON, which evacuate can write, not .toml")
        if self.regions and self.ssm_parameter is None:
            raise ValueError("regions are those of ssm_parameter, which is missing")
        return self


class DrillSlot(Slot):
    """A drill that the daemon starts by itself."""

    drill: str = Field(min_length=1)  # a shipped drill's name, or a file ending in .toml
    region: Region | None = None  # None: the drill's own target

    @field_validator("drill")
    @classmethod
    def _can_name_a_run(cls, value: str) -> str:
        """Refuse what cannot be a part of a run's id, which names its folder (`drills.folder.RUN_ID`)."""
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", value.rpartition("/")[2].removesuffix(".toml")):
            raise ValueError(f"a drill's or its file's name, of at most 60 letters, digits and _.-, not {value!r}")
        return value


class Drills(_Section):
    """How drills reach Toxiproxy, how the daemon looks after them, and which it starts by itself."""

    toxiproxy_url: str = Field(default="http://127.0.0.1:8474", pattern=r"^http://[^/\s]+:\d{1,5}$")
    check_seconds: Seconds = 2.0
    shutdown_seconds: Seconds = 25.0  # what a drill gets to restore in at a stop; below the platform's stop timeout
    folder: FilePath | None = None  # drills of one's own, one TOML file each, beside the shipped ones
    slots: dict[SlotName, DrillSlot] = Field(default_factory=dict)  # none: the daemon starts no drill
    evidence: Evidence = Evidence()
    notify: Notify = Notify()
    production: bool | None = None  # None: yes, unless a region's KMS has an address of its own in [endpoints]
    windows: Annotated[tuple[DrillWindow, ...], Field(strict=False)] = ()  # none: at any time
    blocked_dates: Annotated[tuple[str, ...], Field(strict=False)] = ()  # YYYY-MM-DD or YYYY-MM-DD/YYYY-MM-DD, UTC
    accounts: Annotated[tuple[str, ...], Field(strict=False)] = ()  # in which drills may run; none: the estate's alone
    endpoints: Annotated[tuple[str, ...], Field(strict=False)] = ()  # HOST:PORT; none: KMS's own and those configured
    standing_approvals: Annotated[tuple[StandingApproval, ...], Field(strict=False)] = ()
    lease: LeaseTable | None = None  # None: one drill at a time on this state folder, by a file's lock

    @field_validator("blocked_dates")
    @classmethod
    def _are_days(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        blocked_days(value)
        return value

    @field_validator("accounts")
    @classmethod
    def _are_accounts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return checked_accounts(value)

    @field_validator("endpoints")
    @classmethod
    def _are_endpoints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return checked_endpoints(value)

    @property
    def calendar(self) -> Calendar:
        """When drills may run."""
        windows = tuple(one.window for one in self.windows)
        return Calendar(windows=windows, blocked=blocked_days(self.blocked_dates))

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The drills that are to run, as the ledger of slots wants them."""
        return tuple(
            slot.plan(name, slot.drill, region=slot.region or "") for name, slot in self.slots.items() if slot.enabled
        )


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
    health: HealthPing = HealthPing()
    prometheus: Prometheus = Prometheus()
    cloudwatch: CloudWatch = CloudWatch()
    otel: Otel = Otel()
    drills: Drills = Drills()
    overrides: Overrides = Overrides()
    replicas: Replicas = Replicas()
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

    @model_validator(mode="after")
    def _slots_are_told_apart(self) -> Self:
        if ALARM_PROOF in self.drills.slots:
            raise ValueError(f"drills.slots.{ALARM_PROOF}: the ledger keeps that name for cloudwatch.proof.slot")
        return self

    @property
    def plans(self) -> tuple[Plan, ...]:
        """All that the daemon starts by itself."""
        return (*self.drills.plans, *self.cloudwatch.proof.plans)

    @property
    def home_region(self) -> str:
        """Where this process runs."""
        return self.estate.home_region or self.estate.regions[0]

    @property
    def drills_in_production(self) -> bool:
        """Whether a drill here needs a reason and somebody else's approval, and goes from general to payment."""
        if self.drills.production is not None:
            return self.drills.production
        return not any(endpoint.kms for endpoint in self.endpoints.values())

    @property
    def publish_regions(self) -> tuple[str, ...]:
        """The regions that get CloudWatch metrics: as configured, else home and one other (DESIGN §6).

        Several places publish to the same two, or an alarm would wait for a heartbeat that goes elsewhere.
        """
        if self.cloudwatch.regions:
            return self.cloudwatch.regions
        first = self.estate.primary_region if self.replicas.members else self.home_region
        others = [region for region in self.estate.regions if region != first]
        return (first, *others[:1])

    @property
    def monitor(self) -> str:
        """This watchdog's name among others of the same estate: CloudWatch's `Monitor` dimension."""
        return f"{self.estate.name}-{self.replicas.place or self.home_region}"

    @property
    def monitors(self) -> tuple[str, ...]:
        """The names of all watchdogs of the estate, each of which has a heartbeat."""
        return tuple(f"{self.estate.name}-{member}" for member in self.replicas.members) or (self.monitor,)

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


def fingerprint(settings: Settings) -> str:
    """Return what tells one configuration from another, secrets apart: 12 hex digits of a SHA-256."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and the document they were made of: it knows where each value comes from."""

    settings: Settings
    document: Document


def load(path: Path, estate: str | None = None, *, environ: Mapping[str, str] | None = None) -> Settings:
    """Read, check and freeze the configuration in `path`; relative paths in it count from its folder.

    Args:
        path: of the file.
        estate: which of its `[estates.NAME]`; None: what KMS_WATCHDOG_ESTATE names, else the only one.
        environ: read instead of the process's own environment.

    Raises:
        ConfigError: not readable, not TOML, an unknown key, a value out of range; one line each.
    """
    return load_document(path, estate, environ=environ).settings


def load_document(path: Path, estate: str | None = None, *, environ: Mapping[str, str] | None = None) -> Loaded:
    """Do as `load`, and keep where each value comes from.

    Raises:
        ConfigError: as for `load`.
    """
    given = os.environ if environ is None else environ
    tables = read(path)
    _check_folders_differ(path, tables)
    document = choose(path, tables, estate or given.get(ESTATE_VARIABLE) or None)
    environment.apply(document, given, SHAPE)
    expand(document, given)
    environment.settle(document, given)
    _anchor_paths(document)
    try:
        return Loaded(Settings.model_validate(document.values), document)
    except ValidationError as e:
        raise ConfigError(_first_line(e, document)) from e


def _check_folders_differ(path: Path, tables: Mapping[str, Any]) -> None:
    """Refuse two estates with one state folder: one would heal, and report, the other's drills."""
    owners: dict[str, str] = {}
    for name in estate_names(tables):
        state = choose(path, tables, name).values.get("state")
        folder = state.get("dir") if isinstance(state, dict) else None
        if not isinstance(folder, str):
            continue
        real = str((path.resolve().parent / Path(folder).expanduser()).resolve())  # two spellings are one folder
        if (other := owners.setdefault(real, name)) != name:
            raise ConfigError(f"{path}: estates.{name}.state.dir: the same folder as that of {other}: {folder}")


def _anchor_paths(document: Document) -> None:
    """Let paths of the file count from its folder, those of variables from where the process was started."""
    for where, value in list(leaves(document.values)):
        shape = SHAPE.at(where)
        is_file = where == ("core", "web_identity_token_file") or (shape is not None and shape.is_path)
        origin = document.origin(where)
        if is_file and isinstance(value, str) and value and origin is not None:
            folder = document.path.resolve().parent if origin.kind == "file" else Path.cwd()
            document.put(where, str(folder / Path(value).expanduser()), origin)


def _first_line(error: ValidationError, document: Document) -> str:
    # What is misspelt also shows as missing elsewhere: the misspelling is the cause.
    found = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = tuple(str(part) for part in found[0]["loc"])
    origin = document.origin(where)
    source = origin.name if origin is not None and origin.kind == "environment" else str(document.path)
    return f"{source}: {_describe(found[0], document)}{more}"


def _describe(error: ErrorDetails, document: Document) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the file"
    origin = document.origin(tuple(str(part) for part in error["loc"]))
    if origin is not None and origin.kind == "file":
        where = origin.name  # in a file of several estates: the very line
    if error["type"] == "extra_forbidden":
        above = SHAPE.at(error["loc"][:-1])
        return f"{where}: unknown key{nearest(str(error['loc'][-1]), above.names if above else ())}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{where}: missing; a value is expected here"
    shape = SHAPE.at(error["loc"])
    if error["type"] == "string_pattern_mismatch":
        said = "what is there" if shape is not None and shape.secret else repr(error["input"])
        message = f"should be {EXPECTED[error['ctx']['pattern']]}, not {said}"
    return f"{where}: {message[0].lower()}{message[1:]}"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of configuration files (`watchdog.schema.json`)."""
    return published(
        Settings.model_json_schema(), guide_names={name: field for name, (field, _) in GUIDE_NAMES.items()}
    )


SHAPE = Shape.of(Settings.model_json_schema())
"""Every name and type of the file, for whoever reads it and for whoever describes it."""
