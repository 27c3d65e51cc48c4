"""What is refused, with which code and in which words; texts marked `recorded` were answered by AWS itself.

Recorded: LocalStack's `tests/aws/services/kms/test_kms.snapshot.json`, and error messages quoted in public issues.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from kms_estate import CREATING_SECONDS, DAY, EAST, IRELAND, WEST, Desk, Seeded, arn

NULL = "failed to satisfy constraint: Member must not be null"
SECRET = base64.b64encode(b"secret").decode()
NO_KEY = "12345678-1234-1234-1234-123456789012"
DOOR = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*", "Resource": "*"}


@pytest.fixture
def desk() -> Desk:
    return Seeded().desk()


@pytest.fixture
def key(desk: Desk) -> str:
    return desk.make_key(WEST)


def one(text: str) -> str:
    return f"1 validation error detected: {text}"


@pytest.mark.parametrize(
    ("operation", "members", "message"),
    [
        pytest.param("DescribeKey", {}, one(f"Value null at 'keyId' {NULL}"), id="key-missing"),
        pytest.param(
            "CreateAlias",
            {},
            f"2 validation errors detected: Value null at 'aliasName' {NULL}; Value null at 'targetKeyId' {NULL}",
            id="two-missing",
        ),
        pytest.param(
            "DescribeKey",
            {"KeyId": ""},
            one("Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1"),
            id="key-empty",
        ),
        pytest.param(
            "CreateKey",
            {"Description": "x" * 8193},
            one(
                f"Value '{'x' * 8193}' at 'description' failed to satisfy constraint: "
                "Member must have length less than or equal to 8192"
            ),
            id="description",
        ),
        pytest.param(
            "CreateKey",
            {"Tags": [{"TagKey": "a", "TagValue": ""}, {"TagKey": "x" * 129, "TagValue": ""}]},
            one(
                f"Value '{'x' * 129}' at 'tags.2.member.tagKey' failed to satisfy constraint: "
                "Member must have length less than or equal to 128"
            ),
            id="tag-key",
        ),
        pytest.param(
            "CreateKey",
            {"Tags": [{"TagKey": "a", "TagValue": "x" * 257}]},
            one(
                f"Value '{'x' * 257}' at 'tags.1.member.tagValue' failed to satisfy constraint: "
                "Member must have length less than or equal to 256"
            ),
            id="tag-value",
        ),
        pytest.param(
            "CreateKey",
            {"KeyUsage": "RANDOM"},
            one(
                "Value 'RANDOM' at 'keyUsage' failed to satisfy constraint: Member must satisfy enum value set: "
                "[SIGN_VERIFY, ENCRYPT_DECRYPT, GENERATE_VERIFY_MAC, KEY_AGREEMENT, ENCAPSULATE_DECAPSULATE]"
            ),
            id="usage",
        ),
        pytest.param(
            "CreateKey",
            {"KeySpec": "HMAC_256"},
            "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
            id="recorded-no-usage",
        ),
        pytest.param(
            "CreateKey",
            {"KeySpec": "SYMMETRIC_DEFAULT", "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT"},
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. "
            "CustomerMasterKeySpec is deprecated.",
            id="two-specs",
        ),
        pytest.param("GenerateRandom", {}, "NumberOfBytes is required.", id="recorded-random"),
        pytest.param(
            "GenerateRandom",
            {"NumberOfBytes": 0},
            one(
                "Value '0' at 'numberOfBytes' failed to satisfy constraint: "
                "Member must have value greater than or equal to 1"
            ),
            id="recorded-random-0",
        ),
        pytest.param(
            "GenerateRandom",
            {"NumberOfBytes": 1025},
            one(
                "Value '1025' at 'numberOfBytes' failed to satisfy constraint: "
                "Member must have value less than or equal to 1024"
            ),
            id="recorded-random-1025",
        ),
        pytest.param(
            "Encrypt",
            {"KeyId": NO_KEY, "Plaintext": base64.b64encode(bytes(4097)).decode()},
            one(
                "Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"
            ),
            id="recorded-plaintext",
        ),
        pytest.param(
            "Decrypt",
            {"CiphertextBlob": base64.b64encode(bytes(6145)).decode()},
            one(
                "Value 'java.nio.HeapByteBuffer[pos=0 lim=6145 cap=6145]' at 'ciphertextBlob' failed to satisfy "
                "constraint: Member must have length less than or equal to 6144"
            ),
            id="blob",
        ),
        pytest.param(
            "CreateAlias",
            {"AliasName": "parker", "TargetKeyId": NO_KEY},
            'Alias must start with the prefix "alias/". Please see '
            "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
            id="recorded-alias-prefix",
        ),
        pytest.param(
            "CreateAlias",
            {"AliasName": "alias/a b", "TargetKeyId": NO_KEY},
            one(
                "Value 'alias/a b' at 'aliasName' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"
            ),
            id="alias-pattern",
        ),
        pytest.param(
            "ReplicateKey",
            {"KeyId": NO_KEY, "ReplicaRegion": "Mars"},
            one(
                "Value 'Mars' at 'replicaRegion' failed to satisfy constraint: "
                r"Member must satisfy regular expression pattern: ^([a-z]+-){2,3}\d+$"
            ),
            id="region",
        ),
        pytest.param(
            "Encrypt",
            {"KeyId": NO_KEY, "Plaintext": SECRET, "GrantTokens": ["x"] * 11},
            one(
                f"Value '[{', '.join(['x'] * 11)}]' at 'grantTokens' failed to satisfy constraint: "
                "Member must have length less than or equal to 10"
            ),
            id="grant-tokens",
        ),
        pytest.param(
            "GenerateDataKey",
            {"KeyId": NO_KEY, "KeySpec": "AES_512", "NumberOfBytes": 2000},
            "2 validation errors detected: Value 'AES_512' at 'keySpec' failed to satisfy constraint: "
            "Member must satisfy enum value set: [AES_256, AES_128]; Value '2000' at 'numberOfBytes' failed to satisfy "
            "constraint: Member must have value less than or equal to 1024",
            id="two-mistakes-before-the-key",
        ),
    ],
)
def test_a_request_is_validated_before_anything_else(
    desk: Desk, operation: str, members: dict[str, Any], message: str
) -> None:
    """In AWS's words, and all mistakes at once."""
    assert desk.refusal(EAST, operation, **members) == ("ValidationException", message)


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        pytest.param("DescribeKey", {"KeyId": 7}, id="number-for-text"),
        pytest.param("CreateKey", {"MultiRegion": "yes"}, id="text-for-flag"),
        pytest.param("CreateKey", {"Tags": {"a": "b"}}, id="map-for-list"),
        pytest.param("CreateKey", {"Tags": ["a"]}, id="text-for-structure"),
        pytest.param("GenerateRandom", {"NumberOfBytes": True}, id="flag-for-number"),
        pytest.param("Encrypt", {"KeyId": NO_KEY, "Plaintext": SECRET, "EncryptionContext": {"a": 1}}, id="context"),
        pytest.param("UntagResource", {"KeyId": NO_KEY, "TagKeys": [1]}, id="number-in-list"),
    ],
)
def test_a_member_of_another_type_is_a_serialization_exception(
    desk: Desk, operation: str, members: dict[str, Any]
) -> None:
    """Before validation, and without a word."""
    assert desk.refusal(EAST, operation, **members) == ("SerializationException", None)


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("GetKeyPolicy", {}),
        ("PutKeyPolicy", {"Policy": json.dumps({"Statement": DOOR})}),
        ("EnableKeyRotation", {}),
        ("ScheduleKeyDeletion", {}),
        ("DisableKey", {}),
        ("TagResource", {"Tags": []}),
        ("ListGrants", {}),
        ("ReplicateKey", {"ReplicaRegion": IRELAND}),
    ],
)
def test_management_takes_no_aliases(desk: Desk, key: str, operation: str, more: dict[str, Any]) -> None:
    """Recorded: an InvalidArnException, also for an alias that exists."""
    desk.ask(EAST, "CreateAlias", AliasName="alias/x", TargetKeyId=key)
    expected = ("InvalidArnException", "Key Aliases are not supported for this operation.")

    for given in ("alias/x", f"arn:aws:kms:{EAST}:123456789012:alias/x"):
        assert desk.refusal(EAST, operation, KeyId=given, **more) == expected


