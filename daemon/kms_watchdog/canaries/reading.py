"""What an error of AWS means to a canary that only reads: it could not see, so it is blind. Pure, one table."""

from __future__ import annotations

from kms_watchdog.aws import error_code, trouble
from kms_watchdog.canaries.finding import CREDENTIAL_CODES, Finding
from kms_watchdog.results import Outcome, Reason

_TIMEOUTS = frozenset({"ConnectTimeoutError", "ReadTimeoutError"})
_NO_CREDENTIALS = CREDENTIAL_CODES | {"InvalidAccessKeyId", "UnauthorizedSSOTokenError"}


def from_aws_error(error: Exception) -> Finding:
    """Return BLIND, and why, for a call through `kms_watchdog.aws` that raised one of `AwsError`.

    An answer that says "not there" is no such error: who asks for a thing looks at its codes first.
    """
    code = error_code(error)
    return Finding(Outcome.BLIND, _reason(error, code), code, _request_id(error), _asked(error))


def _reason(error: Exception, code: str) -> Reason:
    if code in _NO_CREDENTIALS or "Credential" in code:
        return Reason.NO_CREDENTIALS
    if code in _TIMEOUTS:
        return Reason.TIMEOUT
    match trouble(error):
        case "throttled":
            return Reason.THROTTLED
        case "denied":
            return Reason.DENIED
        case "refused":
            return Reason.UNREADABLE  # a question that AWS does not take: asking again is no help
        case "unreachable":
            return Reason.ERROR


def _request_id(error: Exception) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("ResponseMetadata", {}).get("RequestId", ""))


def _asked(error: Exception) -> str:
    """Return the operation: AWS's own message may name the caller's session, and is as long as it likes."""
    return f"{getattr(error, 'operation_name', '') or 'call'}: {error_code(error)}"
