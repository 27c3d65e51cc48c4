"""When the daemon starts something by itself, again and again, and `[cloudwatch.proof]`, which it may start so."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kms_watchdog.drills.slots import ALARM_PROOF, DAYS, Every, Plan

_LAST_PORT = 65535


class Slot(BaseModel):
    """Again and again, at a moment in UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    every: Every = "month"
    day: int = Field(ge=1, le=28)  # of the month; of the week 1 (Monday) to 7
    at: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")  # UTC
    window_days: int = Field(default=7, ge=1, le=27)  # how late it may begin, and how long a refused one is tried again
    again_after_abort: bool = False  # whether one that was interrupted is run again within the window
    enabled: bool = True

    @model_validator(mode="after")
    def _fits_its_period(self) -> Self:
        for name, value, limit in (
            ("day", self.day, DAYS[self.every]),
            ("window_days", self.window_days, DAYS[self.every] - 1),
        ):
            if value > limit:
                raise ValueError(f"{name} must be at most {limit} with every = {self.every!r}, not {value}")
        return self

    def plan(self, name: str, what: str, **more: Any) -> Plan:
        """Return it as the ledger of slots wants it."""
        return Plan(
            name=name,
            drill=what,
            every=self.every,
            day=self.day,
            at=time.fromisoformat(self.at),
            window=timedelta(days=self.window_days),
            again_after_abort=self.again_after_abort,
            **more,
        )


class Proof(BaseModel):
    """How `kms-alarms prove` is told what reaches a subscriber, and when the daemon starts it by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # It listens there while it proves; port 0 is a free one.
    listen: str = Field(default="127.0.0.1:0", pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$")
    url: str | None = Field(default=None, pattern=r"^https?://[^\s@]+$")  # at which SNS reaches it; None: as it listens
    told_within_seconds: float = Field(default=60.0, gt=0, le=3600)
    slot: Slot | None = None  # None: the daemon starts none

    @field_validator("listen")
    @classmethod
    def _is_a_port(cls, value: str) -> str:
        if int(value.rpartition(":")[2]) > _LAST_PORT:
            raise ValueError(f"a port is 0 to {_LAST_PORT}")
        return value

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The proof that is to run, as the ledger of slots wants it; none, where it is not configured."""
        if self.slot is None or not self.slot.enabled:
            return ()
        return (self.slot.plan(ALARM_PROOF, ALARM_PROOF, task=ALARM_PROOF),)