USES = [
    ("Encrypt", {"Plaintext": SECRET}),
    ("GenerateDataKey", {"KeySpec": "AES_256"}),
    ("GenerateDataKeyWithoutPlaintext", {"NumberOfBytes": 32}),
]
MANAGEMENT = ["EnableKey", "DisableKey", "ScheduleKeyDeletion"]


def bring(desk: Desk, key: str, state: str) -> None:
    """Bring the key in us-east-1 into a state."""
    match state:
        case "Disabled":
            desk.ask(EAST, "DisableKey", KeyId=key)
        case "PendingDeletion":
            desk.ask(WEST, "ScheduleKeyDeletion", KeyId=key, PendingWindowInDays=7)
            desk.wait(seconds=7 * DAY)
            desk.ask(EAST, "ScheduleKeyDeletion", KeyId=key)
        case "PendingReplicaDeletion":
            desk.ask(EAST, "ScheduleKeyDeletion", KeyId=key)
        case "Updating":
            desk.ask(EAST, "UpdatePrimaryRegion", KeyId=key, PrimaryRegion=WEST)
    assert desk.state(EAST, key) == state


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        ("Disabled", "DisabledException", "is disabled."),
        ("PendingDeletion", "KMSInvalidStateException", "is pending deletion."),
        ("PendingReplicaDeletion", "KMSInvalidStateException", "is pending replica deletion."),
    ],
)
def test_an_unusable_key_says_why(desk: Desk, key: str, state: str, code: str, words: str) -> None:
    """Every use alike, dry runs and rotation too; Decrypt with and without its name."""
    blob = desk.encrypt(EAST, key)
    bring(desk, key, state)
    expected = (code, f"{arn(EAST, key)} {words}")

    for operation, more in USES:
        assert desk.refusal(EAST, operation, KeyId=key, **more) == expected
        assert desk.refusal(EAST, operation, KeyId=key, DryRun=True, **more) == expected
    for named in ({}, {"KeyId": key}):
        assert desk.refusal(EAST, "Decrypt", CiphertextBlob=blob, **named) == expected
    other = desk.make_key()
    assert desk.refusal(EAST, "ReEncrypt", CiphertextBlob=blob, DestinationKeyId=other) == expected
    there = desk.encrypt(EAST, other)
    assert desk.refusal(EAST, "ReEncrypt", CiphertextBlob=there, DestinationKeyId=key) == expected
    for operation in ("EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand"):
        assert desk.refusal(EAST, operation, KeyId=key) == expected
    assert desk.refusal(EAST, "ReplicateKey", KeyId=key, ReplicaRegion=IRELAND) == expected
    assert desk.refusal(EAST, "UpdatePrimaryRegion", KeyId=key, PrimaryRegion=WEST) == expected


