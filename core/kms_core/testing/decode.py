"""The format without KMS: seal with chosen entropy, open with a data key from anywhere. For tests and test vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core._open import check_signature_key, open_message
from kms_core._seal import seal, sealing_key
from kms_core._stream import Reader, Sink, Source, Writer, open_stream, read_header
from kms_core.context import serialised
from kms_core.errors import MessageError, Step
from kms_core.message import EncryptedDataKey, Header, parse_header
from kms_core.suites import SUITES

_WRAPPING_IV_BYTES = 12
_WRAPPING_TAG_BITS = 128


class Decoded(NamedTuple):
    """What a message held."""

    plaintext: bytes
    header: Header


def decode(
    message: bytes,
    unwrap: Callable[[Header, Mapping[str, str]], bytes],
    *,
    reproduced: Mapping[str, str] | None = None,
    required_keys: Sequence[str] = (),
    suites: frozenset[int] = frozenset(SUITES),
    max_encrypted_data_keys: int | None = None,
) -> Decoded:
    """Open `message` with the data key that `unwrap(header, full_context)` returns.

    Reads all eleven suites, framed and not; `suites` narrows that.

    Args:
        message: the whole message and nothing after it.
        unwrap: gets the header, not yet authenticated, and the context with the reproduced pairs.
        reproduced: pairs that the caller knows; they must not contradict the message's. One that the message has not
            is part of what `unwrap` gets, as the specification has it for keyrings; nothing else checks it.
        required_keys: which of the pairs the header's tag covers though the header does not hold them.
        suites: ids of the suites to accept.
        max_encrypted_data_keys: more wrapped keys than this are refused; None: any number.

    Raises:
        MessageError: refused; its `step` says where. What `unwrap` raises passes through.
    """
    message = bytes(memoryview(message))
    header = parse_header(message, max_encrypted_data_keys=max_encrypted_data_keys)
    if header.suite.id not in suites:
        raise MessageError(step=Step.SUITE)
    check_signature_key(header)
    full = {**header.context, **(reproduced or {})}
    if any(full[key] != value for key, value in header.context.items()) or not full.keys() >= set(required_keys):
        raise MessageError(step=Step.CONTEXT)
    data_key = unwrap(header, full)
    required = serialised({key: full[key] for key in required_keys})
    return Decoded(open_message(message, header, data_key, required=required), header)


def encode(
    plaintext: bytes,
    data_key: bytes,
    wrapped_keys: Sequence[EncryptedDataKey],
    context: Mapping[str, str],
    *,
    frame_length: int = 4096,
    message_id: bytes,
) -> bytes:
    """Seal `plaintext` with all entropy chosen by the caller, so that a test can pin every byte."""
    return seal(plaintext, sealing_key(data_key, wrapped_keys, context, frame_length), message_id=message_id)


def raw_aes_unwrap(namespace: str, name: str, wrapping_key: bytes) -> Callable[[Header, Mapping[str, str]], bytes]:
    """Return an `unwrap` for `decode` that opens raw-AES wrapped keys, as the SDKs' raw AES keyrings write them.

    Its provider info is the key's name, the tag's bits and the IV's length in four bytes each, and the IV.
    """
    start = name.encode() + _WRAPPING_TAG_BITS.to_bytes(4, "big") + _WRAPPING_IV_BYTES.to_bytes(4, "big")

    def unwrap(header: Header, context: Mapping[str, str]) -> bytes:
        for wrapped in header.encrypted_data_keys:
            info = wrapped.provider_info
            ours = wrapped.provider_id == namespace and info[: len(start)] == start
            if not ours or len(info) != len(start) + _WRAPPING_IV_BYTES:
                continue
            try:
                return AESGCM(wrapping_key).decrypt(info[len(start) :], wrapped.ciphertext, serialised(context))
            except InvalidTag:
                continue
        raise MessageError(step=Step.UNWRAP)

    return unwrap


def decode_stream(
    source: Source,
    sink: Sink,
    unwrap: Callable[[Header, Mapping[str, str]], bytes],
    *,
    max_encrypted_data_keys: int = 64,
) -> Header:
    """Open the message that `source` gives into `sink`, frame by frame, as `Core.decrypt_stream` does.

    Raises:
        MessageError: refused; what was written before is authentic, and not the whole.
    """
    reader = Reader(source)
    raw = read_header(reader, max_encrypted_data_keys=max_encrypted_data_keys)
    header = parse_header(raw, max_encrypted_data_keys=max_encrypted_data_keys)
    check_signature_key(header)
    open_stream(reader, Writer(sink), header, unwrap(header, header.context))
    return header
