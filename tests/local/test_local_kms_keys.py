"""KMS over the wire with stock boto3: keys, replicas, aliases, policies, rotation, deletion."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

ACCOUNT = "123456789012"
NO_KEY = "mrk-00000000000000000000000000000000"


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    """Return the code and the text of the refusal that a call must meet."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def make_key(kms: Any, **more: Any) -> str:
    return str(kms.create_key(MultiRegion=True, **more)["KeyMetadata"]["KeyId"])


def arn(region: str, key_id: str) -> str:
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/{key_id}"


@pytest.fixture
def east(local_aws: Any) -> Any:
    return local_aws.client("kms", "us-east-1")


@pytest.fixture
def west(local_aws: Any) -> Any:
    return local_aws.client("kms", "us-west-2")


@pytest.fixture
def replicated(east: Any, west: Any, eventually: Any) -> str:
    """A key whose replica in us-west-2 is Enabled."""
    key_id = make_key(east)
    east.replicate_key(KeyId=key_id, ReplicaRegion="us-west-2")
    eventually(lambda: west.describe_key(KeyId=key_id)["KeyMetadata"]["Enabled"])
    return key_id


def test_a_multi_region_key_has_awss_form(east: Any) -> None:
    """CreateKey answers with `mrk-` and 32 hexadecimal digits, the description and the primary's configuration."""
    made = east.create_key(MultiRegion=True, Description="general", Tags=[{"TagKey": "a", "TagValue": "b"}])
    found = made["KeyMetadata"]

    assert found["KeyId"].startswith("mrk-")
    assert len(found["KeyId"]) == 36
    assert found["Arn"] == arn("us-east-1", found["KeyId"])
    assert (found["Description"], found["KeyState"], found["Enabled"]) == ("general", "Enabled", True)
    assert found["MultiRegionConfiguration"]["MultiRegionKeyType"] == "PRIMARY"
    assert east.list_resource_tags(KeyId=found["KeyId"])["Tags"] == [{"TagKey": "a", "TagValue": "b"}]


def test_a_single_region_key_is_a_uuid(east: Any) -> None:
    """Without MultiRegion the id is a UUID and there is no multi-Region configuration."""
    found = east.create_key()["KeyMetadata"]

    assert str(uuid.UUID(found["KeyId"])) == found["KeyId"]
    assert found["MultiRegion"] is False
    assert "MultiRegionConfiguration" not in found


def test_a_replica_is_creating_for_a_while(starts_local_aws: Any, eventually: Any) -> None:
    """ReplicateKey answers Creating; cryptography is refused until the replica is Enabled, management is not."""
    aws = starts_local_aws("--creating-seconds", "4", "--no-toxiproxy")  # long enough to be seen on a busy machine
    east, west = aws.client("kms", "us-east-1"), aws.client("kms", "us-west-2")
    west.list_keys()  # the connection is there before the clock runs
    key_id = make_key(east, Description="primary")

    made = east.replicate_key(KeyId=key_id, ReplicaRegion="us-west-2")

    replica = made["ReplicaKeyMetadata"]
    assert (replica["KeyState"], replica["Enabled"], replica["Description"]) == ("Creating", False, "")
    assert json.loads(made["ReplicaPolicy"])["Id"] == "key-default-1"
    found = refusal(west.generate_data_key, KeyId=key_id, KeySpec="AES_256")
    assert found == ("KMSInvalidStateException", f"{arn('us-west-2', key_id)} is creating.")
    west.create_alias(AliasName=f"alias/{key_id}", TargetKeyId=key_id)
    eventually(lambda: west.describe_key(KeyId=f"alias/{key_id}")["KeyMetadata"]["KeyState"] == "Enabled")


