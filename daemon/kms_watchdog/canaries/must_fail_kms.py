"""Does KMS itself refuse what it must refuse, in this region? The core is kept out of it: it would refuse first."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from kms_core import Core
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError, KmsDeniedError, MessageError
from kms_core.message import EncryptedDataKey, encrypted_data_keys
from kms_core.taxonomy import WRONG_ANSWER, WRONG_LENGTH
from kms_watchdog.canaries.finding import CREDENTIAL_CODES, Finding, answer, could_not_ask, failed, from_error, past
from kms_watchdog.canaries.round_trip import PLAINTEXT_BYTES
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.config import CANARY_CONTEXT
from kms_watchdog.results import CanaryResult, Kind, Outcome, Reason

INVALID_CIPHERTEXT = "InvalidCiphertextException"
INCORRECT_KEY = "IncorrectKeyException"
OPENED_CODES = frozenset({WRONG_ANSWER, WRONG_LENGTH})
"""The core does not believe such an answer, but an answer it is: KMS has opened what it was given."""
KEPT_OUT_CODES = CREDENTIAL_CODES | {
    "AccessDeniedException",
    "DisabledException",
    "KMSInvalidStateException",
    "NotFoundException",
    "InvalidGrantTokenException",
    "LimitExceededException",
    "ParamValidationError",
    # AWS KMS API Reference, "Common Errors": those that are about the request, not about what is to be opened
    "IncompleteSignature",
    "MalformedHttpRequestException",
    "NotAuthorized",
    "OptInRequired",
    "RequestAbortedException",
    "RequestEntityTooLargeException",
    "RequestTimeoutException",
    "UnknownOperationException",
}
"""KMS looked at who asks or at the state of the key, or was never asked: not at what it must refuse."""


@dataclass(frozen=True, slots=True)
class MustFailKms:
    """Have a data key wrapped in the region, then ask the region to unwrap it in ways it must refuse, pinned.

    Each way has exactly one right answer: another pair of the context (with `canary=true` kept, or a policy would
    refuse, and not the cryptography): InvalidCiphertextException; the key of another purpose: IncorrectKeyException;
    one bit changed: InvalidCiphertextException. Whatever kept KMS from looking at it is BLIND. The door gives no key
    back, whatever KMS says. Steps: `seal`, then `context`, `bit`, `key`.
    """

    region: str
    purpose: str
    other_purpose: str | None = None
    """Whose key is asked instead; None: there is but one purpose, and that way is left out."""
    deadline_seconds: float = 10.0
    entropy: Callable[[int], bytes] = field(default=os.urandom, repr=False, compare=False)
    """Gives that many random bytes: the plaintext is synthetic, never anybody's data."""

    @property
    def kind(self) -> str:
        """Name in the closed list of canaries."""
        return Kind.MUST_FAIL_KMS

    @property
    def context(self) -> dict[str, str]:
        """The encryption context; `canary=true` is what policies confine the watchdog to."""
        return {**CANARY_CONTEXT, "kind": self.kind, "purpose": self.purpose, "region": self.region}

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        """Ask once; errors of the core become results."""
        steps = Steps(clock)
        return answer(self, steps, self._ask(core, steps))

    def _ask(self, core: Core, steps: Steps) -> Finding:
        try:
            with steps.step("seal"):
                message = core.pinned(self.region).encrypt(
                    self.entropy(PLAINTEXT_BYTES), purpose=self.purpose, context=self.context
                )
        except KmsCoreError as e:
            return could_not_ask(e)
        (wrapped,) = encrypted_data_keys(message)
        for way in _ways(wrapped, self.context, self.other_purpose):
            if steps.elapsed_seconds() > self.deadline_seconds:
                return past(self.deadline_seconds, Outcome.BLIND)
            with steps.step(way.name):
                finding = self._try(core, way)
            if finding.reason is not None:
                return finding
        return Finding()

    def _try(self, core: Core, way: _Way) -> Finding:
        door = core.pinned(self.region)
        try:
            door.unwrap(way.wrapped, way.context, purpose=self.purpose, key_of=way.key_of)
        except KmsCoreError as e:
            return judged(e, way.expected)
        return failed(Reason.ACCEPTED_MUST_REFUSE, detail=f"KMS unwrapped it; {way.expected} is due")


@dataclass(frozen=True, slots=True)
class _Way:
    """One question that KMS must refuse, and how."""

    name: str
    wrapped: EncryptedDataKey
    context: Mapping[str, str]
    expected: str
    key_of: str | None = None


def _ways(wrapped: EncryptedDataKey, context: Mapping[str, str], other_purpose: str | None) -> tuple[_Way, ...]:
    another = {**context, "region": f"{context['region']}-not"}
    # The last byte is of the tag, which KMS checks last: before that, it must have found key and form in order.
    changed = replace(wrapped, ciphertext=wrapped.ciphertext[:-1] + bytes([wrapped.ciphertext[-1] ^ 1]))
    ways = (_Way("context", wrapped, another, INVALID_CIPHERTEXT), _Way("bit", changed, context, INVALID_CIPHERTEXT))
    if other_purpose is None:
        return ways
    return (*ways, _Way("key", wrapped, context, INCORRECT_KEY, other_purpose))  # last: it may be disabled by itself


def judged(error: KmsCoreError, expected: str) -> Finding:
    """Return what `error` says where KMS must answer with the code `expected`, and nothing else."""
    code = error.error_code
    if isinstance(error, MessageError) and code == expected:
        return Finding()
    if code in OPENED_CODES:
        return _failure(error, Reason.ACCEPTED_MUST_REFUSE, expected)
    if isinstance(error, MessageError | KmsDeniedError) and _is_a_word_on_what_was_asked(code):
        return _failure(error, Reason.WRONG_REFUSAL, expected)
    return could_not_ask(error)


def _is_a_word_on_what_was_asked(code: str) -> bool:
    """Return whether KMS itself said `code`, and about what it was to open; a bare number is a proxy's status."""
    return bool(code) and not code.isdecimal() and code not in KEPT_OUT_CODES


def _failure(error: KmsCoreError, reason: Reason, expected: str) -> Finding:
    found = from_error(error)
    return replace(
        found, outcome=Outcome.FAILED, reason=reason, detail=f"KMS answered {found.error_code}; {expected} is due"
    )
