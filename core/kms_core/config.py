"""The core's configuration: a frozen value, wrong at birth or right for ever.

The text of every refusal begins with the field's name: what was read from outside is named there as it is called
outside (`_settings.Fields.named`).
"""

from __future__ import annotations

import functools
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from kms_core import _settings
from kms_core.errors import ConfigurationError

_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
_KEY_ID = re.compile(r"mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_MAX_STALE_SECONDS = 900.0
MAX_FRAME_LENGTH = 2**24
"""Of what the core seals, and of the streams that it opens: each frame is held in memory, and in its reader's."""

_POSITIVE_SECONDS = (
    "data_key_ttl_seconds",
    "deadline_seconds",
    "connect_timeout_seconds",
    "read_timeout_seconds",
    "attempt_timeout_seconds",
    "breaker_open_seconds",
    "slow_call_seconds",
)
_SEQUENCES = ("regions", "region_preference")
_MAPPINGS = ("keys", "endpoints", "sts_endpoints")
_FILES = ("ca_bundle", "web_identity_token_file")


asks_account = _settings.asks_account
GUIDE_NAMES: Mapping[str, tuple[str, float]] = MappingProxyType(
    {setting.guide: (setting.field, setting.guide_scale) for setting in _settings.SETTINGS if setting.guide}
)
"""The setup guide's names of settings, which a TOML file may use too: to the field, and to what the number is
multiplied by (`dataKeyTTL` is in milliseconds)."""
SETTINGS = _settings.SETTINGS
"""Every setting that the environment can give, in the one table: its variable, its field, and how its text is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """One purpose's key."""

    alias: str
    key_id: str | None = None
    """Pinned key id (`mrk-…`): with it, a start needs no DescribeKey. None: ask what the alias points to."""
    strict_key_state: bool | None = None
    """True: a key that is disabled in the region asked is refused, though another region might still open it.

    None: true for the purpose `payment`, false for any other.
    """

    def __post_init__(self) -> None:
        _refuse_other_kinds(self, KeyConfig)
        if not _ALIAS.fullmatch(self.alias):
            raise ConfigurationError(f"alias must be alias/NAME of letters, digits and /_-, not {self.alias!r}")
        if self.key_id is not None and not _KEY_ID.fullmatch(self.key_id):
            raise ConfigurationError(f"key_id must be mrk- and 32 hex digits, or a UUID, not {self.key_id!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreConfig:
    """Which keys in which regions, and how patiently; the defaults are the setup guide's where it names one."""

    account_id: str
    regions: tuple[str, ...]
    home_region: str
    """Where this process runs: the region tried first, unless `region_preference` says otherwise.

    It need not be one of `regions`: then every request is to another region.
    """
    keys: Mapping[str, KeyConfig]
    """Purpose to key."""
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Region to KMS endpoint URL, https but on loopback; regions that are not named use AWS's own."""
    ca_bundle: str | None = None
    """File with the PEM certificates to trust; None: the system's own."""
    region_preference: tuple[str, ...] = ()
    """Regions in the order to try; those not named follow. Empty: the home region if it is one of `regions`, then
    the order of `regions`."""
    data_key_ttl_seconds: float = 300.0
    max_encryptions_per_key: int = 1000
    circuit_breaker_threshold: int = 3
    max_retries: int = 5
    """5 means 6 attempts, over all regions together."""
    deadline_seconds: float = 8.0
    """For one call of the application, whatever happens in it."""
    connect_timeout_seconds: float = 1.0
    read_timeout_seconds: float = 2.0
    """For one recv; the limit on an attempt is `attempt_timeout_seconds`."""
    attempt_timeout_seconds: float = 2.5
    breaker_open_seconds: float = 5.0
    slow_call_seconds: float = 1.0
    """An answer that took longer counts against the region as a failure does."""
    max_encrypted_data_keys: int = 3
    """A message with more wrapped keys is refused unread."""
    frame_length: int = 65_536
    """Plaintext bytes in a frame of a sealed message, at most 16 MiB; a multiple of 128 is what every SDK can write."""
    hedging: bool = False
    """True: when a region is late, another is asked the same beside it, in at most one of twenty calls."""
    failover_on_access_denied: bool = False
    """True: a region that denies access does not end the call; false: it does, since IAM is the same everywhere."""
    edk_arn: Literal["response", "primary"] = "response"
    """Which ARN a sealed message names: that of the region that made its key, as the specification has it, or always
    that of `primary_region`, which peers that are pinned to one ARN and know nothing of replicas can open."""
    primary_region: str | None = None
    """Where the multi-Region keys' primaries are; needed for `edk_arn="primary"` alone."""
    stale_if_unavailable: bool = False
    """True: while no region is available, expired data keys are used on, never for `payment` or a strict key."""
    stale_max_age_seconds: float = 900.0
    """The age at which such a key ends all the same; at most 900."""
    accept_legacy_suites: bool = False
    """Open messages of format version 1 with key derivation; they are not bound to one key by a commitment."""

    role_arn: str | None = None
    """Role to assume through STS before KMS is asked; None: the credentials that boto3 finds are used as they are."""
    web_identity_token_file: str | None = None
    """File with the token that STS takes for `role_arn`, as on EKS; needs `role_arn`.

    None: the role is assumed with the credentials that boto3 finds.
    """
    verify_account: bool = False
    """Ask STS at the start whose credentials these are; another account's refuse the start, silence does not.

    `from_env` and `from_toml` ask, unless told otherwise.
    """
    sts_endpoints: Mapping[str, str] = field(default_factory=dict)
    """Region to STS endpoint URL, https but on loopback; regions that are not named use AWS's own."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return what the environment says, under the setup guide's names (`kms_core._settings.SETTINGS`).

        `AWS_REGION` is where this process runs, not where the keys' primaries are. `KMS_DATA_KEY_TTL_MS` is in
        milliseconds, as the guide's `dataKeyTTL`. `AWS_ACCOUNT_ID` is checked against STS, unless
        `KMS_VERIFY_ACCOUNT` says no.

        Args:
            environ: read instead of the process's own environment.

        Raises:
            ConfigurationError: a variable is missing or cannot be used; its name is in the text.
        """
        return cls._of(_settings.from_environ(os.environ if environ is None else environ))

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Return what the product's TOML file says: `[estate] [keys.*] [endpoints.*] [core]`.

        Relative paths in it count from its folder. The account is checked against STS, unless `core.verify_account`
        says no, or KMS has an address of its own there and STS has none (`asks_account`).

        Raises:
            ConfigurationError: the file cannot be used; what is wrong is named.
        """
        return cls._of(_settings.from_toml(Path(path), core=_names(CoreConfig), key=_names(KeyConfig)))

    @classmethod
    def _of(cls, read: _settings.Fields) -> Self:
        try:
            keys = {purpose: _key(purpose, given) for purpose, given in read.keys.items()}
            return cls(keys=keys, **read.core)
        except ConfigurationError as e:
            raise ConfigurationError(read.named(str(e))) from e

    def __post_init__(self) -> None:
        for name in _SEQUENCES:
            given = getattr(self, name)
            if isinstance(given, Sequence) and not isinstance(given, str):  # a text is one of letters
                object.__setattr__(self, name, tuple(given))
        _refuse_other_kinds(self, CoreConfig)
        self._check_identity()
        self._check_regions()
        self._check_endpoints()
        self._check_keys()
        self._check_numbers()
        for name in _MAPPINGS:
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapping proxies cannot be pickled, and a worker that is spawned must be given its configuration.
        given = {name: getattr(self, name) for name in _names(type(self))}
        return functools.partial(type(self), **given | {name: dict(given[name]) for name in _MAPPINGS}), ()

    @property
    def partition(self) -> str:
        """The AWS partition that all regions are in."""
        return _partition(self.regions[0])

    @property
    def region_order(self) -> tuple[str, ...]:
        """Every region once, in the order in which they are tried when all are well."""
        return tuple(dict.fromkeys((*self._named_first, *self.regions)))

    @property
    def fixed_regions(self) -> int:
        """How many of `region_order` come first whatever was measured: those that somebody named."""
        return len(set(self._named_first))

    @property
    def _named_first(self) -> tuple[str, ...]:
        return self.region_preference or tuple(region for region in self.regions if region == self.home_region)

    def _check_identity(self) -> None:
        if not _ACCOUNT.fullmatch(self.account_id):
            raise ConfigurationError(f"account_id must be 12 digits, not {self.account_id!r}")
        if self.role_arn is not None and not _ROLE.fullmatch(self.role_arn):
            raise ConfigurationError(f"role_arn must be arn:aws:iam::ACCOUNT:role/NAME, not {self.role_arn!r}")
        if self.web_identity_token_file is not None and self.role_arn is None:
            raise ConfigurationError("web_identity_token_file needs role_arn: the role that the token is for")
        for name in _FILES:
            if getattr(self, name) == "":  # which botocore would take for "verify nothing"
                raise ConfigurationError(f"{name} must name a file, not ''")

    def _check_regions(self) -> None:
        if not self.regions or len(set(self.regions)) != len(self.regions):
            raise ConfigurationError("regions must name at least one region, and none twice")
        for name, named in (("regions", self.regions), ("home_region", (self.home_region,))):
            for region in named:
                if not _REGION.fullmatch(region):
                    raise ConfigurationError(f"{name} must be named as AWS does, such as us-east-1, not {region!r}")
                if _partition(region) != self.partition:  # where no credentials of this one are good
                    raise ConfigurationError(f"{name} must be in the AWS partition {self.partition}, not {region!r}")
        primary = () if self.primary_region is None else (self.primary_region,)
        for name, named in (("region_preference", self.region_preference), ("primary_region", primary)):
            self._refuse_unknown(name, named, self.regions)

    def _check_endpoints(self) -> None:
        self._refuse_unknown("endpoints", tuple(self.endpoints), self.regions)
        self._refuse_unknown("sts_endpoints", tuple(self.sts_endpoints), (*self.regions, self.home_region))
        for name in ("endpoints", "sts_endpoints"):
            for region, url in getattr(self, name).items():
                if not _is_endpoint(url):
                    wanted = "https://HOST, with :PORT where needed, or http:// on loopback"
                    raise ConfigurationError(f"{name}.{region} must be {wanted}, not {url!r}")

    def _refuse_unknown(self, name: str, named: tuple[str, ...], regions: tuple[str, ...]) -> None:
        if unknown := [region for region in named if region not in regions]:
            raise ConfigurationError(f"{name} names {unknown[0]}, which is not in regions")

    def strict(self, purpose: str) -> bool:
        """Return whether the state of the key of `purpose` in one region decides for all."""
        configured = self.keys[purpose].strict_key_state
        return purpose == "payment" if configured is None else configured

    def _check_keys(self) -> None:
        if not self.keys:
            raise ConfigurationError("keys must name at least one purpose")
        for purpose, key in self.keys.items():
            if not isinstance(purpose, str) or not _PURPOSE.fullmatch(purpose):
                raise ConfigurationError(f"keys.{purpose} is no purpose, which is 1 to 64 of a-z, 0-9, _ and -")
            if not isinstance(key, KeyConfig):
                raise ConfigurationError(f"keys.{purpose} must be a KeyConfig, not {key!r}")
        for name in ("alias", "key_id"):
            self._refuse_shared(name)

    def _refuse_shared(self, name: str) -> None:
        owners: dict[str, str] = {}
        for purpose, key in self.keys.items():
            value = getattr(key, name)
            if value is not None and (other := owners.setdefault(value, purpose)) != purpose:
                raise ConfigurationError(
                    f"keys.{purpose}.{name} is the same {name} as that of {other}: each purpose needs a key of its own"
                )

    def _check_numbers(self) -> None:
        if self.edk_arn == "primary" and self.primary_region is None:
            raise ConfigurationError("edk_arn must not be primary without primary_region")
        if not 0 < self.stale_max_age_seconds <= _MAX_STALE_SECONDS:
            allowed = f"above 0 and at most {_MAX_STALE_SECONDS:.0f}"
            raise ConfigurationError(f"stale_max_age_seconds must be {allowed}, not {self.stale_max_age_seconds}")
        for name in _POSITIVE_SECONDS:
            if not 0 < getattr(self, name) <= 86_400:  # noqa: PLR2004 - seconds in a day
                raise ConfigurationError(f"{name} must be above 0 and at most a day, not {getattr(self, name)}")
        for name, low, high in (
            ("max_encryptions_per_key", 1, 2**32),
            ("circuit_breaker_threshold", 1, 100),
            ("max_retries", 0, 20),
            ("max_encrypted_data_keys", 1, 65_535),
            ("frame_length", 1, MAX_FRAME_LENGTH),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigurationError(f"{name} must be {low} to {high}, not {getattr(self, name)}")


def check_ca_bundle(path: str) -> None:
    """Refuse a file of certificates to trust before a connection needs it.

    Raises:
        ConfigurationError: `path` is no file that can be read, or there is no PEM certificate in it.
    """
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as e:
        raise ConfigurationError(f"ca_bundle {path!r} has no PEM certificate in it: {e.reason}") from e
    except (OSError, ValueError) as e:
        raise ConfigurationError(f"ca_bundle {path!r} cannot be read: {e}") from e


_KINDS: Mapping[Any, str] = {
    str: "a string",
    str | None: "a string",
    bool: "true or false",
    bool | None: "true or false",
    int: "a whole number",
    float: "a number",
    tuple[str, ...]: "a sequence of strings",
    Mapping[str, str]: "a mapping of region to URL",
    Mapping[str, KeyConfig]: "a mapping of purpose to KeyConfig",
    Literal["response", "primary"]: "response or primary",
}
"""The annotation of a field to what it asks for, in words."""
_ANNOTATIONS: Mapping[type, Mapping[str, Any]] = {kind: get_type_hints(kind) for kind in (KeyConfig, CoreConfig)}


def _refuse_other_kinds(value: CoreConfig | KeyConfig, kind: type[CoreConfig | KeyConfig]) -> None:
    """Refuse a field of `value` that is not what `kind` annotates; the entries of mappings are looked at elsewhere."""
    for name, annotation in _ANNOTATIONS[kind].items():
        given = getattr(value, name)
        if not _is_a(annotation, given):
            raise ConfigurationError(f"{name} must be {_KINDS[annotation]}, not {given!r}")


def _is_a(annotation: Any, value: Any) -> bool:
    if isinstance(value, bool):  # which Python takes for a number
        return bool in (annotation, *get_args(annotation))
    match get_origin(annotation):
        case None if annotation is float:
            return isinstance(value, int | float)
        case origin if origin is tuple:
            return isinstance(value, tuple) and all(isinstance(part, str) for part in value)
        case origin if origin is Mapping:
            return isinstance(value, Mapping)
        case origin if origin is Literal:
            return value in get_args(annotation)
        case _:
            return isinstance(value, annotation)


def _names(kind: type[CoreConfig | KeyConfig]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))


def _key(purpose: str, given: Mapping[str, Any]) -> KeyConfig:
    try:
        return KeyConfig(**given)
    except ConfigurationError as e:
        raise ConfigurationError(f"keys.{purpose}.{e}") from e


def _partition(region: str) -> str:
    prefixes = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
    return next((name for prefix, name in prefixes.items() if region.startswith(prefix)), "aws")


def _is_endpoint(url: Any) -> bool:
    """Return whether `url` is one that credentials may be sent to: in the clear, on this machine alone."""
    if not isinstance(url, str) or re.search(r"\s", url):  # urlsplit would drop a line break
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))