@pytest.mark.parametrize("state", ["PendingDeletion", "PendingReplicaDeletion"])
def test_what_a_key_on_its_way_out_still_takes(desk: Desk, key: str, state: str) -> None:
    """Its policy can be changed and everything read; tags, descriptions and aliases are refused."""
    bring(desk, key, state)
    for operation, more in (
        ("TagResource", {"Tags": [{"TagKey": "a", "TagValue": "b"}]}),
        ("UntagResource", {"TagKeys": ["a"]}),
        ("UpdateKeyDescription", {"Description": "x"}),
        *((name, {}) for name in MANAGEMENT),
    ):
        assert desk.refusal(EAST, operation, KeyId=key, **more)[0] == "KMSInvalidStateException"
    made = {"AliasName": "alias/x", "TargetKeyId": key}
    assert desk.refusal(EAST, "CreateAlias", **made)[0] == "KMSInvalidStateException"

    desk.ask(EAST, "PutKeyPolicy", KeyId=key, Policy=json.dumps({"Statement": DOOR}))
    for operation in ("GetKeyPolicy", "ListKeyPolicies", "ListResourceTags", "ListGrants", "GetKeyRotationStatus"):
        assert desk.ask(EAST, operation, KeyId=key)


def test_an_updating_key_works_and_cannot_be_managed(desk: Desk, key: str) -> None:
    """Old and new primary are shown as replicas meanwhile; then the old state is back."""
    blob = desk.encrypt(EAST, key)
    bring(desk, key, "Updating")

    for region in (EAST, WEST):
        assert desk.decrypt(region, blob) == b"secret"
        found = desk.ask(region, "DescribeKey", KeyId=key)["KeyMetadata"]
        assert (found["KeyState"], found["Enabled"]) == ("Updating", False)
        assert found["MultiRegionConfiguration"]["MultiRegionKeyType"] == "REPLICA"
        for operation in MANAGEMENT:
            expected = ("KMSInvalidStateException", f"{arn(region, key)} is updating.")
            assert desk.refusal(region, operation, KeyId=key) == expected
    assert desk.refusal(WEST, "ReplicateKey", KeyId=key, ReplicaRegion=IRELAND)[0] == "KMSInvalidStateException"
    assert desk.refusal(WEST, "UpdatePrimaryRegion", KeyId=key, PrimaryRegion=EAST)[0] == "KMSInvalidStateException"

    desk.wait(seconds=CREATING_SECONDS)

    kinds = [
        desk.ask(region, "DescribeKey", KeyId=key)["KeyMetadata"]["MultiRegionConfiguration"]["MultiRegionKeyType"]
        for region in (EAST, WEST)
    ]
    assert kinds == ["REPLICA", "PRIMARY"]
    assert desk.ask(WEST, "ReplicateKey", KeyId=key, ReplicaRegion=IRELAND)


