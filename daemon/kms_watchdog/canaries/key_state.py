"""Is this key in this region what the application needs: there, enabled, behind its alias, rotating?"""

from __future__ import annotations

from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.canaries.estate_look import Answer, Budget, TimedReader, look
from kms_watchdog.canaries.finding import Finding, failed
from kms_watchdog.estate.kms_admin import KeyInRegion
from kms_watchdog.estate.observed import (
    ENABLED,
    GONE_STATES,
    UPDATING,
    KeyReader,
    alias_target_of,
    key_of,
    rotation,
)
from kms_watchdog.results import CanaryResult, Fact, Kind, Reason

MISSING = "Missing"
"""The fact `state` where the key is not there."""
USABLE_STATES = frozenset({ENABLED, UPDATING})
"""Cryptography goes on while the primary moves (aws.md §3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """Look at one key in one region, by its alias and by the id under which the application uses it.

    Facts: `state` (KMS's KeyState, or Missing), `key_id` (empty if unknown), `primary` (whether it is the primary),
    `usable` (1 or 0), `rotation_enabled` (1 or 0; absent while KMS does not say), `deletion_timestamp` (POSIX seconds;
    0 is none).
    """

    region: str
    purpose: str
    alias: str
    reader: KeyReader = field(repr=False, compare=False)
    deadline_seconds: float = 10.0

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.KEY_STATE

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Look once."""
        key_id = core.health().keys.get(self.purpose)
        return look(self, clock, lambda budget: self._ask(budget, key_id))

    def _ask(self, budget: Budget, key_id: str | None) -> Answer:
        reader = TimedReader(self.reader, budget)
        target = alias_target_of(reader, self.region, self.alias)
        name = key_id or (target.key_id if target else None)
        key = key_of(reader, self.region, name, target) if name else None
        rotates = None if key is None else rotation(reader, key)
        leads_to = target.key_id if target else None
        return Sight(alias=self.alias, key_id=key_id, target=leads_to, key=key, rotates=rotates).answer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a look has seen."""

    alias: str
    key_id: str | None
    """Under which the application uses the key; None: nobody knows yet."""
    target: str | None
    """The key that the alias leads to; None: it does not exist."""
    key: KeyInRegion | None
    """The key itself; None: it is not there."""
    rotates: bool | None
    """None: KMS does not say."""

    def answer(self) -> Answer:
        """Return the worst that is wrong: what is about to be lost for good comes first."""
        reason, detail = self._of_key() or self._of_alias() or self._of_rotation() or (None, "")
        return Answer(finding=failed(reason) if reason else Finding(), facts=self._facts(), detail=detail)

    def _of_key(self) -> tuple[Reason, str] | None:
        if self.key is None:
            return (Reason.KEY_UNUSABLE, f"{self.key_id} is not there") if self.key_id else None
        if self.key.state in GONE_STATES:
            at_utc = self.key.deletion_at_utc
            when = f", gone at {at_utc:%Y-%m-%d %H:%M} UTC" if at_utc else ""
            return Reason.PENDING_DELETION, f"{self.key.key_id} is {self.key.state}{when}"
        if self.key.state not in USABLE_STATES:
            return Reason.KEY_UNUSABLE, f"{self.key.key_id} is {self.key.state}"
        return None

    def _of_alias(self) -> tuple[Reason, str] | None:
        if self.target is None:
            return Reason.ALIAS_WRONG, f"{self.alias} does not exist"
        if self.key_id is not None and self.target != self.key_id:
            return Reason.ALIAS_WRONG, f"{self.alias} leads to {self.target}; the application uses {self.key_id}"
        return None

    def _of_rotation(self) -> tuple[Reason, str] | None:
        return (Reason.ROTATION_OFF, "its rotation is off") if self.rotates is False else None

    def _facts(self) -> dict[str, Fact]:
        key = self.key
        deletion_at_utc = key.deletion_at_utc if key else None
        known: dict[str, Fact] = {
            "state": key.state if key else MISSING,
            "key_id": key.key_id if key else self.key_id or "",
            "primary": key is not None and key.multi_region_type == "PRIMARY",
            "usable": float(key is not None and key.state in USABLE_STATES),
            "deletion_timestamp": deletion_at_utc.timestamp() if deletion_at_utc else 0.0,
        }
        return known if self.rotates is None else {**known, "rotation_enabled": float(self.rotates)}
