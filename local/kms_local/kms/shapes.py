"""What the members of each request may be, checked before anything else, in the words of AWS's own validation.

Source: the KMS API reference (types, lengths, patterns, enumerations). All mistakes of a request are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kms_local.wire.errors import ServiceError, serialization_error


def violation(value: object, path: str, constraint: str, *, hidden: bool = False) -> str:
    """Return one broken constraint in AWS's words; a hidden value is not repeated, and None was not given."""
    shown = "" if hidden else " null" if value is None else f" '{value}'"
    return f"Value{shown} at '{path}' failed to satisfy constraint: {constraint}"


class Rule(Protocol):
    """What one member may be."""

    def violations(self, path: str, value: Any) -> Iterator[str]:
        """Yield what is wrong with `value`, which is at `path` in the request.

        Raises:
            ServiceError: SerializationException: it is not even of the right type.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A string: how long, of what form, one of which."""

    low: int = 0
    high: int | None = None
    pattern: str | None = None
    one_of: tuple[str, ...] = ()

    def violations(self, path: str, value: Any) -> Iterator[str]:
        """Yield what is wrong with a string."""
        if not isinstance(value, str):
            raise serialization_error()
        return (violation(value, path, constraint) for constraint in self.broken(value))

    def broken(self, value: str) -> Iterator[str]:
        """Yield the constraints that a string breaks."""
        if len(value) < self.low:
            yield f"Member must have length greater than or equal to {self.low}"
        if self.high is not None and len(value) > self.high:
            yield f"Member must have length less than or equal to {self.high}"
        if self.pattern is not None and not re.fullmatch(self.pattern, value, re.ASCII):
            yield f"Member must satisfy regular expression pattern: {self.pattern}"
        if self.one_of and value not in self.one_of:
            yield f"Member must satisfy enum value set: [{', '.join(self.one_of)}]"


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number between two others."""

    low: int
    high: int

    def violations(self, path: str, value: Any) -> Iterator[str]:
        """Yield what is wrong with a number."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise serialization_error()
        if value < self.low:
            yield violation(value, path, f"Member must have value greater than or equal to {self.low}")
        if value > self.high:
            yield violation(value, path, f"Member must have value less than or equal to {self.high}")


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""

    def violations(self, path: str, value: Any) -> Iterator[str]:  # noqa: ARG002  every rule is asked alike
        """Yield nothing: a boolean is right or of another type."""
        if not isinstance(value, bool):
            raise serialization_error()
        yield from ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Binary data in base64; a secret one is not repeated in the error."""

    high: int
    secret: bool = False

    def violations(self, path: str, value: Any) -> Iterator[str]:
        """Yield what is wrong with the size of binary data; whether it is base64 shows when it is decoded."""
        if not isinstance(value, str):
            raise serialization_error()
        size = len(value) // 4 * 3 - value[-2:].count("=")
        shown = None if self.secret else f"java.nio.HeapByteBuffer[pos=0 lim={size} cap={size}]"
        if size < 1:
            yield violation(shown, path, "Member must have length greater than or equal to 1", hidden=self.secret)
        if size > self.high:
            constraint = f"Member must have length less than or equal to {self.high}"
            yield violation(shown, path, constraint, hidden=self.secret)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A map from strings to strings."""

    def violations(self, path: str, value: Any) -> Iterator[str]:  # noqa: ARG002  every rule is asked alike
        """Yield nothing: AWS gives a context no limits of its own."""
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise serialization_error()
        yield from ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list."""

    of: Rule
    high: int | None = None

    def violations(self, path: str, value: Any) -> Iterator[str]:
        """Yield what is wrong with a list and with what is in it."""
        if not isinstance(value, list):
            raise serialization_error()
        shown = f"[{', '.join(map(str, value))}]"
        if self.high is not None and len(value) > self.high:
            yield violation(shown, path, f"Member must have length less than or equal to {self.high}")
        for number, item in enumerate(value, 1):
            if not isinstance(self.of, Text):
                yield from self.of.violations(f"{path}.{number}.member", item)
            elif not isinstance(item, str):
                raise serialization_error()
            elif broken := list(self.of.broken(item)):
                yield violation(shown, path, f"Member must satisfy constraint: [{', '.join(broken)}]")
                return


@dataclass(frozen=True, slots=True)
class Members:
    """A structure."""

    rules: Mapping[str, Rule]
    required: tuple[str, ...] = field(default=(), kw_only=True)

    def violations(self, path: str, value: Any) -> Iterator[str]:
        """Yield what is wrong with a structure's members; those nobody knows are passed over, as AWS does."""
        if not isinstance(value, dict):
            raise serialization_error()
        prefix = f"{path}." if path else ""
        for name in self.required:
            if value.get(name) is None:
                yield violation(None, f"{prefix}{_lower_camel(name)}", "Member must not be null")
        for name, given in value.items():
            rule = self.rules.get(name)
            if rule is not None and given is not None:
                yield from rule.violations(f"{prefix}{_lower_camel(name)}", given)


