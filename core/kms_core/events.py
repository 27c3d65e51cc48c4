"""What the core tells an `Observer`: frozen values, no key material, no context, no metrics library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from kms_core.overrides import RegionOverride

BreakerState = Literal["closed", "open", "half_open"]
BreakerCause = Literal["failures", "slow", "probe_failed", "probe_succeeded", "cooldown_over", "forced", "expired"]
CoreOperation = Literal["encrypt", "decrypt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to one region ended."""

    region: str
    operation: str
    """The KMS operation: `GenerateDataKey`, `Decrypt` or `DescribeKey`."""
    purpose: str
    seconds: float
    error_code: str
    """Empty for success; else KMS's own code or the core's name for a fault of the connection."""
    request_id: str
    pinned: bool
    """Whether `Core.pinned` asked, so neither cache nor failover had a part in it."""
    cross_region: bool = False
    """Whether it went out to another region than the one where the process runs."""
    refusal_wanted: bool = False
    """Whether `PinnedCore.unwrap` asked, whose callers want KMS to refuse: such an error is no trouble."""
    retry: bool = False
    """Whether it followed a failed one of the same call, in the same region or another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedOver:
    """A call goes on in another region after a failure; `operation` is KMS's."""

    from_region: str
    to_region: str
    operation: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedged:
    """A request to `region` was late, and the same was asked of `other`; one of them answered."""

    region: str
    other: str
    operation: str
    purpose: str
    won: bool
    """Whether `other` was faster; the attempt at `region` then has the code `HedgeLost`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerMoved:
    """A region's breaker changed its state."""

    region: str
    old: BreakerState
    new: BreakerState
    cause: BreakerCause


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLookup:
    """The data-key cache was asked; `operation` is the core's, `encrypt` or `decrypt`."""

    purpose: str
    operation: CoreOperation
    hit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyQuarantined:
    """One key in one region is left out for `seconds`, because of its state there; the region itself is not."""

    region: str
    purpose: str
    error_code: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRefreshed:
    """A data key's successor was fetched ahead of time, or could not be; `operation` is the core's."""

    purpose: str
    operation: CoreOperation
    error_code: str
    """Empty for success; else the last attempt's, as in `Attempt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleKeyUsed:
    """No region was available, and a data key was used beyond its time (`CoreConfig.stale_if_unavailable`)."""

    purpose: str
    operation: CoreOperation
    age_seconds: float
    """Since KMS gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverridesChanged:
    """People have changed what they say about regions."""

    source: str
    overrides: tuple[RegionOverride, ...]
    """All that are in force now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverridesUnreadable:
    """What people say about regions cannot be read any more; told once, until it can be again."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountNotVerified:
    """At the start, no STS said whose the credentials are (`CoreConfig.verify_account`); the core goes on."""

    account_id: str
    """The one that is configured."""
    reason: str


Event = (
    Attempt
    | FailedOver
    | Hedged
    | BreakerMoved
    | CacheLookup
    | CacheRefreshed
    | StaleKeyUsed
    | KeyQuarantined
    | OverridesChanged
    | OverridesUnreadable
    | AccountNotVerified
)


class Observer(Protocol):
    """Who wants to know.

    Called from the threads that call the core and from its own, possibly several at once, never under one of its locks.
    An observer that raises never hurts the caller; one that blocks does.
    """

    def on_event(self, event: Event) -> None:
        """Take note of `event`."""
        ...
