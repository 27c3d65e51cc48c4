"""What each KMS error asks of the core: a table, and a pure look-up in it.

Source: the declared errors of GenerateDataKey, Decrypt and DescribeKey (AWS KMS API Reference), and botocore's
exceptions, which `_kms_boto3` names by what happened to the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from kms_core.kms import DESCRIBE_KEY, KmsFailure

CONNECT_TIMEOUT = "ConnectTimeout"
READ_TIMEOUT = "ReadTimeout"
DEADLINE = "Deadline"
"""The core's own limit on an attempt was reached."""
CONNECTION_REFUSED = "ConnectionRefused"
"""No connection could be made."""
CONNECTION_RESET = "ConnectionReset"
DNS_FAILURE = "DnsFailure"
TLS_ERROR = "TlsError"
TRUNCATED = "Truncated"
"""The answer cannot be read, or lacks a field."""
WRONG_ANSWER = "WrongAnswer"
"""The answer is complete, and not to what was asked: another key's, or a data key of another length."""
WRONG_LENGTH = "WrongLength"
"""A wrapped key opened to a data key of another length than the message's suite has. What the suite is stands in a
header that nobody has authenticated yet, so this may be the message's doing as well as the region's (ADR 0010)."""
SATURATED = "Saturated"
"""Nothing was sent: every worker for the region is busy. Our own limit, which says nothing of the region."""
NO_CREDENTIALS_IN_TIME = "CredentialsLate"
"""Nothing was sent in time: the request waited for credentials, so for STS or whoever gives them, and not for KMS."""
HEDGE_LOST = "HedgeLost"
"""A second request to another region was faster (`CoreConfig.hedging`); ends no call."""
WRONG_ACCOUNT = "WrongAccount"
"""An alias points to a key of another account than the configured one."""
UNCLASSIFIED = "Unclassified"

MAX_CAUSES = 10
_TOO_MANY_REQUESTS = 429
_SERVER_FAULT = 500


class Family(Enum):
    """How an error ends as, for the caller, when it ends the operation (`kms_core.errors`)."""

    UNAVAILABLE = "unavailable"
    DENIED = "denied"
    MESSAGE = "message"


class FailOver(Enum):
    """Whether the next region is asked."""

    NO = "no"
    YES = "yes"
    ONCE = "once"
    """One other region; a second such answer ends the call, since all load would cascade through the regions."""
    UNLESS_STRICT = "unless strict"
    """Not for a key whose state in one region decides for all (`KeyConfig.strict_key_state`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorClass:
    """One row: what to do after this error."""

    family: Family
    fails_over: FailOver = FailOver.NO
    in_place_seconds: float | None = None
    """Ask the same region once more, after a random pause of up to so many seconds. None: do not."""
    counts: bool = False
    """Whether the region's breaker takes it for a failure of the region."""
    answered: bool = True
    """Whether the region answered at all; an answer, whatever it says, is no failure of the region."""
    quarantines_key: bool = False
    """Whether this key is left out in this region for a while."""


_SILENT = ErrorClass(family=Family.UNAVAILABLE, fails_over=FailOver.YES, counts=True, answered=False)
_UNUSABLE = ErrorClass(family=Family.UNAVAILABLE, fails_over=FailOver.YES, counts=True)
_FAULT = ErrorClass(family=Family.UNAVAILABLE, fails_over=FailOver.YES, in_place_seconds=0.05, counts=True)
_BUSY = ErrorClass(family=Family.UNAVAILABLE, fails_over=FailOver.YES, answered=False)
_THROTTLED = ErrorClass(family=Family.UNAVAILABLE, fails_over=FailOver.ONCE, in_place_seconds=1.0)
_REFUSED = ErrorClass(family=Family.DENIED)
_NOT_ASKED = ErrorClass(family=Family.DENIED, answered=False)
_STALE_CREDENTIALS = ErrorClass(family=Family.DENIED, in_place_seconds=0.0)
_KEY_STATE = ErrorClass(family=Family.DENIED, fails_over=FailOver.UNLESS_STRICT, quarantines_key=True)
_NO_ALIAS = ErrorClass(family=Family.DENIED, fails_over=FailOver.YES)
_BAD_MESSAGE = ErrorClass(family=Family.MESSAGE)
_DOUBTFUL_MESSAGE = ErrorClass(family=Family.MESSAGE, fails_over=FailOver.YES)

