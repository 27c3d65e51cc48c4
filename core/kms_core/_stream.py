"""Messages that do not fit into memory: one frame at a time, and none released that was not authenticated.

Source: AWS Encryption SDK Specification, client-apis/decrypt.md, "Streaming".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core._open import message_cipher
from kms_core._seal import (
    FINAL_FRAME,
    FINAL_MARK,
    FRAME,
    MAX_FRAMES,
    SealingKey,
    begun,
    final_frame,
    regular_frame,
)
from kms_core.config import MAX_FRAME_LENGTH
from kms_core.errors import MessageError, NotStreamableError, Step, TruncatedStreamError
from kms_core.message import COMMITMENT_BYTES, IV_BYTES, TAG_BYTES, WRITTEN_START, Header, parse_header
from kms_core.suites import SUITES, WRITTEN


class Source(Protocol):
    """What can be read: a binary file, a pipe, a response's body."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most `size` bytes; none at the end."""
        ...


class Sink(Protocol):
    """What can be written to."""

    def write(self, piece: bytes | memoryview, /) -> int | None:
        """Take `piece`; return how much of it was taken, where that may be less than all."""
        ...


def seal_stream(reader: Reader, writer: Writer, key: SealingKey, *, message_id: bytes) -> int:
    """Write the message that holds what `reader` gives; return the plaintext's length.

    Raises:
        ValueError: it needs more frames than can be numbered.
    """
    aes, header = begun(key, message_id)
    writer.write(header)
    frame, total, sequence = reader.up_to(key.frame_length), 0, 1
    while following := reader.up_to(key.frame_length) if len(frame) == key.frame_length else b"":
        iv, aad = regular_frame(message_id, sequence, key.frame_length)
        if sequence > MAX_FRAMES:
            raise ValueError("the plaintext needs more frames than can be numbered; choose a larger frame_length")
        writer.write(iv[8:] + iv)
        writer.write(aes.encrypt(iv, frame, aad))
        total, sequence, frame = total + len(frame), sequence + 1, following
    writer.write(b"".join(final_frame(aes, message_id, sequence, memoryview(frame))))
    return total + len(frame)


def read_header(reader: Reader, *, max_encrypted_data_keys: int) -> bytes:
    """Return the bytes of the next message's header with its tag, unauthenticated.

    Raises:
        NotStreamableError: a message that must be opened whole.
        MessageError: it is no message; TruncatedStreamError: it ends too early.
    """
    start = reader.up_to(len(WRITTEN_START))
    if start != WRITTEN_START:
        _refuse(start + reader.up_to(1))
    parts = [start, reader.exactly(WRITTEN.message_id_bytes), *_field(reader), reader.exactly(2)]
    count = int.from_bytes(parts[-1], "big")
    if not 0 < count <= max_encrypted_data_keys:
        raise MessageError(step=Step.HEADER)
    for _ in range(3 * count):
        parts += _field(reader)
    parts.append(reader.exactly(1 + 4 + COMMITMENT_BYTES + TAG_BYTES))
    return b"".join(parts)


def open_stream(reader: Reader, writer: Writer, header: Header, data_key: bytes) -> int:
    """Write the plaintext of the message whose `header` was read, frame by frame; return its length.

    The final frame is held back until nothing follows the message.

    Raises:
        TruncatedStreamError: the message ends too early; every frame before was released.
        NotStreamableError: it is not framed, or its frames are too long to be held in memory.
        MessageError: something does not verify; the frames before it were released.
    """
    aes = message_cipher(header, data_key)
    if not header.framed or header.frame_length > MAX_FRAME_LENGTH:
        raise NotStreamableError
    total = 0
    for sequence in range(1, MAX_FRAMES + 2):
        final, plaintext = _next_frame(reader, header, aes, sequence)
        if final and reader.up_to(1):
            raise MessageError(step=Step.TRAILING)
        writer.write(plaintext)
        total += len(plaintext)
        if final:
            return total
    raise MessageError(step=Step.FRAME)


