"""What an error of the crypto core means to a canary: pure, one table."""

from __future__ import annotations

from dataclasses import dataclass

from kms_core.errors import ClosedError, KmsCoreError, KmsDeniedError, KmsUnavailableError, MessageError
from kms_watchdog.results import Outcome, Reason

TIMEOUT_CODES = frozenset({"ConnectTimeout", "ReadTimeout", "Deadline"})
THROTTLING_CODES = frozenset(
    {"ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "LimitExceededException"}
)
CREDENTIAL_CODES = frozenset(
    {
        "NoCredentials",
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)
"""Codes that say who asks is unknown: KMS never heard the question, so the canary is blind, not the key broken."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one look, without the where and when."""

    outcome: Outcome = Outcome.OK
    reason: Reason | None = None
    error_code: str = ""
    request_id: str = ""


def failed(reason: Reason, error_code: str = "") -> Finding:
    """Return a failure that the canary itself found."""
    return Finding(Outcome.FAILED, reason, error_code)


def from_error(error: KmsCoreError) -> Finding:
    """Return what `error` means: sorted by the error's family first, by KMS's own code second."""
    code = error.error_code or type(error).__name__
    request_id = error.attempts[-1].request_id if error.attempts else ""
    outcome, reason = _meaning(error, code)
    return Finding(outcome, reason, code, request_id)


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
