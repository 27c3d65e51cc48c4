"""Does a round trip work: what is sealed under this key in this region opens there, unchanged and in time?"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError
from kms_watchdog.canaries.finding import Finding, answer, failed, from_error, past
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.config import CANARY_CONTEXT
from kms_watchdog.results import CanaryResult, Kind, Reason

PLAINTEXT_BYTES = 64
OTHER_BYTES = "it opened, to other bytes than were sealed"


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Seal and open synthetic bytes in one region: no cache, no failover (`Core.pinned`)."""

    region: str
    purpose: str
    deadline_seconds: float = 10.0
    entropy: Callable[[int], bytes] = field(default=os.urandom, repr=False, compare=False)
    """Gives that many random bytes: the plaintext is synthetic, never anybody's data."""

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.ROUND_TRIP

    @property
    def context(self) -> dict[str, str]:
        """The encryption context; `canary=true` is what policies confine the watchdog to."""
        return {**CANARY_CONTEXT, "purpose": self.purpose, "region": self.region}

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Ask once; errors of the core become results."""
        steps = Steps(clock)
        try:
            finding = self._ask(core, steps)
        except KmsCoreError as e:
            finding = from_error(e)
        if finding.reason is None and steps.elapsed_seconds() > self.deadline_seconds:
            finding = past(self.deadline_seconds)
        return answer(self, steps, finding)

    def _ask(self, core: Core, steps: Steps) -> Finding:
        door = core.pinned(self.region)
        plaintext = self.entropy(PLAINTEXT_BYTES)
        with steps.step("seal"):
            message = door.encrypt(plaintext, purpose=self.purpose, context=self.context)
        if steps.elapsed_seconds() > self.deadline_seconds:
            return past(self.deadline_seconds)  # opening would only hold the region's thread longer
        with steps.step("open"):
            opened = door.decrypt(message, purpose=self.purpose, context=self.context)
        return Finding() if opened == plaintext else failed(Reason.MISMATCH, detail=OTHER_BYTES)
