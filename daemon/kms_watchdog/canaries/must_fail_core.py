"""Does the crypto core refuse by itself what it must refuse, without KMS having a part in it?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kms_core import Core
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError, MessageError, Step
from kms_core.kms import DESCRIBE_KEY
from kms_core.message import WRITTEN_START, parse_header
from kms_watchdog.canaries.finding import Finding, answer, could_not_ask, failed, from_error, past
from kms_watchdog.canaries.round_trip import OTHER_BYTES, PLAINTEXT_BYTES
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.config import CANARY_CONTEXT
from kms_watchdog.results import CanaryResult, Fact, Kind, Outcome, Reason

TRIES = 2
"""A data key may leave the cache in the instant between a good opening and the attempt after it: once, not twice."""


@dataclass(frozen=True, slots=True)
class MustFailCore:
    """Offer `Core.decrypt` messages that it must refuse, and see that it refuses them where it should, by itself.

    Another context and another purpose are refused from what stands in the message. A changed message id, header tag
    or frame is refused by the commitment, by the header's tag and by the frame's, for which the core needs the data
    key: so the message is opened first, and its data key is in the cache. (A changed bit of the wrapped key is not
    among them: only KMS can refuse that.) Steps: `seal`, `open`, then `context`, `purpose`, `message_id`,
    `header_tag`, `frame`.

    Facts: `refusals`, how many ways were tried and refused.
    """

    region: str
    """The home region, where the core of this process is; it may have asked any for the data key."""
    purpose: str
    other_purpose: str | None = None
    """Under which it is offered too; None: there is but one, and that way is left out."""
    deadline_seconds: float = 10.0
    entropy: Callable[[int], bytes] = field(default=os.urandom, repr=False, compare=False)
    """Gives that many random bytes: the plaintext is synthetic, never anybody's data."""

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.MUST_FAIL_CORE

    @property
    def context(self) -> dict[str, str]:
        """The encryption context; `canary=true` is what policies confine the watchdog to."""
        return {**CANARY_CONTEXT, "kind": self.kind, "purpose": self.purpose}

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Ask once; errors of the core become results."""
        steps, refused = Steps(clock), list[str]()
        finding = self._look(core, steps, refused)
        facts: dict[str, Fact] = {"refusals": float(len(refused))}
        return answer(self, steps, finding, facts)

    def _look(self, core: Core, steps: Steps, refused: list[str]) -> Finding:
        """Go through all ways until one is not as it must be; those that are go into `refused`."""
        plaintext = self.entropy(PLAINTEXT_BYTES)
        try:
            with steps.step("seal"):
                message = core.encrypt(plaintext, purpose=self.purpose, context=self.context)
            with steps.step("open"):
                opened = core.decrypt(message, purpose=self.purpose, context=self.context)
        except MessageError as e:
            return from_error(e)  # what the core refuses even in order proves nothing by being refused
        except KmsCoreError as e:
            return could_not_ask(e)
        if opened != plaintext:
            return failed(Reason.MISMATCH, detail=OTHER_BYTES)
        for way in _ways(message, self.purpose, self.context, self.other_purpose):
            if steps.elapsed_seconds() > self.deadline_seconds:
                return past(self.deadline_seconds, Outcome.BLIND)
            with steps.step(way.name):
                finding = self._try(core, message, way)
            if finding.reason is not None:
                return finding
            refused.append(way.name)
        return Finding()

    def _try(self, core: Core, message: bytes, way: _Way) -> Finding:
        asked: list[str] = []
        for _ in range(TRIES):
            try:
                core.decrypt(message, purpose=self.purpose, context=self.context)  # the data key is at hand from here
            except KmsCoreError as e:
                return could_not_ask(e)
            with core.requests_made() as requests:
                finding = _offer(core, way)
            asked = [operation for operation in requests if operation != DESCRIBE_KEY]  # how a purpose learns its key
            if not asked or finding.reason is Reason.ACCEPTED_MUST_REFUSE:
                return finding
        return failed(Reason.ASKED_KMS, detail=f"the core asked KMS: {', '.join(asked)}")


@dataclass(frozen=True, slots=True)
class _Way:
    """One thing that the core must refuse, and where."""

    name: str
    message: bytes
    purpose: str
    context: Mapping[str, str]
    expected: Step


def _ways(message: bytes, purpose: str, context: Mapping[str, str], other_purpose: str | None) -> tuple[_Way, ...]:
    another = {**context, "purpose": f"{purpose}-not"}
    by_context = (_Way("context", message, purpose, another, Step.CONTEXT),)
    by_purpose = () if other_purpose is None else (_Way("purpose", message, other_purpose, context, Step.KEY),)
    header_bytes = len(parse_header(message).body)
    return (
        *by_context,
        *by_purpose,
        _Way("message_id", _flipped(message, len(WRITTEN_START)), purpose, context, Step.COMMITMENT),
        _Way("header_tag", _flipped(message, header_bytes), purpose, context, Step.HEADER_TAG),
        _Way("frame", _flipped(message, len(message) - 1), purpose, context, Step.FRAME),
    )


def _flipped(message: bytes, at: int) -> bytes:
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


def _offer(core: Core, way: _Way) -> Finding:
    try:
        core.decrypt(way.message, purpose=way.purpose, context=way.context)
    except MessageError as e:
        if e.step is way.expected:
            return Finding()
        said = f"refused at its {e.step}; its {way.expected} is due"
        return failed(Reason.WRONG_REFUSAL, e.error_code or type(e).__name__, said)
    except KmsCoreError as e:
        return could_not_ask(e)
    return failed(Reason.ACCEPTED_MUST_REFUSE, detail=f"it opened; a refusal at its {way.expected} is due")