def _next_frame(reader: Reader, header: Header, aes: AESGCM, sequence: int) -> tuple[bool, bytes]:
    number = reader.exactly(4)
    final = number == FINAL_MARK
    if final:
        number = reader.exactly(4)
    if number != struct.pack(">I", sequence):
        raise MessageError(step=Step.FRAME)
    iv = reader.exactly(IV_BYTES)
    length = int.from_bytes(reader.exactly(4), "big") if final else header.frame_length
    if length > header.frame_length:
        raise MessageError(step=Step.FRAME)
    aad = header.message_id + (FINAL_FRAME if final else FRAME) + struct.pack(">IQ", sequence, length)
    try:
        return final, aes.decrypt(iv, reader.exactly(length + TAG_BYTES), aad)
    except InvalidTag:
        raise MessageError(step=Step.FRAME) from None


def _field(reader: Reader) -> tuple[bytes, bytes]:
    length = reader.exactly(2)
    return length, reader.exactly(int.from_bytes(length, "big"))


def _refuse(start: bytes) -> None:
    """Raise what fits to a message that begins with `start`."""
    version = {b"\x02": 2, b"\x01\x80": 1}.get(start[: 1 if start[:1] == b"\x02" else 2])
    suite = SUITES.get(int.from_bytes(start[1:3] if version == 2 else start[2:4], "big"))  # noqa: PLR2004 - the format's
    if suite is not None and suite.version == version and suite.kdf is not None:
        raise NotStreamableError
    if len(start) <= len(WRITTEN_START) and WRITTEN_START.startswith(start):
        raise TruncatedStreamError
    parse_header(start)
    raise MessageError(step=Step.HEADER)


class Reader:
    """Reads pieces of a wanted length from a source that may give less at a time."""

    def __init__(self, source: Source) -> None:
        if not callable(getattr(source, "read", None)):
            raise TypeError(f"a source has a method `read`; {type(source).__name__} has none")
        self._read: Callable[[int], bytes | None] = source.read

    def up_to(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only where the source ends.

        Raises:
            BlockingIOError: the source has nothing now and does not wait.
            TypeError, ValueError: it gives what is not bytes, or more of them than it was asked for.
        """
        piece = self._piece(size)
        if len(piece) == size or not piece:
            return piece
        gathered = bytearray(piece)  # and not a list of pieces, which may be a byte each
        while len(gathered) < size and (piece := self._piece(size - len(gathered))):
            gathered += piece
        return bytes(gathered)

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            TruncatedStreamError: the source ends before.
        """
        piece = self.up_to(size)
        if len(piece) != size:
            raise TruncatedStreamError
        return piece

    def _piece(self, size: int) -> bytes:
        piece = self._read(size) if size else b""
        if piece is None:
            raise BlockingIOError("the source has nothing now; streams need a source that waits")
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(f"the source must give bytes, not {type(piece).__name__}: open files in binary mode")
        piece = bytes(piece)
        if len(piece) > size:  # a frame of it would be longer than any reader takes
            raise ValueError(f"the source was asked for {size} bytes and gave {len(piece)}")
        return piece


class Writer:
    """Writes whole pieces to a sink that may take less at a time."""

    def __init__(self, sink: Sink) -> None:
        if not callable(getattr(sink, "write", None)):
            raise TypeError(f"a sink has a method `write`; {type(sink).__name__} has none")
        self._write: Callable[[memoryview], int | None] = sink.write

    def write(self, piece: bytes) -> None:
        """Write all of `piece`.

        Raises:
            BlockingIOError: the sink takes nothing now and does not wait.
        """
        rest = memoryview(piece)
        while rest:
            taken = self._write(rest)
            if taken is None:  # file-likes that answer nothing have taken everything
                return
            if taken <= 0:
                raise BlockingIOError("the sink takes nothing now; streams need a sink that waits")
            rest = rest[taken:]