def test_moving_the_primary_is_refused(desk: Desk, key: str) -> None:
    """From a replica, to itself, to where no replica is or no region, of a single-Region key, to an unusable one."""
    single = desk.make_key(multi_region=False)
    asked = "UpdatePrimaryRegion"
    not_primary = ("UnsupportedOperationException", f"{arn(WEST, key)} is not a multi-Region primary key.")
    assert desk.refusal(WEST, asked, KeyId=key, PrimaryRegion=EAST) == not_primary
    assert desk.refusal(EAST, asked, KeyId=key, PrimaryRegion=EAST)[0] == "UnsupportedOperationException"
    assert desk.refusal(EAST, asked, KeyId=single, PrimaryRegion=WEST)[0] == "UnsupportedOperationException"
    missing = ("NotFoundException", f"Key '{arn(IRELAND, key)}' does not exist")
    assert desk.refusal(EAST, asked, KeyId=key, PrimaryRegion=IRELAND) == missing
    assert desk.refusal(EAST, asked, KeyId=key, PrimaryRegion="ap-south-1")[0] == "ValidationException"
    desk.ask(WEST, "DisableKey", KeyId=key)
    disabled = ("DisabledException", f"{arn(WEST, key)} is disabled.")
    assert desk.refusal(EAST, asked, KeyId=key, PrimaryRegion=WEST) == disabled


def test_a_second_replica_is_refused_in_awss_words(desk: Desk, key: str) -> None:
    """Recorded."""
    expected = (
        "AlreadyExistsException",
        "You can create only one replica of each primary key in each AWS Region.",
    )

    assert desk.refusal(EAST, "ReplicateKey", KeyId=key, ReplicaRegion=WEST) == expected


