"""Opening: every suite of the format, framed and not; what may be opened is decided by who calls.

Nothing of the plaintext leaves before the commitment, the header's tag, every frame, the signature where there is one,
and the end of the message have all been verified.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core._cursor import Cursor
from kms_core._seal import FINAL_FRAME, FRAME, SINGLE_BLOCK
from kms_core.context import PUBLIC_KEY
from kms_core.errors import MessageError, Step
from kms_core.message import IV_BYTES, TAG_BYTES, Header
from kms_core.suites import derive_keys

_FINAL_MARK = 0xFFFFFFFF


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
    aes = _header_verified(header, data_key, required)
    cursor = Cursor(message, header.length, step=Step.FRAME)
    try:
        parts = _frames(message, header, aes, cursor) if header.framed else [_block(message, header, aes, cursor)]
    except (InvalidTag, OverflowError):  # the cipher takes less than 2 GiB at once
        raise MessageError(step=Step.FRAME) from None
    if header.suite.signed:
        _verify_signature(message, header, cursor)
    if cursor.position != len(message):
        raise MessageError(step=Step.TRAILING)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _header_verified(header: Header, data_key: bytes, required: bytes) -> AESGCM:
    """Return the message's cipher, after commitment and header tag have verified, in this order."""
    try:
        key, commitment = derive_keys(header.suite, data_key, header.message_id)
    except ValueError:
        raise MessageError(step=Step.DATA_KEY) from None
    if not hmac.compare_digest(commitment, header.commitment):  # before any AES call: a tag alone binds no key
        raise MessageError(step=Step.COMMITMENT)
    aes = AESGCM(key)
    try:
        aes.decrypt(header.iv, header.tag, header.body + required if required else header.body)
    except InvalidTag:
        raise MessageError(step=Step.HEADER_TAG) from None
    return aes


def _frames(message: bytes, header: Header, aes: AESGCM, cursor: Cursor) -> list[bytes]:
    view = memoryview(message)
    parts: list[bytes] = []
    expected = 1
    while True:
        number = cursor.u32()
        final = number == _FINAL_MARK
        if final:
            number = cursor.u32()
        if number != expected:
            raise MessageError(step=Step.FRAME)
        iv = cursor.take(IV_BYTES)  # from the frame: valid messages exist whose IVs do not count
        length = cursor.u32() if final else header.frame_length
        if length > header.frame_length:
            raise MessageError(step=Step.FRAME)
        start = cursor.skip(length + TAG_BYTES)
        aad = b"".join((header.message_id, FINAL_FRAME if final else FRAME, struct.pack(">IQ", number, length)))
        parts.append(aes.decrypt(iv, view[start : cursor.position], aad))
        if final:
            return parts
        expected += 1


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
