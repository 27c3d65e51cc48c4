"""Each rule of the message format that a decoder can get wrong is kept, and says inside where it was broken."""

from __future__ import annotations

import base64
import struct
import tracemalloc
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from kms_core.errors import MessageError, Step
from kms_core.message import EncryptedDataKey, Header, encrypted_data_keys, parse_header
from kms_core.suites import WRITTEN, derive_keys
from kms_core.testing import decode, encode

DATA_KEY = bytes(range(32))
MESSAGE_ID = bytes(range(100, 132))
WRAPPED = EncryptedDataKey(provider_id="aws-kms", provider_info=b"arn", ciphertext=b"wrapped")
CONTEXT = {"purpose": "test", "tenant": "7"}


def unwrap(header: Header, context: Mapping[str, str]) -> bytes:
    return DATA_KEY


def message(
    plaintext: bytes = b"attack at dawn", context: Mapping[str, str] = CONTEXT, *, frame_length: int = 16, keys: int = 1
) -> bytes:
    return encode(plaintext, DATA_KEY, [WRAPPED] * keys, context, frame_length=frame_length, message_id=MESSAGE_ID)


def resealed(body: bytes, frames: bytes = b"", *, extra: bytes = b"") -> bytes:
    """Return a message whose header is `body`, authenticated as its sender would have."""
    key, _ = derive_keys(WRITTEN, DATA_KEY, MESSAGE_ID)
    tag = AESGCM(key).encrypt(bytes(12), b"", body + extra)
    return body + tag + (frames or final_frame())


def final_frame(
    plaintext: bytes = b"", *, sequence: int = 1, claimed: int | None = None, iv: bytes | None = None
) -> bytes:
    key, _ = derive_keys(WRITTEN, DATA_KEY, MESSAGE_ID)
    nonce = iv or struct.pack(">QI", 0, sequence)
    aad = MESSAGE_ID + b"AWSKMSEncryptionClient Final Frame" + struct.pack(">IQ", sequence, len(plaintext))
    length = struct.pack(">I", len(plaintext) if claimed is None else claimed)
    return b"\xff" * 4 + struct.pack(">I", sequence) + nonce + length + AESGCM(key).encrypt(nonce, plaintext, aad)


def body(
    *,
    start: bytes = b"\x02\x04\x78",
    context: bytes = b"\x00\x00",
    keys: bytes = b"\x00\x01\x00\x07aws-kms\x00\x03arn\x00\x07wrapped",
    content_type: bytes = b"\x02",
    frame_length: int = 16,
) -> bytes:
    _, commitment = derive_keys(WRITTEN, DATA_KEY, MESSAGE_ID)
    return start + MESSAGE_ID + context + keys + content_type + struct.pack(">I", frame_length) + commitment


def refusal(bad: bytes, **options: object) -> Step:
    with pytest.raises(MessageError) as refused:
        decode(bad, unwrap, **options)  # type: ignore[arg-type]
    assert str(refused.value) == "the message cannot be opened"
    return refused.value.step


def test_the_pieces_of_this_file_make_a_valid_message() -> None:
    """What the refusals below change is the only thing wrong with each."""
    assert decode(resealed(body()), unwrap).plaintext == b""


