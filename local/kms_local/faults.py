"""Faults of the API, switched at run time, per service, region, operation and key.

A fault selects requests and has effects on them: an error, a delay, an answer cut short, a key that looks as if it were
in another state. `docs/local-aws-faults.md` describes every member.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from kms_local.clock import Clock
from kms_local.kms.keys import KeyState
from kms_local.wire.errors import ServiceError
from kms_local.wire.exchange import Cut, answer_cut

_ANY = "*"
_MAX_LATENCY_MS = 600_000
_MAX_SECONDS = 30 * 86_400.0
_MAX_CUT = 2**31
_ENDS = ("fin", "rst")
_STATUSES = range(400, 600)
_KEY_OPERATIONS = frozenset(  # what a key's state decides about, and where it shows
    {"Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "DescribeKey"}
)
_KEY_STATES = tuple(state.value for state in KeyState if state is not KeyState.ENABLED)
_MESSAGES = {
    "ThrottlingException": "Rate exceeded",
    "Throttling": "Rate exceeded",
    "AccessDeniedException": "User is not authorized to perform this operation",
    "AccessDenied": "User is not authorized to perform this operation",
    "AuthorizationError": "User is not authorized to perform this operation",
    "KMSInternalException": "An internal error occurred",
    "DependencyTimeoutException": "The request timed out",
    "KeyUnavailableException": "The key is not available",
}
_STATUS = {  # every other code is the client's mistake: 400, ThrottlingException and KMS's AccessDeniedException too
    "KMSInternalException": 500,
    "KeyUnavailableException": 500,
    "InternalError": 500,
    "InternalFailure": 500,
    "InternalServiceError": 500,
    "InternalServiceFault": 500,
    "DependencyTimeoutException": 503,
    "ServiceUnavailable": 503,
    "ServiceUnavailableException": 503,
    "AccessDenied": 403,
    "AuthorizationError": 403,
    "OptInRequired": 403,
    "Throttled": 429,
}
_THROTTLED = {"kms": "ThrottlingException"}  # what each service calls a request too many; the others say `Throttling`
_INTERNAL = {"kms": "KMSInternalException", "cloudwatch": "InternalServiceError", "sns": "InternalError"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to the requests that match: `*` matches everything.

    Raises:
        ValueError: a member is out of range, or nothing would happen; the text names the member.
    """

    service: str = _ANY
    region: str = _ANY
    operation: str = _ANY
    key_id: str = _ANY
    """A key id, a key ARN, or an alias as name or ARN: the key it points to when a request comes."""
    rate: float = 1.0
    """The share of the matching requests that is hit, at random."""
    per_second: float | None = None
    """Hit only what exceeds so many requests a second."""
    times: int | None = None
    """End after so many hits."""
    seconds: float | None = None
    """End so long after it was switched on."""
    error_code: str = ""
    status: int | None = None
    """The HTTP status of the error; the code's own if None."""
    latency_ms: int = 0
    jitter_ms: int = 0
    """Each delay is between latency - jitter and latency + jitter."""
    truncate_at: int | None = None
    """Cut the answer after so many bytes of its body, and the connection with it."""
    truncate_head: bool = False
    """Count those bytes from the status line on, and send no body."""
    truncate_with: str = "fin"
    key_state: str = ""
    """The state that keys seem to be in, for cryptography and DescribeKey; nothing is changed."""

    def __post_init__(self) -> None:
        _check_range("rate", self.rate, 0, 1)
        _check_range("per_second", self.per_second, 0, 1e6)
        _check_range("times", self.times, 1, _MAX_CUT)
        _check_range("seconds", self.seconds, 0, _MAX_SECONDS)
        _check_range("status", self.status, _STATUSES.start, _STATUSES.stop - 1)
        _check_range("latency_ms", self.latency_ms, 0, _MAX_LATENCY_MS)
        _check_range("jitter_ms", self.jitter_ms, 0, _MAX_LATENCY_MS)
        _check_range("truncate_at", self.truncate_at, 0, _MAX_CUT)
        _check_choice("truncate_with", self.truncate_with, _ENDS)
        if self.key_state:
            _check_choice("key_state", self.key_state, _KEY_STATES)
            _check_choice("service", self.service, ("kms", _ANY))
            _check_choice("operation", self.operation, (*sorted(_KEY_OPERATIONS), _ANY))
        self._check_effects()

    def _check_effects(self) -> None:
        if self.status is not None and self.status < 500 and not self.error_code:  # noqa: PLR2004  HTTP's own border
            raise ValueError("status below 500 needs error_code")
        if self.truncate_head and self.truncate_at is None:
            raise ValueError("truncate_head needs truncate_at")
        others = self.latency_ms or self.jitter_ms or self.truncate_at is not None or self.key_state
        if not (self.fails or others):
            raise ValueError("a fault needs error_code, status, per_second, latency_ms, truncate_at or key_state")

    @property
    def fails(self) -> bool:
        """Whether the requests it hits are answered with an error."""
        limits_only = self.per_second is not None and not (
            self.latency_ms or self.jitter_ms or self.truncate_at is not None or self.key_state
        )
        return bool(self.error_code) or self.status is not None or limits_only

    def matches(self, *, service: str, region: str, operation: str, key_names: Callable[[], Collection[str]]) -> bool:
        """Say whether this fault is meant for such a request.

        Args:
            service: `kms`, `cloudwatch`, `sns` or `sts`.
            region: where it came.
            operation: its name.
            key_names: returns every name of every key that it uses; asked only if this fault is about a key.
        """
        return (
            self.service in {_ANY, service}
            and self.region in {_ANY, region}
            and self.operation in {_ANY, operation}
            and (not self.key_state or (service == "kms" and operation in _KEY_OPERATIONS))
            and (self.key_id == _ANY or self.key_id in key_names())
        )

    def error(self, service: str) -> ServiceError:
        """Return the error that the requests of `service` are answered with."""
        code = self.error_code
        if not code and self.status is not None:
            code = _INTERNAL.get(service, "InternalFailure")
        code = code or _THROTTLED.get(service, "Throttling")
        status = _STATUS.get(code, 400) if self.status is None else self.status
        return ServiceError(code, _MESSAGES.get(code, ""), status=status)

    def cut(self) -> Cut | None:
        """Return where the answer is cut off, None if it is not."""
        if self.truncate_at is None:
            return None
        return Cut(at=self.truncate_at, in_head=self.truncate_head, reset=self.truncate_with == "rst")


