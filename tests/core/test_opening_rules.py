"""Both ways to open a message refuse the same, byte for byte; and suites are opened as far as the caller allows.

A message of which the like was opened before goes a shorter way (`open_written`), with the same checks written out.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Callable, Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kms_core import Core, MessageError
from kms_core._open import _room, check_signature_key, open_message, open_written
from kms_core._seal import FINAL_FRAME, FINAL_MARK
from kms_core.context import PUBLIC_KEY, serialised
from kms_core.errors import Step
from kms_core.message import EncryptedDataKey, Header, parse_header, serialised_keys
from kms_core.suites import SUITES, derive_keys
from kms_core.testing import FakeEstate, decode, encode

EAST = "us-east-1"
DATA_KEY = bytes(range(32))
MESSAGE_ID = bytes(range(100, 132))
WRAPPED = EncryptedDataKey(provider_id="aws-kms", provider_info=b"arn", ciphertext=b"wrapped")
CONTEXT = {"purpose": "test", "tenant": "7"}
FRAME_LENGTH = 16


def message(size: int) -> bytes:
    return encode(bytes(size), DATA_KEY, [WRAPPED], CONTEXT, frame_length=FRAME_LENGTH, message_id=MESSAGE_ID)


def outcome(call: Callable[[], bytes]) -> bytes | Step | None:
    """What came of it: the plaintext, or where it was refused."""
    try:
        return call()
    except MessageError as e:
        return e.step


def both(changed: bytes, header: Header) -> tuple[bytes | Step | None, bytes | Step | None]:
    """What the long way and the short one make of a message whose header's body is that of `header`."""
    end = len(header.body)
    seen = parse_header(changed)
    return (
        outcome(lambda: open_message(changed, seen, DATA_KEY)),
        outcome(lambda: open_written(changed, end, FRAME_LENGTH, DATA_KEY)),
    )


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 32, 33, 100])
def test_no_changed_byte_and_no_missing_one_is_opened_either_way(size: int) -> None:
    """After the header's body, each byte is covered; and both ways name the same step."""
    whole = message(size)
    header = parse_header(whole)
    after = len(header.body)

    assert both(whole, header) == (bytes(size), bytes(size))
    assert both(whole + b"\0", header) == (Step.TRAILING, Step.TRAILING)
    for at in range(after, len(whole)):
        for bit in (1, 0x80):
            changed = bytearray(whole)
            changed[at] ^= bit
            long, short = both(bytes(changed), header)
            assert long is short, f"byte {at}: {long!r}, {short!r}"
            assert long in {Step.FRAME, Step.HEADER_TAG}
    for end in range(after + 16, len(whole)):
        assert both(whole[:end], header) == (Step.FRAME, Step.FRAME)


def test_the_header_tag_is_cut_short() -> None:
    """The short way has parsed no header: it must not read the tag from beyond the end."""
    whole = message(5)
    end = len(parse_header(whole).body)

    for cut in range(end, end + 16):
        assert outcome(lambda cut=cut: open_written(whole[:cut], end, FRAME_LENGTH, DATA_KEY)) is Step.HEADER_TAG  # type: ignore[misc]


def test_another_data_key_is_told_by_the_commitment() -> None:
    """Before any tag is looked at."""
    whole = message(5)
    header = parse_header(whole)
    other = bytes(32)

    assert outcome(lambda: open_written(whole, len(header.body), FRAME_LENGTH, other)) is Step.COMMITMENT
    assert outcome(lambda: open_written(whole, len(header.body), FRAME_LENGTH, b"short")) is Step.DATA_KEY


def authentic(plaintext: bytes, *, sequence: int = 1, claimed: int | None = None) -> bytes:
    """A final frame as whoever has the data key makes it, whatever the rules say."""
    key, _ = derive_keys(SUITES[0x0478], DATA_KEY, MESSAGE_ID)
    nonce = struct.pack(">QI", 0, sequence)
    aad = MESSAGE_ID + FINAL_FRAME + struct.pack(">IQ", sequence, len(plaintext))
    length = struct.pack(">I", len(plaintext) if claimed is None else claimed)
    return FINAL_MARK + struct.pack(">I", sequence) + nonce + length + AESGCM(key).encrypt(nonce, plaintext, aad)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param(authentic(b""), b"", id="empty"),
        pytest.param(authentic(bytes(16)), bytes(16), id="a-whole-frame"),
        pytest.param(authentic(bytes(17)), Step.FRAME, id="longer-than-a-frame-and-authentic"),
        pytest.param(authentic(bytes(5), sequence=2), Step.FRAME, id="the-second-without-a-first"),
        pytest.param(authentic(bytes(5), claimed=4), Step.FRAME, id="shorter-than-it-says"),
        pytest.param(authentic(bytes(5), claimed=6), Step.FRAME, id="longer-than-it-says"),
        pytest.param(authentic(bytes(5), claimed=2**32 - 1), Step.FRAME, id="four-gigabytes-it-says"),
        pytest.param(authentic(bytes(5)) * 2, Step.TRAILING, id="twice"),
        pytest.param(b"", Step.FRAME, id="none"),
    ],
)
def test_a_final_frame_is_held_to_its_rules(frames: bytes, expected: bytes | Step) -> None:
    """Even one that is authentic."""
    whole = message(5)
    header = parse_header(whole)
    head = whole[: header.length]

    assert both(head + frames, header) == (expected, expected)