@pytest.mark.parametrize(
    ("bad", "step"),
    [
        pytest.param(body(start=b"\x03\x04\x78"), Step.HEADER, id="version 3"),
        pytest.param(body(start=b"\x01\x81\x04\x78"), Step.HEADER, id="version 1 of another type"),
        pytest.param(body(start=b"\x02\x00\x00"), Step.SUITE, id="reserved suite"),
        pytest.param(body(start=b"\x02\x67\x01"), Step.SUITE, id="database suite"),
        pytest.param(body(start=b"\x02\x01\x78"), Step.SUITE, id="suite of version 1 in version 2"),
        pytest.param(body(start=b"\x01\x80\x04\x78"), Step.SUITE, id="suite of version 2 in version 1"),
        pytest.param(body(context=b"\x00\x02\x00\x00"), Step.CONTEXT, id="context with count 0"),
        pytest.param(body(context=b"\x00\x01\x00"), Step.CONTEXT, id="context of one byte"),
        pytest.param(body(context=b"\x00\x0e\x00\x02" + b"\x00\x01a\x00\x01b" * 2), Step.CONTEXT, id="key twice"),
        pytest.param(body(context=b"\x00\x09\x00\x01\x00\x01a\x00\x01bZ"), Step.CONTEXT, id="context left over"),
        pytest.param(body(context=b"\x00\x08\x00\x01\x00\x01\xff\x00\x01b"), Step.CONTEXT, id="context not UTF-8"),
        pytest.param(body(context=b"\x00\x08\x00\x01\x00\x09a\x00\x01b"), Step.CONTEXT, id="context pair too long"),
        pytest.param(body(keys=b"\x00\x00"), Step.HEADER, id="no wrapped key"),
        pytest.param(body(keys=b"\x00\x01\x00\x01\xff\x00\x01a\x00\x01b"), Step.HEADER, id="provider not UTF-8"),
        pytest.param(body(keys=b"\xff\xff\x00\x01a\x00\x01a\x00\x01b"), Step.HEADER, id="65,535 wrapped keys"),
        pytest.param(body(content_type=b"\x00"), Step.HEADER, id="content type 0"),
        pytest.param(body(content_type=b"\x03"), Step.HEADER, id="content type 3"),
        pytest.param(body(frame_length=0), Step.HEADER, id="framed without a frame length"),
        pytest.param(body(content_type=b"\x01"), Step.HEADER, id="not framed, with a frame length"),
    ],
)
def test_a_broken_rule_of_the_header_is_refused(bad: bytes, step: Step) -> None:
    """The text outside is always the same; the step inside is the rule's."""
    assert refusal(resealed(bad)) is step


@pytest.mark.parametrize(
    ("bad", "step"),
    [
        pytest.param(b"", Step.HEADER, id="nothing"),
        pytest.param(resealed(body(), extra=b"x"), Step.HEADER_TAG, id="header tag over something else"),
        pytest.param(resealed(body(), final_frame(sequence=2)), Step.FRAME, id="first frame is number 2"),
        pytest.param(resealed(body(), final_frame(sequence=0)), Step.FRAME, id="first frame is number 0"),
        pytest.param(resealed(body(), final_frame(b"x" * 17)), Step.FRAME, id="final frame longer than a frame"),
        pytest.param(resealed(body(), final_frame(b"xy", claimed=1)), Step.FRAME, id="final frame lies"),
        pytest.param(resealed(body(), final_frame() * 2), Step.TRAILING, id="two final frames"),
        pytest.param(resealed(body()) + b"\0", Step.TRAILING, id="a byte after the message"),
        pytest.param(resealed(body())[:-1], Step.FRAME, id="the last byte missing"),
        pytest.param(resealed(body())[: len(body()) + 16], Step.FRAME, id="no frame at all"),
    ],
)
def test_a_broken_rule_of_the_body_is_refused(bad: bytes, step: Step) -> None:
    """A header that verifies makes nothing after it true."""
    assert refusal(bad) is step


def test_the_commitment_is_compared_before_the_cipher_is_asked() -> None:
    """A wrong data key fails on it under a perfect header, and a wrong commitment does under the right key."""
    good = message()
    with pytest.raises(MessageError) as refused:
        decode(good, lambda header, context: bytes(32))
    assert refused.value.step is Step.COMMITMENT

    changed = bytearray(body())
    changed[-1] ^= 1
    assert refusal(resealed(bytes(changed))) is Step.COMMITMENT


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33, 64])
def test_a_data_key_of_another_length_is_refused(length: int) -> None:
    """Whatever unwraps it, the suite says how long it is."""
    with pytest.raises(MessageError) as refused:
        decode(message(), lambda header, context: bytes(length))
    assert refused.value.step is Step.DATA_KEY


def test_an_unsigned_message_with_a_verification_key_is_refused() -> None:
    """Somebody cut a signature off, or wants it to look so."""
    pair = b"\x00\x15aws-crypto-public-key\x00\x01A"
    context = struct.pack(">H", 2 + len(pair)) + b"\x00\x01" + pair
    assert refusal(resealed(body(context=context))) is Step.SIGNATURE


