"""Messages cross between the core's codec and the real `aws-encryption-sdk`, in both directions, to the byte."""

from __future__ import annotations

import io
import itertools

import pytest
from aws_encryption_sdk import Algorithm, CommitmentPolicy, EncryptionSDKClient
from aws_encryption_sdk.identifiers import EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider

from kms_core.errors import MessageError, Step
from kms_core.testing import decode, decode_stream, encode, raw_aes_unwrap

KEK = bytes(range(32))
COMMITTED = CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
LEGACY = CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
ALGORITHMS = {algorithm.algorithm_id: algorithm for algorithm in Algorithm}

CONTEXTS = (
    pytest.param({}, id="empty"),
    pytest.param({"canary": "true", "region": "us-east-1", "empty": ""}, id="ascii"),
    pytest.param({"größe": "ü", "\U0001f511": "beyond the BMP", "\uffee": "below it"}, id="unicode"),
)


class LocalKey(RawMasterKeyProvider):
    """The SDK's own raw-AES provider: no KMS, no network."""

    provider_id = "test"

    def _get_raw_key(self, key_id: bytes) -> WrappingKey:
        return WrappingKey(WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING, KEK, EncryptionKeyType.SYMMETRIC)


@pytest.fixture(scope="module")
def oracle() -> LocalKey:
    provider = LocalKey()
    provider.add_master_key("k1")
    return provider


UNWRAP = raw_aes_unwrap("test", "k1", KEK)


def sdk_seal(oracle: LocalKey, plaintext: bytes, context: dict[str, str], suite: int, frame_length: int) -> bytes:
    policy = COMMITTED if suite in {0x0478, 0x0578} else LEGACY
    message, _ = EncryptionSDKClient(commitment_policy=policy).encrypt(
        source=plaintext,
        key_provider=oracle,
        encryption_context=context,
        frame_length=frame_length,
        algorithm=ALGORITHMS[suite],
    )
    return bytes(message)


def sdk_open(oracle: LocalKey, message: bytes) -> tuple[bytes, dict[str, str]]:
    plaintext, header = EncryptionSDKClient(commitment_policy=COMMITTED).decrypt(source=message, key_provider=oracle)
    return bytes(plaintext), dict(header.encryption_context)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("frame_length", [128, 4096, 65_536])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 127, 128, 129, 4095, 4096, 4097, 100_000])
def test_the_same_entropy_makes_the_same_bytes(
    oracle: LocalKey, size: int, frame_length: int, context: dict[str, str]
) -> None:
    """Sealing what the SDK sealed, with its message id and data key, gives the SDK's bytes, and the SDK opens them."""
    plaintext = bytes(itertools.islice(itertools.cycle(range(251)), size))
    theirs = sdk_seal(oracle, plaintext, context, 0x0478, frame_length)
    opened, header = decode(theirs, UNWRAP)

    ours = encode(
        plaintext,
        UNWRAP(header, header.context),
        header.encrypted_data_keys,
        context,
        frame_length=frame_length,
        message_id=header.message_id,
    )

    assert opened == plaintext
    assert sdk_open(oracle, ours) == (plaintext, context)
    if size == 0 or size % frame_length:
        assert ours == theirs
    else:
        assert len(theirs) == len(ours) + 32, "the SDK ends with an empty final frame there, which is as valid"


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("frame_length", [0, 128, 4096])
@pytest.mark.parametrize("suite", [pytest.param(number, id=f"{number:04x}") for number in sorted(ALGORITHMS)])
def test_every_suite_of_the_sdk_is_read(
    oracle: LocalKey, suite: int, frame_length: int, context: dict[str, str]
) -> None:
    """All eleven suites, framed and not, open to what was sealed."""
    plaintext = b"attack at dawn" * 30
    message = sdk_seal(oracle, plaintext, context, suite, frame_length)

    opened, header = decode(message, UNWRAP)

    assert opened == plaintext
    assert header.suite.id == suite
    assert header.framed == (frame_length > 0)
    assert {key: value for key, value in header.context.items() if not key.startswith("aws-crypto-")} == context


def test_a_signed_message_is_refused_when_only_its_signature_is_wrong(oracle: LocalKey) -> None:
    """Every bit of the signature matters, though all frames before it verify."""
    message = sdk_seal(oracle, b"pay 10", {"a": "b"}, 0x0578, 4096)

    for from_end in range(1, 101):  # a P-384 signature takes at least 100 bytes, and is the end of the message
        flipped = bytearray(message)
        flipped[-from_end] ^= 1
        with pytest.raises(MessageError) as refused:
            decode(bytes(flipped), UNWRAP)
        assert refused.value.step is Step.SIGNATURE


def test_bytes_after_a_message_are_refused_where_the_sdk_takes_them(oracle: LocalKey) -> None:
    """The specification says to fail on trailing bytes; the SDK does not, the core does."""
    message = sdk_seal(oracle, b"x", {}, 0x0478, 4096)

    assert sdk_open(oracle, message + b"\0")[0] == b"x"
    with pytest.raises(MessageError) as refused:
        decode(message + b"\0", UNWRAP)
    assert refused.value.step is Step.TRAILING


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("frame_length", [128, 4096])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 4096, 10_000])
def test_the_sdks_messages_open_as_streams(
    oracle: LocalKey, size: int, frame_length: int, context: dict[str, str]
) -> None:
    """Those too that end with an empty final frame, where the plaintext is a multiple of the frame length."""
    plaintext, sink = bytes(itertools.islice(itertools.cycle(range(251)), size)), io.BytesIO()

    decode_stream(io.BytesIO(sdk_seal(oracle, plaintext, context, 0x0478, frame_length)), sink, UNWRAP)

    assert sink.getvalue() == plaintext


@pytest.mark.parametrize("frame_length", [1, 100, 2**20])
def test_the_sdk_reads_frames_of_any_length(oracle: LocalKey, frame_length: int) -> None:
    """It writes multiples of 128 only, and reads what we may be asked to write, up to 1 MiB."""
    theirs = sdk_seal(oracle, b"", {"a": "b"}, 0x0478, 128)
    _, header = decode(theirs, UNWRAP)
    plaintext = bytes(min(3 * frame_length + 1, 2**21))

    ours = encode(
        plaintext,
        UNWRAP(header, header.context),
        header.encrypted_data_keys,
        {"a": "b"},
        frame_length=frame_length,
        message_id=header.message_id,
    )

    assert sdk_open(oracle, ours) == (plaintext, {"a": "b"})


@pytest.mark.slow
def test_every_damage_that_the_core_refuses_the_sdk_refuses_too(oracle: LocalKey) -> None:
    """A differential: no bit flip and no truncation of a short message divides the two."""
    message = sdk_seal(oracle, b"attack at dawn", {"a": "b"}, 0x0478, 128)
    damaged = [message[:length] for length in range(len(message))]
    damaged += [
        message[:at] + bytes([message[at] ^ 1 << bit]) + message[at + 1 :]
        for at in range(len(message))
        for bit in (0, 7)
    ]

    for bad in damaged:
        with pytest.raises(MessageError):
            decode(bad, UNWRAP)
        with pytest.raises(Exception):  # noqa: B017, PT011 - the SDK leaks eight types (crypto-core, §2.9)
            sdk_open(oracle, bad)
