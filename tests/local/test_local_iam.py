"""IAM's API with stock boto3: what was handed over comes back, what is put is kept, what is not there is not found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

ACCOUNT = "123456789012"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/Boundary"
MANAGED = "arn:aws:iam::aws:policy/ReadEverything"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def policy(action: str) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}


def managed(arn: str, **versions: tuple[str, bool]) -> dict[str, Any]:
    listed = [
        {"VersionId": name, "Document": policy(action), "IsDefaultVersion": default}
        for name, (action, default) in versions.items()
    ]
    return {"Arn": arn, "PolicyName": arn.rpartition("/")[2], "PolicyVersionList": listed}


def put(name: str, document: str) -> dict[str, str]:
    return {"RoleName": "Bare", "PolicyName": name, "PolicyDocument": document}


def role(name: str, trust: str, **more: str) -> dict[str, str]:
    return {"RoleName": name, "AssumeRolePolicyDocument": trust, **more}


DETAILS = {
    "RoleDetailList": [
        {
            "RoleName": "Service",
            "RoleId": "AROAEXAMPLE",
            "CreateDate": "2026-01-02T03:04:05Z",
            "AssumeRolePolicyDocument": TRUST,
            "RolePolicyList": [
                {"PolicyName": f"Inline{n:03}", "PolicyDocument": policy(f"kms:Describe{n}<&>*")} for n in range(120)
            ],
            "AttachedManagedPolicies": [{"PolicyName": "ReadEverything", "PolicyArn": MANAGED}],
            "PermissionsBoundary": {
                "PermissionsBoundaryType": "Policy",
                "PermissionsBoundaryArn": BOUNDARY,
            },
        },
        {"RoleName": "Bare"},
    ],
    "Policies": [
        managed(MANAGED, v1=("kms:List*", False), v2=("kms:Get*", True)),
        managed(BOUNDARY, v7=("kms:*", True)),
    ],
}


@pytest.fixture(scope="module")
def handed_over(local_aws: Any) -> Iterator[Any]:
    """The server, with two roles."""
    status, answer = local_aws.admin("PUT", "/iam", DETAILS)
    assert status == 200, answer
    yield local_aws
    local_aws.admin("PUT", "/iam", {"RoleDetailList": []})


@pytest.fixture(scope="module", params=["us-east-1", "eu-west-1"])
def iam(handed_over: Any, request: pytest.FixtureRequest) -> Any:
    """A client; IAM is global, so every region's end point answers alike."""
    return handed_over.client("iam", request.param, signed_for="us-east-1")


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return status, response["Error"]["Code"], response["Error"].get("Message", "")


def test_a_role(iam: Any) -> None:
    """Trust policy, boundary and date as they were handed over; without a boundary there is none."""
    role = iam.get_role(RoleName="Service")["Role"]
    bare = iam.get_role(RoleName="Bare")["Role"]

    assert (role["Arn"], role["RoleId"], role["Path"]) == (f"arn:aws:iam::{ACCOUNT}:role/Service", "AROAEXAMPLE", "/")
    assert role["AssumeRolePolicyDocument"] == TRUST
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY
    assert role["CreateDate"].isoformat() == "2026-01-02T03:04:05+00:00"
    assert "PermissionsBoundary" not in bare
    assert bare["RoleId"].startswith("AROA")


def test_inline_policies_come_in_pages(iam: Any) -> None:
    """A hundred a page unless asked otherwise; the text survives XML and percent-encoding."""
    first = iam.list_role_policies(RoleName="Service")
    pages = list(iam.get_paginator("list_role_policies").paginate(RoleName="Service", PaginationConfig={"PageSize": 7}))
    names = [name for page in pages for name in page["PolicyNames"]]

    assert (len(first["PolicyNames"]), first["IsTruncated"]) == (100, True)
    assert names == [f"Inline{n:03}" for n in range(120)]
    assert pages[-1]["IsTruncated"] is False
    found = iam.get_role_policy(RoleName="Service", PolicyName="Inline007")
    assert found["PolicyDocument"] == policy("kms:Describe7<&>*")


def test_managed_policies_are_read_by_version(iam: Any) -> None:
    """What is attached, which version counts, and each version's text."""
    [attached] = iam.list_attached_role_policies(RoleName="Service")["AttachedPolicies"]
    found = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
    old, current = (
        iam.get_policy_version(PolicyArn=MANAGED, VersionId=version)["PolicyVersion"] for version in ("v1", "v2")
    )

    assert attached == {"PolicyName": "ReadEverything", "PolicyArn": MANAGED}
    assert (found["DefaultVersionId"], found["AttachmentCount"]) == ("v2", 1)
    assert (old["Document"], old["IsDefaultVersion"]) == (policy("kms:List*"), False)
    assert (current["Document"], current["IsDefaultVersion"]) == (policy("kms:Get*"), True)


