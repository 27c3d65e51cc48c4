"""What the core tells an `Observer`: frozen values, no key material, no context, no metrics library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

BreakerState = Literal["closed", "open", "half_open"]
BreakerCause = Literal["failures", "slow", "probe_failed", "probe_succeeded", "cooldown_over", "forced"]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedOver:
    """A call goes on in another region after a failure; `operation` is KMS's."""

    from_region: str
    to_region: str
    operation: str
    purpose: str


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


Event = Attempt | FailedOver | BreakerMoved | CacheLookup | KeyQuarantined


class Observer(Protocol):
    """Who wants to know.

    Called from the threads that call the core, possibly several at once, never under one of the core's locks.
    An observer that raises never hurts the caller; one that blocks does.
    """

    def on_event(self, event: Event) -> None:
        """Take note of `event`."""
        ...
