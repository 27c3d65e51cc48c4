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


class Reason(StrEnum):
    """Why a canary did not say OK: the closed list; the values are those of the metrics' `result` label."""

    ERROR = "error"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    DENIED = "denied"
    MISMATCH = "mismatch"  # what came back is not what was sealed
    NO_CREDENTIALS = "no_credentials"  # BLIND: could not even ask
    OWN_DEADLINE = "own_deadline"  # BLIND: the canary's time was spent before it could ask
    CRASHED = "crashed"  # BLIND: the canary itself is broken


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult:
    """One look at one thing."""

    canary: str
    """Kind, from the closed list of canaries, e.g. `round_trip`."""
    region: str
    key: str
    """Purpose, never an ARN."""
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
    run_id: str = ""
    """The drill that ran it; empty for live canaries."""

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.OK) is not (self.reason is None):
            raise ValueError("a result that is not OK has a reason, and only such a result")

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
            run_id=values["run_id"],
        )