def test_a_replica_takes_what_it_is_given(desk: Desk) -> None:
    """Description, tags and policy of its own; a lockout only on purpose; no tags, no ReplicaTags."""
    key = desk.make_key()
    locked = json.dumps({"Statement": {**DOOR, "Action": "kms:Decrypt"}})
    members = {"KeyId": key, "ReplicaRegion": WEST, "Policy": locked, "Tags": [{"TagKey": "a", "TagValue": "b"}]}
    assert desk.refusal(EAST, "ReplicateKey", **members)[0] == "MalformedPolicyDocumentException"
    made = desk.ask(EAST, "ReplicateKey", BypassPolicyLockoutSafetyCheck=True, Description="west", **members)

    assert (made["ReplicaPolicy"], made["ReplicaTags"]) == (locked, members["Tags"])
    assert made["ReplicaKeyMetadata"]["Description"] == "west"
    assert "ReplicaTags" not in desk.ask(EAST, "ReplicateKey", KeyId=key, ReplicaRegion=IRELAND)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        pytest.param("{", "This policy contains invalid Json", id="no-json"),
        pytest.param("[]", "This policy contains invalid Json", id="no-object"),
        pytest.param("{}", "This policy contains invalid Json", id="no-statement"),
        pytest.param('{"Statement": [{"Effect": "Allow"}]}', "This policy contains invalid Json", id="no-principal"),
        pytest.param('{"Statement": []}', "The new key policy will not allow you to", id="nobody"),
        pytest.param(
            json.dumps({"Statement": {**DOOR, "Effect": "Deny"}}), "The new key policy will not allow you to", id="deny"
        ),
        pytest.param(
            json.dumps({"Statement": {**DOOR, "Action": "kms:Get*"}}), "The new key policy will not", id="read-only"
        ),
    ],
)
def test_a_policy_must_be_one_and_keep_a_door_open(desk: Desk, key: str, policy: str, message: str) -> None:
    """In AWS's words; the old one stays."""
    before = desk.ask(EAST, "GetKeyPolicy", KeyId=key)
    code, found = desk.refusal(EAST, "PutKeyPolicy", KeyId=key, PolicyName="default", Policy=policy)

    assert code == "MalformedPolicyDocumentException"
    assert str(found).startswith(message)
    assert desk.ask(EAST, "GetKeyPolicy", KeyId=key) == before


@pytest.mark.parametrize("action", ["kms:*", "*", "kms:Put*", "KMS:putkeypolicy", ["kms:Decrypt", "kms:PutKeyPolicy"]])
def test_a_door_may_have_several_forms(desk: Desk, key: str, action: object) -> None:
    """Patterns, any case, lists."""
    policy = json.dumps({"Statement": [{**DOOR, "Action": action}]})
    desk.ask(EAST, "PutKeyPolicy", KeyId=key, Policy=policy)

    assert desk.ask(EAST, "GetKeyPolicy", KeyId=key) == {"Policy": policy, "PolicyName": "default"}


def test_tags_are_refused_in_awss_words(desk: Desk, key: str) -> None:
    """Twice the same, more than 50 on a key, and AWS's own."""
    some = [{"TagKey": str(number), "TagValue": ""} for number in range(51)]
    for tags, message in (
        ([some[0], some[0]], "Duplicate tag keys"),
        (some, "Too many tags"),
        ([{"TagKey": "AWS:x", "TagValue": ""}], "Tags beginning with aws: are reserved"),
    ):
        assert desk.refusal(EAST, "TagResource", KeyId=key, Tags=tags) == ("TagException", message)
        assert desk.refusal(EAST, "CreateKey", Tags=tags) == ("TagException", message)
    desk.ask(EAST, "TagResource", KeyId=key, Tags=some[:50])
    assert desk.refusal(EAST, "TagResource", KeyId=key, Tags=some[50:]) == ("TagException", "Too many tags")
    assert len(desk.ask(EAST, "ListResourceTags", KeyId=key)["Tags"]) == 50


def test_a_key_has_fifty_aliases(desk: Desk, key: str) -> None:
    """Recorded; a move to a full key is refused alike."""
    for number in range(50):
        desk.ask(EAST, "CreateAlias", AliasName=f"alias/{number}", TargetKeyId=key)
    message = "Aliases per key quota for this account in this region is 50, current usage is 50."
    expected = ("LimitExceededException", message)
    assert desk.refusal(EAST, "CreateAlias", AliasName="alias/more", TargetKeyId=key) == expected
    desk.ask(EAST, "CreateAlias", AliasName="alias/more", TargetKeyId=desk.make_key())

    assert desk.refusal(EAST, "UpdateAlias", AliasName="alias/more", TargetKeyId=key) == expected
    assert desk.ask(EAST, "UpdateAlias", AliasName="alias/7", TargetKeyId=key) == {}


