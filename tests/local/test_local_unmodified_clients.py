"""Clients that know nothing of us: curl with its own SigV4, the AWS Encryption SDK's providers, stock boto3."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from typing import Any

import boto3
import botocore.session
import pytest
from aws_encryption_sdk import CommitmentPolicy, EncryptionSDKClient
from aws_encryption_sdk.key_providers.kms import (
    DiscoveryAwsKmsMasterKeyProvider,
    MRKAwareStrictAwsKmsMasterKeyProvider,
    StrictAwsKmsMasterKeyProvider,
)

CURL = shutil.which("curl")


def curl(aws: Any, service: str, region: str, *arguments: str, scope: str = "") -> tuple[int, str]:
    """Return status and body of a request that curl signs by itself."""
    assert CURL is not None
    document = aws.endpoints
    credentials = document["credentials"]
    pair = f"{credentials['aws_access_key_id']}:{credentials['aws_secret_access_key']}"
    command = [CURL, "--silent", "--show-error", "--cacert", document["ca_bundle"], "--user", pair]
    command += ["--aws-sigv4", f"aws:amz:{region}:{scope or service}", "--write-out", "\n%{http_code}", *arguments]
    url = document["regions"][region][service]
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=30, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def kms_call(aws: Any, operation: str, members: dict[str, Any], region: str = "us-east-1") -> tuple[int, Any]:
    headers = ("Content-Type: application/x-amz-json-1.1", f"X-Amz-Target: TrentService.{operation}")
    arguments = [part for header in headers for part in ("--header", header)]
    status, body = curl(aws, "kms", region, *arguments, "--data", json.dumps(members))
    return status, json.loads(body)


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_seals_in_one_region_and_opens_in_another(local_aws: Any) -> None:
    """Its own signature is right, and wrong for another region's name."""
    key_id = kms_call(local_aws, "CreateKey", {"MultiRegion": True})[1]["KeyMetadata"]["KeyId"]
    status, replica = kms_call(local_aws, "ReplicateKey", {"KeyId": key_id, "ReplicaRegion": "us-west-2"})
    assert (status, replica["ReplicaKeyMetadata"]["KeyState"]) == (200, "Creating")
    sealed = kms_call(local_aws, "Encrypt", {"KeyId": key_id, "Plaintext": base64.b64encode(b"x").decode()})[1]
    asked = {"CiphertextBlob": sealed["CiphertextBlob"]}

    while kms_call(local_aws, "DescribeKey", {"KeyId": key_id}, "us-west-2")[1]["KeyMetadata"]["KeyState"] != "Enabled":
        pass
    status, opened = kms_call(local_aws, "Decrypt", asked, "us-west-2")

    assert (status, base64.b64decode(opened["Plaintext"])) == (200, b"x")
    assert kms_call(local_aws, "Decrypt", asked, "eu-west-1")[1]["__type"] == "AccessDeniedException"


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_asks_sts_and_sns_in_the_query_protocol(local_aws: Any) -> None:
    """Forms in, XML out."""
    status, body = curl(local_aws, "sts", "us-east-1", "--data", "Action=GetCallerIdentity&Version=2011-06-15")
    assert status == 200
    assert "<Account>123456789012</Account>" in body
    status, body = curl(local_aws, "sns", "us-east-1", "--data", "Action=CreateTopic&Name=by-curl&Version=2010-03-31")
    assert status == 200
    assert ":by-curl</TopicArn>" in body


@pytest.fixture
def mrk(local_aws: Any, eventually: Any) -> dict[str, str]:
    """A multi-Region key's ARN in two regions."""
    east, west = local_aws.client("kms"), local_aws.client("kms", "us-west-2")
    made = east.create_key(MultiRegion=True)["KeyMetadata"]
    east.replicate_key(KeyId=made["KeyId"], ReplicaRegion="us-west-2")
    eventually(lambda: west.describe_key(KeyId=made["KeyId"])["KeyMetadata"]["Enabled"])
    return {"us-east-1": made["Arn"], "us-west-2": west.describe_key(KeyId=made["KeyId"])["KeyMetadata"]["Arn"]}


@pytest.fixture
def sdk_session(local_aws: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A botocore session that trusts the local AWS by its environment, as any SDK's user would set it up."""
    monkeypatch.setenv("AWS_CA_BUNDLE", local_aws.endpoints["ca_bundle"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(local_aws.directory / "credentials"))
    return botocore.session.Session()


class Directed:
    """Points the providers' own clients at each region's listener; everything else is theirs."""

    def __init__(self, aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        made = boto3.session.Session.client

        def client(session: Any, service: str, region_name: str | None = None, **more: Any) -> Any:
            region = region_name or "us-east-1"
            url = aws.endpoints["regions"][region][service]
            opened = made(session, service, region_name=region, endpoint_url=url, **more)
            aws.clients.append(opened)
            return opened

        monkeypatch.setattr(boto3.session.Session, "client", client)


def test_the_encryption_sdks_legacy_providers(
    local_aws: Any, mrk: dict[str, str], sdk_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strict, aware of replicas, and discovering: sealed in us-east-1, opened in either region."""
    Directed(local_aws, monkeypatch)
    sdk = EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
    east, west = (
        MRKAwareStrictAwsKmsMasterKeyProvider(key_ids=[mrk[region]], botocore_session=sdk_session)
        for region in ("us-east-1", "us-west-2")
    )
    strict = StrictAwsKmsMasterKeyProvider(key_ids=[mrk["us-east-1"]], botocore_session=sdk_session)
    discovery = DiscoveryAwsKmsMasterKeyProvider(botocore_session=sdk_session)
    context = {"tenant": "parker"}

    message, _ = sdk.encrypt(source=b"data", key_provider=east, encryption_context=context)

    for provider in (east, west, strict, discovery):
        plaintext, header = sdk.decrypt(source=message, key_provider=provider)
        assert plaintext == b"data"
        assert header.encryption_context.items() >= context.items()


def test_stock_boto3_with_its_defaults(local_aws: Any) -> None:
    """Default retries, parameter validation on, the paginators and waiters that the SDK ships."""
    document = local_aws.endpoints
    kms = boto3.client(
        "kms",
        region_name="us-east-1",
        endpoint_url=document["regions"]["us-east-1"]["kms"],
        verify=document["ca_bundle"],
        **document["credentials"],
    )
    made = [kms.create_key(Tags=[{"TagKey": "n", "TagValue": str(n)}])["KeyMetadata"]["KeyId"] for n in range(3)]

    listed = [
        key["KeyId"]
        for page in kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2})
        for key in page["Keys"]
    ]

    assert set(made) <= set(listed)
    assert len(listed) == len(set(listed))
    kms.close()