def test_primary_and_replica_tell_the_same_family(east: Any, west: Any, replicated: str) -> None:
    """Both describe one primary and one replica, each under its own regional ARN."""
    configurations = [
        kms.describe_key(KeyId=replicated)["KeyMetadata"]["MultiRegionConfiguration"] for kms in (east, west)
    ]

    assert [one["MultiRegionKeyType"] for one in configurations] == ["PRIMARY", "REPLICA"]
    for one in configurations:
        assert one["PrimaryKey"] == {"Arn": arn("us-east-1", replicated), "Region": "us-east-1"}
        assert one["ReplicaKeys"] == [{"Arn": arn("us-west-2", replicated), "Region": "us-west-2"}]


@pytest.mark.parametrize(
    ("region", "target", "code"),
    [
        pytest.param("us-east-1", "us-west-2", "AlreadyExistsException", id="twice"),
        pytest.param("us-east-1", "us-east-1", "AlreadyExistsException", id="own-region"),
        pytest.param("us-west-2", "eu-west-1", "UnsupportedOperationException", id="of-a-replica"),
        pytest.param("eu-west-1", "us-east-1", "NotFoundException", id="asked-in-a-region-without-the-key"),
        pytest.param("us-east-1", "ap-south-1", "ValidationException", id="unknown-region"),
    ],
)
def test_replication_is_refused(local_aws: Any, replicated: str, region: str, target: str, code: str) -> None:
    """A replica is made once a region, from the primary, asked in the primary's region."""
    kms = local_aws.client("kms", region)

    assert refusal(kms.replicate_key, KeyId=replicated, ReplicaRegion=target)[0] == code


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(NO_KEY, f"Key '{arn('us-east-1', NO_KEY)}' does not exist", id="unknown-id"),
        pytest.param("nonsense", "Invalid keyId 'nonsense'", id="not-an-id"),
        pytest.param(arn("us-west-2", NO_KEY), "Invalid arn us-east-1", id="other-regions-arn"),
        pytest.param(
            "alias/nobody", f"Alias arn:aws:kms:us-east-1:{ACCOUNT}:alias/nobody is not found.", id="unknown-alias"
        ),
    ],
)
def test_what_is_not_a_key_here_is_not_found(east: Any, given: str, message: str) -> None:
    """Each way of naming no key of this region has AWS's own text."""
    assert refusal(east.describe_key, KeyId=given) == ("NotFoundException", message)


def test_aliases_belong_to_their_region(east: Any, west: Any, replicated: str) -> None:
    """The same name points at one key here and at another one there; deleting it here leaves it there."""
    other = make_key(west)
    name = f"alias/parker-{replicated}"
    east.create_alias(AliasName=name, TargetKeyId=replicated)
    west.create_alias(AliasName=name, TargetKeyId=other)

    east.delete_alias(AliasName=name)

    assert refusal(east.describe_key, KeyId=name)[0] == "NotFoundException"
    assert west.describe_key(KeyId=name)["KeyMetadata"]["KeyId"] == other


def test_an_alias_is_made_once_and_can_be_moved(east: Any) -> None:
    """A second CreateAlias is refused; UpdateAlias moves the name."""
    first, second = make_key(east), make_key(east)
    name = f"alias/{first}"
    east.create_alias(AliasName=name, TargetKeyId=first)

    assert refusal(east.create_alias, AliasName=name, TargetKeyId=second)[0] == "AlreadyExistsException"
    east.update_alias(AliasName=name, TargetKeyId=second)

    assert [one["AliasName"] for one in east.list_aliases(KeyId=second)["Aliases"]] == [name]
    assert east.list_aliases(KeyId=first)["Aliases"] == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        pytest.param("parker", "ValidationException", id="no-prefix"),
        pytest.param("alias/a b", "ValidationException", id="space"),
        pytest.param("alias/aws/s3", "NotAuthorizedException", id="reserved"),
    ],
)
def test_bad_alias_names(east: Any, name: str, code: str) -> None:
    """An alias has AWS's form, and `alias/aws/` is AWS's own."""
    assert refusal(east.create_alias, AliasName=name, TargetKeyId=make_key(east))[0] == code


