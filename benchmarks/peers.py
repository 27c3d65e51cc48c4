"""The AWS Encryption SDK, as its users run it for speed: with its caching materials manager, over a local raw key."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.estate import CONTEXT


class Peer(NamedTuple):
    """One way to seal and to open."""

    encrypt: Callable[[bytes], bytes]
    decrypt: Callable[[bytes], bytes]


@contextlib.contextmanager
def sdk_with_caching() -> Iterator[dict[str, Peer]]:
    """Yield the SDK by configuration; nothing when it is not installed."""
    try:
        import aws_encryption_sdk as sdk  # noqa: PLC0415 - a peer to compare with, which need not be there
    except ModuleNotFoundError:
        yield {}
        return
    provider = _raw_provider()
    suites = sdk.Algorithm
    yield {
        "SDK, caching, 0478, 4 KiB frames": _peer(sdk, provider, suites.AES_256_GCM_HKDF_SHA512_COMMIT_KEY, 4096),
        "SDK, caching, 0478, 64 KiB frames": _peer(sdk, provider, suites.AES_256_GCM_HKDF_SHA512_COMMIT_KEY, 65_536),
        "SDK, caching, its defaults": _peer(sdk, provider, suites.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384, 4096),
    }


def _peer(sdk: Any, provider: Any, algorithm: Any, frame_length: int) -> Peer:
    client = sdk.EncryptionSDKClient(commitment_policy=sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
    manager = sdk.CachingCryptoMaterialsManager(
        master_key_provider=provider, cache=sdk.LocalCryptoMaterialsCache(1000), max_age=300.0
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
    from aws_encryption_sdk.identifiers import EncryptionKeyType, WrappingAlgorithm  # noqa: PLC0415 - as above
    from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey  # noqa: PLC0415 - as above
    from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider  # noqa: PLC0415 - as above

    material = os.urandom(32)

    class LocalKey(RawMasterKeyProvider):
        provider_id = "benchmark"

        def _get_raw_key(self, key_id: bytes) -> Any:  # noqa: ARG002 - the SDK's signature
            algorithm = WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING
            return WrappingKey(algorithm, material, EncryptionKeyType.SYMMETRIC)

    provider = LocalKey()
    provider.add_master_key("k1")
    return provider
