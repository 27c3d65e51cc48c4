"""The AWS Encryption SDK, as its users run it for speed: with its caching materials manager, over a local raw key."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from aws_encryption_sdk import (
    Algorithm,
    CachingCryptoMaterialsManager,
    CommitmentPolicy,
    EncryptionSDKClient,
    LocalCryptoMaterialsCache,
)
from aws_encryption_sdk.identifiers import EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider

from benchmarks.estate import CONTEXT


class Peer(NamedTuple):
    """One way to seal and to open."""

    encrypt: Callable[[bytes], bytes]
    decrypt: Callable[[bytes], bytes]


def sdk_with_caching() -> dict[str, Peer]:
    """Return the SDK by configuration."""
    provider = _raw_provider()
    plain = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
    return {
        "SDK, caching, 0478, 4 KiB frames": _peer(provider, plain, 4096),
        "SDK, caching, 0478, 64 KiB frames": _peer(provider, plain, 65_536),
        "SDK, caching, its defaults": _peer(provider, Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384, 4096),
    }


def _peer(provider: Any, algorithm: Any, frame_length: int) -> Peer:
    client = EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
    manager = CachingCryptoMaterialsManager(
        master_key_provider=provider, cache=LocalCryptoMaterialsCache(1000), max_age=300.0
    )

    def encrypt(plaintext: bytes) -> bytes:
        return bytes(
            client.encrypt(
                source=plaintext,
                materials_manager=manager,
                encryption_context=CONTEXT,
                frame_length=frame_length,
                algorithm=algorithm,
            )[0]
        )

    def decrypt(message: bytes) -> bytes:
        return bytes(client.decrypt(source=message, materials_manager=manager)[0])

    return Peer(encrypt, decrypt)


def _raw_provider() -> Any:
    material = os.urandom(32)

    class LocalKey(RawMasterKeyProvider):
        provider_id = "benchmark"

        def _get_raw_key(self, key_id: bytes) -> Any:  # noqa: ARG002 - the SDK's signature
            algorithm = WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING
            return WrappingKey(algorithm, material, EncryptionKeyType.SYMMETRIC)

    provider = LocalKey()
    provider.add_master_key("k1")
    return provider
