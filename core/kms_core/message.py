"""The header of the AWS Encryption SDK message format, read from bytes that nobody has authenticated yet.

Source: AWS Encryption SDK Specification, data-format/message-header.md. Sealing is in `_seal`, opening in `_open`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kms_core import context as contexts
from kms_core._cursor import Cursor
from kms_core.errors import MessageError, Step
from kms_core.suites import SUITES, WRITTEN, Suite

KMS_PROVIDER = "aws-kms"
IV_BYTES = 12
TAG_BYTES = 16
FRAMED = 2
NON_FRAMED = 1

_BASE64_STARTS = (b"AgR4", b"AgV4", b"AY")  # what 02 04 78, 02 05 78 and 01 80 look like in base64
_V1_TYPE = 0x80
COMMITMENT_BYTES = 32
WRITTEN_START = b"\x02" + WRITTEN.id.to_bytes(2, "big")
"""What every message begins with that we write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedDataKey:
    """A data key as a message holds it: wrapped by a provider, which is `aws-kms` for ours."""

    provider_id: str
    provider_info: bytes
    """For `aws-kms`, the key's ARN in UTF-8."""
    ciphertext: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A message's header, as read; true only once its tag has verified."""

    suite: Suite
    message_id: bytes
    context: Mapping[str, str]
    context_bytes: bytes
    """The context as it was written, which need not be canonical."""
    encrypted_data_keys: tuple[EncryptedDataKey, ...]
    framed: bool
    frame_length: int
    """Plaintext bytes in a regular frame; 0 when not framed."""
    commitment: bytes
    """Empty in version 1."""
    body: bytes
    """The raw bytes that the tag covers."""
    iv: bytes
    tag: bytes

    @property
    def length(self) -> int:
        """Return how many bytes of the message the header and its authentication take."""
        return len(self.body) + TAG_BYTES + (IV_BYTES if self.suite.version == 1 else 0)


def encrypted_data_keys(message: bytes) -> tuple[EncryptedDataKey, ...]:
    """Return the wrapped keys that `message` names in its header. Nothing is authenticated: for tools only.

    Raises:
        MessageError: not a message.
    """
    return parse_header(bytes(memoryview(message))).encrypted_data_keys


def parse_header(message: bytes, *, max_encrypted_data_keys: int | None = None) -> Header:
    """Read the header of `message`.

    Raises:
        MessageError: it breaks a rule of the format, or has more wrapped keys than allowed.
    """
    cursor = Cursor(message, step=Step.HEADER)
    suite = _suite(cursor, message)
    message_id = cursor.take(suite.message_id_bytes)
    context_bytes = cursor.take(cursor.u16())
    context = contexts.parsed(context_bytes)
    wrapped_keys = _wrapped_keys(cursor, max_encrypted_data_keys)
    content_type = cursor.u8()
    if suite.version == 1 and (cursor.u32() != 0 or cursor.u8() != IV_BYTES):
        raise MessageError(step=Step.HEADER)
    frame_length = cursor.u32()
    if content_type not in {NON_FRAMED, FRAMED} or (content_type == FRAMED) != (frame_length > 0):
        raise MessageError(step=Step.HEADER)
    commitment = b"" if suite.version == 1 else cursor.take(COMMITMENT_BYTES)
    return Header(
        suite=suite,
        message_id=message_id,
        context=context,
        context_bytes=context_bytes,
        encrypted_data_keys=wrapped_keys,
        framed=content_type == FRAMED,
        frame_length=frame_length,
        commitment=commitment,
        body=message[: cursor.position],
        iv=cursor.take(IV_BYTES) if suite.version == 1 else bytes(IV_BYTES),
        tag=cursor.take(TAG_BYTES),
    )


def _suite(cursor: Cursor, message: bytes) -> Suite:
    version = cursor.u8()
    if version == 1 and cursor.u8() != _V1_TYPE:
        raise MessageError(step=Step.HEADER)
    if version not in {1, 2}:
        if message.startswith(_BASE64_STARTS):
            raise MessageError("the message is base64: decode it first", step=Step.BASE64)
        raise MessageError(step=Step.HEADER)
    suite = SUITES.get(cursor.u16())
    if suite is None or suite.version != version:
        raise MessageError(step=Step.SUITE)
    return suite


def _wrapped_keys(cursor: Cursor, limit: int | None) -> tuple[EncryptedDataKey, ...]:
    count = cursor.u16()
    if count == 0 or (limit is not None and count > limit):
        raise MessageError(step=Step.HEADER)
    return tuple(
        EncryptedDataKey(
            provider_id=cursor.text(),
            provider_info=cursor.take(cursor.u16()),
            ciphertext=cursor.take(cursor.u16()),
        )
        for _ in range(count)
    )


def serialised_keys(wrapped_keys: Sequence[EncryptedDataKey]) -> bytes:
    """Return the header field that holds `wrapped_keys`.

    Raises:
        ValueError: there are none or too many, or one is too long.
    """
    if not wrapped_keys:
        raise ValueError("a message needs at least one wrapped key")
    try:
        parts = [struct.pack(">H", len(wrapped_keys))]
        for wrapped in wrapped_keys:
            for field in (wrapped.provider_id.encode(), wrapped.provider_info, wrapped.ciphertext):
                parts += [struct.pack(">H", len(field)), field]
    except struct.error as e:
        raise ValueError("more than 65,535 wrapped keys, or one of more than 65,535 bytes") from e
    return b"".join(parts)
