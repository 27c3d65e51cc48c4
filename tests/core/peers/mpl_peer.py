"""Seals or opens one message with the Python SDK's MRK keyring: JSON on standard input, JSON on standard output."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import boto3
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import CreateAwsKmsKeyringInput, CreateAwsKmsMrkKeyringInput
from aws_encryption_sdk import CommitmentPolicy, EncryptionSDKClient


def keyring(asked: dict[str, Any]) -> Any:
    """Return the keyring that `asked` describes: aware of replicas, or pinned to one ARN."""
    providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    client = boto3.client("kms", region_name=asked["region"], endpoint_url=asked["endpoint"], verify=asked["ca_bundle"])
    given = {"kms_key_id": asked["key_arn"], "kms_client": client}
    if asked["mrk_aware"]:
        return providers.create_aws_kms_mrk_keyring(input=CreateAwsKmsMrkKeyringInput(**given))
    return providers.create_aws_kms_keyring(input=CreateAwsKmsKeyringInput(**given))


def main() -> None:
    """Do what is asked once."""
    asked = json.load(sys.stdin)
    sdk = EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
    source, context = base64.b64decode(asked["source"]), asked["context"]
    if asked["operation"] == "encrypt":
        result, _ = sdk.encrypt(source=source, keyring=keyring(asked), encryption_context=context)
    else:
        result, _ = sdk.decrypt(source=source, keyring=keyring(asked), encryption_context=context)
    json.dump({"result": base64.b64encode(result).decode()}, sys.stdout)


if __name__ == "__main__":
    main()
