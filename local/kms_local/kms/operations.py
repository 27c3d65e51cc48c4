"""Every operation of KMS by its name: those that are served, and those that are refused in so many words."""

from __future__ import annotations

from kms_local.kms import aliases, cryptography, grants, lifecycle, policies, rotation, tags
from kms_local.kms.call import Call, Operation
from kms_local.kms.shapes import check
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject

_OTHER_USAGE = ("GenerateMac", "Sign", "Verify", "VerifyMac")
_OTHER_ORIGIN = ("DeleteImportedKeyMaterial", "GetParametersForImport", "ImportKeyMaterial")
_NOT_SERVED = (
    "ConnectCustomKeyStore", "CreateCustomKeyStore", "Decapsulate", "DeleteCustomKeyStore", "DeriveSharedSecret",
    "DescribeCustomKeyStores", "DisconnectCustomKeyStore", "Encapsulate", "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext", "GetKeyLastUsage", "GetPublicKey", "UpdateCustomKeyStore",
)  # fmt: skip


def validate(operation: str, call: Call) -> None:
    """Refuse a request that no key and no caller could make right; to be asked before anybody is authorized.

    Raises:
        ServiceError: SerializationException, ValidationException, InvalidGrantTokenException.
    """
    check(operation, call.params.as_dict())
    grants.check_tokens(call.params)


def perform(operation: str, call: Call) -> JsonObject:
    """Validate a request and do what it asks for.

    Raises:
        ServiceError: it is refused.
    """
    validate(operation, call)
    return OPERATIONS[operation](call)


def _of_other_usage(operation: str) -> Operation:
    def refuse(call: Call) -> JsonObject:
        arn = call.usable_key(aliases=True).arn
        message = f"{arn} key usage is ENCRYPT_DECRYPT which is not valid for {operation}."
        raise ServiceError("InvalidKeyUsageException", message)

    return refuse


def _of_other_origin(call: Call) -> JsonObject:
    message = f"{call.key().arn} origin is AWS_KMS which is not valid for this operation."
    raise ServiceError("UnsupportedOperationException", message)


def _not_served(operation: str) -> Operation:
    def refuse(_: Call) -> JsonObject:
        raise ServiceError("UnsupportedOperationException", f"{operation} is not supported here")

    return refuse


OPERATIONS: dict[str, Operation] = {
    **lifecycle.OPERATIONS,
    **cryptography.OPERATIONS,
    **aliases.OPERATIONS,
    **policies.OPERATIONS,
    **rotation.OPERATIONS,
    **tags.OPERATIONS,
    **grants.OPERATIONS,
    **{name: _of_other_usage(name) for name in _OTHER_USAGE},
    **dict.fromkeys(_OTHER_ORIGIN, _of_other_origin),
    **{name: _not_served(name) for name in _NOT_SERVED},
}
