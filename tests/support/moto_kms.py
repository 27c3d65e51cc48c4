"""moto's KMS with multi-Region keys that work: a second opinion on the contract.

What is not corrected here is a known deviation, which the contract names. It hangs on moto's internals: moto is pinned,
and a new version that needs less of this is noticed by the tests that state its mistakes.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from moto.core.exceptions import JsonRESTError
from moto.kms import models, utils
from moto.kms.models import Key, KmsBackend
from moto.kms.responses import KmsResponse

NO_SUCH_KEY = (
    "The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
    "or you are not allowed to access."
)
_KEY_ID_LENGTH = 36


def correct_moto(patch: pytest.MonkeyPatch) -> None:
    """Correct what keeps multi-Region keys from working at all, until `patch` is undone."""
    _correct_ids(patch)
    _correct_contexts(patch)
    _correct_replicas(patch)
    _correct_cryptography(patch)


def _refusal(code: str, message: str = "") -> JsonRESTError:
    error = JsonRESTError(code, message)
    error.code = 400
    return error


def _correct_ids(patch: pytest.MonkeyPatch) -> None:
    """Let ids have AWS's form, 36 characters of either kind, and refuse another region's ARN."""

    def generate(multi_region: bool = False) -> str:  # noqa: FBT001, FBT002  moto's own signature
        return f"mrk-{uuid.uuid4().hex}" if multi_region else str(uuid.uuid4())

    before = KmsResponse._validate_cmk_id

    def validate(self: Any, key_id: str) -> None:
        if key_id.startswith("arn:") and key_id.split(":")[3] != self.region:
            raise _refusal("NotFoundException", f"Invalid arn {self.region}")
        bare = key_id.rpartition("/")[2]
        if not (bare.startswith("mrk-") and len(bare) == _KEY_ID_LENGTH):
            before(self, key_id)
        elif bare not in self.kms_backend.keys:
            raise _refusal("NotFoundException", f"Key '{self._display_arn(bare)}' does not exist")

    patch.setattr(models, "generate_key_id", generate)
    patch.setattr(models, "generate_private_key", lambda _: None)  # an RSA key for every symmetric one takes long
    patch.setattr(KmsResponse, "_validate_cmk_id", validate)


def _correct_contexts(patch: pytest.MonkeyPatch) -> None:
    """Put lengths between the parts of a context: without them two contexts look alike."""

    def serialize(encryption_context: Mapping[str, str]) -> bytes:
        parts = [part.encode() for pair in sorted((encryption_context or {}).items()) for part in pair]
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    patch.setattr(utils, "_serialize_encryption_context", serialize)


def _correct_replicas(patch: pytest.MonkeyPatch) -> None:
    """Give every replica a state and aliases of its own; moto's shares the primary's."""
    before = KmsBackend.replicate_key

    def replicate(self: Any, key_id: str, replica_region: str) -> Any:
        replica = before(self, key_id, replica_region)
        held = models.kms_backends[self.account_id][replica_region]
        replica.aliases = {}
        held.keys[replica.id] = replica
        return replica

    def describe(self: Any, key_id: str) -> Key:
        found: Key = self.keys[self.any_id_to_key_id(key_id)]
        return found

    patch.setattr(KmsBackend, "replicate_key", replicate)
    patch.setattr(KmsBackend, "describe_key", describe)


def _correct_cryptography(patch: pytest.MonkeyPatch) -> None:
    """Look at a key's state, and tell a wrong key from a bad ciphertext."""
    seal, unseal = KmsBackend.encrypt, KmsBackend.decrypt

    def encrypt(self: Any, key_id: str, plaintext: bytes, encryption_context: Any) -> Any:
        key = self.keys.get(self.any_id_to_key_id(key_id))
        if key is not None:
            _refuse_unusable(key)
        return seal(self, key_id, plaintext, encryption_context or {})

    def decrypt(self: Any, ciphertext_blob: bytes, encryption_context: Any, key_id: str | None = None) -> Any:
        sealing = bytes(ciphertext_blob[:_KEY_ID_LENGTH]).decode("latin-1")
        if key_id is not None:
            named = self.any_id_to_key_id(key_id)
            _refuse_unusable(self.keys[named])
            if named != sealing:
                raise _refusal("IncorrectKeyException")
        if sealing not in self.keys:
            raise _refusal("AccessDeniedException", NO_SUCH_KEY)
        return unseal(self, ciphertext_blob, encryption_context or {}, None)

    patch.setattr(KmsBackend, "encrypt", encrypt)
    patch.setattr(KmsBackend, "decrypt", decrypt)


def _refuse_unusable(key: Key) -> None:
    if key.key_state == "PendingDeletion":
        raise _refusal("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    if not key.enabled:
        raise _refusal("DisabledException", f"{key.arn} is disabled.")
