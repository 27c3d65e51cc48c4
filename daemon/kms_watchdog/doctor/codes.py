"""What each error code may come from: a table, and a look-up in it. Pure.

It holds every code of the core's table (`kms_core.taxonomy`), the core's exceptions, the steps at which it refuses a
message, the canaries' reasons, botocore's names of what can go wrong before AWS answers, and the setup guide's
`KMS_KEY_UNAVAILABLE`, which no service has ever sent.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kms_core import errors, taxonomy
from kms_core.errors import Step
from kms_core.taxonomy import TABLE, ErrorClass, FailOver, Family
from kms_watchdog.doctor.causes import CauseId
from kms_watchdog.results import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One code and where it may come from."""

    name: str
    causes: tuple[CauseId, ...]
    """The likeliest first."""
    note: str = ""
    """What must be known besides; empty where the causes say it all."""
    page: str = ""
    """The runbook's file for what no look here finds; empty: the cause's own."""
    nearest: str = ""
    """For a code in no table: one that is nearly the same."""


GUIDES_CODE = "KMS_KEY_UNAVAILABLE"

_C = CauseId
_STATES = (_C.KEY_DISABLED, _C.KEY_PENDING_DELETION, _C.REPLICA_CREATING, _C.KEY_STATE)
_MISSING = (_C.REPLICA_MISSING, _C.ALIAS_MISSING, _C.KEY_MISSING, _C.ENDPOINT_OF_ANOTHER_REGION, _C.WRONG_ACCOUNT)
_REFUSALS = (
    _C.KEY_POLICY_REFUSES,
    _C.IDENTITY_POLICY_REFUSES,
    _C.BOUNDARY_REFUSES,
    _C.ENDPOINT_POLICY_REFUSES,
    _C.ORGANIZATION_REFUSES,
    _C.SESSION_POLICY_REFUSES,
    _C.ROLE_MISSING,
    _C.NOT_A_USER_OF_THE_KEY,
    _C.WRONG_ACCOUNT,
    _C.ACCESS_REFUSED,
)
_NETWORK = (
    _C.NAME_UNKNOWN,
    _C.FAILOVER_PATH_CLOSED,
    _C.PROXY_REFUSES,
    _C.CONNECTION_REFUSED,
    _C.CONNECTION_TIMES_OUT,
    _C.CONNECTION_BREAKS,
    _C.NO_ANSWER_IN_TIME,
)
_SILENT = (_C.CONNECTION_TIMES_OUT, _C.FAILOVER_PATH_CLOSED, _C.NO_ANSWER_IN_TIME, _C.SLOW, _C.KMS_FAILS)
_BROKEN = (_C.CONNECTION_BREAKS, _C.PROXY_REFUSES, _C.TLS_FAILS)
_TLS = (_C.CA_BUNDLE, _C.CERTIFICATE_NAME, _C.CERTIFICATE_EXPIRED, _C.CLOCK_OFF, _C.TLS_FAILS)
_TRUNCATED = (_C.ANSWER_TRUNCATED, _C.CONNECTION_BREAKS)
_EXPIRED = (_C.CREDENTIALS_EXPIRED, _C.CLOCK_OFF)
_UNKNOWN_CREDENTIALS = (_C.CREDENTIALS_REFUSED, _C.CLOCK_OFF, _C.ENDPOINT_OF_ANOTHER_REGION)
_SIGNATURE = (_C.CLOCK_OFF, _C.ENDPOINT_OF_ANOTHER_REGION, _C.CREDENTIALS_REFUSED)
_NO_CREDENTIALS = (_C.NO_CREDENTIALS,)
_NOT_GIVEN = (_C.CREDENTIALS_NOT_GIVEN, _C.CREDENTIALS_EXPIRED, _C.NO_CREDENTIALS)
_LOAD = (_C.THROTTLED,)
_FAULT = (_C.KMS_FAILS,)
_DAMAGED = (_C.MESSAGE_DAMAGED,)
_REQUEST = (_C.REQUEST_WRONG,)
_OWN = (_C.OWN_LIMIT,)