def test_frames_cannot_be_dropped_doubled_or_swapped() -> None:
    """Sequence numbers are insisted on."""
    whole = message(b"a" * 16 + b"b" * 16 + b"c")
    start = parse_header(whole).length
    first, second, last = whole[start : start + 48], whole[start + 48 : start + 96], whole[start + 96 :]

    for frames in (second + last, first + last, first * 2 + second + last, second + first + last, first + second):
        assert refusal(whole[:start] + frames) is Step.FRAME


def test_the_iv_is_taken_from_the_frame() -> None:
    """Valid messages exist whose IVs do not count; what authenticates them is the tag."""
    opened = decode(resealed(body(), final_frame(b"x", iv=b"any 12 bytes")), unwrap)

    assert opened.plaintext == b"x"


def test_an_unsorted_context_is_read() -> None:
    """AWS has published messages whose context is not sorted; duplicates are refused all the same."""
    context = b"\x00\x0e\x00\x02\x00\x01b\x00\x012\x00\x01a\x00\x011"
    assert decode(resealed(body(context=context)), unwrap).header.context == {"a": "1", "b": "2"}


def test_required_pairs_count_though_the_header_does_not_hold_them() -> None:
    """A pair that the caller names is joined to the context and covered by the tag; without it, the tag fails."""
    extra = b"\x00\x01\x00\x06tenant\x00\x017"
    sealed = resealed(body(), extra=extra)

    opened = decode(sealed, unwrap, reproduced={"tenant": "7"}, required_keys=["tenant"])

    assert opened.plaintext == b""
    assert refusal(sealed) is Step.HEADER_TAG
    assert refusal(sealed, reproduced={"tenant": "8"}, required_keys=["tenant"]) is Step.HEADER_TAG
    assert refusal(sealed, required_keys=["tenant"]) is Step.CONTEXT
    assert refusal(message(), reproduced={"tenant": "8"}) is Step.CONTEXT


def test_more_wrapped_keys_than_allowed_are_refused_unread() -> None:
    """The limit is a parameter; the application's is 3."""
    assert len(encrypted_data_keys(message(keys=4))) == 4
    assert refusal(message(keys=4), max_encrypted_data_keys=3) is Step.HEADER
    assert decode(message(keys=3), unwrap, max_encrypted_data_keys=3).plaintext == b"attack at dawn"


def test_base64_is_named_as_such() -> None:
    """The most common mistake is worth a word, and tells an attacker nothing."""
    with pytest.raises(MessageError, match="base64") as refused:
        decode(base64.b64encode(message()), unwrap)
    assert refused.value.step is Step.BASE64


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(body(keys=b"\xff\xff" + b"\x00\x00" * 3), id="65,535 wrapped keys"),
        pytest.param(resealed(body(frame_length=2**32 - 1), struct.pack(">I", 1) + bytes(12)), id="frame of 4 GiB"),
        pytest.param(
            resealed(body(content_type=b"\x01", frame_length=0), bytes(12) + b"\x7f" + b"\xff" * 7), id="block of 2**63"
        ),
        pytest.param(body(context=b"\xff\xff\xff\xff" + b"\x00\x00" * 4), id="context of 64 KiB"),
    ],
)
def test_a_claimed_length_allocates_nothing(hostile: bytes) -> None:
    """A length is believed only if that many bytes are there."""
    tracemalloc.start()
    try:
        with pytest.raises(MessageError):
            decode(hostile, unwrap)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 200_000


def test_every_truncation_is_refused_with_the_cores_own_error() -> None:
    """No length of a message but its own opens, and nothing but MessageError comes out."""
    whole = message(b"two frames and a bit of it", frame_length=12)
    for length in range(len(whole)):
        with pytest.raises(MessageError):
            decode(whole[:length], unwrap)


def test_every_bit_flip_is_refused_with_the_cores_own_error() -> None:
    """No bit of a message is without a guard."""
    whole = message(b"two frames and a bit of it", frame_length=12)
    for position in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(MessageError):
            decode(bytes(flipped), unwrap)