def test_account_details_can_be_handed_over_again(iam: Any, handed_over: Any) -> None:
    """What it answers is what `--iam` takes: the same roles come out."""
    details = iam.get_account_authorization_details()
    again = json.loads(json.dumps({name: details[name] for name in ("RoleDetailList", "Policies")}, default=str))
    before = iam.get_role_policy(RoleName="Service", PolicyName="Inline001")["PolicyDocument"]

    assert handed_over.admin("PUT", "/iam", again)[0] == 200
    assert iam.get_role_policy(RoleName="Service", PolicyName="Inline001")["PolicyDocument"] == before
    assert [role["RoleName"] for role in details["RoleDetailList"]] == ["Service", "Bare"]
    assert iam.get_account_authorization_details(Filter=["AWSManagedPolicy"])["RoleDetailList"] == []
    only = iam.get_account_authorization_details(Filter=["AWSManagedPolicy"])["Policies"]
    assert [one["Arn"] for one in only] == [MANAGED]
    handed_over.admin("PUT", "/iam", DETAILS)


@pytest.mark.parametrize(
    ("operation", "arguments", "says"),
    [
        pytest.param("get_role", {"RoleName": "No"}, "The role with name No cannot be found.", id="role"),
        pytest.param("list_role_policies", {"RoleName": "No"}, "The role with name No cannot", id="role-of-policies"),
        pytest.param(
            "get_role_policy",
            {"RoleName": "Bare", "PolicyName": "No"},
            "The role policy with name No cannot be found.",
            id="inline",
        ),
        pytest.param(
            "delete_role_policy",
            {"RoleName": "Bare", "PolicyName": "No"},
            "The role policy with name No cannot be found.",
            id="inline-to-delete",
        ),
        pytest.param(
            "put_role_policy",
            {"RoleName": "No", "PolicyName": "Put", "PolicyDocument": json.dumps(policy("kms:*"))},
            "The role with name No cannot",
            id="role-to-put-into",
        ),
        pytest.param("get_policy", {"PolicyArn": f"{BOUNDARY}x"}, f"Policy {BOUNDARY}x was not found.", id="managed"),
        pytest.param("get_policy_version", {"PolicyArn": BOUNDARY, "VersionId": "v1"}, "version v1", id="version"),
    ],
)
def test_what_does_not_exist(iam: Any, operation: str, arguments: dict[str, str], says: str) -> None:
    """NoSuchEntity, 404, in IAM's words."""
    status, code, message = refusal(getattr(iam, operation), **arguments)

    assert (status, code) == (404, "NoSuchEntity")
    assert says in message


@pytest.mark.parametrize(
    ("operation", "arguments", "code"),
    [
        pytest.param("get_role", {}, "ValidationError", id="no-name"),
        pytest.param("list_role_policies", {"RoleName": "Bare", "MaxItems": 0}, "ValidationError", id="page-of-none"),
        pytest.param("list_role_policies", {"RoleName": "Bare", "MaxItems": 1001}, "ValidationError", id="too-large"),
        pytest.param("list_role_policies", {"RoleName": "Bare", "Marker": "x"}, "ValidationError", id="marker"),
        pytest.param("delete_role", {"RoleName": "Bare"}, "InvalidAction", id="nothing-else-can-be-changed"),
        pytest.param("put_role_policy", put("Put", "{"), "MalformedPolicyDocument", id="not-json"),
        pytest.param("create_role", role("Made", "{"), "MalformedPolicyDocument", id="trust-not-json"),
        pytest.param(
            "create_role", role("Made", json.dumps(policy("kms:*"))), "MalformedPolicyDocument", id="no-trust"
        ),
        pytest.param(
            "create_policy", {"PolicyName": "x", "PolicyDocument": "{"}, "MalformedPolicyDocument", id="managed"
        ),
        pytest.param("create_role", role("a b", json.dumps(TRUST)), "ValidationError", id="role-name"),
        pytest.param("create_role", role("Made", json.dumps(TRUST), Path="/x/"), "ValidationError", id="path"),
        pytest.param("put_role_policy", put("Put", "7"), "MalformedPolicyDocument", id="no-policy"),
        pytest.param(
            "put_role_policy",
            put("Put", json.dumps({"Statement": [{"Effect": "Perhaps"}]})),
            "MalformedPolicyDocument",
            id="no-effect",
        ),
        pytest.param("put_role_policy", put("a b", json.dumps(policy("kms:*"))), "ValidationError", id="policy-name"),
    ],
)
def test_what_is_refused(iam: Any, operation: str, arguments: dict[str, Any], code: str) -> None:
    """Bad requests, and all that would change something else; nothing has changed."""
    status, found, _ = refusal(getattr(iam, operation), **arguments)

    assert (status, found) == (400, code)
    assert iam.list_role_policies(RoleName="Bare")["PolicyNames"] == []


