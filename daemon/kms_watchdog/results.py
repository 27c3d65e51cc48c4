"""What a canary says: a frozen value with three answers, OK, FAILED and BLIND."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self


class Outcome(StrEnum):
    """A canary that could not ask is BLIND: neither for nor against the objective (DESIGN §6)."""

    OK = "OK"
    FAILED = "FAILED"
    BLIND = "BLIND"


class Mode(StrEnum):
    """Whose traffic a number tells of."""

    LIVE = "live"
    DRILL = "drill"


class Kind(StrEnum):
    """The closed list of canaries: one question each; the values are those of the metrics' `canary` label."""

    ROUND_TRIP = "round_trip"  # region, key: sealed and opened in one region
    CROSS_REGION = "cross_region"  # pair, key: sealed in the first region, opened in the second
    FAILOVER_PATH = "failover_path"  # home region, key: as the application uses the core, cache and failover included
    GOLDEN = "golden"  # region, key: what was sealed days and rotations ago still opens
    MUST_FAIL_CORE = "must_fail_core"  # home region, key: the core refuses before it asks
    MUST_FAIL_KMS = "must_fail_kms"  # region, key: KMS itself refuses
    APPLICATION_ACCESS = "application_access"  # region, key: roles may what they should, and nothing else
    COLD_CONNECTION = "cold_connection"  # region: name, connection, TLS, certificate
    CLOCK_OFFSET = "clock_offset"  # region: our clock against KMS's
    ALARM_PATH = "alarm_path"  # region that gets metrics: would somebody be woken
    KEY_STATE = "key_state"  # region, key: state, alias, rotation, deletion
    REPLICA_DRIFT = "replica_drift"  # region, key: as configured
    HEADROOM = "headroom"  # region: how far from being throttled


class Reason(StrEnum):
    """Why a canary did not say OK: the closed list. Those of FAILED are values of the metrics' `result` label."""

    ERROR = "error"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    DENIED = "denied"
    MISMATCH = "mismatch"  # what came back is not what was sealed
    ACCEPTED_MUST_REFUSE = "accepted_must_refuse"  # what had to be refused was not: pages at once
    WRONG_REFUSAL = "wrong_refusal"  # refused, but not for the reason that proves anything
    ASKED_KMS = "asked_kms"  # the core let KMS refuse what it must refuse itself
    ACCESS_MISSING = "access_missing"  # a role may not use its own key
    ACCESS_EXCESS = "access_excess"  # a role may use a key that is not its own
    KEY_UNUSABLE = "key_unusable"  # not Enabled
    PENDING_DELETION = "pending_deletion"
    ALIAS_WRONG = "alias_wrong"  # missing, or leads elsewhere
    ROTATION_OFF = "rotation_off"
    DRIFT = "drift"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    CERTIFICATE_EXPIRES = "certificate_expires"
    CLOCK_OFF = "clock_off"
    ALARM_MISSING = "alarm_missing"
    ALARM_DIFFERS = "alarm_differs"  # not as rendered, or its actions are off
    TOPIC_MISSING = "topic_missing"
    TOPIC_REFUSES = "topic_refuses"  # its policy does not let CloudWatch speak to it
    NO_SUBSCRIBER = "no_subscriber"  # none that has confirmed
    HEADROOM_LOW = "headroom_low"
    NO_CREDENTIALS = "no_credentials"  # BLIND: could not even ask
    OWN_DEADLINE = "own_deadline"  # BLIND: the canary's time was spent before it could ask
    CRASHED = "crashed"  # BLIND: the canary itself is broken
    UNREADABLE = "unreadable"  # BLIND: what it judges could not be read


PAIR = ":"
"""Joins two regions: `us-east-1:eu-west-1` is sealed in the first, opened in the second."""

Fact = str | float | bool


def pair(sealed_in: str, opened_in: str) -> str:
    """Return the `region` of a canary that looks at two regions, in this order."""
    return f"{sealed_in}{PAIR}{opened_in}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult:
    """One look at one thing."""

    canary: str
    """One of `Kind`, e.g. `round_trip`."""
    region: str
    """The region it asked; of two, both (`pair`)."""
    key: str
    """Purpose, never an ARN; empty for canaries that ask about a region alone."""
    mode: Mode
    outcome: Outcome
    reason: Reason | None = None
    error_code: str = ""
    """KMS's own code, or the core's name for a fault of the connection; empty when OK."""
    request_id: str = ""
    started_at_utc: datetime
    duration_seconds: float
    steps: Mapping[str, float] = field(default_factory=dict)
    """Seconds by step, e.g. `seal`, `open`."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """What it saw besides the answer, by names that its canary documents; sinks make gauges of them."""
    detail: str = ""
    """What is wrong, in one line for who mends it: names and states, never bytes, contexts or credentials."""
    run_id: str = ""
    """The drill that ran it; empty for live canaries."""

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.OK) is not (self.reason is None):
            raise ValueError("a result that is not OK has a reason, and only such a result")

    @property
    def regions(self) -> tuple[str, ...]:
        """The region it asked, or the two."""
        return tuple(self.region.split(PAIR))

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values, the form it has in logs and journals."""
        return {
            "canary": self.canary,
            "region": self.region,
            "key": self.key,
            "mode": str(self.mode),
            "outcome": str(self.outcome),
            "reason": str(self.reason) if self.reason else None,
            "error_code": self.error_code,
            "request_id": self.request_id,
            "started_at_utc": self.started_at_utc.isoformat(),
            "duration_seconds": round(self.duration_seconds, 6),
            "steps": {name: round(seconds, 6) for name, seconds in self.steps.items()},
            "facts": dict(self.facts),
            "detail": self.detail,
            "run_id": self.run_id,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the result that `to_json` wrote.

        Raises:
            KeyError, ValueError: a field is missing or says something unknown.
        """
        return cls(
            canary=values["canary"],
            region=values["region"],
            key=values["key"],
            mode=Mode(values["mode"]),
            outcome=Outcome(values["outcome"]),
            reason=Reason(values["reason"]) if values["reason"] else None,
            error_code=values["error_code"],
            request_id=values["request_id"],
            started_at_utc=datetime.fromisoformat(values["started_at_utc"]),
            duration_seconds=float(values["duration_seconds"]),
            steps=dict(values["steps"]),
            facts=dict(values.get("facts", {})),  # journals and histories of version 0.1 have neither
            detail=values.get("detail", ""),
            run_id=values["run_id"],
        )
