"""The operations that use a key: Encrypt, Decrypt, ReEncrypt, GenerateDataKey*, GenerateRandom."""

from __future__ import annotations

import base64

from kms_local.kms.call import Call, Operation, end_dry_run, refuse_unusable
from kms_local.kms.ciphertext import (
    MAX_BLOB_BYTES,
    Sealed,
    invalid_ciphertext,
    material_name,
    open_sealed,
    parse,
    seal,
)
from kms_local.kms.keys import RegionalKey
from kms_local.wire.errors import ServiceError, invalid
from kms_local.wire.params import JsonObject

_ALGORITHM = "SYMMETRIC_DEFAULT"
_MAX_PLAINTEXT_BYTES = 4096
_MAX_RANDOM_BYTES = 1024
_SPEC_BYTES = {"AES_256": 32, "AES_128": 16}
_NO_SUCH_KEY = (
    "The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
    "or you are not allowed to access."
)


def encrypt(call: Call) -> JsonObject:
    """Encrypt up to 4096 bytes."""
    plaintext = call.params.blob("Plaintext", max_bytes=_MAX_PLAINTEXT_BYTES)
    key = call.usable_key(aliases=True)
    _check_algorithm(call, "EncryptionAlgorithm")
    end_dry_run(call)
    blob = seal(key.family, plaintext, call.params.string_map("EncryptionContext"), call.entropy)
    return {"CiphertextBlob": _text(blob), "KeyId": key.arn, "EncryptionAlgorithm": _ALGORITHM}


def decrypt(call: Call) -> JsonObject:
    """Decrypt what any key related to one of this region has encrypted."""
    _refuse_recipient(call)
    key, sealed = _source(call, "KeyId")
    _check_algorithm(call, "EncryptionAlgorithm")
    plaintext, material = open_sealed(key.family, sealed, call.params.string_map("EncryptionContext"))
    end_dry_run(call)
    return {
        "KeyId": key.arn,
        "Plaintext": _text(plaintext),
        "EncryptionAlgorithm": _ALGORITHM,
        "KeyMaterialId": material_name(material),
    }


def re_encrypt(call: Call) -> JsonObject:
    """Decrypt under one key and encrypt under another, the plaintext never leaving."""
    source, sealed = _source(call, "SourceKeyId")
    target = call.usable_key("DestinationKeyId", aliases=True)
    _check_algorithm(call, "SourceEncryptionAlgorithm")
    _check_algorithm(call, "DestinationEncryptionAlgorithm")
    plaintext, material = open_sealed(source.family, sealed, call.params.string_map("SourceEncryptionContext"))
    end_dry_run(call)
    blob = seal(target.family, plaintext, call.params.string_map("DestinationEncryptionContext"), call.entropy)
    return {
        "CiphertextBlob": _text(blob),
        "SourceKeyId": source.arn,
        "KeyId": target.arn,
        "SourceEncryptionAlgorithm": _ALGORITHM,
        "DestinationEncryptionAlgorithm": _ALGORITHM,
        "SourceKeyMaterialId": material_name(material),
        "DestinationKeyMaterialId": material_name(target.family.materials[-1]),
    }


def generate_data_key(call: Call) -> JsonObject:
    """Make a data key and return it in the clear and sealed."""
    _refuse_recipient(call)
    plaintext, answer = _data_key(call)
    return {"Plaintext": _text(plaintext), **answer}


def generate_data_key_without_plaintext(call: Call) -> JsonObject:
    """Make a data key and return it sealed only."""
    _, answer = _data_key(call)
    return answer


def generate_random(call: Call) -> JsonObject:
    """Return 1 to 1024 random bytes."""
    _refuse_recipient(call)
    count = call.params.integer("NumberOfBytes", low=1, high=_MAX_RANDOM_BYTES)
    if count is None:
        raise ServiceError("ValidationException", "NumberOfBytes is required.")
    if call.params.given("CustomKeyStoreId"):
        raise ServiceError("CustomKeyStoreNotFoundException", None)
    return {"Plaintext": _text(call.entropy(count))}


def _data_key(call: Call) -> tuple[bytes, JsonObject]:
    size = _data_key_bytes(call)
    key = call.usable_key(aliases=True)
    end_dry_run(call)
    plaintext = call.entropy(size)
    blob = seal(key.family, plaintext, call.params.string_map("EncryptionContext"), call.entropy)
    material = material_name(key.family.materials[-1])
    return plaintext, {"CiphertextBlob": _text(blob), "KeyId": key.arn, "KeyMaterialId": material}


def _data_key_bytes(call: Call) -> int:
    spec = call.params.optional_text("KeySpec")
    count = call.params.integer("NumberOfBytes", low=1, high=_MAX_RANDOM_BYTES)
    if (spec is None) == (count is None):
        raise ServiceError("ValidationException", "Please specify either number of bytes or key spec.")
    if spec is None:
        return count or 0
    if spec not in _SPEC_BYTES:
        raise invalid(spec, "KeySpec", "Member must satisfy enum value set: [AES_256, AES_128]")
    return _SPEC_BYTES[spec]


def _source(call: Call, name: str) -> tuple[RegionalKey, Sealed]:
    """Return the key that sealed this request's blob, and the blob taken apart; a named key must be that one."""
    blob = call.params.blob("CiphertextBlob", max_bytes=MAX_BLOB_BYTES)
    named = call.key(name, aliases=True) if call.params.given(name) else None
    if named is not None:
        refuse_unusable(named, call.now)
    sealed = parse(blob)
    key = call.region.keys.get(sealed.key_id)
    if named is not None and named is not key:
        raise _incorrect_key() if _known_anywhere(call, sealed.key_id) else invalid_ciphertext()
    if key is None:
        raise ServiceError("AccessDeniedException", _NO_SUCH_KEY)
    refuse_unusable(key, call.now)
    return key, sealed


def _known_anywhere(call: Call, key_id: str) -> bool:
    return any(key_id in region.keys for region in call.estate.regions.values())


def _incorrect_key() -> ServiceError:
    return ServiceError(
        "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."
    )


def _check_algorithm(call: Call, name: str) -> None:
    algorithm = call.params.optional_text(name) or _ALGORITHM
    if algorithm != _ALGORITHM:
        message = f"Algorithm {algorithm} is incompatible with key spec SYMMETRIC_DEFAULT."
        raise ServiceError("InvalidKeyUsageException", message)


def _refuse_recipient(call: Call) -> None:
    """Refuse an answer for a Nitro enclave: the plaintext would have to be sealed for it, and never is here."""
    if call.params.given("Recipient"):
        raise ServiceError("UnsupportedOperationException", "Recipient is not supported here")


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


OPERATIONS: dict[str, Operation] = {
    "Encrypt": encrypt,
    "Decrypt": decrypt,
    "ReEncrypt": re_encrypt,
    "GenerateDataKey": generate_data_key,
    "GenerateDataKeyWithoutPlaintext": generate_data_key_without_plaintext,
    "GenerateRandom": generate_random,
}