def test_an_inline_policy_is_put_replaced_and_deleted(iam: Any, handed_over: Any) -> None:
    """A percent sign is not taken for an escape; whoever is handed the account's details gets it too."""
    reading = policy("kms:List*")
    reading["Statement"][0]["Sid"] = "100%25"
    iam.put_role_policy(RoleName="Bare", PolicyName="Put", PolicyDocument=json.dumps(policy("kms:Describe*")))
    iam.put_role_policy(RoleName="Bare", PolicyName="Put", PolicyDocument=json.dumps(reading))

    _, document = handed_over.admin("GET", "/iam")
    found = iam.get_role_policy(RoleName="Bare", PolicyName="Put")
    names = iam.list_role_policies(RoleName="Bare")["PolicyNames"]
    iam.delete_role_policy(RoleName="Bare", PolicyName="Put")

    assert found["PolicyDocument"] == reading
    assert names == ["Put"]
    assert document["RoleDetailList"][1]["RolePolicyList"] == [{"PolicyName": "Put", "PolicyDocument": reading}]
    assert iam.list_role_policies(RoleName="Bare")["PolicyNames"] == []


def test_a_role_is_made_and_trusts_others_later(iam: Any, handed_over: Any) -> None:
    """Once; whoever is handed the account's details gets it too, and it can be given policies."""
    trust = {**TRUST, "Statement": [{**TRUST["Statement"][0], "Principal": {"AWS": ACCOUNT}}]}
    _, before = handed_over.admin("GET", "/iam")
    made = iam.create_role(
        RoleName="Made", AssumeRolePolicyDocument=json.dumps(TRUST), PermissionsBoundary=BOUNDARY, Description="x"
    )["Role"]
    again = refusal(iam.create_role, RoleName="Made", AssumeRolePolicyDocument=json.dumps(TRUST))
    found = iam.get_role(RoleName="Made")["Role"]
    iam.update_assume_role_policy(RoleName="Made", PolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName="Made", PolicyName="Put", PolicyDocument=json.dumps(policy("kms:List*")))
    managed_now = iam.create_policy(PolicyName="Ceiling", PolicyDocument=json.dumps(policy("kms:Get*")))["Policy"]
    twice = refusal(iam.create_policy, PolicyName="Ceiling", PolicyDocument=json.dumps(policy("kms:Get*")))
    iam.put_role_permissions_boundary(RoleName="Made", PermissionsBoundary=managed_now["Arn"])
    bounded = iam.get_role(RoleName="Made")["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"]

    _, document = handed_over.admin("GET", "/iam")
    names = iam.list_role_policies(RoleName="Made")["PolicyNames"]
    files = (handed_over.directory / "credentials").read_text(encoding="utf-8")
    handed_over.admin("PUT", "/iam", before)
    assert (made["Arn"], made["AssumeRolePolicyDocument"]) == (f"arn:aws:iam::{ACCOUNT}:role/Made", TRUST)
    assert again[:2] == twice[:2] == (409, "EntityAlreadyExists")
    assert bounded == managed_now["Arn"] == f"arn:aws:iam::{ACCOUNT}:policy/Ceiling"
    assert document["Policies"][-1]["PolicyVersionList"][0]["Document"] == policy("kms:Get*")
    assert (found["RoleId"], found["PermissionsBoundary"]["PermissionsBoundaryArn"]) == (made["RoleId"], BOUNDARY)
    assert document["RoleDetailList"][-1]["AssumeRolePolicyDocument"] == trust
    assert names == ["Put"]
    assert "[Made]" in files  # as if a task ran under it


def test_it_is_signed_for_us_east_1(handed_over: Any) -> None:
    """As AWS's own end point demands; and by somebody who is known."""
    elsewhere = handed_over.client("iam", "eu-west-1", signed_for="eu-west-1")
    stranger = handed_over.client("iam", signed_for="us-east-1", aws_access_key_id="AKIAIOSFODNN7EXAMPLE")

    assert refusal(elsewhere.get_role, RoleName="Bare")[:2] == (403, "SignatureDoesNotMatch")
    assert refusal(stranger.get_role, RoleName="Bare")[:2] == (403, "InvalidClientTokenId")


def test_faults_hit_it_too(handed_over: Any) -> None:
    """By service, like any other."""
    iam = handed_over.client("iam", signed_for="us-east-1")
    status, answer = handed_over.admin(
        "POST", "/faults", {"service": "iam", "operation": "GetRole", "error_code": "Throttling", "times": 1}
    )

    assert status == 201, answer
    assert refusal(iam.get_role, RoleName="Bare")[1] == "Throttling"
    assert iam.get_role(RoleName="Bare")
