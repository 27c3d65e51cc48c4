"""Sign a closed journal: with an Ed25519 key in a file, or with a key in KMS that never leaves it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kms_watchdog import aws
from kms_watchdog.config import Settings
from kms_watchdog.configuring.evidence import Signing
from kms_watchdog.drills import journal

ED25519 = "ED25519"
_KMS_MESSAGE_BYTES = 4096
"""What Sign and GenerateMac take without a digest of the caller's. Source: KMS API Reference."""
SIGNATURE_SCHEMA = 1


class SigningError(RuntimeError):
    """Nothing was signed; the journal is as good as before and can be signed later."""


class SigningRefusedError(SigningError):
    """The configuration cannot sign this run at all; a person has to change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signature, and which key made it."""

    signature: bytes
    key: str
    """An Ed25519 key's fingerprint, or the ARN of a key in KMS."""


class Signer(Protocol):
    """One key that signs."""

    algorithm: str

    def about(self) -> dict[str, Any]:
        """Return what the journal says of it before anything is signed."""

    def sign(self, message: bytes) -> Signed:
        """Sign `message`.

        Raises:
            SigningError: the key cannot be had now.
        """

    def public_key(self) -> bytes:
        """Return the public key as PEM.

        Raises:
            SigningError: it cannot be had, or there is none: an HMAC's key is secret.
        """


class FileSigner:
    """An Ed25519 key in a PEM file, read once."""

    algorithm = ED25519

    def __init__(self, path: Path) -> None:
        """Read the key.

        Raises:
            SigningRefusedError: it cannot be read, or is no Ed25519 key without a password.
        """
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as e:
            reason = e.strerror if isinstance(e, OSError) else "not a PEM private key without a password"
            raise SigningRefusedError(f"{path}: cannot be read: {reason}") from e
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningRefusedError(f"{path}: not an Ed25519 key")
        self._key = key

    def about(self) -> dict[str, Any]:
        """As `Signer.about`."""
        return {"kind": "ed25519", "algorithm": self.algorithm, "key": fingerprint(self.public_key())}

    def sign(self, message: bytes) -> Signed:
        """As `Signer.sign`."""
        return Signed(signature=self._key.sign(message), key=fingerprint(self.public_key()))

    def public_key(self) -> bytes:
        """As `Signer.public_key`."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


class KmsSigner:
    """A key in KMS, asked in the first of its regions that answers; none of `hurt` is asked."""

    def __init__(self, settings: Settings, signing: Signing, hurt: Sequence[str] = ()) -> None:
        """Make the clients; call it in the main thread.

        Raises:
            SigningRefusedError: the drill hurts every region that could sign.
        """
        regions = [region for region in signing.regions if region not in hurt]
        if not regions:
            raise SigningRefusedError(f"drills.evidence.signing.regions: this drill hurts {', '.join(signing.regions)}")
        self.algorithm: str = signing.algorithm
        self._key_id = str(signing.key_id)
        self._clients = {region: aws.client(settings, "kms", region) for region in regions}

    def about(self) -> dict[str, Any]:
        """As `Signer.about`."""
        return {"kind": "kms", "algorithm": self.algorithm, "key": self._key_id, "regions": list(self._clients)}

    def sign(self, message: bytes) -> Signed:
        """As `Signer.sign`."""
        if len(message) > _KMS_MESSAGE_BYTES:
            raise SigningError(f"KMS signs at most {_KMS_MESSAGE_BYTES} bytes, not {len(message)}")
        asked = {"KeyId": self._key_id, "Message": message}
        if self.algorithm.startswith("HMAC"):
            made = self._ask(lambda kms: kms.generate_mac(**asked, MacAlgorithm=self.algorithm), "Mac")
            return Signed(signature=made["Mac"], key=made["KeyId"])
        signing = {**asked, "MessageType": "RAW", "SigningAlgorithm": self.algorithm}
        made = self._ask(lambda kms: kms.sign(**signing), "Signature")
        return Signed(signature=made["Signature"], key=made["KeyId"])

    def public_key(self) -> bytes:
        """As `Signer.public_key`."""
        if self.algorithm.startswith("HMAC"):
            raise SigningError("an HMAC has no public key: `kms-chaos verify --ask-kms` asks KMS")
        der = self._ask(lambda kms: kms.get_public_key(KeyId=self._key_id), "PublicKey")["PublicKey"]
        return serialization.load_der_public_key(der).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def confirms(self, message: bytes, signature: bytes) -> bool:
        """Return whether KMS says that its key made `signature`.

        Raises:
            SigningError: KMS does not answer.
        """
        asked = {"KeyId": self._key_id, "Message": message}
        invalid = {"KMSInvalidSignatureException", "KMSInvalidMacException"}
        try:
            if self.algorithm.startswith("HMAC"):
                checking = {**asked, "Mac": signature, "MacAlgorithm": self.algorithm}
                return bool(self._ask(lambda kms: kms.verify_mac(**checking), "MacValid")["MacValid"])
            checking = {**asked, "Signature": signature, "MessageType": "RAW", "SigningAlgorithm": self.algorithm}
            return bool(self._ask(lambda kms: kms.verify(**checking), "SignatureValid")["SignatureValid"])
        except SigningError as e:
            if e.__cause__ is not None and aws.error_code(e.__cause__) in invalid:  # type: ignore[arg-type]
                return False
            raise

    def _ask(self, call: Callable[[Any], dict[str, Any]], wanted: str) -> dict[str, Any]:
        last = SigningError("no region to ask")
        for region, client in self._clients.items():
            try:
                answer = call(client)
                if answer.get(wanted) is None:  # a reply that was cut off is a success to botocore (aws.md, trap G)
                    raise aws.TruncatedAnswerError
            except aws.AwsError as e:
                last = SigningError(f"KMS in {region} does not sign: {aws.error_code(e)}")
                last.__cause__ = e
            else:
                return answer
        raise last


def signer(settings: Settings, hurt: Sequence[str] = ()) -> Signer | None:
    """Return what signs evidence, none of the regions `hurt` among it; None: nothing is configured.

    Call it in the main thread.

    Raises:
        SigningRefusedError: the configured key cannot be used.
    """
    signing = settings.drills.evidence.signing
    if signing is None:
        return None
    if signing.private_key_file is not None:
        return FileSigner(signing.private_key_file)
    return KmsSigner(settings, signing, hurt)


def fingerprint(public_key: bytes) -> str:
    """Return what names a public key (PEM): `SHA256:` and the hex digest of its DER form, SubjectPublicKeyInfo."""
    der = serialization.load_pem_public_key(public_key).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"SHA256:{hashlib.sha256(der).hexdigest()}"


def signature_file(statement: dict[str, Any], by: Signer) -> bytes:
    """Return the content of `signature.json`: the very bytes that were signed, as text, and the signature.

    Raises:
        SigningError: nothing was signed.
    """
    message = journal.canonical(statement)
    signed = by.sign(message)
    content = {
        "schema": SIGNATURE_SCHEMA,
        "statement": message.decode(),
        "algorithm": by.algorithm,
        "key": signed.key,
        "signature": base64.b64encode(signed.signature).decode(),
    }
    return journal.canonical(content) + b"\n"
