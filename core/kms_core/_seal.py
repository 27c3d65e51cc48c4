"""Sealing: suite 0x0478, framed. Entropy is an argument here, so that tests can pin every byte.

Source: AWS Encryption SDK Specification, data-format/message-body.md and message-body-aad.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core._gathered import Gathered, encrypt_into
from kms_core.config import MAX_FRAME_LENGTH
from kms_core.context import serialised
from kms_core.message import FRAMED, IV_BYTES, TAG_BYTES, WRITTEN_START, EncryptedDataKey, serialised_keys
from kms_core.suites import WRITTEN, derive_keys

FRAME = b"AWSKMSEncryptionClient Frame"
FINAL_FRAME = b"AWSKMSEncryptionClient Final Frame"
SINGLE_BLOCK = b"AWSKMSEncryptionClient Single Block"
FINAL_MARK = b"\xff\xff\xff\xff"
FRAME_OVERHEAD = 4 + IV_BYTES + TAG_BYTES
FINAL_EXTRA = 8  # its mark and its length
MAX_FRAMES = 2**32 - 2  # sequence numbers begin at 1, and the marker of the final frame is none

HEADER_IV = bytes(IV_BYTES)
_ZEROS = bytes(8)


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


def reframed(key: SealingKey, frame_length: int) -> SealingKey:
    """Return `key` for frames of `frame_length` bytes.

    Raises:
        ValueError, TypeError: no frame can be so long.
    """
    check_frame_length(frame_length)
    rest = key.header_rest[:-4] + struct.pack(">I", frame_length)
    return SealingKey(data_key=key.data_key, header_rest=rest, frame_length=frame_length)


def check_frame_length(frame_length: int) -> None:
    """Refuse what no frame's length can be.

    Raises:
        ValueError: it is not 1 to 16 MiB.
        TypeError: it is no whole number.
    """
    if not isinstance(frame_length, int):
        raise TypeError(f"frame_length must be a whole number, not {frame_length!r}")
    if not 1 <= frame_length <= MAX_FRAME_LENGTH:
        raise ValueError(f"frame_length must be 1 to {MAX_FRAME_LENGTH}, not {frame_length}")


def seal(plaintext: bytes, key: SealingKey, *, message_id: bytes) -> bytes:
    """Return the message that holds `plaintext`.

    `message_id` is 32 bytes of fresh entropy: with IVs that count from 1, it alone keeps a nonce from being used
    twice under one data key. Only tests may choose it.

    Raises:
        ValueError: `plaintext` needs more frames than can be numbered.
    """
    aes, header = begun(key, message_id)
    rest = memoryview(plaintext)
    if len(rest) > key.frame_length:
        return _in_frames(header, aes, message_id, rest, key.frame_length)
    return b"".join((header, *final_frame(aes, message_id, 1, rest)))


def begun(key: SealingKey, message_id: bytes) -> tuple[AESGCM, bytes]:
    """Return the cipher of a new message, and its header with its tag."""
    encryption_key, commitment = derive_keys(WRITTEN, key.data_key, message_id)
    aes = AESGCM(encryption_key)
    header = b"".join((WRITTEN_START, message_id, key.header_rest, commitment))
    return aes, header + aes.encrypt(HEADER_IV, b"", header)


def final_frame(aes: AESGCM, message_id: bytes, sequence: int, plaintext: memoryview) -> tuple[bytes, ...]:
    """Return the final frame in pieces."""
    number = struct.pack(">I", sequence)
    iv = _ZEROS + number
    aad = b"".join((message_id, FINAL_FRAME, number, struct.pack(">Q", len(plaintext))))
    return (FINAL_MARK, number, iv, struct.pack(">I", len(plaintext)), aes.encrypt(iv, plaintext, aad))


def regular_frame(message_id: bytes, sequence: int, frame_length: int) -> tuple[bytes, bytes]:
    """Return the IV, whose last four bytes are the number, and the associated data of a frame before the final one."""
    number = struct.pack(">I", sequence)
    return _ZEROS + number, message_id + FRAME + number + struct.pack(">Q", frame_length)


def _in_frames(header: bytes, aes: AESGCM, message_id: bytes, rest: memoryview, frame_length: int) -> bytes:
    """Return the whole message of a plaintext that is longer than a frame."""
    frames = (len(rest) - 1) // frame_length
    if frames >= MAX_FRAMES:
        raise ValueError("the plaintext needs more frames than can be numbered; choose a larger frame_length")
    overhead = (frames + 1) * FRAME_OVERHEAD + FINAL_EXTRA
    whole = Gathered(len(header) + len(rest) + overhead)
    into, at, size = whole.view, len(header), frame_length + FRAME_OVERHEAD
    start, length = message_id + FRAME, struct.pack(">Q", frame_length)
    into[:at] = header
    for sequence in range(1, frames + 1):  # as `regular_frame`, written out since it costs as much as the cipher
        number = struct.pack(">I", sequence)
        iv = _ZEROS + number
        struct.pack_into(">I8xI", into, at, sequence, sequence)
        plaintext = rest[(sequence - 1) * frame_length : sequence * frame_length]
        encrypt_into(aes, iv, plaintext, start + number + length, into[at + 16 : at + size])
        at += size
    end = len(into)
    into[at:] = b"".join(final_frame(aes, message_id, frames + 1, rest[frames * frame_length :]))
    return whole.value(end)
