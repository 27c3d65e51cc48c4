"""What of `[drills]` keeps drills harmless: when, where and by whose leave they run, and the lease that admits one."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from kms_watchdog.drills.windows import DAY_NAMES, MINUTES_A_DAY, Blocked, DayName, Window, parse_blocked

_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00")
_ARN = re.compile(r"arn:aws[a-z-]*:(iam|sts)::\d{12}:[\x21-\x7e]{1,512}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_LEAST_WINDOW_MINUTES = 15  # the shortest shipped drill takes some minutes; a window below that admits nobody


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def minute_of(text: str) -> int:
    """Return the minute of the day that `HH:MM` names, 1440 for 24:00.

    Raises:
        ValueError: it is no time of day.
    """
    if not _TIME.fullmatch(text):
        raise ValueError(f"should be HH:MM in UTC, such as 09:00, or 24:00 at the end, not {text!r}")
    return int(text[:2]) * 60 + int(text[3:])


class DrillWindow(_Section):
    """A span of the day, in UTC, in which drills may run; one that it ends during is aborted."""

    days: Annotated[tuple[DayName, ...], Field(strict=False, min_length=1)] = DAY_NAMES  # of the week
    from_: str = Field(alias="from")  # HH:MM in UTC
    to: str  # HH:MM in UTC, or 24:00; later than `from`

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        begins, ends = minute_of(self.from_), minute_of(self.to)
        if begins == MINUTES_A_DAY or ends <= begins:
            raise ValueError(
                f"a window ends after it begins, on the same day: {self.from_} to {self.to}; over midnight it is two"
            )
        if ends - begins < _LEAST_WINDOW_MINUTES:
            raise ValueError(f"a window of less than {_LEAST_WINDOW_MINUTES} minutes admits no drill")
        if len(set(self.days)) != len(self.days):
            raise ValueError("days must not repeat")
        return self

    @model_serializer(mode="wrap")
    def _as_it_is_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"from" if name == "from_" else name: value for name, value in handler(self).items()}

    @property
    def window(self) -> Window:
        """It as the calendar wants it."""
        return Window(
            days=frozenset(DAY_NAMES.index(day) for day in self.days),
            begins_minute=minute_of(self.from_),
            ends_minute=minute_of(self.to),
        )


class StandingApproval(_Section):
    """Leave for a drill to be started by the schedule, again and again, until a day."""

    drill: str = Field(min_length=1)  # its name
    region: str | None = None  # None: whichever region the drill or its slot names
    approved_by: str  # ARN of the person, or of the role, who is not the one that drills run as
    until: str  # YYYY-MM-DD, that day included, in UTC
    reason: str = Field(min_length=1, max_length=500)

    @field_validator("approved_by")
    @classmethod
    def _is_somebody(cls, value: str) -> str:
        if not _ARN.fullmatch(value):
            raise ValueError(f"the ARN of an IAM or STS identity, not {value!r}")
        return value

    @field_validator("region")
    @classmethod
    def _is_a_region(cls, value: str | None) -> str | None:
        return _checked_region(value)

    @field_validator("until")
    @classmethod
    def _is_a_day(cls, value: str) -> str:
        try:
            date.fromisoformat(value)
        except ValueError as e:
            raise ValueError(f"should be YYYY-MM-DD, that day included, not {value!r}") from e
        return value


class LeaseTable(_Section):
    """The DynamoDB table that lets one drill at a time run in the estate, on whichever machine."""

    table: str
    region: str  # a drill that hurts it is refused: the lease would be lost with it
    ttl_seconds: float = Field(default=60.0, ge=20, le=3600)  # renewed every third; a holder that is silent loses it

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, value: str) -> str:
        if not _TABLE.fullmatch(value):
            raise ValueError(f"a table's name, 3 to 255 of letters, digits and _.-, not {value!r}")
        return value

    @field_validator("region")
    @classmethod
    def _is_a_region(cls, value: str) -> str:
        return str(_checked_region(value))


def _checked_region(value: str | None) -> str | None:
    if value is not None and not _REGION.fullmatch(value):
        raise ValueError(f"an AWS region, such as us-east-1, not {value!r}")
    return value


def checked_accounts(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return `values`, account ids.

    Raises:
        ValueError: one is none.
    """
    for value in values:
        if not re.fullmatch(r"\d{12}", value):
            raise ValueError(f"12 digits each, in quotes, not {value!r}")
    return values


def checked_endpoints(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return `values`, each HOST:PORT.

    Raises:
        ValueError: one is none.
    """
    for value in values:
        if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:/\s]+):\d{1,5}", value):
            raise ValueError(f"should be HOST:PORT each, such as kms.us-east-1.amazonaws.com:443, not {value!r}")
    return values


def blocked_days(values: tuple[str, ...]) -> tuple[Blocked, ...]:
    """Return the days that `values` name, each `YYYY-MM-DD` or `YYYY-MM-DD/YYYY-MM-DD`.

    Raises:
        ValueError: one names none.
    """
    return tuple(parse_blocked(value) for value in values)
