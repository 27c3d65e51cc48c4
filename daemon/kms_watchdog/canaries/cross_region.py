"""Does a key work across regions: does what is sealed in one open in another? What multi-Region keys are for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError
from kms_watchdog.canaries.finding import Finding, answer, could_not_ask, failed, from_error, past
from kms_watchdog.canaries.round_trip import OTHER_BYTES, PLAINTEXT_BYTES
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.config import CANARY_CONTEXT
from kms_watchdog.results import CanaryResult, Kind, Outcome, Reason, pair


@dataclass(frozen=True, slots=True)
class CrossRegion:
    """Seal synthetic bytes in one region and open them in another, each pinned: no cache, no failover.

    Its question is whether the second region opens what the first sealed. If the first cannot seal, nobody could ask:
    BLIND, with the reason that the first region's own round trip has too. Steps: `seal`, `open`.
    """

    sealed_in: str
    opened_in: str
    purpose: str
    deadline_seconds: float = 10.0
    entropy: Callable[[int], bytes] = field(default=os.urandom, repr=False, compare=False)
    """Gives that many random bytes: the plaintext is synthetic, never anybody's data."""

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.CROSS_REGION

    @property
    def region(self) -> str:
        """Both regions, in the order in which they are asked."""
        return pair(self.sealed_in, self.opened_in)

    @property
    def context(self) -> dict[str, str]:
        """The encryption context; `canary=true` is what policies confine the watchdog to."""
        return {**CANARY_CONTEXT, "kind": self.kind, "purpose": self.purpose, "region": self.region}

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Ask once; errors of the core become results."""
        steps = Steps(clock)
        return answer(self, steps, self._ask(core, steps))

    def _ask(self, core: Core, steps: Steps) -> Finding:
        plaintext = self.entropy(PLAINTEXT_BYTES)
        try:
            with steps.step("seal"):
                message = core.pinned(self.sealed_in).encrypt(plaintext, purpose=self.purpose, context=self.context)
        except KmsCoreError as e:
            return could_not_ask(e)
        if steps.elapsed_seconds() > self.deadline_seconds:
            return past(self.deadline_seconds, Outcome.BLIND)
        try:
            with steps.step("open"):
                opened = core.pinned(self.opened_in).decrypt(message, purpose=self.purpose, context=self.context)
        except KmsCoreError as e:
            return from_error(e)
        if opened != plaintext:
            return failed(Reason.MISMATCH, detail=OTHER_BYTES)
        return past(self.deadline_seconds) if steps.elapsed_seconds() > self.deadline_seconds else Finding()
