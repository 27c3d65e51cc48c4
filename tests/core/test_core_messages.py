"""What `Core` seals, it opens, and only under the purpose and the context it was sealed under."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kms_core import Core
from kms_core.errors import ClosedError, ConfigurationError, ContextError, MessageError, Step
from kms_core.message import EncryptedDataKey, encrypted_data_keys, parse_header
from kms_core.testing import FakeEstate, encode

CONTEXT = {"canary": "true"}


@pytest.mark.parametrize("size", [0, 1, 100, 65_535, 65_536, 65_537, 200_000])
def test_a_round_trip_gives_back_the_bytes(core: Core, size: int) -> None:
    """Any length, from nothing to several frames."""
    plaintext = bytes(range(256)) * (size // 256 + 1)

    message = core.encrypt(plaintext[:size], purpose="general", context=CONTEXT)

    assert core.decrypt(message, purpose="general", context=CONTEXT) == plaintext[:size]


def test_a_message_is_committed_framed_and_names_the_key_of_its_region(core: Core, estate: FakeEstate) -> None:
    """Suite 0x0478, frames of 64 KiB, one wrapped key with the ARN that KMS answered with."""
    header = parse_header(core.encrypt(b"x", purpose="general", context=CONTEXT))

    assert (header.suite.id, header.framed, header.frame_length) == (0x0478, True, 65_536)
    assert header.context == CONTEXT
    (wrapped,) = header.encrypted_data_keys
    assert wrapped.provider_id == "aws-kms"
    assert wrapped.provider_info.decode() == estate.arn(estate["us-east-1"].aliases["alias/general"], "us-east-1")


def test_mutable_buffers_are_taken(core: Core) -> None:
    """Bytearray and memoryview too, as a socket or a file hands them over."""
    message = core.encrypt(memoryview(b"abc"), purpose="general", context=CONTEXT)  # type: ignore[arg-type]

    assert core.decrypt(bytearray(message), purpose="general", context=CONTEXT) == b"abc"  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["text", None, 5])
def test_what_is_not_bytes_is_a_type_error(core: Core, wrong: Any) -> None:
    """Guessing an encoding is not the core's business."""
    with pytest.raises(TypeError, match="bytes are expected"):
        core.encrypt(wrong, purpose="general", context=CONTEXT)


@pytest.mark.parametrize(
    "context",
    [
        pytest.param({"canary": "false"}, id="another value"),
        pytest.param({"canary": "true", "more": "x"}, id="a pair more"),
        pytest.param({"other": "true"}, id="another key"),
    ],
)
def test_another_context_is_refused_before_kms_is_asked(
    core: Core, estate: FakeEstate, context: dict[str, str]
) -> None:
    """The message's context must equal what the caller expects; KMS would take the message's own."""
    message = core.encrypt(b"x", purpose="general", context=CONTEXT)
    estate.calls.clear()

    with pytest.raises(MessageError) as refused:
        core.decrypt(message, purpose="general", context=context)

    assert refused.value.step is Step.CONTEXT
    assert refused.value.error_code == ""
    assert not estate.calls


def test_a_message_of_one_purpose_does_not_open_as_another(core: Core, estate: FakeEstate) -> None:
    """The wrapped key names its key; another purpose's is refused before KMS is asked."""
    message = core.encrypt(b"x", purpose="payment", context=CONTEXT)
    estate.calls.clear()

    with pytest.raises(MessageError) as refused:
        core.decrypt(message, purpose="general", context=CONTEXT)

    assert refused.value.step is Step.KEY
    assert not estate.calls


def test_a_message_whose_arn_was_exchanged_is_refused_by_kms(core: Core, estate: FakeEstate) -> None:
    """The header is not yet authenticated when KMS is asked, so KMS has the word: IncorrectKeyException."""
    message = core.encrypt(b"x", purpose="payment", context=CONTEXT)
    general, payment = (estate["us-east-1"].aliases[f"alias/{name}"] for name in ("general", "payment"))

    with pytest.raises(MessageError) as refused:
        core.decrypt(message.replace(payment.encode(), general.encode(), 1), purpose="general", context=CONTEXT)

    assert refused.value.step is Step.UNWRAP
    assert refused.value.error_code == "IncorrectKeyException"