def test_listings_have_pages(east: Any) -> None:
    """A listing longer than its limit is truncated, and its marker leads to the rest."""
    key_id = make_key(east)
    names = [f"alias/{key_id}-{number}" for number in range(5)]
    for name in names:
        east.create_alias(AliasName=name, TargetKeyId=key_id)

    pages = list(east.get_paginator("list_aliases").paginate(KeyId=key_id, PaginationConfig={"PageSize": 2}))

    assert [len(page["Aliases"]) for page in pages] == [2, 2, 1]
    assert [alias["AliasName"] for page in pages for alias in page["Aliases"]] == names


def test_policies_are_regional_and_checked(east: Any, west: Any, replicated: str) -> None:
    """PutKeyPolicy changes one region's policy alone, and takes nothing that is not a policy."""
    door = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Id": "mine", "Statement": [door]})
    east.put_key_policy(KeyId=replicated, PolicyName="default", Policy=policy)

    assert east.get_key_policy(KeyId=replicated)["Policy"] == policy
    assert json.loads(west.get_key_policy(KeyId=replicated)["Policy"])["Id"] == "key-default-1"
    broken = refusal(east.put_key_policy, KeyId=replicated, Policy="{")
    assert broken[0] == "MalformedPolicyDocumentException"


def test_rotation_is_switched_on_the_primary_and_shared(east: Any, west: Any, replicated: str) -> None:
    """A replica refuses the switch, and reads what the primary says."""
    assert refusal(west.enable_key_rotation, KeyId=replicated)[0] == "UnsupportedOperationException"

    east.enable_key_rotation(KeyId=replicated, RotationPeriodInDays=180)

    for kms in (east, west):
        found = kms.get_key_rotation_status(KeyId=replicated)
        assert (found["KeyRotationEnabled"], found["RotationPeriodInDays"]) == (True, 180)
    assert refusal(east.enable_key_rotation, KeyId=replicated, RotationPeriodInDays=89)[0] == "ValidationException"
    east.disable_key_rotation(KeyId=replicated)
    assert west.get_key_rotation_status(KeyId=replicated)["KeyRotationEnabled"] is False


def test_a_disabled_key_is_disabled_in_its_region_alone(east: Any, west: Any, replicated: str) -> None:
    """DisableKey stops cryptography here and not there; EnableKey starts it again."""
    east.disable_key(KeyId=replicated)

    found = refusal(east.generate_data_key, KeyId=replicated, KeySpec="AES_256")
    assert found == ("DisabledException", f"{arn('us-east-1', replicated)} is disabled.")
    assert len(west.generate_data_key(KeyId=replicated, KeySpec="AES_256")["Plaintext"]) == 32
    east.enable_key(KeyId=replicated)
    assert len(east.generate_data_key(KeyId=replicated, KeySpec="AES_256")["Plaintext"]) == 32


def test_deletion_of_a_primary_waits_for_its_replicas(east: Any, west: Any, replicated: str) -> None:
    """A primary with a replica is PendingReplicaDeletion, unusable at once; cancelling leaves it Disabled."""
    found = east.schedule_key_deletion(KeyId=replicated, PendingWindowInDays=7)

    assert found["KeyState"] == "PendingReplicaDeletion"
    assert "DeletionDate" not in found
    code, _ = refusal(east.encrypt, KeyId=replicated, Plaintext=b"x")
    assert code == "KMSInvalidStateException"
    assert west.schedule_key_deletion(KeyId=replicated, PendingWindowInDays=7)["KeyState"] == "PendingDeletion"
    east.cancel_key_deletion(KeyId=replicated)
    assert east.describe_key(KeyId=replicated)["KeyMetadata"]["KeyState"] == "Disabled"


@pytest.mark.parametrize("days", [pytest.param(6, id="too-short"), pytest.param(31, id="too-long")])
def test_the_deletion_window_is_7_to_30_days(east: Any, days: int) -> None:
    """Other windows are refused by validation."""
    code, message = refusal(east.schedule_key_deletion, KeyId=make_key(east), PendingWindowInDays=days)

    assert code == "ValidationException"
    assert f"Value '{days}' at 'pendingWindowInDays'" in message


