"""Does what was sealed long ago still open, in this region: hours, days, weeks ago, and before the last rotation?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError, MessageError, Step
from kms_watchdog import golden_ladder
from kms_watchdog.canaries.finding import Finding, answer, could_not_ask, failed, from_error, past
from kms_watchdog.canaries.round_trip import OTHER_BYTES, PLAINTEXT_BYTES
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.config import CANARY_CONTEXT
from kms_watchdog.golden_store import GoldenError, GoldenMessage, GoldenStore
from kms_watchdog.key_rotations import KeyRotations
from kms_watchdog.results import CanaryResult, Fact, Kind, Outcome, Reason

ANOTHER_KEY = "it was sealed under another key than this purpose has now"


@dataclass(frozen=True, slots=True)
class Golden:
    """Open kept messages in one region, pinned: no cache, no failover. Messages are of all regions, and of all ages.

    Up to five are opened, as many as there are: `newest`, `day` (a day old), `weeks` (two or more), `rotation` (from
    before the key's last rotation), `oldest`; these are the steps, and the first that does not open ends the look.
    Once an hour, when all was well, a new one is sealed and kept (`seal`); the time that takes is not the answer's.
    With nothing kept yet, one is sealed, opened (`newest`) and kept; a region that cannot seal the first one leaves
    nothing to open: BLIND.

    Facts: `messages`, `oldest_age_seconds`, `newest_age_seconds`; `rotations_spanned`, how many rotations of the key
    there were since the oldest, where KMS has listed them.
    """

    region: str
    purpose: str
    store: GoldenStore = field(repr=False, compare=False)
    rotations: KeyRotations = field(repr=False, compare=False)
    lists_rotations: bool = False
    """Whether this one asks KMS for them: in the primary region alone, so that none waits for another region."""
    deadline_seconds: float = 10.0
    entropy: Callable[[int], bytes] = field(default=os.urandom, repr=False, compare=False)
    """Gives that many random bytes: the plaintext is synthetic, never anybody's data."""

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.GOLDEN

    @property
    def context(self) -> dict[str, str]:
        """The encryption context of new messages; `canary=true` is what policies confine the watchdog to."""
        return {**CANARY_CONTEXT, "kind": self.kind, "purpose": self.purpose}

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Ask once; errors of the core become results."""
        steps, now = Steps(clock), clock.now_utc().timestamp()
        try:
            created = self.store.created(self.purpose)
            if not created:
                return self._first(core, steps, now)
            finding = self._open_all(core, steps, created, now)
        except GoldenError as e:
            return answer(self, steps, Finding(Outcome.BLIND, Reason.UNREADABLE, detail=str(e)))
        if finding.reason is None and steps.elapsed_seconds() > self.deadline_seconds:
            finding = past(self.deadline_seconds)
        if finding.reason is None:
            self._prepare(core, steps, created, now)
        return answer(self, steps, finding, self._facts(created, now))

    def _first(self, core: Core, steps: Steps, now: float) -> CanaryResult:
        """Seal, open and keep the first message there is."""
        try:
            made = self._seal(core, steps, now)
        except KmsCoreError as e:
            return answer(self, steps, could_not_ask(e))
        finding = self._open(core, steps, "newest", made, now)
        if finding.reason is None:
            self.store.keep(made)
        if finding.reason is None and steps.elapsed_seconds() > self.deadline_seconds:
            finding = past(self.deadline_seconds)
        return answer(self, steps, finding, self._facts((now,), now))

    def _open_all(self, core: Core, steps: Steps, created: Sequence[float], now: float) -> Finding:
        rotations = self.rotations.known(self.purpose) or ()
        for name, at in golden_ladder.chosen(created, now=now, rotations=rotations).items():
            if steps.elapsed_seconds() > self.deadline_seconds:
                return past(self.deadline_seconds)
            kept = self.store.read(self.purpose, at)
            if kept is None:
                continue  # let go of since we looked
            finding = self._open(core, steps, name, kept, now)
            if finding.reason is not None:
                return finding
        return Finding()

    def _open(self, core: Core, steps: Steps, name: str, kept: GoldenMessage, now: float) -> Finding:
        try:
            with steps.step(name):
                opened = core.pinned(self.region).decrypt(kept.message, purpose=self.purpose, context=kept.context)
        except KmsCoreError as e:
            return _about(kept, now, from_error(e), ANOTHER_KEY if _is_of_another_key(e) else "")
        if hashlib.sha256(opened).digest() != kept.digest:
            return _about(kept, now, failed(Reason.MISMATCH, detail=OTHER_BYTES))
        return Finding()

    def _prepare(self, core: Core, steps: Steps, created: Sequence[float], now: float) -> None:
        """Do for later looks what has no part in this one's answer: learn of rotations, seal and keep one more.

        That a region cannot seal is its round trip's to say, and another one will.
        """
        if self.lists_rotations and (key_id := core.health().keys[self.purpose]) is not None:
            self.rotations.refresh(self.purpose, key_id)
        if not golden_ladder.is_due(created, now=now):
            return
        try:
            self.store.keep(self._seal(core, steps, now))
        except KmsCoreError:
            return

    def _seal(self, core: Core, steps: Steps, now: float) -> GoldenMessage:
        plaintext = self.entropy(PLAINTEXT_BYTES)
        with steps.step("seal"):
            message = core.pinned(self.region).encrypt(plaintext, purpose=self.purpose, context=self.context)
        return GoldenMessage(
            purpose=self.purpose,
            created=now,
            sealed_in=self.region,
            context=self.context,
            digest=hashlib.sha256(plaintext).digest(),
            message=message,
        )

    def _facts(self, created: Sequence[float], now: float) -> dict[str, Fact]:
        facts: dict[str, Fact] = {
            "messages": float(len(created)),
            "oldest_age_seconds": max(0.0, now - min(created)),
            "newest_age_seconds": max(0.0, now - max(created)),
        }
        rotations = self.rotations.known(self.purpose)
        if rotations is not None:
            facts["rotations_spanned"] = float(golden_ladder.spanned(min(created), rotations))
        return facts


def _is_of_another_key(error: KmsCoreError) -> bool:
    return isinstance(error, MessageError) and error.step is Step.KEY


def _about(kept: GoldenMessage, now: float, finding: Finding, instead: str = "") -> Finding:
    """Return `finding` with which message it is about, and `instead` of its words where that says more."""
    hours = max(0.0, now - kept.created) / golden_ladder.HOUR
    detail = f"sealed in {kept.sealed_in} {hours:.1f} hours ago: {instead or finding.detail}"
    return Finding(finding.outcome, finding.reason, finding.error_code, finding.request_id, detail)