@pytest.mark.parametrize("size", range(40))
def test_the_room_for_a_plaintext_is_exactly_its_size(size: int) -> None:
    """To shrink a long buffer would cost as much as to fill it; of what is no message there is room for all of it."""
    whole = message(size)
    sealed_bytes = len(whole) - parse_header(whole).length

    assert _room(sealed_bytes, FRAME_LENGTH) == size
    assert _room(sealed_bytes % 36, FRAME_LENGTH) <= max(0, sealed_bytes % 36)


@pytest.mark.parametrize("sealed_bytes", range(36))
def test_what_is_too_short_for_a_frame_has_room_for_all_of_it(sealed_bytes: int) -> None:
    """It is refused afterwards; and a room below 0 would be refused by Python."""
    assert _room(sealed_bytes, FRAME_LENGTH) == sealed_bytes


@pytest.mark.parametrize("at", [-1, -17, 0, 16, 20])
def test_what_was_opened_once_is_not_opened_changed(core: Core, at: int) -> None:
    """The short way is the one that a core goes then: its header is known, its tag and its frames are not."""
    whole = core.encrypt(bytes(50), purpose="general", context=CONTEXT)
    assert core.decrypt(whole, purpose="general", context=CONTEXT) == bytes(50)
    assert core.decrypt_from_cache(whole, purpose="general", context=CONTEXT) == bytes(50)
    changed = bytearray(whole)
    changed[at + len(parse_header(whole).body) if at >= 0 else at] ^= 1

    for opens in (core.decrypt_from_cache, core.decrypt):
        with pytest.raises(MessageError):
            opens(bytes(changed), purpose="general", context=CONTEXT)
        with pytest.raises(MessageError):
            opens(whole + b"\0", purpose="general", context=CONTEXT)


# -- suites that the core does not write ------------------------------------------------------------------------------


def of_suite(
    number: int,
    data_key: bytes,
    wrapped: EncryptedDataKey,
    context: Mapping[str, str],
    *,
    told: Callable[[str], str] = lambda right: right,
) -> bytes:
    """A message of any suite, of one frame, as the specification has it; `told` changes its verification key."""
    suite = SUITES[number]
    signer = ec.generate_private_key(suite.curve) if suite.curve is not None else None
    if signer is not None:
        public = signer.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        context = {**context, PUBLIC_KEY: told(base64.b64encode(public).decode())}
    message_id = os.urandom(suite.message_id_bytes)
    key, commitment = derive_keys(suite, data_key, message_id)
    start = (b"\x01\x80" if suite.version == 1 else b"\x02") + number.to_bytes(2, "big") + message_id
    written = serialised(context)
    pairs = struct.pack(">H", len(written)) + written
    middle = b"\x02" + (b"\0\0\0\0\x0c" if suite.version == 1 else b"")
    body = start + pairs + serialised_keys([wrapped]) + middle + struct.pack(">I", FRAME_LENGTH) + commitment
    cipher, iv = AESGCM(key), bytes(12)
    head = body + (iv if suite.version == 1 else b"") + cipher.encrypt(iv, b"", body)
    nonce = struct.pack(">QI", 0, 1)
    sealed = cipher.encrypt(nonce, b"attack", message_id + FINAL_FRAME + struct.pack(">IQ", 1, 6))
    whole = head + FINAL_MARK + struct.pack(">I", 1) + nonce + struct.pack(">I", 6) + sealed
    if signer is None or suite.signature_hash is None:
        return whole
    signature = signer.sign(whole, ec.ECDSA(suite.signature_hash))
    return whole + struct.pack(">H", len(signature)) + signature


