"""Make the messages that this release commits and all later ones must open: `python tests/vectors/make.py`.

Writes `tests/vectors/release-VERSION/`: `ours.json`, sealed by the core, and `sdk.json`, sealed by the AWS Encryption
SDK in every suite. Refuses to overwrite: a release's messages are made once. The wrapping key stands in the files; it
protects nothing. Each message's data key is wrapped with it as the SDKs' raw AES keyrings do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from aws_encryption_sdk import Algorithm, CommitmentPolicy, EncryptionSDKClient
from aws_encryption_sdk.identifiers import EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms_core.context import serialised
from kms_core.message import EncryptedDataKey
from kms_core.testing import encode

NAMESPACE, NAME = "kms-watchdog-vectors", "k1"
WRAPPING_KEY = hashlib.sha256(b"kms-watchdog test vectors").digest()
FOLDER = Path(__file__).parent

CONTEXTS: dict[str, dict[str, str]] = {
    "empty": {},
    "ascii": {"canary": "true", "purpose": "general", "empty": ""},
    "unicode": {"größe": "ü", "\U0001f511": "beyond the BMP", "\uffee": "below it"},
}
SIZES = (0, 1, 16, 127, 128, 129, 4096, 10_000)
FRAMES = (128, 4096)


class VectorKey(RawMasterKeyProvider):  # type: ignore[misc]  # the SDK has no types
    """The SDK's raw AES provider over the vectors' wrapping key."""

    provider_id = NAMESPACE

    def _get_raw_key(self, key_id: bytes) -> WrappingKey:
        algorithm = WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING
        return WrappingKey(algorithm, WRAPPING_KEY, EncryptionKeyType.SYMMETRIC)


def main() -> int:
    """Make this version's folder."""
    folder = FOLDER / f"release-{metadata.version('kms-watchdog')}"
    if folder.exists():
        sys.stderr.write(f"{folder} exists: a release's messages are made once\n")
        return 2
    folder.mkdir()
    _write(folder / "ours.json", "kms-watchdog", _ours())
    _write(folder / "sdk.json", "aws-encryption-sdk", _sdks())
    return 0


def plaintext(size: int) -> bytes:
    """Return `size` bytes that repeat after 251."""
    return bytes(index % 251 for index in range(size))


def _write(path: Path, package: str, cases: list[dict[str, Any]]) -> None:
    document = {
        "schema": 1,
        "made_by": {"package": package, "version": metadata.version(package)},
        "raw_aes_key": {"namespace": NAMESPACE, "name": NAME, "key": WRAPPING_KEY.hex()},
        "plaintext": "byte i is i mod 251",
        "cases": cases,
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _case(suite: int, size: int, frame_length: int, context: str, message: bytes) -> dict[str, Any]:
    return {
        "name": f"{suite:04x}, {size} bytes in frames of {frame_length}, context {context}",
        "suite": f"{suite:04x}",
        "size": size,
        "frame_length": frame_length,
        "context": CONTEXTS[context],
        "message": base64.b64encode(message).decode(),
    }


def _ours() -> list[dict[str, Any]]:
    return [
        _case(0x0478, size, frame_length, context, _sealed(size, frame_length, CONTEXTS[context]))
        for size in SIZES
        for frame_length in FRAMES
        for context in CONTEXTS
    ]


def _sealed(size: int, frame_length: int, context: dict[str, str]) -> bytes:
    data_key, iv = os.urandom(32), os.urandom(12)
    wrapped = EncryptedDataKey(
        provider_id=NAMESPACE,
        provider_info=NAME.encode() + (128).to_bytes(4, "big") + (12).to_bytes(4, "big") + iv,
        ciphertext=AESGCM(WRAPPING_KEY).encrypt(iv, data_key, serialised(context)),
    )
    return encode(plaintext(size), data_key, [wrapped], context, frame_length=frame_length, message_id=os.urandom(32))


def _sdks() -> list[dict[str, Any]]:
    provider = VectorKey()
    provider.add_master_key(NAME)
    return [
        _case(algorithm.algorithm_id, 300, frame_length, context, _by_sdk(provider, algorithm, frame_length, context))
        for algorithm in sorted(Algorithm, key=lambda one: int(one.algorithm_id))
        for frame_length in (0, 128)
        for context in ("empty", "unicode")
    ]


def _by_sdk(provider: VectorKey, algorithm: Algorithm, frame_length: int, context: str) -> bytes:
    committed = algorithm.algorithm_id in {0x0478, 0x0578}
    policy = (
        CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT if committed else CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
    )
    message, _ = EncryptionSDKClient(commitment_policy=policy).encrypt(
        source=plaintext(300),
        key_provider=provider,
        encryption_context=CONTEXTS[context],
        frame_length=frame_length,
        algorithm=algorithm,
    )
    return bytes(message)


if __name__ == "__main__":
    sys.exit(main())
