"""A hundred thousand mutations of messages, the same each time: nothing but the core's own error comes out."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from kms_core import Core, MessageError
from kms_core.message import EncryptedDataKey, Header
from kms_core.testing import decode, encode

DATA_KEY = bytes(range(32))
MUTATIONS = 100_000
CONTEXT = {"purpose": "test", "tenant": "7"}


def unwrap(header: Header, context: Mapping[str, str]) -> bytes:
    return DATA_KEY


def mutated(rng: random.Random, whole: bytes) -> bytes:
    """Return `whole` with one to four edits: bytes set, cut, doubled, moved, or interesting numbers written over."""
    edited = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(edited) + 1)
        match rng.randrange(6):
            case 0:
                edited[at : at + 1] = rng.randbytes(1)
            case 1:
                del edited[at : at + rng.randint(1, 40)]
            case 2:
                edited[at:at] = rng.randbytes(rng.randint(1, 40))
            case 3:
                edited[at : at + 4] = rng.choice(
                    [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1"]
                )
            case 4:
                edited[at : at + 2] = rng.choice([bytes(2), b"\xff\xff", b"\0\1", b"\x80\0"])
            case _:
                start = rng.randrange(len(edited) + 1)
                edited[at:at] = edited[start : start + rng.randint(1, 60)]
    return bytes(edited)


@pytest.mark.slow
def test_a_hundred_thousand_mutations_raise_nothing_else() -> None:
    """Of a message with a context, two wrapped keys and three frames; each is refused, and as `MessageError`."""
    wrapped = [EncryptedDataKey(provider_id="aws-kms", provider_info=b"arn", ciphertext=b"wrapped")] * 2
    whole = encode(bytes(40), DATA_KEY, wrapped, CONTEXT, frame_length=16, message_id=bytes(range(32)))
    rng = random.Random(3)
    refused = 0

    for _ in range(MUTATIONS):
        message = mutated(rng, whole)
        try:
            assert decode(message, unwrap).plaintext == bytes(40)
            assert message == whole
        except MessageError:
            refused += 1

    assert refused > MUTATIONS * 0.95


def test_mutations_of_a_message_whose_header_was_seen_before_are_refused(core: Core) -> None:
    """The shortcut for recognised headers skips no check that depends on the message."""
    context = {"a": "b"}
    whole = core.encrypt(bytes(100), purpose="general", context=context)
    assert core.decrypt(whole, purpose="general", context=context) == bytes(100)
    rng = random.Random(4)

    for _ in range(5000):
        message = mutated(rng, whole)
        if message != whole:
            with pytest.raises(MessageError):
                core.decrypt(message, purpose="general", context=context)
    with pytest.raises(MessageError):
        core.decrypt(whole, purpose="payment", context=context)
    with pytest.raises(MessageError):
        core.decrypt(whole, purpose="general", context={"a": "c"})