def test_the_primary_can_be_moved(east: Any, west: Any, replicated: str, eventually: Any) -> None:
    """UpdatePrimaryRegion swaps the roles, after a while of Updating; cryptography goes on under both."""
    blob = east.encrypt(KeyId=replicated, Plaintext=b"before")["CiphertextBlob"]

    east.update_primary_region(KeyId=replicated, PrimaryRegion="us-west-2")

    assert west.decrypt(CiphertextBlob=blob)["Plaintext"] == b"before"
    eventually(lambda: west.describe_key(KeyId=replicated)["KeyMetadata"]["KeyState"] == "Enabled")
    found = west.describe_key(KeyId=replicated)["KeyMetadata"]["MultiRegionConfiguration"]
    assert (found["MultiRegionKeyType"], found["PrimaryKey"]["Region"]) == ("PRIMARY", "us-west-2")
    assert west.decrypt(CiphertextBlob=blob)["Plaintext"] == b"before"
    assert refusal(east.update_primary_region, KeyId=replicated, PrimaryRegion="us-west-2")[0] == (
        "UnsupportedOperationException"
    )


def test_rotation_on_demand_over_the_wire(east: Any, west: Any, replicated: str, eventually: Any) -> None:
    """What was sealed before opens after, in both regions, and the rotation is listed."""
    blob = east.encrypt(KeyId=replicated, Plaintext=b"before")["CiphertextBlob"]

    assert east.rotate_key_on_demand(KeyId=replicated)["KeyId"] == replicated

    eventually(lambda: bool(west.list_key_rotations(KeyId=replicated)["Rotations"]))
    (done,) = west.list_key_rotations(KeyId=replicated)["Rotations"]
    assert done["RotationType"] == "ON_DEMAND"
    for kms in (east, west):
        opened = kms.decrypt(CiphertextBlob=blob)
        assert opened["Plaintext"] == b"before"
        assert opened["KeyMaterialId"] != done["KeyMaterialId"]
    assert east.generate_data_key(KeyId=replicated, KeySpec="AES_256")["KeyMaterialId"] == done["KeyMaterialId"]


def test_grants_over_the_wire(east: Any, west: Any, replicated: str) -> None:
    """Made, paged, found by who may retire them, revoked and retired; regional."""
    role = f"arn:aws:iam::{ACCOUNT}:role/{replicated}"
    members = {"KeyId": replicated, "GranteePrincipal": role, "RetiringPrincipal": role, "Operations": ["Decrypt"]}
    made = [east.create_grant(**members) for _ in range(3)]

    pages = list(east.get_paginator("list_grants").paginate(KeyId=replicated, PaginationConfig={"PageSize": 2}))
    assert [len(page["Grants"]) for page in pages] == [2, 1]
    assert west.list_grants(KeyId=replicated)["Grants"] == []
    assert refusal(east.create_grant, **members, DryRun=True)[0] == "DryRunOperationException"
    east.revoke_grant(KeyId=replicated, GrantId=made[0]["GrantId"])
    east.retire_grant(GrantToken=made[1]["GrantToken"])
    left = east.list_retirable_grants(RetiringPrincipal=role)["Grants"]
    assert [grant["GrantId"] for grant in left] == [made[2]["GrantId"]]


def test_an_operation_that_is_not_served_is_known(east: Any) -> None:
    """AWS has it: an UnsupportedOperationException, not an UnknownOperationException."""
    assert refusal(east.create_custom_key_store, CustomKeyStoreName="x")[0] == "UnsupportedOperationException"
    assert refusal(east.sign, KeyId=make_key(east), Message=b"x", SigningAlgorithm="ECDSA_SHA_256")[0] == (
        "InvalidKeyUsageException"
    )


def test_every_mistake_is_told_at_once(east: Any) -> None:
    """Before the key is looked for."""
    code, message = refusal(east.generate_data_key, KeyId=NO_KEY, KeySpec="AES_1", NumberOfBytes=0)

    assert code == "ValidationException"
    assert message.startswith("2 validation errors detected: Value 'AES_1' at 'keySpec'")
