"""One contract for the port: the fake in memory, boto3 against the local server, moto, and AWS itself keep it alike."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from kms_subjects import (
    EAST,
    IRELAND,
    WEST,
    Subject,
    fake_subject,
    moto_subject,
    real_subject,
    server_subject,
)
from moto_kms import correct_moto

from kms_core import CoreConfig
from kms_core.kms import KmsFailure
from kms_core.testing import FakeEstate

CONTEXT = {"canary": "true", "tenant": "ü"}


@pytest.fixture(scope="module")
def real_aws() -> Iterator[Subject]:
    """AWS itself, asked to make keys once at most."""
    with real_subject() as found:
        yield found


@pytest.fixture(params=["fake", "local server", "patched moto", "real AWS"])
def subject(request: pytest.FixtureRequest, config: CoreConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    with _subject(request, config, monkeypatch) as found:
        yield found


def _subject(
    request: pytest.FixtureRequest, config: CoreConfig, monkeypatch: pytest.MonkeyPatch
) -> AbstractContextManager[Subject]:
    match request.param:
        case "fake":
            return contextlib.nullcontext(fake_subject(request.getfixturevalue("estate")))
        case "local server":
            local_aws = request.getfixturevalue("local_aws")
            request.getfixturevalue("local_credentials")
            return server_subject(local_aws.config(), local_aws.client, local_aws.key_ids)
        case "patched moto":
            request.getfixturevalue("made_up_credentials")
            correct_moto(monkeypatch)
            return moto_subject(config)
        case _:
            return contextlib.nullcontext(request.getfixturevalue("real_aws"))


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(KmsFailure) as failed:
        call()
    assert failed.value.status == 400
    assert failed.value.request_id
    return failed.value.code


def test_a_data_key_made_in_one_region_opens_in_every(subject: Subject) -> None:
    """With the ARN of the region that answers."""
    for maker in (EAST, WEST, IRELAND):
        made = subject.kms[maker].generate_data_key(subject.arn(maker), CONTEXT)
        assert made.key_arn == subject.arn(maker)
        assert len(made.plaintext) == 32
        assert 0 < len(made.wrapped) <= 6144
        for opener in (EAST, WEST, IRELAND):
            opened = subject.kms[opener].decrypt(made.wrapped, subject.arn(opener), CONTEXT)
            assert (opened.plaintext, opened.key_arn) == (made.plaintext, subject.arn(opener))
            assert opened.request_id


def test_no_two_data_keys_are_alike(subject: Subject) -> None:
    """Neither in clear nor wrapped."""
    first, second = (subject.kms[EAST].generate_data_key(subject.arn(EAST), CONTEXT) for _ in range(2))
    assert first.plaintext != second.plaintext
    assert first.wrapped != second.wrapped


@pytest.mark.parametrize(
    "context",
    [
        pytest.param({}, id="none"),
        pytest.param({"canary": "true"}, id="a pair less"),
        pytest.param(CONTEXT | {"more": ""}, id="a pair more"),
        pytest.param({"canary": "trueü", "tenant": ""}, id="the same letters elsewhere"),
    ],
)
def test_another_context_is_refused(subject: Subject, context: dict[str, str]) -> None:
    """As is a changed blob: nobody can tell which of the two it was."""
    made = subject.kms[EAST].generate_data_key(subject.arn(EAST), CONTEXT)

    assert (
        code_of(lambda: subject.kms[WEST].decrypt(made.wrapped, subject.arn(WEST), context))
        == "InvalidCiphertextException"
    )


def test_a_changed_blob_is_refused(subject: Subject) -> None:
    """One bit, at its end."""
    made = subject.kms[EAST].generate_data_key(subject.arn(EAST), CONTEXT)
    changed = made.wrapped[:-1] + bytes([made.wrapped[-1] ^ 1])

    assert (
        code_of(lambda: subject.kms[EAST].decrypt(changed, subject.arn(EAST), CONTEXT)) == "InvalidCiphertextException"
    )


def test_another_key_of_ours_is_named_as_the_wrong_one(subject: Subject) -> None:
    """An EDK whose ARN was exchanged looks like this."""
    made = subject.kms[EAST].generate_data_key(subject.arn(EAST, "payment"), CONTEXT)

    assert (
        code_of(lambda: subject.kms[EAST].decrypt(made.wrapped, subject.arn(EAST), CONTEXT)) == "IncorrectKeyException"
    )


def test_a_region_does_not_know_another_regions_arn(subject: Subject) -> None:
    """ARNs are rewritten for the region that is asked."""
    assert code_of(lambda: subject.kms[WEST].generate_data_key(subject.arn(EAST), CONTEXT)) == "NotFoundException"


def test_key_state_is_per_region(subject: Subject) -> None:
    """Disabled in one, usable in the other."""
    made = subject.kms[EAST].generate_data_key(subject.arn(EAST), CONTEXT)
    subject.set_state(subject.key_ids["general"], "Disabled", EAST)
    try:
        assert code_of(lambda: subject.kms[EAST].generate_data_key(subject.arn(EAST), CONTEXT)) == "DisabledException"
        assert (
            code_of(lambda: subject.kms[EAST].decrypt(made.wrapped, subject.arn(EAST), CONTEXT)) == "DisabledException"
        )
        assert subject.kms[WEST].decrypt(made.wrapped, subject.arn(WEST), CONTEXT).plaintext == made.plaintext
    finally:
        subject.set_state(subject.key_ids["general"], "Enabled", EAST)


def test_an_alias_names_the_key_of_its_region(subject: Subject) -> None:
    """And one that does not exist is not found."""
    if not subject.aliases:
        pytest.skip("no aliases are known of keys that are only lent")
    for region in (EAST, WEST, IRELAND):
        assert subject.kms[region].describe_key(subject.aliases["payment"]).key_arn == subject.arn(region, "payment")
    assert code_of(lambda: subject.kms[EAST].describe_key("alias/nobody")) == "NotFoundException"


def test_a_key_that_awaits_its_deletion_is_refused(subject: Subject) -> None:
    """There; the other regions go on."""
    made = subject.kms[WEST].generate_data_key(subject.arn(WEST), CONTEXT)
    subject.set_state(subject.key_ids["general"], "PendingDeletion", WEST)
    try:
        for call in (
            lambda: subject.kms[WEST].generate_data_key(subject.arn(WEST), CONTEXT),
            lambda: subject.kms[WEST].decrypt(made.wrapped, subject.arn(WEST), CONTEXT),
        ):
            assert code_of(call) == "KMSInvalidStateException"
        assert subject.kms[EAST].decrypt(made.wrapped, subject.arn(EAST), CONTEXT).plaintext == made.plaintext
    finally:
        subject.set_state(subject.key_ids["general"], "Enabled", WEST)


def test_a_key_is_in_a_region_only_once_it_is_replicated(subject: Subject) -> None:
    """Then what was sealed before opens there too."""
    key_id = subject.make_key()
    east, west = (subject.arn_of(region, key_id) for region in (EAST, WEST))
    made = subject.kms[EAST].generate_data_key(east, CONTEXT)
    assert code_of(lambda: subject.kms[WEST].decrypt(made.wrapped, west, CONTEXT)) == "NotFoundException"

    subject.replicate(key_id, WEST)

    assert subject.kms[WEST].decrypt(made.wrapped, west, CONTEXT).plaintext == made.plaintext


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9], ids=lambda share: f"at {share:.0%}")
def test_a_flipped_bit_is_refused_wherever_it_is(subject: Subject, share: float) -> None:
    """In what is encrypted, not only at the end."""
    made = subject.kms[EAST].generate_data_key(subject.arn(EAST), CONTEXT)
    at = int(len(made.wrapped) * share)
    changed = made.wrapped[:at] + bytes([made.wrapped[at] ^ 0x80]) + made.wrapped[at + 1 :]

    assert (
        code_of(lambda: subject.kms[WEST].decrypt(changed, subject.arn(WEST), CONTEXT)) == "InvalidCiphertextException"
    )


def test_a_replica_that_is_being_made_cannot_be_used_yet(estate: FakeEstate) -> None:
    """The fake's own switch: the local server's creation takes time by the clock."""
    key_id = estate.create_key("alias/another", regions=[EAST])
    made = estate[EAST].generate_data_key(estate.arn(key_id, EAST), CONTEXT)
    estate.replicate_key(key_id, WEST)
    opened = functools.partial(estate[WEST].decrypt, made.wrapped, estate.arn(key_id, WEST), CONTEXT)

    assert code_of(opened) == "KMSInvalidStateException"
    estate.set_key_state(key_id, "Enabled", regions=[WEST])
    assert opened().plaintext == made.plaintext
    with pytest.raises(ValueError, match="single-region"):
        estate.replicate_key(estate.create_key("alias/single", regions=[EAST], multi_region=False), WEST)