@pytest.mark.parametrize("operation", ["Sign", "Verify", "GenerateMac", "VerifyMac"])
def test_a_symmetric_key_does_not_sign(desk: Desk, key: str, operation: str) -> None:
    """Recorded."""
    expected = f"{arn(EAST, key)} key usage is ENCRYPT_DECRYPT which is not valid for {operation}."

    assert desk.refusal(EAST, operation, KeyId=key) == ("InvalidKeyUsageException", expected)


def test_a_key_of_kms_takes_no_imported_material(desk: Desk, key: str) -> None:
    """Recorded."""
    expected = f"{arn(EAST, key)} origin is AWS_KMS which is not valid for this operation."

    assert desk.refusal(EAST, "GetParametersForImport", KeyId=key) == ("UnsupportedOperationException", expected)


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("GetPublicKey", {}),
        ("CreateCustomKeyStore", {}),
        ("GenerateDataKeyPair", {}),
        ("CreateKey", {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}),
        ("CreateKey", {"Origin": "EXTERNAL"}),
        ("GenerateRandom", {"NumberOfBytes": 1, "Recipient": {}}),
        ("Decrypt", {"CiphertextBlob": SECRET, "Recipient": {}}),
        ("GenerateDataKey", {"KeyId": NO_KEY, "KeySpec": "AES_256", "Recipient": {}}),
    ],
)
def test_what_is_not_served_says_so(desk: Desk, operation: str, members: dict[str, Any]) -> None:
    """AWS has it and this program has not: an UnsupportedOperationException in so many words."""
    code, message = desk.refusal(EAST, operation, **members)

    assert code == "UnsupportedOperationException"
    assert str(message).endswith("not supported here")


def test_another_algorithm_does_not_fit_the_key(desk: Desk, key: str) -> None:
    """After the key was found; for both sides of ReEncrypt."""
    blob = desk.encrypt(EAST, key)
    expected = (
        "InvalidKeyUsageException",
        "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.",
    )
    rsa = "RSAES_OAEP_SHA_256"
    assert desk.refusal(EAST, "Encrypt", KeyId=key, Plaintext=SECRET, EncryptionAlgorithm=rsa) == expected
    assert desk.refusal(EAST, "Decrypt", CiphertextBlob=blob, EncryptionAlgorithm=rsa) == expected
    for side in ("Source", "Destination"):
        members = {"CiphertextBlob": blob, "DestinationKeyId": key, f"{side}EncryptionAlgorithm": rsa}
        assert desk.refusal(EAST, "ReEncrypt", **members) == expected


def test_markers_are_checked(desk: Desk, key: str) -> None:
    """A marker is what an answer gave, and nothing else."""
    for marker in ("x", "!!", base64.b64encode(b"at:-5").decode(), base64.b64encode(b"at:x").decode()):
        assert desk.refusal(EAST, "ListGrants", KeyId=key, Marker=marker)[0] == "InvalidMarkerException"


def test_a_described_key_has_all_that_aws_tells(desk: Desk, key: str) -> None:
    """Recorded, and the current key material besides."""
    found = desk.ask(EAST, "DescribeKey", KeyId=key)["KeyMetadata"]

    assert set(found) == {
        "AWSAccountId", "Arn", "CreationDate", "CurrentKeyMaterialId", "CustomerMasterKeySpec", "Description",
        "Enabled", "EncryptionAlgorithms", "KeyId", "KeyManager", "KeySpec", "KeyState", "KeyUsage", "MultiRegion",
        "MultiRegionConfiguration", "Origin",
    }  # fmt: skip
    assert isinstance(found["CreationDate"], float)
    assert len(found["CurrentKeyMaterialId"]) == 64
