"""Faults of the API, switched at run time: error answers and slow answers per service, region, operation and key."""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, dataclass, field
from typing import Any

from kms_local.wire.errors import ServiceError
from kms_local.wire.params import Params

_ANY = "*"
_MAX_LATENCY_MS = 600_000
_MESSAGES = {
    "ThrottlingException": "Rate exceeded",
    "AccessDeniedException": "User is not authorized to perform this operation",
    "KMSInternalException": "An internal error occurred",
    "DependencyTimeoutException": "The request timed out",
    "KeyUnavailableException": "The key is not available",
}
_STATUS = {  # every other code is the client's mistake: 400, ThrottlingException too
    "KMSInternalException": 500,
    "KeyUnavailableException": 500,
    "InternalFailure": 500,
    "InternalServiceFault": 500,
    "DependencyTimeoutException": 503,
    "ServiceUnavailable": 503,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to the requests that match: `*` matches everything, `rate` is the share that is hit."""

    service: str = _ANY
    region: str = _ANY
    operation: str = _ANY
    key_id: str = _ANY
    error_code: str = ""  # "" = no error
    latency_ms: int = 0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.latency_ms <= _MAX_LATENCY_MS:
            raise ValueError(f"latency_ms must be in 0..{_MAX_LATENCY_MS}, not {self.latency_ms}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be in 0..1, not {self.rate}")
        if not self.error_code and not self.latency_ms:
            raise ValueError("a fault needs error_code or latency_ms")

    def matches(self, *, service: str, region: str, operation: str, key_id: str) -> bool:
        """Say whether this fault is meant for such a request; a key may be named by id, inside an ARN too."""
        return (
            self.service in {_ANY, service}
            and self.region in {_ANY, region}
            and self.operation in {_ANY, operation}
            and (self.key_id == _ANY or self.key_id in key_id)
        )


def parse_fault(members: dict[str, Any]) -> Fault:
    """Read a fault from JSON.

    Raises:
        ValueError: an unknown member, a wrong type or a value out of range.
    """
    unknown = members.keys() - set(Fault.__slots__)
    if unknown:
        raise ValueError(f"unknown member {min(unknown)}")
    params = Params(members)
    try:
        texts = {name: params.optional_text(name) for name in Fault.__slots__ if name not in {"latency_ms", "rate"}}
        latency, rate = params.integer("latency_ms", low=0, high=_MAX_LATENCY_MS, default=0), params.number("rate")
    except ServiceError as e:
        raise ValueError("a member has the wrong type or is out of range") from e
    given = {name: text for name, text in texts.items() if text is not None}
    return Fault(**given, latency_ms=latency or 0, rate=1.0 if rate is None else rate)


@dataclass(slots=True)
class Faults:
    """The faults that are on, by number."""

    rng: random.Random
    _active: dict[int, Fault] = field(default_factory=dict)
    _last: int = 0

    def add(self, fault: Fault) -> int:
        """Switch a fault on and return its number."""
        self._last += 1
        self._active[self._last] = fault
        return self._last

    def clear(self) -> None:
        """Switch every fault off."""
        self._active.clear()

    def active(self) -> list[dict[str, Any]]:
        """Return what is on, oldest first."""
        return [{"id": number, **asdict(fault)} for number, fault in self._active.items()]

    async def suffer(self, *, service: str, region: str, operation: str, key_id: str = "") -> None:
        """Wait as the matching faults say, then raise the first one's error, if any has one."""
        if not self._active:
            return
        hits = [
            fault
            for fault in self._active.values()
            if fault.matches(service=service, region=region, operation=operation, key_id=key_id)
            and self.rng.random() < fault.rate
        ]
        if latency_ms := sum(fault.latency_ms for fault in hits):
            await asyncio.sleep(latency_ms / 1000)
        for fault in hits:
            if fault.error_code:
                raise _error(fault.error_code)


def _error(code: str) -> ServiceError:
    return ServiceError(code, _MESSAGES.get(code, ""), status=_STATUS.get(code, 400))
