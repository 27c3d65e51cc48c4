"""What KMS must refuse, asked through the pinned door; and who has asked how much, thread by thread."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kms_core import Core
from kms_core.errors import ConfigurationError, KmsDeniedError, KmsUnavailableError, MessageError
from kms_core.events import Attempt, BreakerMoved, KeyQuarantined
from kms_core.kms import UnwrappedKey
from kms_core.message import EncryptedDataKey, encrypted_data_keys
from kms_core.testing import FakeEstate, FakeKms

CONTEXT = {"canary": "true"}
EAST, WEST = "us-east-1", "us-west-2"


def wrapped_by(core: Core, purpose: str = "general") -> EncryptedDataKey:
    (wrapped,) = encrypted_data_keys(core.encrypt(b"x", purpose=purpose, context=CONTEXT))
    return wrapped


def test_another_purposes_key_is_asked_and_kms_says_that_it_is_the_wrong_one(core: Core, estate: FakeEstate) -> None:
    """The core would refuse it first; this door lets KMS speak, in its own region and with its own code."""
    wrapped = wrapped_by(core)
    estate.calls.clear()

    with pytest.raises(MessageError) as refused:
        core.pinned(WEST).unwrap(wrapped, CONTEXT, purpose="general", key_of="payment")

    assert refused.value.error_code == "IncorrectKeyException"
    assert estate.asked("Decrypt") == [WEST]


def test_a_changed_wrapped_key_is_refused_by_kms(core: Core) -> None:
    """One bit at its end."""
    wrapped = wrapped_by(core)
    changed = dataclasses.replace(wrapped, ciphertext=wrapped.ciphertext[:-1] + bytes([wrapped.ciphertext[-1] ^ 1]))

    with pytest.raises(MessageError) as refused:
        core.pinned(WEST).unwrap(changed, CONTEXT, purpose="general")

    assert refused.value.error_code == "InvalidCiphertextException"


def test_an_unknown_purpose_is_no_key_to_ask_with(core: Core, estate: FakeEstate) -> None:
    """It is the caller's own mistake, and KMS is not asked."""
    wrapped = wrapped_by(core)
    estate.calls.clear()

    with pytest.raises(ConfigurationError):
        core.pinned(WEST).unwrap(wrapped, CONTEXT, purpose="general", key_of="nobodys")

    assert not estate.calls


def test_a_key_that_opens_what_another_wrapped_is_never_taken_for_a_refusal(
    estate: FakeEstate, make_core: Callable[..., Core]
) -> None:
    """KMS answers under the name of the key that did wrap it: the answer is not believed, and its code says so."""

    class Obliging(FakeKms):
        """Opens with whichever key fits."""

        def decrypt(self, wrapped: bytes, key_arn: str, context: Any) -> UnwrappedKey:
            return super().decrypt(wrapped, estate.arn(wrapped.partition(b"\0")[0].decode(), WEST), context)

    obliging = Obliging(WEST, estate)
    obliging.aliases = estate[WEST].aliases
    estate.kms[WEST] = obliging
    core = make_core()

    with pytest.raises(KmsUnavailableError) as failed:
        core.pinned(WEST).unwrap(wrapped_by(core), CONTEXT, purpose="general", key_of="payment")

    assert failed.value.error_code == "WrongAnswer"


def test_refusals_open_no_breaker_and_quarantine_no_key(core: Core, recorder: Any, estate: FakeEstate) -> None:
    """KMS has answered, and well: however often it refuses, the region stays trusted and both keys in use."""
    wrapped = wrapped_by(core)

    for _ in range(10):
        with pytest.raises(MessageError):
            core.pinned(EAST).unwrap(wrapped, {"canary": "no"}, purpose="general")
        with pytest.raises(MessageError):
            core.pinned(EAST).unwrap(wrapped, CONTEXT, purpose="general", key_of="payment")

    assert core.health().regions[EAST].breaker == "closed"
    assert not recorder.of(BreakerMoved)
    assert not recorder.of(KeyQuarantined)
    estate.calls.clear()
    core.encrypt(b"x", purpose="payment", context={"fresh": "1"})
    assert estate.asked() == [EAST]