def _lower_camel(name: str) -> str:
    return name[:1].lower() + name[1:]


def check(operation: str, members: Mapping[str, Any]) -> None:
    """Refuse a request whose members are not what its operation takes.

    Raises:
        ServiceError: SerializationException or ValidationException.
    """
    shape = SHAPES.get(operation)
    if shape is None:
        return
    found = list(shape.violations("", members))
    if found:
        counted = "1 validation error" if len(found) == 1 else f"{len(found)} validation errors"
        raise ServiceError("ValidationException", f"{counted} detected: {'; '.join(found)}")


def known_members(operation: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that an operation has; others are passed over, and must not decide anything."""
    shape = SHAPES.get(operation)
    return dict(members) if shape is None else {name: members[name] for name in shape.rules if name in members}


# -- the types of the KMS API -------------------------------------------------------------------------------------

_NAME_PATTERN = r"^[a-zA-Z0-9:/_-]+$"
_KEY_ID = Text(low=1, high=2048)
_ALIAS = Text(low=1, high=256, pattern=_NAME_PATTERN)
_PRINCIPAL = Text(low=1, high=256, pattern=r"^[\w+=,.@:/-]+$")
_SERVICE = Text(low=1, high=256)
_GRANT_ID = Text(low=1, high=128)
_TOKEN = Text(low=1, high=8192)
_REGION = Text(low=1, high=32, pattern=r"^([a-z]+-){2,3}\d+$")
_DESCRIPTION = Text(high=8192)
_POLICY = Text(low=1, high=131_072, pattern=r"[\u0009\u000A\u000D\u0020-\u00FF]+")
_POLICY_NAME = Text(low=1, high=128, pattern=r"[\w]+")
_CIPHERTEXT = Blob(high=6144)
_PLAINTEXT = Blob(high=4096, secret=True)
_BYTES = Number(1, 1024)
_TAG_KEY = Text(low=1, high=128)
_TAGS = Items(
    of=Members({"TagKey": _TAG_KEY, "TagValue": Text(high=256)}, required=("TagKey", "TagValue")),
)
_ALGORITHM = Text(one_of=("SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"))
_DATA_KEY_SPEC = Text(one_of=("AES_256", "AES_128"))
_OLD_KEY_SPECS = (
    "RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1",
    "SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2",
)  # fmt: skip
_KEY_SPECS = (
    *_OLD_KEY_SPECS, "ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "ECC_NIST_EDWARDS25519", "ML_KEM_512", "ML_KEM_768",
    "ML_KEM_1024",
)  # fmt: skip
_KEY_USAGES = ("SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT", "ENCAPSULATE_DECAPSULATE")
_ORIGINS = ("AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE")
_GRANT_OPERATIONS = (
    "Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "Sign",
    "Verify", "GetPublicKey", "CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac", "DeriveSharedSecret", "Encapsulate",
    "Decapsulate",
)  # fmt: skip
_CONSTRAINTS = Members({"EncryptionContextEquals": Pairs(), "EncryptionContextSubset": Pairs(), "SourceArn": _SERVICE})
_RECIPIENT = Members(
    {"KeyEncryptionAlgorithm": Text(one_of=("RSAES_OAEP_SHA_256",)), "AttestationDocument": Blob(high=262_144)}
)

_PAGE: dict[str, Rule] = {"Limit": Number(1, 1000), "Marker": Text(low=1, high=1024)}
_KEY: dict[str, Rule] = {"KeyId": _KEY_ID}
_TOKENS: dict[str, Rule] = {"GrantTokens": Items(of=_TOKEN, high=10)}
_DRY: dict[str, Rule] = {"DryRun": Flag()}
_NEW_KEY: dict[str, Rule] = {
    "Policy": _POLICY,
    "BypassPolicyLockoutSafetyCheck": Flag(),
    "Description": _DESCRIPTION,
    "Tags": _TAGS,
}
_DATA_KEY: dict[str, Rule] = {
    **_KEY, **_TOKENS, **_DRY, "EncryptionContext": Pairs(), "KeySpec": _DATA_KEY_SPEC, "NumberOfBytes": _BYTES,
}  # fmt: skip


def _of_key(**more: Rule) -> Members:
    return Members({**_KEY, **more}, required=("KeyId",))


SHAPES: dict[str, Members] = {
    "CancelKeyDeletion": _of_key(),
    "CreateAlias": Members({"AliasName": _ALIAS, "TargetKeyId": _KEY_ID}, required=("AliasName", "TargetKeyId")),
    "CreateGrant": Members(
        {
            **_KEY,
            **_TOKENS,
            **_DRY,
            "GranteePrincipal": _PRINCIPAL,
            "RetiringPrincipal": _PRINCIPAL,
            "GranteeServicePrincipal": _SERVICE,
            "RetiringServicePrincipal": _SERVICE,
            "Operations": Items(of=Text(one_of=_GRANT_OPERATIONS)),
            "Constraints": _CONSTRAINTS,
            "Name": Text(low=1, high=256, pattern=_NAME_PATTERN),
        },
        required=("KeyId", "Operations"),
    ),
    "CreateKey": Members(
        {
            **_NEW_KEY,
            "KeyUsage": Text(one_of=_KEY_USAGES),
            "KeySpec": Text(one_of=_KEY_SPECS),
            "CustomerMasterKeySpec": Text(one_of=_OLD_KEY_SPECS),
            "Origin": Text(one_of=_ORIGINS),
            "CustomKeyStoreId": Text(low=1, high=64),
            "XksKeyId": Text(low=1, high=128),
            "MultiRegion": Flag(),
        }
    ),
    "Decrypt": Members(
        {
            **_KEY,
            **_TOKENS,
            **_DRY,
            "CiphertextBlob": _CIPHERTEXT,
            "EncryptionContext": Pairs(),
            "EncryptionAlgorithm": _ALGORITHM,
            "Recipient": _RECIPIENT,
        },
        required=("CiphertextBlob",),
    ),
    "DeleteAlias": Members({"AliasName": _ALIAS}, required=("AliasName",)),
    "DescribeKey": _of_key(**_TOKENS),
    "DisableKey": _of_key(),
    "DisableKeyRotation": _of_key(),
    "EnableKey": _of_key(),
    "EnableKeyRotation": _of_key(RotationPeriodInDays=Number(90, 2560)),
    "Encrypt": Members(
        {
            **_KEY,
            **_TOKENS,
            **_DRY,
            "Plaintext": _PLAINTEXT,
            "EncryptionContext": Pairs(),
            "EncryptionAlgorithm": _ALGORITHM,
        },
        required=("KeyId", "Plaintext"),
    ),
    "GenerateDataKey": Members({**_DATA_KEY, "Recipient": _RECIPIENT}, required=("KeyId",)),
    "GenerateDataKeyWithoutPlaintext": Members(_DATA_KEY, required=("KeyId",)),
    "GenerateRandom": Members(
        {"NumberOfBytes": _BYTES, "CustomKeyStoreId": Text(low=1, high=64), "Recipient": _RECIPIENT}
    ),
    "GetKeyPolicy": _of_key(PolicyName=_POLICY_NAME),
    "GetKeyRotationStatus": _of_key(),
    "ListAliases": Members({**_PAGE, **_KEY}),
    "ListGrants": _of_key(**_PAGE, GrantId=_GRANT_ID, GranteePrincipal=_PRINCIPAL, GranteeServicePrincipal=_SERVICE),
    "ListKeyPolicies": _of_key(**_PAGE),
    "ListKeyRotations": _of_key(**_PAGE, IncludeKeyMaterial=Text(one_of=("ALL_KEY_MATERIAL", "ROTATIONS_ONLY"))),
    "ListKeys": Members(_PAGE),
    "ListResourceTags": _of_key(**_PAGE),
    "ListRetirableGrants": Members({**_PAGE, "RetiringPrincipal": _PRINCIPAL, "RetiringServicePrincipal": _SERVICE}),
    "PutKeyPolicy": Members(
        {**_KEY, "PolicyName": _POLICY_NAME, "Policy": _POLICY, "BypassPolicyLockoutSafetyCheck": Flag()},
        required=("KeyId", "Policy"),
    ),
    "ReEncrypt": Members(
        {
            **_TOKENS,
            **_DRY,
            "CiphertextBlob": _CIPHERTEXT,
            "SourceKeyId": _KEY_ID,
            "SourceEncryptionContext": Pairs(),
            "SourceEncryptionAlgorithm": _ALGORITHM,
            "DestinationKeyId": _KEY_ID,
            "DestinationEncryptionContext": Pairs(),
            "DestinationEncryptionAlgorithm": _ALGORITHM,
        },
        required=("CiphertextBlob", "DestinationKeyId"),
    ),
    "ReplicateKey": Members({**_KEY, **_NEW_KEY, "ReplicaRegion": _REGION}, required=("KeyId", "ReplicaRegion")),
    "RetireGrant": Members({**_KEY, **_DRY, "GrantId": _GRANT_ID, "GrantToken": _TOKEN}),
    "RevokeGrant": Members({**_KEY, **_DRY, "GrantId": _GRANT_ID}, required=("KeyId", "GrantId")),
    "RotateKeyOnDemand": _of_key(),
    "ScheduleKeyDeletion": _of_key(PendingWindowInDays=Number(7, 30)),
    "TagResource": Members({**_KEY, "Tags": _TAGS}, required=("KeyId", "Tags")),
    "UntagResource": Members({**_KEY, "TagKeys": Items(of=_TAG_KEY)}, required=("KeyId", "TagKeys")),
    "UpdateAlias": Members({"AliasName": _ALIAS, "TargetKeyId": _KEY_ID}, required=("AliasName", "TargetKeyId")),
    "UpdateKeyDescription": Members({**_KEY, "Description": _DESCRIPTION}, required=("KeyId", "Description")),
    "UpdatePrimaryRegion": Members({**_KEY, "PrimaryRegion": _REGION}, required=("KeyId", "PrimaryRegion")),
}