_OF_KMS: Mapping[str, tuple[CauseId, ...]] = {
    taxonomy.CONNECT_TIMEOUT: _SILENT,
    taxonomy.READ_TIMEOUT: _SILENT,
    taxonomy.DEADLINE: _SILENT,
    taxonomy.CONNECTION_REFUSED: (_C.CONNECTION_REFUSED, _C.PROXY_REFUSES),
    taxonomy.CONNECTION_RESET: _BROKEN,
    taxonomy.DNS_FAILURE: (_C.NAME_UNKNOWN, _C.FAILOVER_PATH_CLOSED),
    taxonomy.TLS_ERROR: _TLS,
    taxonomy.TRUNCATED: _TRUNCATED,
    taxonomy.WRONG_ANSWER: (_C.ENDPOINT_OF_ANOTHER_REGION, _C.ALIAS_ELSEWHERE),
    taxonomy.WRONG_LENGTH: _DAMAGED,
    taxonomy.SATURATED: _OWN,
    taxonomy.HEDGE_LOST: _OWN,
    taxonomy.UNCLASSIFIED: (_C.NOT_IN_THE_TABLE,),
    "KMSInternalException": _FAULT,
    "DependencyTimeoutException": _FAULT,
    "KeyUnavailableException": _FAULT,
    "ThrottlingException": _LOAD,
    "Throttling": _LOAD,
    "TooManyRequestsException": _LOAD,
    "RequestLimitExceeded": _LOAD,
    "SlowDown": _LOAD,
    "LimitExceededException": _LOAD,
    "AccessDeniedException": _REFUSALS,
    "InvalidCiphertextException": (_C.CONTEXT_OR_BYTES,),
    "IncorrectKeyException": (_C.MESSAGE_OF_ANOTHER_PURPOSE,),
    "InvalidKeyUsageException": _REQUEST,
    "ValidationException": _REQUEST,
    "InvalidArnException": _REQUEST,
    "ParamValidationError": _REQUEST,
    "DisabledException": (_C.KEY_DISABLED, _C.KEY_PENDING_DELETION),
    "KMSInvalidStateException": (_C.KEY_PENDING_DELETION, _C.REPLICA_CREATING, _C.KEY_STATE, _C.KEY_DISABLED),
    "NotFoundException": _MISSING,
    "InvalidGrantTokenException": (_C.GRANT_TOKEN,),
    "ExpiredTokenException": _EXPIRED,
    "ExpiredToken": _EXPIRED,
    "UnrecognizedClientException": _UNKNOWN_CREDENTIALS,
    "InvalidClientTokenId": _UNKNOWN_CREDENTIALS,
    "InvalidSignatureException": _SIGNATURE,
    "SignatureDoesNotMatch": _SIGNATURE,
    "RequestExpired": (_C.CLOCK_OFF,),
    "NoCredentialsError": _NO_CREDENTIALS,
    "PartialCredentialsError": _NO_CREDENTIALS,
    "CredentialRetrievalError": _NOT_GIVEN,
    taxonomy.NO_CREDENTIALS_IN_TIME: _NOT_GIVEN,
    "TokenRetrievalError": _NOT_GIVEN,
    "DryRunOperationException": (_C.NOTHING_WRONG,),
    taxonomy.WRONG_ACCOUNT: (_C.KEY_OF_ANOTHER_ACCOUNT, _C.WRONG_ACCOUNT),
}
"""Every code of the core's table; a test sees that none is forgotten."""

_OF_BOTOCORE: Mapping[str, tuple[CauseId, ...]] = {
    "EndpointConnectionError": (_C.CONNECTION_REFUSED, *_NETWORK),
    "ConnectTimeoutError": _SILENT,
    "ReadTimeoutError": _SILENT,
    "ConnectionClosedError": _BROKEN,
    "ConnectionError": _BROKEN,
    "HTTPClientError": _BROKEN,
    "ProxyConnectionError": (_C.PROXY_REFUSES,),
    "SSLError": _TLS,
    "IncompleteReadError": _TRUNCATED,
    "ResponseStreamingError": _TRUNCATED,
    "ResponseParserError": _TRUNCATED,
    "AccessDenied": _REFUSALS,
    "NoCredentials": _NO_CREDENTIALS,
    "InvalidAccessKeyId": _UNKNOWN_CREDENTIALS,
    "MissingAuthenticationTokenException": _NO_CREDENTIALS,
    "MissingAuthenticationToken": _NO_CREDENTIALS,
    "IncompleteSignatureException": _SIGNATURE,
    "MetadataRetrievalError": _NOT_GIVEN,
    "NoAuthTokenError": _NOT_GIVEN,
    "SSOError": _NOT_GIVEN,
    "SSOTokenLoadError": _NOT_GIVEN,
    "UnauthorizedSSOTokenError": _NOT_GIVEN,
    "NoRegionError": (_C.CONFIGURATION_WRONG,),
    "ProfileNotFound": (_C.NO_CREDENTIALS,),
    "InternalFailure": _FAULT,
    "InternalError": _FAULT,
    "ServiceUnavailable": _FAULT,
    "ServiceUnavailableException": _FAULT,
    "UnsupportedOperationException": _REQUEST,
}

