"""Sealing: suite 0x0478, framed. Entropy is an argument here, so that tests can pin every byte.

Source: AWS Encryption SDK Specification, data-format/message-body.md and message-body-aad.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core.context import serialised
from kms_core.message import FRAMED, IV_BYTES, EncryptedDataKey, serialised_keys
from kms_core.suites import WRITTEN, derive_keys

FRAME = b"AWSKMSEncryptionClient Frame"
FINAL_FRAME = b"AWSKMSEncryptionClient Final Frame"
SINGLE_BLOCK = b"AWSKMSEncryptionClient Single Block"
FINAL_MARK = b"\xff\xff\xff\xff"
MAX_FRAMES = 2**32 - 2  # sequence numbers begin at 1, and the marker of the final frame is none

_START = b"\x02" + WRITTEN.id.to_bytes(2, "big")
_HEADER_IV = bytes(IV_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingKey:
    """A data key ready to seal any number of messages of one context, with what their headers have in common."""

    data_key: bytes = field(repr=False)
    header_rest: bytes
    """The header's bytes from after the message id to before the commitment."""
    frame_length: int


def sealing_key(
    data_key: bytes, wrapped_keys: Sequence[EncryptedDataKey], context: Mapping[str, str], frame_length: int
) -> SealingKey:
    """Return `data_key` with the part of the header that its messages share.

    Raises:
        ContextError, ValueError: the context or the wrapped keys cannot be written.
    """
    written = serialised(context)
    rest = (
        struct.pack(">H", len(written))
        + written
        + serialised_keys(wrapped_keys)
        + struct.pack(">BI", FRAMED, frame_length)
    )
    return SealingKey(data_key=data_key, header_rest=rest, frame_length=frame_length)


def seal(plaintext: bytes, key: SealingKey, *, message_id: bytes) -> bytes:
    """Return the message that holds `plaintext`.

    `message_id` is 32 bytes of fresh entropy: with IVs that count from 1, it alone keeps a nonce from being used
    twice under one data key. Only tests may choose it.

    Raises:
        ValueError: `plaintext` needs more frames than can be numbered.
    """
    encryption_key, commitment = derive_keys(WRITTEN, key.data_key, message_id)
    aes = AESGCM(encryption_key)
    header = b"".join((_START, message_id, key.header_rest, commitment))
    parts = [header, aes.encrypt(_HEADER_IV, b"", header)]
    sequence, rest = 1, memoryview(plaintext)
    if len(rest) > key.frame_length:
        sequence, rest = _seal_frames(parts, aes, message_id, rest, key.frame_length)
    number = struct.pack(">I", sequence)
    iv = b"\0\0\0\0\0\0\0\0" + number
    aad = b"".join((message_id, FINAL_FRAME, number, struct.pack(">Q", len(rest))))
    parts += (FINAL_MARK, number, iv, struct.pack(">I", len(rest)), aes.encrypt(iv, rest, aad))
    return b"".join(parts)


def _seal_frames(
    parts: list[bytes], aes: AESGCM, message_id: bytes, rest: memoryview, frame_length: int
) -> tuple[int, memoryview]:
    """Append all frames but the final one to `parts`; return the final one's number and plaintext."""
    frames = (len(rest) - 1) // frame_length
    if frames >= MAX_FRAMES:
        raise ValueError("the plaintext needs more frames than can be numbered; choose a larger frame_length")
    length = struct.pack(">Q", frame_length)
    for sequence in range(1, frames + 1):
        start = (sequence - 1) * frame_length
        number = struct.pack(">I", sequence)
        iv = b"\0\0\0\0\0\0\0\0" + number
        aad = b"".join((message_id, FRAME, number, length))
        parts += (number, iv, aes.encrypt(iv, rest[start : start + frame_length], aad))
    return frames + 1, rest[frames * frame_length :]
