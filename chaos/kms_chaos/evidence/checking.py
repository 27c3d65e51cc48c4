"""Check a signature offline, with a public key that the reader trusts. The algorithm must fit the key's own kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from kms_chaos.evidence.signing import ED25519

_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}


class PublicKeyError(ValueError):
    """What was given as a public key is none that signs evidence."""


def load(pem: bytes) -> Any:
    """Return the public key in `pem`.

    Raises:
        PublicKeyError: it is none of Ed25519, ECDSA or RSA.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as e:
        raise PublicKeyError("not a public key in PEM") from e
    if not isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey):
        raise PublicKeyError("not an Ed25519, ECDSA or RSA key")
    return key


def is_by(key: Any, algorithm: str, signature: bytes, message: bytes) -> bool:
    """Return whether `key` made `signature` over `message` by `algorithm`; one that does not fit the key never did."""
    digest = _HASHES.get(algorithm.rpartition("_")[2])
    try:
        if algorithm == ED25519 and isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        elif algorithm.startswith("ECDSA_SHA_") and digest and isinstance(key, EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(digest()))
        elif algorithm.startswith("RSASSA_") and digest and isinstance(key, RSAPublicKey):
            key.verify(signature, message, _padding(algorithm, digest()), digest())
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _padding(algorithm: str, digest: hashes.HashAlgorithm) -> Any:
    if algorithm.startswith("RSASSA_PSS_"):  # KMS's salt is as long as the digest
        return padding.PSS(padding.MGF1(digest), digest.digest_size)
    return padding.PKCS1v15()
