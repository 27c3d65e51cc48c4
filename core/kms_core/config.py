"""The core's configuration: a frozen value, wrong at birth or right for ever."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self, get_args

from kms_core import _settings
from kms_core.errors import ConfigurationError

_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
_KEY_ID = re.compile(r"mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

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
    """Where this process runs: the region tried first, unless `region_preference` says otherwise."""
    keys: Mapping[str, KeyConfig]
    """Purpose to key."""
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Region to KMS endpoint URL; regions that are not named use AWS's own."""
    ca_bundle: str | None = None
    """File with the PEM certificates to trust; None: the system's own."""
    region_preference: tuple[str, ...] = ()
    """Regions in the order to try; those not named follow. Empty: the home region, then the order of `regions`."""
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
    verify_account: bool = False
    """Ask STS at the start whose credentials these are; another account's refuse the start, silence does not."""
    sts_endpoints: Mapping[str, str] = field(default_factory=dict)
    """Region to STS endpoint URL; regions that are not named use AWS's own."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return what the environment says, under the setup guide's names (`kms_core._settings.SETTINGS`).

        `AWS_REGION` is where this process runs, not where the keys' primaries are. `KMS_DATA_KEY_TTL_MS` is in
        milliseconds, as the guide's `dataKeyTTL`.

        Args:
            environ: read instead of the process's own environment.

        Raises:
            ConfigurationError: a variable is missing or cannot be used; its name is in the text.
        """
        return cls._of(_settings.from_environ(os.environ if environ is None else environ))

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Return what the product's TOML file says: `[estate] [keys.*] [endpoints.*] [core]`.

        Relative paths in it count from its folder.

        Raises:
            ConfigurationError: the file cannot be used; what is wrong is named.
        """
        others = {
            one.name: one.default for one in fields(cls) if isinstance(one.default, bool | int | float | str | tuple)
        }
        return cls._of(_settings.from_toml(Path(path), others=others))

    @classmethod
    def _of(cls, read: _settings.Fields) -> Self:
        try:
            keys = {purpose: KeyConfig(**key) for purpose, key in read.keys.items()}
            return cls(keys=keys, **read.core)
        except TypeError as e:  # a text where a number belongs, or a key without its alias
            raise ConfigurationError(f"a setting is missing or of the wrong kind: {e}") from e

    def __post_init__(self) -> None:
        self._check_regions()
        self._check_keys()
        self._check_numbers()
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))
        object.__setattr__(self, "endpoints", MappingProxyType(dict(self.endpoints)))
        object.__setattr__(self, "sts_endpoints", MappingProxyType(dict(self.sts_endpoints)))

    @property
    def partition(self) -> str:
        """The AWS partition that the home region is in."""
        prefixes = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
        return next((name for prefix, name in prefixes.items() if self.home_region.startswith(prefix)), "aws")

    @property
    def region_order(self) -> tuple[str, ...]:
        """Every region once, in the order in which they are tried when all are well."""
        first = self.region_preference or (self.home_region,)
        return tuple(dict.fromkeys((*first, *self.regions)))

    @property
    def fixed_regions(self) -> int:
        """How many of `region_order` come first whatever was measured: those that somebody named."""
        return len(self.region_preference) or 1

    def _check_regions(self) -> None:
        if not _ACCOUNT.fullmatch(self.account_id):
            raise ConfigurationError(f"account_id must be 12 digits, not {self.account_id!r}")
        if self.role_arn is not None and not _ROLE.fullmatch(self.role_arn):
            raise ConfigurationError(f"role_arn must be arn:aws:iam::ACCOUNT:role/NAME, not {self.role_arn!r}")
        if not self.regions or len(set(self.regions)) != len(self.regions):
            raise ConfigurationError("regions must name at least one region, and none twice")
        for region in self.regions:
            if not _REGION.fullmatch(region):
                raise ConfigurationError(f"regions must be AWS region names, not {region!r}")
        for name, named in (
            ("home_region", (self.home_region,)),
            ("region_preference", self.region_preference),
            ("primary_region", (self.primary_region,) if self.primary_region is not None else ()),
            ("endpoints", tuple(self.endpoints)),
            ("sts_endpoints", tuple(self.sts_endpoints)),
        ):
            if unknown := sorted(set(named) - set(self.regions)):
                raise ConfigurationError(f"{name} names {unknown[0]}, which is not in regions")

    def strict(self, purpose: str) -> bool:
        """Return whether the state of the key of `purpose` in one region decides for all."""
        configured = self.keys[purpose].strict_key_state
        return purpose == "payment" if configured is None else configured

    def _check_keys(self) -> None:
        if not self.keys:
            raise ConfigurationError("keys must name at least one purpose")
        for purpose in self.keys:
            if not _PURPOSE.fullmatch(purpose):
                raise ConfigurationError(f"a purpose is 1 to 64 of a-z, 0-9, _ and -, not {purpose!r}")
        for name, values in (
            ("alias", [key.alias for key in self.keys.values()]),
            ("key_id", [key.key_id for key in self.keys.values() if key.key_id is not None]),
        ):
            if len(set(values)) != len(values):
                raise ConfigurationError(f"two purposes have the same {name}: each needs a key of its own")

    def _check_numbers(self) -> None:
        if self.edk_arn not in get_args(Literal["response", "primary"]):
            raise ConfigurationError(f"edk_arn must be response or primary, not {self.edk_arn!r}")
        if self.edk_arn == "primary" and self.primary_region is None:
            raise ConfigurationError('edk_arn="primary" needs primary_region')
        if not 0 < self.stale_max_age_seconds <= _MAX_STALE_SECONDS:
            raise ConfigurationError(f"stale_max_age_seconds must be above 0 and at most {_MAX_STALE_SECONDS:.0f}")
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
