"""Does encryption work as the application uses it: cache, region order and failover included?"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError
from kms_watchdog.canaries.finding import Finding, answer, failed, from_error, past
from kms_watchdog.canaries.round_trip import OTHER_BYTES, PLAINTEXT_BYTES
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.config import CANARY_CONTEXT
from kms_watchdog.results import CanaryResult, Fact, Kind, Reason


@dataclass(frozen=True, slots=True)
class FailoverPath:
    """Seal and open synthetic bytes by `Core.encrypt` and `Core.decrypt`, from the home region.

    Green while any region can serve the key: that a region is down is for its round trips to say. The context is the
    same in every look, so the cache has its part, as it has in the application. Steps: `seal`, `open`.

    Facts: `requests`, how many requests to KMS this look has made; 0 says that the cache had both data keys.
    """

    region: str
    """The home region."""
    purpose: str
    deadline_seconds: float = 10.0
    entropy: Callable[[int], bytes] = field(default=os.urandom, repr=False, compare=False)
    """Gives that many random bytes: the plaintext is synthetic, never anybody's data."""

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.FAILOVER_PATH

    @property
    def context(self) -> dict[str, str]:
        """The encryption context; `canary=true` is what policies confine the watchdog to."""
        return {**CANARY_CONTEXT, "kind": self.kind, "purpose": self.purpose}

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Ask once; errors of the core become results."""
        steps = Steps(clock)
        with core.requests_made() as requests:
            try:
                finding = self._ask(core, steps)
            except KmsCoreError as e:
                finding = from_error(e)
        if finding.reason is None and steps.elapsed_seconds() > self.deadline_seconds:
            finding = past(self.deadline_seconds)
        facts: dict[str, Fact] = {"requests": float(len(requests))}
        return answer(self, steps, finding, facts)

    def _ask(self, core: Core, steps: Steps) -> Finding:
        plaintext = self.entropy(PLAINTEXT_BYTES)
        with steps.step("seal"):
            message = core.encrypt(plaintext, purpose=self.purpose, context=self.context)
        if steps.elapsed_seconds() > self.deadline_seconds:
            return past(self.deadline_seconds)
        with steps.step("open"):
            opened = core.decrypt(message, purpose=self.purpose, context=self.context)
        return Finding() if opened == plaintext else failed(Reason.MISMATCH, detail=OTHER_BYTES)
