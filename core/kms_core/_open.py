"""Opening: every suite of the format, framed and not; what may be opened is decided by who calls.

Nothing of the plaintext leaves before the commitment, the header's tag, every frame, the signature where there is one,
and the end of the message have all been verified.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core._cursor import Cursor
from kms_core._gathered import Gathered, decrypt_into
from kms_core._seal import FINAL_EXTRA, FINAL_FRAME, FINAL_MARK, FRAME, FRAME_OVERHEAD, HEADER_IV, SINGLE_BLOCK
from kms_core.context import PUBLIC_KEY
from kms_core.errors import MessageError, Step
from kms_core.message import IV_BYTES, TAG_BYTES, Header
from kms_core.suites import WRITTEN, Suite, derive_keys

_ONLY_FRAME = FINAL_MARK + (1).to_bytes(4, "big")
_ONLY_FRAME_REST = struct.Struct(">12sI")
_ONLY_FRAME_BYTES = len(_ONLY_FRAME) + _ONLY_FRAME_REST.size


def check_signature_key(header: Header) -> None:
    """Refuse an unsigned message that carries a verification key, and a signed one that lacks it.

    Raises:
        MessageError: either is so.
    """
    if header.suite.signed != (PUBLIC_KEY in header.context):
        raise MessageError(step=Step.SIGNATURE)


def open_message(message: bytes, header: Header, data_key: bytes, *, required: bytes = b"") -> bytes:
    """Return the plaintext of `message`, whose header is `header`, under `data_key`.

    `required` is the serialised context that the header's tag covers though the header does not hold it.

    Raises:
        MessageError: anything does not verify; its `step` says what.
    """
    check_signature_key(header)
    covered = header.body + required if required else header.body
    aes = _keyed(header.suite, data_key, header.message_id, header.commitment)
    check_header_tag(aes, header.iv, header.tag, covered)
    cursor = Cursor(message, header.length, step=Step.FRAME)
    try:
        if header.framed:
            plaintext = _frames(message, header.message_id, header.frame_length, aes, cursor)
        else:
            plaintext = _block(message, header, aes, cursor)
    except (InvalidTag, OverflowError):  # the cipher takes less than 2 GiB at once
        raise MessageError(step=Step.FRAME) from None
    if header.suite.signed:
        _verify_signature(message, header, cursor)
    if cursor.position != len(message):
        raise MessageError(step=Step.TRAILING)
    return plaintext


def open_written(message: bytes, body_bytes: int, frame_length: int, data_key: bytes) -> bytes:
    """Do as `open_message` for a framed message of the suite that we write, whose header was parsed before.

    `body_bytes` is the length of its header's body, with the commitment and without the tag.

    Raises:
        MessageError: as `open_message`.
    """
    body, body_end = message[:body_bytes], body_bytes + TAG_BYTES
    message_id = body[3:35]
    aes = _keyed(WRITTEN, data_key, message_id, body[-32:])
    check_header_tag(aes, HEADER_IV, message[body_bytes:body_end], body)
    if message.startswith(_ONLY_FRAME, body_end):
        return _only_frame(message, message_id, frame_length, aes, body_end)
    cursor = Cursor(message, body_end, step=Step.FRAME)
    try:
        plaintext = _frames(message, message_id, frame_length, aes, cursor)
    except (InvalidTag, OverflowError):
        raise MessageError(step=Step.FRAME) from None
    if cursor.position != len(message):
        raise MessageError(step=Step.TRAILING)
    return plaintext


def _only_frame(message: bytes, message_id: bytes, frame_length: int, aes: AESGCM, at: int) -> bytes:
    """Return the plaintext of a message whose only frame begins `at`: the usual kind, so written out.

    Raises:
        MessageError: it does not verify, or something follows.
    """
    start = at + _ONLY_FRAME_BYTES
    if len(message) < start:
        raise MessageError(step=Step.FRAME)
    iv, length = _ONLY_FRAME_REST.unpack_from(message, at + 8)
    end = start + length + TAG_BYTES
    if length > frame_length or end > len(message):
        raise MessageError(step=Step.FRAME)
    try:
        sealed, aad = message[start:end], message_id + FINAL_FRAME + struct.pack(">IQ", 1, length)
        plaintext = aes.decrypt(iv, sealed, aad)
    except (InvalidTag, OverflowError):
        raise MessageError(step=Step.FRAME) from None
    if end != len(message):
        raise MessageError(step=Step.TRAILING)
    return plaintext


def message_cipher(header: Header, data_key: bytes) -> AESGCM:
    """Return the cipher of a message, after commitment and header tag have verified, in this order.

    Raises:
        MessageError: one of them does not.
    """
    aes = _keyed(header.suite, data_key, header.message_id, header.commitment)
    check_header_tag(aes, header.iv, header.tag, header.body)
    return aes


def _keyed(suite: Suite, data_key: bytes, message_id: bytes, expected: bytes) -> AESGCM:
    try:
        key, commitment = derive_keys(suite, data_key, message_id)
    except ValueError:
        raise MessageError(step=Step.DATA_KEY) from None
    if not hmac.compare_digest(commitment, expected):  # before any AES call: a tag alone binds no key
        del key  # nor does a traceback show it
        raise MessageError(step=Step.COMMITMENT)
    return AESGCM(key)


def check_header_tag(aes: AESGCM, iv: bytes, tag: bytes, covered: bytes) -> None:
    """Verify that `tag` is the header's.

    Raises:
        MessageError: it is not.
    """
    try:
        aes.decrypt(iv, tag, covered)
    except InvalidTag:
        raise MessageError(step=Step.HEADER_TAG) from None


def _frames(message: bytes, message_id: bytes, frame_length: int, aes: AESGCM, cursor: Cursor) -> bytes:
    """Return the plaintext of all frames.

    Raises:
        InvalidTag, OverflowError, MessageError: one of them does not verify.
    """
    if message.startswith(FINAL_MARK, cursor.position):
        final, aad = _final_frame(message_id, 1, frame_length, cursor)
        return aes.decrypt(final.iv, memoryview(message)[final.start : cursor.position], aad)
    whole = Gathered(_room(len(message) - cursor.position, frame_length))
    frames = _regular_frames(message, message_id, frame_length, aes, cursor, whole.view)
    final, aad = _final_frame(message_id, frames + 1, frame_length, cursor)
    end = frames * frame_length + final.length
    if end > len(whole.view):
        raise MessageError(step=Step.FRAME)
    sealed = memoryview(message)[final.start : cursor.position]
    decrypt_into(aes, final.iv, sealed, aad, whole.view[frames * frame_length : end])
    return whole.value(end)


def _room(sealed_bytes: int, frame_length: int) -> int:
    """Return how long the plaintext in `sealed_bytes` of frames is, when nothing follows them; else a length above it.

    Exact, since to shrink a long buffer costs as much as to fill it.
    """
    regular = -(-(sealed_bytes - FRAME_OVERHEAD - FINAL_EXTRA - frame_length) // (frame_length + FRAME_OVERHEAD))
    final = sealed_bytes - regular * (frame_length + FRAME_OVERHEAD) - FRAME_OVERHEAD - FINAL_EXTRA
    return regular * frame_length + final if regular >= 0 and 0 <= final <= frame_length else sealed_bytes


def _regular_frames(
    message: bytes, message_id: bytes, frame_length: int, aes: AESGCM, cursor: Cursor, into: memoryview
) -> int:
    """Open all frames but the final one, written out since it costs as much as the cipher; return how many they are."""
    view, start, end = memoryview(message), message_id + FRAME, len(message)
    at, size, length = cursor.position, frame_length + FRAME_OVERHEAD, struct.pack(">Q", frame_length)
    frames = 0
    while message.startswith(number := struct.pack(">I", frames + 1), at):
        if at + size > end:
            raise MessageError(step=Step.FRAME)
        iv = message[at + 4 : at + 16]  # from the frame: valid messages exist whose IVs do not count
        plaintext = into[frames * frame_length : (frames + 1) * frame_length]
        if len(plaintext) != frame_length:  # what is there can be no whole message
            raise MessageError(step=Step.FRAME)
        decrypt_into(aes, iv, view[at + 16 : at + size], start + number + length, plaintext)
        at += size
        frames += 1
    cursor.position = at
    return frames


class _Final(NamedTuple):
    iv: bytes
    start: int
    length: int


def _final_frame(message_id: bytes, expected: int, frame_length: int, cursor: Cursor) -> tuple[_Final, bytes]:
    """Move past the final frame, which must be next; return where it is and its associated data."""
    if cursor.take(4) != FINAL_MARK or cursor.u32() != expected:
        raise MessageError(step=Step.FRAME)
    iv, length = cursor.take(IV_BYTES), cursor.u32()
    if length > frame_length:
        raise MessageError(step=Step.FRAME)
    start = cursor.skip(length + TAG_BYTES)
    return _Final(iv, start, length), message_id + FINAL_FRAME + struct.pack(">IQ", expected, length)


def _block(message: bytes, header: Header, aes: AESGCM, cursor: Cursor) -> bytes:
    iv = cursor.take(IV_BYTES)
    length = cursor.u64()
    start = cursor.skip(length + TAG_BYTES)
    aad = b"".join((header.message_id, SINGLE_BLOCK, struct.pack(">IQ", 1, length)))
    return aes.decrypt(iv, memoryview(message)[start : cursor.position], aad)


def _verify_signature(message: bytes, header: Header, cursor: Cursor) -> None:
    covered = cursor.position
    cursor.step = Step.SIGNATURE
    signature = cursor.take(cursor.u16())
    curve, algorithm = header.suite.curve, header.suite.signature_hash
    if curve is None or algorithm is None:
        raise MessageError(step=Step.SIGNATURE)
    try:
        point = base64.b64decode(header.context[PUBLIC_KEY], validate=True)
        key = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        key.verify(signature, message[:covered], ec.ECDSA(algorithm))
    except (binascii.Error, ValueError, UnsupportedAlgorithm, InvalidSignature):
        raise MessageError(step=Step.SIGNATURE) from None
