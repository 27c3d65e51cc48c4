"""Older releases of the cipher's library write nothing in place: the way around gives the same bytes."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core import _gathered


def test_the_way_around_writes_what_the_cipher_would() -> None:
    """Sealed by either, opened by the other; and a tag that does not verify is told."""
    aes, iv, plaintext = AESGCM(bytes(32)), bytes(12), memoryview(b"frame")
    mine, theirs, back = bytearray(21), bytearray(21), bytearray(5)

    _gathered._encrypt_into(aes, iv, plaintext, b"aad", memoryview(mine))
    _gathered.encrypt_into(aes, iv, plaintext, b"aad", memoryview(theirs))
    _gathered._decrypt_into(aes, iv, memoryview(theirs), b"aad", memoryview(back))

    assert mine == theirs
    assert back == b"frame"
    with pytest.raises(InvalidTag):
        _gathered._decrypt_into(aes, iv, memoryview(mine), b"other", memoryview(back))
