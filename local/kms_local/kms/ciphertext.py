"""Ciphertext blobs: sealed under one version of a key's material, with the encryption context authenticated.

The layout is ours (AWS documents none); the sizes are AWS's: 32 bytes seal into 184 under a multi-Region key and into
167 under a single-Region one.

    magic 5 | key id 36 | material id 16 | filler 67 or 50 | nonce 12 | sealed plaintext | tag 16
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_local.kms.keys import Family, Material
from kms_local.wire.errors import ServiceError

_MAGIC = b"\x01\x02\x02\x02\x78"
_ID = slice(5, 41)
_MATERIAL = slice(41, 57)
_FILLER_BYTES = {True: 67, False: 50}
_NONCE_BYTES = 12
_TAG_BYTES = 16
MAX_BLOB_BYTES = 6144


def encode_context(context: Mapping[str, str]) -> bytes:
    """Return `context` in one canonical form: pairs sorted by key, every part behind its own length.

    Without the lengths `{"ab": "c"}` and `{"a": "bc"}` would authenticate alike.
    """
    pairs = sorted((key.encode(), value.encode()) for key, value in context.items())
    parts = [part for pair in pairs for part in pair]
    return struct.pack(">I", len(pairs)) + b"".join(struct.pack(">I", len(part)) + part for part in parts)


def context_digest(context: Mapping[str, str]) -> str:
    """Return a fingerprint of `context` for logs, which must not hold the context itself."""
    return hashlib.sha256(encode_context(context)).hexdigest()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A blob taken apart; nothing in it is authenticated before `open_sealed`."""

    key_id: str
    material_id: bytes
    header: bytes
    nonce: bytes
    body: bytes


def seal(family: Family, plaintext: bytes, context: Mapping[str, str], entropy: Callable[[int], bytes]) -> bytes:
    """Seal `plaintext` under the newest material of `family`."""
    material = family.materials[-1]
    filler = entropy(_FILLER_BYTES[family.multi_region])
    header = _MAGIC + family.key_id.encode() + material.material_id + filler
    nonce = entropy(_NONCE_BYTES)
    return header + nonce + AESGCM(material.secret).encrypt(nonce, plaintext, header + encode_context(context))


def parse(blob: bytes) -> Sealed:
    """Take a blob apart.

    Raises:
        ServiceError: InvalidCiphertextException, without a word about why.
    """
    header_bytes = _MATERIAL.stop + _FILLER_BYTES[blob[_ID].startswith(b"mrk-")]
    if not blob.startswith(_MAGIC) or len(blob) < header_bytes + _NONCE_BYTES + _TAG_BYTES:
        raise invalid_ciphertext()
    nonce_end = header_bytes + _NONCE_BYTES
    return Sealed(
        key_id=blob[_ID].decode("latin-1"),
        material_id=blob[_MATERIAL],
        header=blob[:header_bytes],
        nonce=blob[header_bytes:nonce_end],
        body=blob[nonce_end:],
    )


def open_sealed(family: Family, sealed: Sealed, context: Mapping[str, str]) -> tuple[bytes, Material]:
    """Return the plaintext and the material that sealed it.

    Raises:
        ServiceError: InvalidCiphertextException: tampered with, another context, or not of this family.
    """
    for material in family.materials:
        if material.material_id == sealed.material_id:
            try:
                opened = AESGCM(material.secret).decrypt(
                    sealed.nonce, sealed.body, sealed.header + encode_context(context)
                )
            except InvalidTag:
                break
            return opened, material
    raise invalid_ciphertext()


def material_name(material: Material) -> str:
    """Return a material's id in AWS's form, 64 hexadecimal digits."""
    return hashlib.sha256(material.material_id).hexdigest()


def invalid_ciphertext() -> ServiceError:
    """Refuse a ciphertext as AWS does: without a message."""
    return ServiceError("InvalidCiphertextException", None)
