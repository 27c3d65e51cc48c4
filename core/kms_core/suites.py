"""The algorithm suites of the AWS Encryption SDK message format, and how each derives its keys.

Source: AWS Encryption SDK Specification, framework/algorithm-suites.md.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

HashName = Literal["sha256", "sha384", "sha512"]

_DIGEST_BYTES: dict[HashName, int] = {"sha256": 32, "sha384": 48, "sha512": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One row of the specification's table; AES-GCM with a 12-byte IV and a 16-byte tag in all of them."""

    id: int
    version: Literal[1, 2]
    """The message format's version: 2 commits to its key, 1 does not."""
    key_bytes: int
    """Length of the data key and of the encryption key."""
    kdf: HashName | None
    curve: ec.EllipticCurve | None = None
    signature_hash: hashes.HashAlgorithm | None = None

    @property
    def message_id_bytes(self) -> int:
        """Length of the message id."""
        return 32 if self.version == 2 else 16  # noqa: PLR2004 - the format's own versions

    @property
    def signed(self) -> bool:
        """Whether a signature follows the body."""
        return self.curve is not None


_P256, _P384 = ec.SECP256R1(), ec.SECP384R1()

SUITES: dict[int, Suite] = {
    suite.id: suite
    for suite in (
        Suite(id=0x0014, version=1, key_bytes=16, kdf=None),
        Suite(id=0x0046, version=1, key_bytes=24, kdf=None),
        Suite(id=0x0078, version=1, key_bytes=32, kdf=None),
        Suite(id=0x0114, version=1, key_bytes=16, kdf="sha256"),
        Suite(id=0x0146, version=1, key_bytes=24, kdf="sha256"),
        Suite(id=0x0178, version=1, key_bytes=32, kdf="sha256"),
        Suite(id=0x0214, version=1, key_bytes=16, kdf="sha256", curve=_P256, signature_hash=hashes.SHA256()),
        Suite(id=0x0346, version=1, key_bytes=24, kdf="sha384", curve=_P384, signature_hash=hashes.SHA384()),
        Suite(id=0x0378, version=1, key_bytes=32, kdf="sha384", curve=_P384, signature_hash=hashes.SHA384()),
        Suite(id=0x0478, version=2, key_bytes=32, kdf="sha512"),
        Suite(id=0x0578, version=2, key_bytes=32, kdf="sha512", curve=_P384, signature_hash=hashes.SHA384()),
    )
}

WRITTEN = SUITES[0x0478]
"""What the core writes: committed, unsigned."""

COMMITTED = frozenset(suite.id for suite in SUITES.values() if suite.version == 2)  # noqa: PLR2004 - as above
"""What the core opens by default."""

DERIVED = frozenset(suite.id for suite in SUITES.values() if suite.kdf is not None)
"""What the core opens when legacy suites are accepted: never those that use the data key as it is."""


def derive_keys(suite: Suite, data_key: bytes, message_id: bytes) -> tuple[bytes, bytes]:
    """Return the encryption key and the commitment (empty in version 1) for one message.

    Every output is one HKDF block, so each Expand (RFC 5869, section 2.3) is a single HMAC with the counter byte 1.

    Raises:
        ValueError: `data_key` has not the suite's length.
    """
    if len(data_key) != suite.key_bytes:
        raise ValueError(f"the data key must be {suite.key_bytes} bytes")
    if suite.kdf is None:
        return data_key, b""
    suite_id = suite.id.to_bytes(2, "big")
    if suite.version == 1:
        key = hmac.digest(bytes(_DIGEST_BYTES[suite.kdf]), data_key, suite.kdf)
        return hmac.digest(key, suite_id + message_id + b"\x01", suite.kdf)[: suite.key_bytes], b""
    key = hmac.digest(message_id, data_key, suite.kdf)
    return (
        hmac.digest(key, suite_id + b"DERIVEKEY\x01", suite.kdf)[:32],
        hmac.digest(key, b"COMMITKEY\x01", suite.kdf)[:32],
    )