def test_a_tampered_wrapped_key_is_refused_by_kms_in_one_attempt(core: Core) -> None:
    """The material is the same everywhere, so asking other regions would only cost."""
    message = bytearray(core.encrypt(b"x", purpose="general", context=CONTEXT))
    (wrapped,) = encrypted_data_keys(bytes(message))
    message[message.find(wrapped.ciphertext) + len(wrapped.ciphertext) - 1] ^= 1

    with pytest.raises(MessageError) as refused:
        core.decrypt(bytes(message), purpose="general", context=CONTEXT)

    assert refused.value.error_code == "InvalidCiphertextException"
    assert [attempt.region for attempt in refused.value.attempts] == ["us-east-1"]


def test_every_bit_of_a_real_message_is_guarded(core: Core) -> None:
    """A flip anywhere, in the ARN and in KMS's own blob too, is a MessageError."""
    message = core.encrypt(b"x", purpose="general", context={"a": "b"})
    for position in range(len(message) * 8):
        flipped = bytearray(message)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(MessageError):
            core.decrypt(bytes(flipped), purpose="general", context={"a": "b"})


@pytest.mark.parametrize("call", ["encrypt", "decrypt"])
def test_the_callers_own_mistakes_say_what_they_are(core: Core, call: str) -> None:
    """An empty context, a reserved key and an unknown purpose are not the message's fault."""
    method = getattr(core, call)
    message = core.encrypt(b"x", purpose="general", context=CONTEXT)

    with pytest.raises(ContextError, match="at least one pair"):
        method(message, purpose="general", context={})
    with pytest.raises(ContextError, match="aws-crypto-"):
        method(message, purpose="general", context={"aws-crypto-x": "y"})
    with pytest.raises(ConfigurationError, match="'pii' is not configured; general, payment are"):
        method(message, purpose="pii", context=CONTEXT)


def test_a_message_with_more_wrapped_keys_than_allowed_is_refused(core: Core) -> None:
    """Three for the application: each might cost a call."""
    wrapped = EncryptedDataKey(provider_id="aws-kms", provider_info=b"arn", ciphertext=b"x")
    message = encode(b"x", bytes(32), [wrapped] * 4, CONTEXT, message_id=bytes(32))

    with pytest.raises(MessageError) as refused:
        core.decrypt(message, purpose="general", context=CONTEXT)

    assert refused.value.step is Step.HEADER


def sealed_elsewhere(estate: FakeEstate, *blobs: bytes | None) -> bytes:
    """Return a message whose wrapped keys are `blobs`, None standing for the good one."""
    arn = estate.arn(estate["us-east-1"].aliases["alias/general"], "us-east-1")
    made = estate["us-east-1"].generate_data_key(arn, CONTEXT)
    wrapped = [
        EncryptedDataKey(
            provider_id="aws-kms", provider_info=arn.encode(), ciphertext=made.wrapped if blob is None else blob
        )
        for blob in blobs
    ]
    return encode(b"from elsewhere", made.plaintext, wrapped, CONTEXT, message_id=bytes(32))


def test_the_first_wrapped_key_that_opens_is_taken(core: Core, estate: FakeEstate) -> None:
    """A message may carry several of one key's; a bad one before a good one does not matter."""
    message = sealed_elsewhere(estate, b"not a blob", None)

    assert core.decrypt(message, purpose="general", context=CONTEXT) == b"from elsewhere"


@pytest.mark.parametrize("blob", [pytest.param(b"", id="empty"), pytest.param(bytes(6145), id="too long")])
def test_a_blob_that_kms_would_not_take_is_not_sent(core: Core, estate: FakeEstate, blob: bytes) -> None:
    """KMS takes 1 to 6144 bytes; a refusal costs no call."""
    message = sealed_elsewhere(estate, blob)
    estate.calls.clear()

    with pytest.raises(MessageError) as refused:
        core.decrypt(message, purpose="general", context=CONTEXT)

    assert refused.value.step is Step.KEY
    assert not estate.calls


def test_a_closed_core_says_so(make_core: Callable[..., Core]) -> None:
    """And is no KmsUnavailableError, which would invite to try again."""
    core = make_core()
    message = core.encrypt(b"x", purpose="general", context=CONTEXT)
    core.close()

    for call in (core.encrypt, core.decrypt, core.pinned("us-east-1").encrypt, core.pinned("us-east-1").decrypt):
        with pytest.raises(ClosedError):
            call(message, purpose="general", context=CONTEXT)
    core.close()


def test_key_material_is_in_no_repr(core: Core, estate: FakeEstate) -> None:
    """Neither in that of the values on the way, nor of what caches hold."""
    arn = estate.arn(estate["us-east-1"].aliases["alias/general"], "us-east-1")
    made = estate["us-east-1"].generate_data_key(arn, CONTEXT)

    assert repr(made.plaintext) not in repr(made)
    assert "plaintext" not in repr(made)