_OF_CORE: Mapping[str, tuple[CauseId, ...]] = {
    errors.KmsCoreError.__name__: (),
    errors.KmsUnavailableError.__name__: (*_NETWORK, _C.KMS_FAILS, *_LOAD, *_TRUNCATED, *_TLS),
    errors.KmsDeniedError.__name__: (*_REFUSALS, *_STATES, *_MISSING, *_NOT_GIVEN, *_SIGNATURE),
    errors.ConfigurationError.__name__: (
        _C.CONFIGURATION_WRONG, _C.ALIAS_ELSEWHERE, _C.ALIAS_MISSING, _C.WRONG_ACCOUNT, _C.KEY_OF_ANOTHER_ACCOUNT,
    ),
    errors.ClosedError.__name__: (_C.CORE_NOT_USABLE,),
    errors.ForkedError.__name__: (_C.CORE_NOT_USABLE,),
    errors.MessageError.__name__: (_C.CONTEXT_OR_BYTES, _C.MESSAGE_DAMAGED, _C.MESSAGE_OF_ANOTHER_PURPOSE),
    errors.ContextError.__name__: (_C.CONTEXT_UNUSABLE,),
    errors.TruncatedStreamError.__name__: _DAMAGED,
    errors.NotStreamableError.__name__: (_C.MESSAGE_NOT_STREAMABLE,),
}  # fmt: skip

_OF_STEPS: Mapping[Step, tuple[CauseId, ...]] = {
    Step.BASE64: (_C.MESSAGE_NOT_A_MESSAGE,),
    Step.HEADER: (_C.MESSAGE_NOT_A_MESSAGE, _C.MESSAGE_DAMAGED),
    Step.SUITE: (_C.MESSAGE_LEGACY,),
    Step.CONTEXT: (_C.CONTEXT_OR_BYTES,),
    Step.KEY: (_C.MESSAGE_OF_ANOTHER_PURPOSE,),
    Step.UNWRAP: (_C.CONTEXT_OR_BYTES,),
    Step.DATA_KEY: _DAMAGED,
    Step.COMMITMENT: _DAMAGED,
    Step.HEADER_TAG: _DAMAGED,
    Step.FRAME: _DAMAGED,
    Step.SIGNATURE: _DAMAGED,
    Step.TRAILING: _DAMAGED,
}

_ALARMS = (_C.OTHER_ALARM,)
_OF_REASONS: Mapping[Reason, tuple[CauseId, ...]] = {
    Reason.ERROR: (_C.KMS_FAILS, *_NETWORK),
    Reason.TIMEOUT: _SILENT,
    Reason.THROTTLED: _LOAD,
    Reason.DENIED: (*_REFUSALS, *_STATES, *_MISSING),
    Reason.MISMATCH: (_C.CONTEXT_OR_BYTES, _C.MESSAGE_DAMAGED),
    Reason.ACCEPTED_MUST_REFUSE: _ALARMS,
    Reason.WRONG_REFUSAL: _ALARMS,
    Reason.ASKED_KMS: _ALARMS,
    Reason.ACCESS_MISSING: _REFUSALS,
    Reason.ACCESS_EXCESS: (_C.ACCESS_EXCESS,),
    Reason.KEY_UNUSABLE: (*_STATES, _C.REPLICA_MISSING),
    Reason.PENDING_DELETION: (_C.KEY_PENDING_DELETION,),
    Reason.ALIAS_WRONG: (_C.ALIAS_ELSEWHERE, _C.ALIAS_MISSING),
    Reason.ROTATION_OFF: _ALARMS,
    Reason.DRIFT: _ALARMS,
    Reason.DNS: (_C.NAME_UNKNOWN, _C.FAILOVER_PATH_CLOSED),
    Reason.CONNECT: (_C.CONNECTION_REFUSED, _C.CONNECTION_TIMES_OUT, _C.FAILOVER_PATH_CLOSED, _C.PROXY_REFUSES),
    Reason.TLS: _TLS,
    Reason.CERTIFICATE_EXPIRES: (_C.CERTIFICATE_ENDS, _C.CERTIFICATE_EXPIRED, _C.CLOCK_OFF),
    Reason.CLOCK_OFF: (_C.CLOCK_OFF,),
    Reason.ALARM_MISSING: _ALARMS,
    Reason.ALARM_DIFFERS: _ALARMS,
    Reason.TOPIC_MISSING: _ALARMS,
    Reason.TOPIC_REFUSES: _ALARMS,
    Reason.NO_SUBSCRIBER: _ALARMS,
    Reason.HEADROOM_LOW: _LOAD,
    Reason.NO_CREDENTIALS: (*_NO_CREDENTIALS, *_NOT_GIVEN, *_SIGNATURE),
    Reason.OWN_DEADLINE: _OWN,
    Reason.CRASHED: _ALARMS,
    Reason.UNREADABLE: _REFUSALS,
}

