"""The names of KMS's actions, as policies write them; a test compares them with botocore's model of the service."""

from __future__ import annotations

from kms_watchdog.estate.access import USE_ACTIONS

USE = frozenset(f"kms:{name}" for name in USE_ACTIONS)
"""What makes or opens a ciphertext."""
WITH_CONTEXT = USE | {"kms:CreateGrant"}
"""What has an encryption context. Source: AWS KMS Developer Guide, "Condition keys for AWS KMS"."""
ON_ALIASES = ("kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias")
CHANGING = frozenset(
    {
        "kms:DisableKey",
        "kms:DisableKeyRotation",
        "kms:PutKeyPolicy",
        "kms:ScheduleKeyDeletion",
        "kms:UpdatePrimaryRegion",
    }
)
"""What takes a key away, or gives it to others."""
PERMISSIONS_ONLY = frozenset({"ReEncryptFrom", "ReEncryptTo", "SynchronizeMultiRegionKey"})
"""Actions that are no operations. Source: Service Authorization Reference, "Actions defined by AWS KMS"."""
OPERATIONS = frozenset(
    {
        "CancelKeyDeletion", "ConnectCustomKeyStore", "CreateAlias", "CreateCustomKeyStore", "CreateGrant",
        "CreateKey", "Decapsulate", "Decrypt", "DeleteAlias", "DeleteCustomKeyStore", "DeleteImportedKeyMaterial",
        "DeriveSharedSecret", "DescribeCustomKeyStores", "DescribeKey", "DisableKey", "DisableKeyRotation",
        "DisconnectCustomKeyStore", "EnableKey", "EnableKeyRotation", "Encapsulate", "Encrypt", "GenerateDataKey",
        "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext",
        "GenerateMac", "GenerateRandom", "GetKeyLastUsage", "GetKeyPolicy", "GetKeyRotationStatus",
        "GetParametersForImport", "GetPublicKey", "ImportKeyMaterial", "ListAliases", "ListGrants", "ListKeyPolicies",
        "ListKeyRotations", "ListKeys", "ListResourceTags", "ListRetirableGrants", "PutKeyPolicy", "ReplicateKey",
        "RetireGrant", "RevokeGrant", "RotateKeyOnDemand", "ScheduleKeyDeletion", "Sign", "TagResource",
        "UntagResource", "UpdateAlias", "UpdateCustomKeyStore", "UpdateKeyDescription", "UpdatePrimaryRegion",
        "Verify", "VerifyMac",
    }
)  # fmt: skip
"""Operations of which each is an action of that name; ReEncrypt alone is not: it is two."""
ACTIONS = frozenset(f"kms:{name}" for name in OPERATIONS | PERMISSIONS_ONLY)
