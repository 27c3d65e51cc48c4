"""One contract for the port: the fake in memory and boto3 against the local server keep it alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kms_core._kms_boto3 import connector
from kms_core.kms import Kms, KmsFailure
from kms_core.testing import FakeEstate

CONTEXT = {"canary": "true", "tenant": "ü"}
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"


@dataclass(frozen=True)
class Subject:
    """An estate with keys `general` and `payment`, and how to change a key's state in one region."""

    kms: dict[str, Kms]
    key_ids: dict[str, str]
    set_state: Callable[[str, str, str], object]

    def arn(self, region: str, purpose: str = "general") -> str:
        return f"arn:aws:kms:{region}:123456789012:key/{self.key_ids[purpose]}"


@pytest.fixture(params=["fake", "local server"])
def subject(request: pytest.FixtureRequest, estate: FakeEstate) -> Iterator[Subject]:
    if request.param == "fake":
        yield Subject(
            kms=dict(estate.kms),
            key_ids={name: estate[EAST].aliases[f"alias/{name}"] for name in ("general", "payment")},
            set_state=lambda key_id, state, region: estate.set_key_state(key_id, state, regions=[region]),
        )
        return
    local_aws = request.getfixturevalue("local_aws")
    request.getfixturevalue("local_credentials")
    connect = connector(local_aws.config(), None)
    kms = {region: connect(region) for region in (EAST, WEST, IRELAND)}
    yield Subject(kms=dict(kms), key_ids=local_aws.key_ids, set_state=_state_setter(local_aws))
    for client in kms.values():
        client.close()


def _state_setter(local_aws: Any) -> Callable[[str, str, str], None]:
    def set_state(key_id: str, state: str, region: str) -> None:
        client = local_aws.client(region)
        {"Enabled": client.enable_key, "Disabled": client.disable_key}[state](KeyId=key_id)
        client.close()

    return set_state


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
    for region in (EAST, WEST, IRELAND):
        assert subject.kms[region].describe_key("alias/payment").key_arn == subject.arn(region, "payment")
    assert code_of(lambda: subject.kms[EAST].describe_key("alias/nobody")) == "NotFoundException"
