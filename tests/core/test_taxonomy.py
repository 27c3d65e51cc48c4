"""Every KMS error asks for what the table says."""

from __future__ import annotations

import pytest

from kms_core.kms import DESCRIBE_KEY, KmsFailure
from kms_core.taxonomy import TABLE, ErrorClass, FailOver, Family, causes, classify, is_unclassified

SILENT = ("ConnectTimeout", "ReadTimeout", "Deadline", "ConnectionRefused", "ConnectionReset", "DnsFailure", "TlsError")
UNUSABLE = ("Truncated", "WrongAnswer")
FAULTS = ("KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException")
THROTTLED = ("ThrottlingException", "SlowDown", "TooManyRequestsException")
CONFIGURATION = ("InvalidKeyUsageException", "ValidationException", "InvalidArnException", "ParamValidationError")
KEY_STATES = ("DisabledException", "KMSInvalidStateException", "NotFoundException")
CREDENTIALS = ("ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException", "RequestExpired")
NO_CREDENTIALS = ("NoCredentialsError", "CredentialRetrievalError", "TokenRetrievalError")


@pytest.mark.parametrize("code", SILENT + UNUSABLE)
def test_a_region_that_does_not_answer_properly_is_left_and_counted(code: str) -> None:
    """Go on elsewhere, count it for the breaker, never retry in place."""
    found = classify(KmsFailure(code))
    assert (found.family, found.fails_over, found.in_place_seconds) == (Family.UNAVAILABLE, FailOver.YES, None)
    assert found.counts
    assert found.answered == (code in UNUSABLE)


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_of_the_server_is_retried_then_left_and_counted(code: str) -> None:
    """One retry, within 50 ms."""
    found = classify(KmsFailure(code, status=500))
    assert (found.family, found.fails_over, found.in_place_seconds) == (Family.UNAVAILABLE, FailOver.YES, 0.05)
    assert found.counts


@pytest.mark.parametrize("code", THROTTLED)
def test_throttling_does_not_count(code: str) -> None:
    """The region is well, and says so."""
    found = classify(KmsFailure(code, status=400))
    assert (found.family, found.fails_over, found.in_place_seconds) == (Family.UNAVAILABLE, FailOver.ONCE, 1.0)
    assert not found.counts


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "InvalidGrantTokenException", *CONFIGURATION, *NO_CREDENTIALS]
)
def test_a_denial_ends_the_call(code: str) -> None:
    """Neither retried nor taken elsewhere."""
    found = classify(KmsFailure(code, status=400))
    assert (found.family, found.fails_over, found.in_place_seconds) == (Family.DENIED, FailOver.NO, None)
    assert not found.counts


@pytest.mark.parametrize("code", CREDENTIALS)
def test_stale_credentials_are_tried_once_more(code: str) -> None:
    """Botocore refreshes credentials that have expired when they are used again."""
    found = classify(KmsFailure(code, status=400))
    assert (found.family, found.fails_over, found.in_place_seconds) == (Family.DENIED, FailOver.NO, 0.0)
    assert not found.counts


@pytest.mark.parametrize("code", ["InvalidCiphertextException", "IncorrectKeyException"])
def test_a_bad_message_is_bad_everywhere(code: str) -> None:
    """The same material in every region, so the same answer."""
    assert classify(KmsFailure(code, status=400)) == ErrorClass(family=Family.MESSAGE)


@pytest.mark.parametrize("code", KEY_STATES)
def test_a_key_state_is_a_regions_own(code: str) -> None:
    """Quarantine the key there, and go on, unless it is a strict one."""
    found = classify(KmsFailure(code, status=400), "Decrypt")
    assert (found.family, found.fails_over) == (Family.DENIED, FailOver.UNLESS_STRICT)
    assert found.quarantines_key
    assert not found.counts


def test_a_missing_alias_is_no_key_state() -> None:
    """Another region may have it; there is no key to quarantine."""
    found = classify(KmsFailure("NotFoundException", status=400), DESCRIBE_KEY)
    assert (found.fails_over, found.quarantines_key) == (FailOver.YES, False)


@pytest.mark.parametrize(
    ("failure", "like"),
    [
        pytest.param(KmsFailure("Weird", status=503), "KMSInternalException", id="any 5xx"),
        pytest.param(KmsFailure("Weird", status=429), "ThrottlingException", id="429"),
        pytest.param(KmsFailure("Weird", status=418), "AccessDeniedException", id="any other answer"),
        pytest.param(KmsFailure("Weird"), "Unclassified", id="no answer"),
    ],
)
def test_an_unknown_code_is_judged_by_its_status(failure: KmsFailure, like: str) -> None:
    """KMS may have a new error tomorrow."""
    assert classify(failure) == TABLE[like]


def test_an_exception_that_nobody_foresaw_is_on_the_safe_side() -> None:
    """It goes elsewhere, and drills count it."""
    assert classify(ZeroDivisionError()) == TABLE["Unclassified"]


def test_the_chain_of_causes_is_looked_through() -> None:
    """Whoever wraps a failure does not hide it; an endless chain ends."""
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = KmsFailure("AccessDeniedException", status=400)
    assert classify(wrapped).family is Family.DENIED

    wrapped.__cause__ = wrapped
    assert len(list(causes(wrapped))) == 10


def test_what_is_unclassified_is_told_apart() -> None:
    """A drill keeps the count of these at zero."""
    assert [is_unclassified(code) for code in ("Unclassified", "Weird", "ReadTimeout")] == [True, True, False]
    assert not is_unclassified("Weird", 503)
    assert is_unclassified("Weird", 418)
