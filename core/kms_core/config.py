"""The core's configuration: a frozen value, wrong at birth or right for ever."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kms_core.errors import ConfigurationError

_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
_KEY_ID = re.compile(r"mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

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
    strict_key_state: bool = False
    """True: a key that is disabled in the region asked is refused, though another region might still open it."""

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
    """Plaintext bytes in a frame of a sealed message; a multiple of 128 is what every SDK can write too."""
    accept_legacy_suites: bool = False
    """Open messages of format version 1 with key derivation; they are not bound to one key by a commitment."""

    def __post_init__(self) -> None:
        self._check_regions()
        self._check_keys()
        self._check_numbers()
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))
        object.__setattr__(self, "endpoints", MappingProxyType(dict(self.endpoints)))

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

    def _check_regions(self) -> None:
        if not _ACCOUNT.fullmatch(self.account_id):
            raise ConfigurationError(f"account_id must be 12 digits, not {self.account_id!r}")
        if not self.regions or len(set(self.regions)) != len(self.regions):
            raise ConfigurationError("regions must name at least one region, and none twice")
        for region in self.regions:
            if not _REGION.fullmatch(region):
                raise ConfigurationError(f"regions must be AWS region names, not {region!r}")
        for name, named in (
            ("home_region", (self.home_region,)),
            ("region_preference", self.region_preference),
            ("endpoints", tuple(self.endpoints)),
        ):
            if unknown := sorted(set(named) - set(self.regions)):
                raise ConfigurationError(f"{name} names {unknown[0]}, which is not in regions")

    def _check_keys(self) -> None:
        if not self.keys:
            raise ConfigurationError("keys must name at least one purpose")
        for purpose in self.keys:
            if not _PURPOSE.fullmatch(purpose):
                raise ConfigurationError(f"a purpose is 1 to 64 of a-z, 0-9, _ and -, not {purpose!r}")

    def _check_numbers(self) -> None:
        for name in _POSITIVE_SECONDS:
            if not 0 < getattr(self, name) <= 86_400:  # noqa: PLR2004 - seconds in a day
                raise ConfigurationError(f"{name} must be above 0 and at most a day, not {getattr(self, name)}")
        for name, low, high in (
            ("max_encryptions_per_key", 1, 2**32),
            ("circuit_breaker_threshold", 1, 100),
            ("max_retries", 0, 20),
            ("max_encrypted_data_keys", 1, 65_535),
            ("frame_length", 1, 2**31 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigurationError(f"{name} must be {low} to {high}, not {getattr(self, name)}")
