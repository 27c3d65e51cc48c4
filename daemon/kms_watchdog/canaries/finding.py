"""What an error of the crypto core means to a canary, and how its answer becomes a result: pure, one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kms_core.errors import ClosedError, KmsCoreError, KmsDeniedError, KmsUnavailableError, MessageError
from kms_core.taxonomy import NO_CREDENTIALS_IN_TIME, STALE_CREDENTIALS
from kms_watchdog.canaries.canary import Canary
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.results import CanaryResult, Fact, Mode, Outcome, Reason

TIMEOUT_CODES = frozenset({"ConnectTimeout", "ReadTimeout", "Deadline"})
THROTTLING_CODES = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
        "LimitExceededException",
    }
)
CREDENTIAL_CODES = STALE_CREDENTIALS | {
    NO_CREDENTIALS_IN_TIME,
    "NoCredentials",
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
}
"""Codes that say who asks is unknown: KMS never heard the question, so the canary is blind, not the key broken."""
DEADLINE = "Deadline"
"""The error code of a look that took longer than its canary's deadline."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one look, without the where and when."""

    outcome: Outcome = Outcome.OK
    reason: Reason | None = None
    error_code: str = ""
    request_id: str = ""
    detail: str = ""
    """As `CanaryResult.detail`."""


def failed(reason: Reason, error_code: str = "", detail: str = "") -> Finding:
    """Return a failure that the canary itself found."""
    return Finding(Outcome.FAILED, reason, error_code, detail=detail)


def from_error(error: KmsCoreError) -> Finding:
    """Return what `error` means: sorted by the error's family first, by KMS's own code second."""
    code = error.error_code or type(error).__name__
    request_id = error.attempts[-1].request_id if error.attempts else ""
    outcome, reason = _meaning(error, code)
    return Finding(outcome, reason, code, request_id, _in_words(error))


def could_not_ask(error: KmsCoreError) -> Finding:
    """Return BLIND for an `error` that kept the canary from asking its question, with the reason it has elsewhere."""
    return replace(from_error(error), outcome=Outcome.BLIND)


def past(deadline_seconds: float, outcome: Outcome = Outcome.FAILED) -> Finding:
    """Return what a look is that took longer than its canary's deadline, however it ended."""
    return Finding(outcome, Reason.TIMEOUT, DEADLINE, detail=f"took longer than {deadline_seconds:g} s")


def answer(canary: Canary, steps: Steps, finding: Finding, facts: Mapping[str, Fact] | None = None) -> CanaryResult:
    """Return the live result of a look that ends now; its detail begins with the step that the look has stopped at."""
    if finding.reason is not None:
        finding = replace(finding, detail=": ".join(part for part in (steps.current, finding.detail) if part))
    return result_of(canary, steps, finding, facts)


def result_of(canary: Canary, steps: Steps, finding: Finding, facts: Mapping[str, Fact] | None = None) -> CanaryResult:
    """Return the live result of a look that ends now, and found this."""
    return CanaryResult(
        canary=canary.kind,
        region=canary.region,
        key=canary.purpose,
        mode=Mode.LIVE,
        outcome=finding.outcome,
        reason=finding.reason,
        error_code=finding.error_code,
        request_id=finding.request_id,
        started_at_utc=steps.started_at_utc,
        duration_seconds=steps.elapsed_seconds(),
        steps=steps.seconds,
        facts=facts or {},
        detail=finding.detail,
    )


def _meaning(error: KmsCoreError, code: str) -> tuple[Outcome, Reason]:
    if isinstance(error, ClosedError):
        return Outcome.BLIND, Reason.CRASHED  # we are stopping: it says nothing about KMS
    if code in CREDENTIAL_CODES:
        return Outcome.BLIND, Reason.NO_CREDENTIALS
    if isinstance(error, MessageError):
        return Outcome.FAILED, Reason.MISMATCH
    if isinstance(error, KmsDeniedError):
        return Outcome.FAILED, Reason.DENIED
    if isinstance(error, KmsUnavailableError) and code in TIMEOUT_CODES:
        return Outcome.FAILED, Reason.TIMEOUT
    return Outcome.FAILED, Reason.THROTTLED if code in THROTTLING_CODES else Reason.ERROR


def _in_words(error: KmsCoreError) -> str:
    """Return `error` in one line; of a message, also where it was refused, which the error's own text withholds."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, MessageError):
        return text
    asked = "; ".join(str(attempt) for attempt in error.attempts)
    return f"{text}: {asked}" if asked else f"{text}: refused at its {error.step}"