TABLE: dict[str, ErrorClass] = {
    CONNECT_TIMEOUT: _SILENT,
    READ_TIMEOUT: _SILENT,
    DEADLINE: _SILENT,
    CONNECTION_REFUSED: _SILENT,
    CONNECTION_RESET: _SILENT,
    DNS_FAILURE: _SILENT,
    TLS_ERROR: _SILENT,
    TRUNCATED: _UNUSABLE,
    WRONG_ANSWER: _UNUSABLE,
    WRONG_LENGTH: _DOUBTFUL_MESSAGE,
    SATURATED: _BUSY,
    HEDGE_LOST: _SILENT,
    UNCLASSIFIED: _SILENT,
    "KMSInternalException": _FAULT,
    "DependencyTimeoutException": _FAULT,
    "KeyUnavailableException": _FAULT,
    "ThrottlingException": _THROTTLED,
    "Throttling": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "SlowDown": _THROTTLED,
    "AccessDeniedException": _REFUSED,
    "InvalidCiphertextException": _BAD_MESSAGE,
    "IncorrectKeyException": _BAD_MESSAGE,
    "InvalidKeyUsageException": _REFUSED,
    "ValidationException": _REFUSED,
    "InvalidArnException": _REFUSED,
    "ParamValidationError": _NOT_ASKED,
    "DisabledException": _KEY_STATE,
    "KMSInvalidStateException": _KEY_STATE,
    "NotFoundException": _KEY_STATE,
    "InvalidGrantTokenException": _REFUSED,
    "ExpiredTokenException": _STALE_CREDENTIALS,
    "ExpiredToken": _STALE_CREDENTIALS,
    "UnrecognizedClientException": _STALE_CREDENTIALS,
    "InvalidClientTokenId": _STALE_CREDENTIALS,
    "InvalidSignatureException": _STALE_CREDENTIALS,
    "SignatureDoesNotMatch": _STALE_CREDENTIALS,
    "RequestExpired": _STALE_CREDENTIALS,
    "NoCredentialsError": _NOT_ASKED,
    "PartialCredentialsError": _NOT_ASKED,
    "CredentialRetrievalError": _NOT_ASKED,
    NO_CREDENTIALS_IN_TIME: _NOT_ASKED,
    "TokenRetrievalError": _NOT_ASKED,
    "LimitExceededException": _REFUSED,
    "DryRunOperationException": _REFUSED,  # "would have worked": nobody here asks so, and there is no key in it
    WRONG_ACCOUNT: _REFUSED,
}

STALE_CREDENTIALS = frozenset(code for code, row in TABLE.items() if row is _STALE_CREDENTIALS)
"""Codes after which the credentials are looked up anew before the one retry."""


def classify(error: BaseException, operation: str = "") -> ErrorClass:
    """Return what `error` asks for, judged by the first `KmsFailure` in its chain of causes.

    A code that the table does not know is judged by its status: a server's fault, throttling, or, as any other
    answer, a refusal. What is no failure of KMS at all counts as unclassified, which is the safe side: another
    region is asked.
    """
    failure = next((cause for cause in causes(error) if isinstance(cause, KmsFailure)), None)
    if failure is None:
        return TABLE[UNCLASSIFIED]
    if operation == DESCRIBE_KEY and failure.code == "NotFoundException":
        return _NO_ALIAS  # an alias is missing, which is no state of a key
    if (known := TABLE.get(failure.code)) is not None:
        return known
    if failure.status >= _SERVER_FAULT:
        return _FAULT
    if failure.status == _TOO_MANY_REQUESTS:
        return _THROTTLED
    return _REFUSED if failure.status else TABLE[UNCLASSIFIED]


def is_unclassified(code: str, status: int = 0) -> bool:
    """Return whether `code` with `status` is in no row: drills keep the count of these at zero."""
    judged_by_status = status >= _SERVER_FAULT or status == _TOO_MANY_REQUESTS
    return code == UNCLASSIFIED or (code not in TABLE and not judged_by_status)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what it came from, the outermost first; libraries hide the reason below the first."""
    seen: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
