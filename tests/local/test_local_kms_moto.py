"""What moto's KMS gets wrong and the local server right: a correction of moto's fails here.

moto as it comes, without the corrections of `moto_kms`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

EAST, WEST = "us-east-1", "us-west-2"


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Clients of moto, by region."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with mock_aws():
        session = boto3.session.Session()
        yield lambda region: session.client("kms", region_name=region)


@pytest.fixture
def ours(local_aws: Any) -> Callable[[str], Any]:
    """Clients of the local server, by region."""
    return lambda region: local_aws.client("kms", region)


def outcome(call: Callable[..., Any], **members: Any) -> str:
    """Return the code of a refusal, or `ok`."""
    try:
        call(**members)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


def make(kms: Any, **more: Any) -> str:
    return str(kms.create_key(MultiRegion=True, **more)["KeyMetadata"]["KeyId"])


def opens_what_it_sealed(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    blob = east.encrypt(KeyId=make(east), Plaintext=b"x")["CiphertextBlob"]
    return outcome(east.decrypt, CiphertextBlob=blob)


def has_awss_form(clients: Callable[[str], Any]) -> str:
    return f"{len(make(clients(EAST)))} characters"


def takes_another_regions_arn(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    arn = east.describe_key(KeyId=make(east))["KeyMetadata"]["Arn"]
    return outcome(east.describe_key, KeyId=arn.replace(EAST, WEST))


def a_replica_begins(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    made = east.replicate_key(KeyId=make(east, Description="x"), ReplicaRegion=WEST)["ReplicaKeyMetadata"]
    return f"{made['KeyState']}, {made['Description'] or 'no description'}"


def replicates_twice(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    key = make(east)
    east.replicate_key(KeyId=key, ReplicaRegion=WEST)
    return outcome(east.replicate_key, KeyId=key, ReplicaRegion=WEST)


def uses_a_disabled_key(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    key = make(east)
    east.disable_key(KeyId=key)
    return outcome(east.generate_data_key, KeyId=key, KeySpec="AES_256")


def uses_a_key_on_its_way_out(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    key = make(east)
    east.schedule_key_deletion(KeyId=key)
    return outcome(east.generate_data_key, KeyId=key, KeySpec="AES_256")


def deletes_a_primary_with_a_replica(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    key = make(east)
    east.replicate_key(KeyId=key, ReplicaRegion=WEST)
    east.schedule_key_deletion(KeyId=key)
    return str(east.describe_key(KeyId=key)["KeyMetadata"]["KeyState"])


def deletes_in_three_days(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    return outcome(east.schedule_key_deletion, KeyId=make(east), PendingWindowInDays=3)


def confuses_contexts(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    key = str(east.create_key()["KeyMetadata"]["KeyId"])
    blob = east.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"ab": "c"})["CiphertextBlob"]
    return outcome(east.decrypt, CiphertextBlob=blob, EncryptionContext={"a": "bc"})


def opens_under_another_key(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    key, other = (str(east.create_key()["KeyMetadata"]["KeyId"]) for _ in range(2))
    blob = east.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    return outcome(east.decrypt, CiphertextBlob=blob, KeyId=other)


def runs_dry(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    return outcome(east.generate_data_key, KeyId=make(east), KeySpec="AES_256", DryRun=True)


def takes_a_policy_that_is_none(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    return outcome(east.put_key_policy, KeyId=make(east), PolicyName="default", Policy="{")


def names_its_algorithm(clients: Callable[[str], Any]) -> str:
    east = clients(EAST)
    return str(east.encrypt(KeyId=make(east), Plaintext=b"x").get("EncryptionAlgorithm"))


@pytest.mark.parametrize(
    ("what", "by_moto", "by_aws"),
    [
        pytest.param(opens_what_it_sealed, "AccessDeniedException", "ok", id="the MRK bug: nothing ever opens"),
        pytest.param(has_awss_form, "40 characters", "36 characters", id="ids of multi-Region keys"),
        pytest.param(takes_another_regions_arn, "ok", "NotFoundException", id="another region's ARN"),
        pytest.param(a_replica_begins, "Enabled, x", "Creating, no description", id="a new replica"),
        pytest.param(replicates_twice, "ok", "AlreadyExistsException", id="a second replica"),
        pytest.param(uses_a_disabled_key, "ok", "DisabledException", id="a disabled key"),
        pytest.param(uses_a_key_on_its_way_out, "ok", "KMSInvalidStateException", id="a key to be deleted"),
        pytest.param(
            deletes_a_primary_with_a_replica, "PendingDeletion", "PendingReplicaDeletion", id="a primary's deletion"
        ),
        pytest.param(deletes_in_three_days, "ok", "ValidationException", id="a window of three days"),
        pytest.param(confuses_contexts, "ok", "InvalidCiphertextException", id="contexts that look alike"),
        pytest.param(opens_under_another_key, "AccessDeniedException", "IncorrectKeyException", id="another key"),
        pytest.param(runs_dry, "ok", "DryRunOperationException", id="dry runs"),
        pytest.param(takes_a_policy_that_is_none, "ok", "MalformedPolicyDocumentException", id="broken policies"),
        pytest.param(names_its_algorithm, "None", "SYMMETRIC_DEFAULT", id="the algorithm of an answer"),
    ],
)
def test_moto_is_wrong_where_the_local_server_is_right(
    moto: Callable[[str], Any],
    ours: Callable[[str], Any],
    what: Callable[[Callable[[str], Any]], str],
    by_moto: str,
    by_aws: str,
) -> None:
    """Each in its own way, until somebody corrects it."""
    assert what(moto) == by_moto
    assert what(ours) == by_aws
