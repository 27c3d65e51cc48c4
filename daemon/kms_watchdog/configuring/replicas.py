"""`[replicas]`: the places from which several watchdogs look at one estate, and which of them this is."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Place = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
MOST_MEMBERS = 64
"""Each is an alarm of its own; an estate has as many places as it has regions, or some more."""


class Replicas(BaseModel):
    """Who shares the canaries; `sharding.Shared`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # All places, the same list in each; none: one watchdog looks at everything.
    members: Annotated[tuple[Place, ...], Field(strict=False, max_length=MOST_MEMBERS)] = ()
    place: Place | None = None  # which of members this process is; its container says KMS_WATCHDOG__REPLICAS__PLACE
    watchers: int = Field(default=2, ge=2, le=MOST_MEMBERS)  # places that look at each canary: one may die unnoticed

    @field_validator("members")
    @classmethod
    def _are_told_apart(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("members must not repeat")
        return value

    @model_validator(mode="after")
    def _is_a_member(self) -> Self:
        if self.members and self.place is None:
            raise ValueError(f"place is missing: it says which of {', '.join(self.members)} this watchdog is")
        if self.place is not None and self.place not in self.members:
            raise ValueError(f"place must be one of members ({', '.join(self.members) or 'there are none'})")
        return self