def test_refusals_end_a_streak_of_failures(core: Core, estate: FakeEstate) -> None:
    """An answer is an answer: two failures, a refusal and a failure are no three in a row."""
    wrapped = wrapped_by(core)
    estate[EAST].script.extend(["ReadTimeout", "ReadTimeout", None, "ReadTimeout"])

    for expected in (KmsUnavailableError, KmsUnavailableError, MessageError, KmsUnavailableError):
        with pytest.raises(expected):
            core.pinned(EAST).unwrap(wrapped, {"canary": "no"}, purpose="general")

    assert core.health().regions[EAST].breaker == "closed"


def test_an_observer_can_tell_a_wanted_refusal_from_trouble(core: Core, recorder: Any) -> None:
    """Else every must-fail canary would look like tampering in the metrics."""
    wrapped = wrapped_by(core)
    with pytest.raises(MessageError):
        core.pinned(WEST).unwrap(wrapped, {"canary": "no"}, purpose="general")
    core.pinned(WEST).encrypt(b"x", purpose="general", context=CONTEXT)

    told = [(attempt.error_code, attempt.refusal_wanted) for attempt in recorder.of(Attempt)]

    assert told == [("", False), ("InvalidCiphertextException", True), ("", False)]


def test_the_state_of_the_other_key_is_told_as_its_own(core: Core, estate: FakeEstate) -> None:
    """A disabled key says nothing of what was asked of it."""
    wrapped = wrapped_by(core)
    estate.set_key_state(estate[WEST].aliases["alias/payment"], "Disabled", regions=[WEST])

    with pytest.raises(KmsDeniedError) as denied:
        core.pinned(WEST).unwrap(wrapped, CONTEXT, purpose="general", key_of="payment")

    assert denied.value.error_code == "DisabledException"


def test_requests_are_listed_as_they_are_made(core: Core) -> None:
    """By KMS's names; what the cache has costs none."""
    with core.requests_made() as first:
        message = core.encrypt(b"x", purpose="general", context=CONTEXT)
        core.decrypt(message, purpose="general", context=CONTEXT)
    with core.requests_made() as second:
        core.decrypt(core.encrypt(b"x", purpose="general", context=CONTEXT), purpose="general", context=CONTEXT)

    assert first == ["GenerateDataKey", "Decrypt"]
    assert second == []


def test_each_attempt_is_a_request(core: Core, estate: FakeEstate) -> None:
    """A failover makes two, and one that fails everywhere is in the list as well."""
    estate.fail("ReadTimeout", regions=[EAST])

    with core.requests_made() as requests:
        core.encrypt(b"x", purpose="general", context=CONTEXT)

    assert requests == ["GenerateDataKey"] * 2


def test_one_count_within_another_counts_for_both(core: Core) -> None:
    """Whoever counts may call whoever counts."""
    with core.requests_made() as outer:
        core.pinned(WEST).encrypt(b"x", purpose="general", context=CONTEXT)
        with core.requests_made() as inner:
            core.pinned(WEST).encrypt(b"x", purpose="general", context=CONTEXT)
    core.pinned(WEST).encrypt(b"x", purpose="general", context=CONTEXT)

    assert (outer, inner) == (["GenerateDataKey"] * 2, ["GenerateDataKey"])


def test_what_other_threads_ask_is_not_counted(threaded: Callable[..., Core]) -> None:
    """Real threads, at the same time: each list has what its own thread has asked."""
    core, found, begun = threaded(), list[list[str]](), threading.Barrier(2)

    def ask(times: int) -> None:
        with core.requests_made() as requests:
            begun.wait(20)
            for _ in range(times):
                core.pinned(WEST).encrypt(b"x", purpose="general", context=CONTEXT)
            begun.wait(20)
        found.append(requests)

    threads = [threading.Thread(target=ask, args=(times,)) for times in (0, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(found) == [[], ["GenerateDataKey"] * 3]