def from_estate(estate: FakeEstate, number: int) -> bytes:
    """A message of that suite under the estate's own key; one that is signed is bound to its verification key."""
    arn = estate[EAST].describe_key("alias/general").key_arn
    made = estate[EAST].generate_data_key(arn, CONTEXT)
    wrapped = EncryptedDataKey(provider_id="aws-kms", provider_info=arn.encode(), ciphertext=made.wrapped)
    return of_suite(number, made.plaintext[: SUITES[number].key_bytes], wrapped, CONTEXT)


@pytest.mark.parametrize("number", [pytest.param(n, id=f"{n:04x}") for n in sorted(SUITES)])
@pytest.mark.parametrize(
    "legacy", [pytest.param({}, id="default"), pytest.param({"accept_legacy_suites": True}, id="l")]
)
def test_only_what_commits_is_opened_and_never_a_bare_data_key(
    make_core: Callable[..., Core], estate: FakeEstate, number: int, legacy: dict[str, bool]
) -> None:
    """By default those that commit to their key; with `accept_legacy_suites` also those that derive one."""
    suite = SUITES[number]
    core = make_core(**legacy)

    try:
        found: object = core.decrypt(from_estate(estate, number), purpose="general", context=CONTEXT)
    except MessageError as e:
        found = e.step

    if suite.version == 1 and (not legacy or suite.kdf is None):
        assert found is Step.SUITE
    elif suite.signed or suite.key_bytes != 32:
        assert found is Step.UNWRAP  # accepted; the estate's keys have 32 bytes, and are bound to no verification key
    else:
        assert found == b"attack"


@pytest.mark.parametrize("number", [pytest.param(n, id=f"{n:04x}") for n in sorted(SUITES)])
def test_the_pieces_of_this_file_make_valid_messages(number: int) -> None:
    """What the refusals below change is the only thing wrong with each."""
    data_key = bytes(SUITES[number].key_bytes)

    assert decode(of_suite(number, data_key, WRAPPED, CONTEXT), lambda *_: data_key).plaintext == b"attack"


def refused(changed: bytes) -> Step | None:
    with pytest.raises(MessageError) as error:
        decode(changed, lambda *_: DATA_KEY)
    return error.value.step


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("", id="empty"),
        pytest.param("A", id="no-base64"),
        pytest.param("AAAA\n", id="base64-and-a-line-break"),
        pytest.param("AAAA", id="no-point"),
    ],
)
def test_a_verification_key_that_is_none_is_refused(point: str) -> None:
    """It is data, whatever it says it is."""
    assert refused(of_suite(0x0578, DATA_KEY, WRAPPED, CONTEXT, told=lambda _: point)) is Step.SIGNATURE


def test_a_right_key_with_something_around_it_is_refused() -> None:
    """A lenient base64 would skip it, and two texts would be one key."""
    whole = of_suite(0x0578, DATA_KEY, WRAPPED, CONTEXT, told=lambda right: f"{right[:8]}\n{right[8:]}")

    assert refused(whole) is Step.SIGNATURE


def test_a_signature_is_whole_and_right() -> None:
    """Cut anywhere, changed anywhere, or that of another message."""
    whole = of_suite(0x0578, DATA_KEY, WRAPPED, CONTEXT)
    unsigned = parse_header(whole).length + 4 + 4 + 12 + 4 + len(b"attack") + 16
    other = of_suite(0x0578, DATA_KEY, WRAPPED, CONTEXT)

    for end in range(unsigned, len(whole)):
        assert refused(whole[:end]) is Step.SIGNATURE, end
    assert refused(whole[:-1] + bytes([whole[-1] ^ 1])) is Step.SIGNATURE
    assert refused(whole[:unsigned] + other[unsigned:]) is Step.SIGNATURE
    assert refused(whole + b"\0") is Step.TRAILING


def test_a_signature_key_stands_where_there_is_a_signature_and_nowhere_else() -> None:
    """Somebody cut a signature off, or wants it to look so."""
    signed = parse_header(of_suite(0x0578, DATA_KEY, WRAPPED, CONTEXT))
    plain = parse_header(of_suite(0x0478, DATA_KEY, WRAPPED, {**CONTEXT, PUBLIC_KEY: "AAAA"}))

    check_signature_key(signed)
    with pytest.raises(MessageError):
        check_signature_key(plain)
    whole = of_suite(0x0478, DATA_KEY, WRAPPED, {**CONTEXT, PUBLIC_KEY: "AAAA"})
    assert outcome(lambda: open_message(whole, parse_header(whole), DATA_KEY)) is Step.SIGNATURE