def _check_range(member: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:  # NaN is never in a range
        raise ValueError(f"{member} must be in {low:g}..{high:g}, not {value}")


def _check_choice(member: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise ValueError(f"{member} must be one of {', '.join(choices)}, not {value!r}")


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(Fault.__slots__, (str, "a string")),
    **dict.fromkeys(("rate", "per_second", "seconds"), ((int, float), "a number")),
    **dict.fromkeys(("times", "status", "latency_ms", "jitter_ms", "truncate_at"), (int, "an integer")),
    "truncate_head": (bool, "true or false"),
}
_DEFAULTS = {one.name: one.default for one in fields(Fault) if one.default is not MISSING}


def parse_fault(members: Mapping[str, Any]) -> Fault:
    """Read a fault from JSON; null stands for a member that was not given.

    Raises:
        ValueError: an unknown member, a wrong type or a value out of range; the text names the member.
    """
    given = {name: value for name, value in members.items() if value is not None}
    for name, value in given.items():
        if name not in _KINDS:
            raise ValueError(f"there is no member {name!r}; there are {', '.join(_KINDS)}")
        kind, words = _KINDS[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{name} must be {words}, not {value!r:.100}")
    return Fault(**given)


@dataclass(frozen=True, slots=True)
class Fate:
    """What faults have decided about a request that may go on."""

    key_states: tuple[tuple[str, KeyState], ...] = ()
    """Which keys (`*`: all of the region) seem to be in which state."""


_SPARED = Fate()


@dataclass(slots=True)
class _Active:
    """A fault that is on, and what is left of it."""

    fault: Fault
    until: float  # on the monotonic clock
    tokens: float
    refilled_at: float
    hits: int = 0

    def over(self, now: float) -> bool:
        return now >= self.until or (self.fault.times is not None and self.hits >= self.fault.times)

    def hit(self, rng: random.Random, now: float) -> bool:
        """Decide whether a matching request is hit, and count it."""
        if self.fault.rate < 1 and rng.random() >= self.fault.rate:
            return False
        if self.fault.per_second is not None and self._within_limit(self.fault.per_second, now):
            return False
        self.hits += 1
        return True

    def _within_limit(self, per_second: float, now: float) -> bool:
        """Take a token from a bucket that holds those of one second, one at least."""
        full = _bucket(per_second)
        self.tokens = min(full, self.tokens + (now - self.refilled_at) * per_second)
        self.refilled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def _bucket(per_second: float | None) -> float:
    return 0.0 if not per_second else max(1.0, per_second)


@dataclass(slots=True)
class Faults:
    """The faults that are on, by number."""

    rng: random.Random
    clock: Clock
    _active: dict[int, _Active] = field(default_factory=dict)
    _last: int = 0

    def add(self, fault: Fault) -> int:
        """Switch a fault on and return its number."""
        now = self.clock.monotonic()
        self._last += 1
        self._active[self._last] = _Active(
            fault,
            until=math.inf if fault.seconds is None else now + fault.seconds,
            tokens=_bucket(fault.per_second),
            refilled_at=now,
        )
        return self._last

    def remove(self, number: int) -> bool:
        """Switch one off; return whether it was on."""
        self._end_what_is_over()
        return self._active.pop(number, None) is not None

    def clear(self) -> None:
        """Switch every fault off."""
        self._active.clear()

    def active(self) -> list[dict[str, Any]]:
        """Return what is on, oldest first: members that were given, hits so far, seconds left."""
        now = self._end_what_is_over()
        return [_described(number, active, now) for number, active in self._active.items()]

    async def suffer(
        self, *, service: str, region: str, operation: str, key_names: Callable[[], Collection[str]] = tuple
    ) -> Fate:
        """Wait as the matching faults say, have the answer cut if one says so, and raise the first one's error.

        Args:
            service: `kms`, `cloudwatch`, `sns` or `sts`.
            region: where the request came.
            operation: its name.
            key_names: returns every name of every key that it uses.

        Returns:
            What the operation itself must know.

        Raises:
            ServiceError: the first error that a matching fault asks for.
        """
        if not self._active:
            return _SPARED
        now = self._end_what_is_over()
        hits = [
            active.fault
            for active in self._active.values()
            if active.fault.matches(service=service, region=region, operation=operation, key_names=key_names)
            and active.hit(self.rng, now)
        ]
        if delay := sum(self._delay_ms(fault) for fault in hits):
            await asyncio.sleep(delay / 1000)
        for fault in hits:
            if cut := fault.cut():
                answer_cut.set(cut)
        for fault in hits:
            if fault.fails:
                raise fault.error(service)
        return Fate(tuple((fault.key_id, KeyState(fault.key_state)) for fault in hits if fault.key_state))

    def _delay_ms(self, fault: Fault) -> float:
        jitter = self.rng.uniform(-fault.jitter_ms, fault.jitter_ms) if fault.jitter_ms else 0.0
        return max(0.0, fault.latency_ms + jitter)

    def _end_what_is_over(self) -> float:
        now = self.clock.monotonic()
        for number in [number for number, active in self._active.items() if active.over(now)]:
            del self._active[number]
        return now


def _described(number: int, active: _Active, now: float) -> dict[str, Any]:
    members = {name: value for name, value in asdict(active.fault).items() if value != _DEFAULTS[name]}
    left = {} if math.isinf(active.until) else {"seconds_left": round(active.until - now, 3)}
    return {"id": number, **members, "hits": active.hits, **left}