@settings(max_examples=500, deadline=None)
@given(garbage=st.one_of(st.binary(max_size=400), st.binary(max_size=300).map(lambda rest: body()[:37] + rest)))
def test_garbage_raises_nothing_else(garbage: bytes) -> None:
    """Bytes without a meaning, and with a good beginning, are one family of error."""
    with pytest.raises(MessageError):
        decode(garbage, unwrap)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_random_edits_raise_nothing_else(data: st.DataObject) -> None:
    """Bytes replaced, cut out or put in anywhere are refused, unless they left the message as it was."""
    whole = message(b"plaintext")
    edited = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(edited)))
        cut = data.draw(st.integers(0, 8))
        edited[at : at + cut] = data.draw(st.binary(max_size=8))
    if bytes(edited) != whole:
        with pytest.raises(MessageError):
            decode(bytes(edited), unwrap)


@settings(max_examples=200, deadline=None)
@given(
    plaintext=st.binary(max_size=300),
    frame_length=st.integers(1, 70),
    context=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda key: not key.startswith("aws-crypto-")), st.text(max_size=8)
    ),
)
def test_what_was_sealed_opens(plaintext: bytes, frame_length: int, context: dict[str, str]) -> None:
    """Any plaintext, frame length and context come back as they were."""
    opened = decode(message(plaintext, context, frame_length=frame_length), unwrap)

    assert opened.plaintext == plaintext
    assert opened.header.context == context


def test_the_overhead_is_what_the_format_says() -> None:
    """76 and the context and the wrapped keys for the header, 16 for its tag, 40 for the final frame."""
    wrapped = EncryptedDataKey(provider_id="aws-kms", provider_info=b"i" * 75, ciphertext=b"c" * 184)
    context = {"a": "b" * 35}
    sealed = encode(bytes(100), DATA_KEY, [wrapped], context, frame_length=4096, message_id=MESSAGE_ID)

    assert len(sealed) - 100 == 76 + 42 + (6 + 7 + 75 + 184) + 16 + 40


@pytest.mark.parametrize("keys", [pytest.param([], id="none"), pytest.param([WRAPPED] * 65_536, id="too many")])
def test_wrapped_keys_that_cannot_be_written_are_refused(keys: list[EncryptedDataKey]) -> None:
    """A message needs one, and has a two-byte count."""
    with pytest.raises(ValueError, match="wrapped key"):
        encode(b"", DATA_KEY, keys, {}, message_id=MESSAGE_ID)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"reserved": b"\x00\x00\x00\x01"}, id="reserved-bytes"),
        pytest.param({"iv_bytes": b"\x0b"}, id="a-shorter-iv"),
        pytest.param({"iv_bytes": b"\x0d"}, id="a-longer-iv"),
    ],
)
def test_a_first_version_header_says_what_it_must(changed: dict[str, bytes]) -> None:
    """Four zero bytes and an IV of twelve; its header is refused before any key is asked for."""

    def header(*, reserved: bytes = bytes(4), iv_bytes: bytes = b"\x0c") -> bytes:
        start = b"\x01\x80\x01\x78" + bytes(16) + b"\x00\x00" + b"\x00\x01\x00\x07aws-kms\x00\x03arn\x00\x07wrapped"
        return start + b"\x02" + reserved + iv_bytes + struct.pack(">I", 16) + bytes(12) + bytes(16)

    assert parse_header(header()).suite.version == 1
    with pytest.raises(MessageError) as refused:
        parse_header(header(**changed))
    assert refused.value.step is Step.HEADER


@pytest.mark.parametrize("content_type", [b"\x00", b"\x03", b"\xff"])
def test_a_content_that_is_neither_framed_nor_not_is_refused(content_type: bytes) -> None:
    """Also where the length of its frames says that it is not framed, which fits no framing as well."""
    for frame_length in (0, 16):
        with pytest.raises(MessageError) as refused:
            parse_header(resealed(body(content_type=content_type, frame_length=frame_length)))
        assert refused.value.step is Step.HEADER