_NOTES: Mapping[str, str] = {
    GUIDES_CODE: "AWS has no such code: the setup guide made it up. Look into the log for the real one; all that it"
    " might have meant is looked at.",
    "KeyUnavailableException": "It is KMS's own fault, not the key's: nothing is wrong with its state.",
    "AccessDeniedException": "Whoever may look at certain keys alone is told the same of a key that does not exist.",
    "InvalidCiphertextException": "It is so in every region: another one gives the same answer.",
    "LimitExceededException": "Not expected of Encrypt, Decrypt and the like; it is no request quota.",
    "NotFoundException": "A key's ARN holds good in its own region alone, and aliases are made in each.",
    "KMSInvalidStateException": "For a key that will be deleted, KMS's documents name this code and DisabledException.",
}

_PAGES: Mapping[str, str] = {
    Reason.ACCEPTED_MUST_REFUSE: "must-fail-accepted.md",
    Reason.WRONG_REFUSAL: "refusal-proves-nothing.md",
    Reason.ASKED_KMS: "refusal-proves-nothing.md",
    Reason.ROTATION_OFF: "rotation-off.md",
    Reason.DRIFT: "replica-drift.md",
    Reason.ALARM_MISSING: "alarm-path-broken.md",
    Reason.ALARM_DIFFERS: "alarm-path-broken.md",
    Reason.TOPIC_MISSING: "alarm-path-broken.md",
    Reason.TOPIC_REFUSES: "alarm-path-broken.md",
    Reason.NO_SUBSCRIBER: "alarm-path-broken.md",
    Reason.CRASHED: "canary-blind.md",
    Reason.MISMATCH: "plaintext-mismatch.md",
}

TABLES: Mapping[str, tuple[CauseId, ...]] = {
    **_OF_KMS,
    **_OF_BOTOCORE,
    **_OF_CORE,
    **{str(step): causes for step, causes in _OF_STEPS.items()},
    **{str(reason): causes for reason, causes in _OF_REASONS.items()},
    GUIDES_CODE: (*_STATES, *_MISSING, *_REFUSALS, _C.KMS_FAILS, *_NETWORK),
}
"""Every name that `find` knows."""

_BY_LETTERS = {name.lower(): name for name in TABLES}
_HOW_NEAR = 0.75


def find(asked: str) -> Code:
    """Return what `asked`, a code as it stands in some log, may come from; also for one that nobody has heard of.

    A service's or module's name before it (`com.amazonaws.kms#`, `kms_core.errors.`) and the case of letters do not
    matter.
    """
    bare = asked.strip().rpartition("#")[2]
    for part in (bare, bare.rpartition(".")[2]):
        if (name := _BY_LETTERS.get(part.lower())) is not None:
            return Code(
                name=name, causes=_each_once(TABLES[name]), note=_NOTES.get(name, ""), page=_PAGES.get(name, "")
            )
    near = difflib.get_close_matches(bare.lower(), list(_BY_LETTERS), n=1, cutoff=_HOW_NEAR)
    return Code(name=bare, causes=(CauseId.NOT_IN_THE_TABLE,), nearest=_BY_LETTERS[near[0]] if near else "")


def what_the_core_does(name: str) -> str:
    """Return in words what the crypto core does after the code `name`; empty for what is no code of its table."""
    row = TABLE.get(name)
    return "" if row is None else "; ".join(_reaction(row))


def _reaction(row: ErrorClass) -> Iterable[str]:
    if row.in_place_seconds is not None:
        yield "asks the same region once more"
    yield _FAILS_OVER[row.fails_over]
    yield "counts it against the region" if row.counts else "does not count it against the region"
    if row.quarantines_key:
        yield "leaves the key out in that region for a while"
    yield f"ends as {_FAMILIES[row.family]}"


_FAILS_OVER: Mapping[FailOver, str] = {
    FailOver.NO: "asks no other region",
    FailOver.YES: "asks the next region",
    FailOver.ONCE: "asks one other region, for one call in ten",
    FailOver.UNLESS_STRICT: "asks the next region, but for a strict key (payment)",
}
_FAMILIES: Mapping[Family, str] = {
    Family.UNAVAILABLE: errors.KmsUnavailableError.__name__,
    Family.DENIED: errors.KmsDeniedError.__name__,
    Family.MESSAGE: errors.MessageError.__name__,
}


def _each_once(causes: Iterable[CauseId]) -> tuple[CauseId, ...]:
    return tuple(dict.fromkeys(causes))
