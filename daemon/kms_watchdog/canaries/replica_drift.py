"""Is this key in this region as configured? KMS keeps policy, tags, state, description and alias apart by region."""

from __future__ import annotations

from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.canaries.estate_look import Answer, Budget, TimedReader, look, one_line
from kms_watchdog.canaries.finding import Finding, failed
from kms_watchdog.estate.desired import DesiredKey
from kms_watchdog.estate.diff import Field, diff_region
from kms_watchdog.estate.observed import KeyReader, observe_region
from kms_watchdog.results import CanaryResult, Kind, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaDrift:
    """Compare one key in one region with the configuration.

    Facts: `drift_<field>`, 1 or 0, for each `estate.diff.Field`.
    """

    region: str
    wanted: DesiredKey = field(repr=False)
    reader: KeyReader = field(repr=False, compare=False)
    deadline_seconds: float = 10.0

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.REPLICA_DRIFT

    @property
    def purpose(self) -> str:
        """Of the key."""
        return self.wanted.purpose

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Look once."""
        key_id = core.health().keys.get(self.purpose)
        return look(self, clock, lambda budget: self._ask(budget, key_id))

    def _ask(self, budget: Budget, key_id: str | None) -> Answer:
        found = observe_region(self.wanted, TimedReader(self.reader, budget), self.region, key_id)
        differences = diff_region(self.wanted, self.region, found, key_id)
        differing = {each.field for each in differences}
        return Answer(
            finding=failed(Reason.DRIFT) if differences else Finding(),
            facts={f"drift_{name}": float(name in differing) for name in Field},
            detail=one_line(tuple(f"{each.field}: {each.what}" for each in differences)),
        )
