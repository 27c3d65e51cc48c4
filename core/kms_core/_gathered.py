"""Bytes of a known greatest length, gathered in place: the cipher writes where the result will be, and none is copied.

What a long message costs beside its cipher is memory that is touched twice; this touches it once.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Into = Callable[[AESGCM, bytes, memoryview, bytes, memoryview], object]


def _encrypt_into(aes: AESGCM, iv: bytes, plaintext: memoryview, aad: bytes, into: memoryview) -> None:
    into[:] = aes.encrypt(iv, plaintext, aad)


def _decrypt_into(aes: AESGCM, iv: bytes, sealed: memoryview, aad: bytes, into: memoryview) -> None:
    into[:] = aes.decrypt(iv, sealed, aad)


encrypt_into: Into = getattr(AESGCM, "encrypt_into", _encrypt_into)  # cryptography has them from 47 on
decrypt_into: Into = getattr(AESGCM, "decrypt_into", _decrypt_into)


class Gathered:
    """A buffer of `limit` bytes, to be written into through `view`. `value` ends it."""

    __slots__ = ("_buffer", "view")

    def __init__(self, limit: int) -> None:
        self._buffer = io.BytesIO(bytes(limit))  # its getvalue hands out these very bytes, where a bytearray copies
        self.view = self._buffer.getbuffer()

    def value(self, end: int) -> bytes:
        """Return the first `end` bytes."""
        self.view.release()
        self._buffer.truncate(end)
        return self._buffer.getvalue()
