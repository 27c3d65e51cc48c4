"""KMS over the wire with stock boto3: what keys are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

CONTEXT = {"purpose": "general", "tenant": "7"}


def code_of(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


@pytest.fixture
def east(local_aws: Any) -> Any:
    return local_aws.client("kms", "us-east-1")


@pytest.fixture
def west(local_aws: Any) -> Any:
    return local_aws.client("kms", "us-west-2")


@pytest.fixture
def key(east: Any, west: Any, eventually: Any) -> str:
    key_id = str(east.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"])
    east.replicate_key(KeyId=key_id, ReplicaRegion="us-west-2")
    eventually(lambda: west.describe_key(KeyId=key_id)["KeyMetadata"]["Enabled"])
    return key_id


def test_what_one_region_seals_another_opens(east: Any, west: Any, key: str) -> None:
    """A data key made in us-east-1 opens in us-west-2, with and without KeyId, and names the key of that region."""
    made = east.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)

    for more in ({}, {"KeyId": key}):
        opened = west.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT, **more)
        assert opened["Plaintext"] == made["Plaintext"]
        assert opened["KeyId"] == f"arn:aws:kms:us-west-2:123456789012:key/{key}"
        assert opened["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT"


@pytest.mark.parametrize(
    ("multi_region", "size"), [pytest.param(True, 184, id="mrk"), pytest.param(False, 167, id="single")]
)
def test_blobs_have_awss_sizes(east: Any, *, multi_region: bool, size: int) -> None:
    """32 bytes seal into 184 bytes under a multi-Region key and into 167 under a single-Region one."""
    key_id = east.create_key(MultiRegion=multi_region)["KeyMetadata"]["KeyId"]

    made = east.generate_data_key(KeyId=key_id, KeySpec="AES_256")

    assert len(made["CiphertextBlob"]) == size


@pytest.mark.parametrize(
    "context",
    [
        pytest.param({"purpose": "general"}, id="pair-missing"),
        pytest.param({**CONTEXT, "more": "x"}, id="pair-added"),
        pytest.param({"purpose": "General", "tenant": "7"}, id="other-case"),
        pytest.param({}, id="none"),
    ],
)
def test_another_context_is_refused_without_a_word(west: Any, east: Any, key: str, context: dict[str, str]) -> None:
    """Any other context is an InvalidCiphertextException, and its message is empty."""
    blob = east.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=CONTEXT)["CiphertextBlob"]

    with pytest.raises(ClientError) as caught:
        west.decrypt(CiphertextBlob=blob, EncryptionContext=context)

    assert caught.value.response["Error"] == {"Code": "InvalidCiphertextException", "Message": ""}


def test_contexts_are_bound_with_their_lengths(east: Any, key: str) -> None:
    """Moving a letter from a value to a key is another context."""
    blob = east.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"ab": "c"})["CiphertextBlob"]

    assert code_of(east.decrypt, CiphertextBlob=blob, EncryptionContext={"a": "bc"}) == "InvalidCiphertextException"


@pytest.mark.parametrize(
    "position",
    [
        pytest.param(0, id="magic"),
        pytest.param(60, id="filler"),
        pytest.param(110, id="nonce"),
        pytest.param(-1, id="tag"),
    ],
)
def test_a_changed_byte_is_refused(east: Any, key: str, position: int) -> None:
    """Every part of a blob is authenticated."""
    blob = bytearray(east.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"])
    blob[position] ^= 1

    assert code_of(east.decrypt, CiphertextBlob=bytes(blob)) == "InvalidCiphertextException"


def test_a_named_key_must_be_the_one(east: Any, key: str) -> None:
    """Decrypt under another KeyId is an IncorrectKeyException; garbage under a good one is not."""
    other = east.create_key()["KeyMetadata"]["KeyId"]
    blob = east.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]

    assert code_of(east.decrypt, CiphertextBlob=blob, KeyId=other) == "IncorrectKeyException"
    assert code_of(east.decrypt, CiphertextBlob=b"garbage", KeyId=other) == "InvalidCiphertextException"


def test_a_region_without_the_key_denies(local_aws: Any, east: Any, key: str) -> None:
    """Where no related key is, Decrypt says AccessDenied, not that the blob is bad."""
    ireland = local_aws.client("kms", "eu-west-1")
    blob = east.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]

    assert code_of(ireland.decrypt, CiphertextBlob=blob) == "AccessDeniedException"


def test_re_encrypt_changes_key_and_context(east: Any, key: str) -> None:
    """ReEncrypt opens under one key and context and seals under others."""
    other = east.create_key()["KeyMetadata"]["KeyId"]
    blob = east.encrypt(KeyId=key, Plaintext=b"secret", EncryptionContext=CONTEXT)["CiphertextBlob"]

    moved = east.re_encrypt(
        CiphertextBlob=blob,
        SourceEncryptionContext=CONTEXT,
        DestinationKeyId=other,
        DestinationEncryptionContext={"new": "1"},
    )

    assert moved["SourceKeyId"].endswith(key)
    opened = east.decrypt(CiphertextBlob=moved["CiphertextBlob"], KeyId=other, EncryptionContext={"new": "1"})
    assert opened["Plaintext"] == b"secret"


def test_a_dry_run_checks_everything_and_does_nothing(east: Any, key: str) -> None:
    """A call that would have worked is a DryRunOperationException, one that would not has its own code."""
    assert code_of(east.generate_data_key, KeyId=key, KeySpec="AES_256", DryRun=True) == "DryRunOperationException"
    blob = east.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    assert code_of(east.decrypt, CiphertextBlob=blob, DryRun=True) == "DryRunOperationException"
    wrong = {"CiphertextBlob": blob, "DryRun": True, "EncryptionContext": CONTEXT}
    assert code_of(east.decrypt, **wrong) == "InvalidCiphertextException"


@pytest.mark.parametrize(
    ("more", "size"),
    [
        pytest.param({"KeySpec": "AES_128"}, 16, id="aes-128"),
        pytest.param({"NumberOfBytes": 64}, 64, id="bytes"),
    ],
)
def test_data_keys_have_the_asked_length(east: Any, key: str, more: dict[str, Any], size: int) -> None:
    """A data key is as long as its spec or number of bytes says; the variant without plaintext has none."""
    assert len(east.generate_data_key(KeyId=key, **more)["Plaintext"]) == size
    assert "Plaintext" not in east.generate_data_key_without_plaintext(KeyId=key, **more)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="neither"),
        pytest.param({"KeySpec": "AES_256", "NumberOfBytes": 32}, id="both"),
    ],
)
def test_a_data_key_needs_one_size(east: Any, key: str, more: dict[str, Any]) -> None:
    """KeySpec and NumberOfBytes exclude each other, and one of them is needed."""
    assert code_of(east.generate_data_key, KeyId=key, **more) == "ValidationException"


def test_plaintexts_have_a_limit(east: Any, key: str) -> None:
    """4096 bytes can be encrypted, 4097 cannot."""
    assert east.encrypt(KeyId=key, Plaintext=bytes(4096))["CiphertextBlob"]
    assert code_of(east.encrypt, KeyId=key, Plaintext=bytes(4097)) == "ValidationException"


def test_random_bytes(east: Any) -> None:
    """GenerateRandom returns as many bytes as asked, different each time."""
    first, second = (east.generate_random(NumberOfBytes=24)["Plaintext"] for _ in range(2))

    assert len(first) == 24
    assert first != second
