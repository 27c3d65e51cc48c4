"""Credentials per role, sessions, and policies that are enforced: over the wire, with boto3."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from kms_watchdog.estate.policies import Principals, key_policy

ACCOUNT = "123456789012"
TASKS = {"Service": "ecs-tasks.amazonaws.com"}
CANARY = {"canary": "true"}
CUSTOMER = {"tenant": "parker"}


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def role(name: str, *statements: dict[str, Any], trust: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a role as IAM's account details have it."""
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    trusting = {"Effect": "Allow", "Principal": trust or TASKS, "Action": "sts:AssumeRole"}
    return {
        "RoleName": name,
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trusting]},
        "RolePolicyList": [{"PolicyName": "Inline", "PolicyDocument": document}] if statements else [],
    }


def allow(*actions: str, resource: Any = "*", **condition: Any) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def error(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server that enforces policies, with the payment key, its replicas, and roles whose policies name it."""
    start = request.getfixturevalue("local_aws_starter")
    aws = start(
        tmp_path_factory.mktemp("iam") / "aws", "--enforce-policies", "--creating-seconds", "0", "--no-toxiproxy"
    )
    yield aws
    aws.close()


@pytest.fixture(scope="module")
def payment(enforcing: Any) -> str:
    """The payment key, under the product's own key policy, and the roles that work with it."""
    who = Principals(
        account_id=ACCOUNT,
        partition="aws",
        applications=["PaymentRole"],
        watchers=["WatchdogRole"],
        break_glass="BreakGlassRole",
    )
    regions = ["us-east-1", "us-west-2", "eu-west-1"]
    policy = json.dumps(key_policy(who, regions=regions, canary_context=("canary", "true")))
    east = enforcing.client("kms")
    key_id = str(east.create_key(MultiRegion=True, Policy=policy)["KeyMetadata"]["KeyId"])
    east.replicate_key(KeyId=key_id, ReplicaRegion="us-west-2", Policy=policy)
    keys = [f"arn:aws:kms:{region}:{ACCOUNT}:key/{key_id}" for region in regions]
    use = ("kms:GenerateDataKey", "kms:Decrypt")
    canary = {"StringEquals": {"kms:EncryptionContext:canary": "true"}}
    namespace = {"StringEquals": {"cloudwatch:namespace": "ParkerFlight/KMS"}}
    roles = [
        role("PaymentRole", allow(*use, resource=keys, Null={"kms:EncryptionContextKeys": "false"})),
        role(
            "WatchdogRole",
            allow(*use, resource=keys, **canary),
            allow("kms:DescribeKey", resource=keys),
            allow("cloudwatch:PutMetricData", **namespace),
        ),
        role("GreedyRole", allow("*")),
        role("BreakGlassRole", allow("kms:*")),
        role("NobodyRole"),
        role("ChainedRole", allow("kms:ListKeys"), trust={"AWS": role_arn("GreedyRole")}),
    ]
    status, answer = enforcing.admin("PUT", "/iam", {"RoleDetailList": roles})
    assert status == 200, answer
    return key_id


def as_role(aws: Any, name: str, service: str = "kms", region: str = "us-east-1") -> Any:
    return aws.client(service, region, **aws.endpoints["roles"][name])


def data_key(client: Any, key_id: str, context: dict[str, str] | None) -> Any:
    more = {"EncryptionContext": context} if context else {}
    return client.generate_data_key(KeyId=key_id, KeySpec="AES_256", **more)


# -- credentials --------------------------------------------------------------------------------------------------


def test_each_role_has_credentials_of_its_own(enforcing: Any, payment: str) -> None:
    """In endpoints.json and as profiles in the credentials file; STS tells them apart."""
    sts = as_role(enforcing, "PaymentRole", "sts")
    profiles = configparser.ConfigParser()
    profiles.read(enforcing.directory / "credentials")

    assert sts.get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/PaymentRole/kms-local"
    assert enforcing.client("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/kms-local"
    assert {"default", *enforcing.endpoints["roles"]} == set(profiles.sections())
    assert dict(profiles["PaymentRole"]) == enforcing.endpoints["roles"]["PaymentRole"]


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_roles_token_is_checked(enforcing: Any, payment: str, token: str | None) -> None:
    """Without its session token, or with another, a role's key is nobody's."""
    credentials = {**enforcing.endpoints["roles"]["PaymentRole"], "aws_session_token": token}
    client = enforcing.client("kms", **credentials)
    assert error(client.list_keys)[0] == "UnrecognizedClientException"


def test_a_role_that_trusts_the_caller_is_assumed(enforcing: Any, payment: str) -> None:
    """The session is the role: its policies, its name in the ARN, an end."""
    sts = as_role(enforcing, "GreedyRole", "sts")
    answer = sts.assume_role(RoleArn=role_arn("ChainedRole"), RoleSessionName="night", DurationSeconds=900)
    given = answer["Credentials"]
    chained = enforcing.client(
        "kms",
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )

    assert answer["AssumedRoleUser"]["Arn"].endswith(":assumed-role/ChainedRole/night")
    chained.list_keys()
    code, message = error(chained.list_aliases)
    assert code == "AccessDeniedException"
    assert "assumed-role/ChainedRole/night is not authorized to perform: kms:ListAliases on resource: *" in message


@pytest.mark.parametrize(
    ("who", "wanted", "more", "code"),
    [
        pytest.param("WatchdogRole", "ChainedRole", {}, "AccessDenied", id="not-trusted"),
        pytest.param("GreedyRole", "PaymentRole", {}, "AccessDenied", id="trusts-a-service-alone"),
        pytest.param("GreedyRole", "Unknown", {}, "AccessDenied", id="unknown"),
        pytest.param("GreedyRole", "ChainedRole", {"RoleSessionName": "a b"}, "ValidationError", id="session-name"),
        pytest.param("GreedyRole", "ChainedRole", {"DurationSeconds": 60}, "ValidationError", id="too-short"),
    ],
)
def test_assuming_is_refused(
    enforcing: Any, payment: str, who: str, wanted: str, more: dict[str, Any], code: str
) -> None:
    """The trust policy decides, and an unknown role is denied in the same words."""
    sts = as_role(enforcing, who, "sts")
    asked = {"RoleArn": role_arn(wanted), "RoleSessionName": "night", **more}
    assert error(lambda: sts.assume_role(**asked))[0] == code


# -- key policies and IAM policies --------------------------------------------------------------------------------


def test_the_application_uses_its_key_with_a_context(enforcing: Any, payment: str) -> None:
    """In both regions, and never without a context."""
    east, west = (as_role(enforcing, "PaymentRole", region=region) for region in ("us-east-1", "us-west-2"))
    sealed = data_key(east, payment, CUSTOMER)

    assert west.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=CUSTOMER)
    assert error(lambda: data_key(east, payment, None))[0] == "AccessDeniedException"


def test_the_watchdog_sees_canaries_alone(enforcing: Any, payment: str) -> None:
    """It opens what it sealed, and can neither seal nor open customers' data."""
    watchdog, application = as_role(enforcing, "WatchdogRole"), as_role(enforcing, "PaymentRole")
    sealed = data_key(watchdog, payment, CANARY)
    customers = data_key(application, payment, CUSTOMER)["CiphertextBlob"]

    assert watchdog.decrypt(KeyId=payment, CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=CANARY)
    assert watchdog.describe_key(KeyId=payment)
    for refused in (
        lambda: watchdog.decrypt(CiphertextBlob=customers, EncryptionContext=CUSTOMER),
        lambda: data_key(watchdog, payment, CUSTOMER),
        lambda: watchdog.get_key_policy(KeyId=payment),
    ):
        assert error(refused)[0] == "AccessDeniedException"


def test_a_deny_in_the_key_policy_beats_every_allow(enforcing: Any, payment: str) -> None:
    """A role that may do everything still cannot use the payment key, and is told which policy says so."""
    greedy = as_role(enforcing, "GreedyRole")
    code, message = error(lambda: data_key(greedy, payment, CUSTOMER))

    assert code == "AccessDeniedException"
    assert message.endswith("with an explicit deny in a resource-based policy")
    assert greedy.describe_key(KeyId=payment)
    assert error(lambda: greedy.disable_key(KeyId=payment))[0] == "AccessDeniedException"


def test_break_glass_destroys_and_the_administrator_does_not(enforcing: Any, payment: str) -> None:
    """Not even the administrator disables the key."""
    assert error(lambda: enforcing.client("kms").disable_key(KeyId=payment))[0] == "AccessDeniedException"
    glass = as_role(enforcing, "BreakGlassRole")
    glass.disable_key(KeyId=payment)
    glass.enable_key(KeyId=payment)


def test_a_key_elsewhere_is_denied_to_whom_may_not_ask(enforcing: Any, payment: str) -> None:
    """A key that does not exist here is 'denied' to a stranger, and 'not found' for whoever may look."""
    nobody, greedy = (as_role(enforcing, name, region="eu-west-1") for name in ("NobodyRole", "GreedyRole"))

    assert error(lambda: nobody.describe_key(KeyId=payment))[0] == "AccessDeniedException"
    assert error(lambda: greedy.describe_key(KeyId=payment))[0] == "NotFoundException"


def test_aliases_need_both_permissions(enforcing: Any, payment: str) -> None:
    """On the alias and on the key: one alone is not enough, and an alias as Resource authorises no use of a key."""
    key = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/{payment}"
    aliases = f"arn:aws:kms:*:{ACCOUNT}:alias/parker-flight-*"
    more = [
        role("OnAlias", allow("kms:CreateAlias", "kms:Decrypt", "kms:DescribeKey", resource=aliases)),
        role("OnKey", allow("kms:CreateAlias", resource=key)),
        role("OnBoth", allow("kms:CreateAlias", "kms:DeleteAlias", resource=[key, aliases])),
    ]
    before = list(enforcing.endpoints["roles"])
    with roles_added(enforcing, more):
        asked = {"AliasName": "alias/parker-flight-payment", "TargetKeyId": payment}
        for name in ("OnAlias", "OnKey"):
            assert error(lambda name=name: as_role(enforcing, name).create_alias(**asked))[0] == "AccessDeniedException"
        both = as_role(enforcing, "OnBoth")
        both.create_alias(**asked)
        looking = as_role(enforcing, "OnAlias")
        assert error(lambda: looking.describe_key(KeyId=asked["AliasName"]))[0] == "AccessDeniedException"
        assert error(lambda: both.create_alias(**{**asked, "AliasName": "alias/x"}))[0] == "AccessDeniedException"
        both.delete_alias(AliasName=asked["AliasName"])
    assert list(enforcing.endpoints["roles"]) == before


def roles_added(aws: Any, roles: list[dict[str, Any]]) -> Any:
    """Return a context in which these roles stand in place of the others."""
    return _Roles(aws, roles)


class _Roles:
    def __init__(self, aws: Any, roles: list[dict[str, Any]]) -> None:
        self.aws, self.roles = aws, roles

    def __enter__(self) -> None:
        self.before = self.aws.admin("GET", "/iam")[1]
        kept = self.before["RoleDetailList"]
        assert self.aws.admin("PUT", "/iam", {"RoleDetailList": [*kept, *self.roles]})[0] == 200

    def __exit__(self, *_: object) -> None:
        assert self.aws.admin("PUT", "/iam", self.before)[0] == 200


def test_a_replica_needs_create_key_in_its_region(enforcing: Any, payment: str) -> None:
    """`kms:CreateKey`, bound to replicas of certain regions, is asked for besides `kms:ReplicateKey`."""
    create = allow(
        "kms:CreateKey",
        StringEquals={"kms:MultiRegionKeyType": "REPLICA", "aws:RequestedRegion": ["us-west-2"]},
    )
    replicate = allow("kms:ReplicateKey")
    with roles_added(enforcing, [role("Half", replicate), role("Whole", replicate, create)]):
        key_id = enforcing.client("kms").create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
        half, whole = as_role(enforcing, "Half"), as_role(enforcing, "Whole")
        asked = {"KeyId": key_id, "ReplicaRegion": "us-west-2"}
        assert "kms:CreateKey" in error(lambda: half.replicate_key(**asked))[1]
        whole.replicate_key(**asked)
        assert error(lambda: whole.replicate_key(KeyId=key_id, ReplicaRegion="eu-west-1"))[0] == "AccessDeniedException"


def test_metrics_go_into_the_allowed_namespace_alone(enforcing: Any, payment: str) -> None:
    """`cloudwatch:namespace` is a condition key; other operations are denied."""
    watchdog = as_role(enforcing, "WatchdogRole", "cloudwatch")
    datum = [{"MetricName": "CanarySuccess", "Value": 1.0}]

    watchdog.put_metric_data(Namespace="ParkerFlight/KMS", MetricData=datum)
    assert error(lambda: watchdog.put_metric_data(Namespace="Other", MetricData=datum))[0] == "AccessDenied"
    assert error(watchdog.describe_alarms)[0] == "AccessDenied"


def test_topics_are_denied_too(enforcing: Any, payment: str) -> None:
    """SNS asks the caller's policies."""
    arn = enforcing.client("sns").create_topic(Name="alerts")["TopicArn"]
    asked = {"TopicArn": arn, "Message": "x"}

    assert error(lambda: as_role(enforcing, "NobodyRole", "sns").publish(**asked))[0] == "AuthorizationError"
    with roles_added(enforcing, [role("Teller", allow("sns:Publish", resource=arn))]):
        as_role(enforcing, "Teller", "sns").publish(**asked)


def test_without_the_flag_policies_only_lie_there(local_aws: Any) -> None:
    """Identities are told apart, and nobody is refused anything."""
    assert local_aws.admin("PUT", "/iam", {"RoleDetailList": [role("Nobody")]})[0] == 200
    client = local_aws.client("kms", **local_aws.endpoints["roles"]["Nobody"])
    client.list_keys()
    assert local_aws.admin("PUT", "/iam", {"RoleDetailList": []})[0] == 200
    assert "roles" not in local_aws.endpoints
    assert error(client.list_keys)[0] == "UnrecognizedClientException"


# -- the lockout check --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["create", "put", "replicate"])
def test_a_policy_that_locks_its_author_out_is_refused(local_aws: Any, operation: str) -> None:
    """As KMS does, unless the caller insists."""
    east = local_aws.client("kms")
    statement = {"Effect": "Allow", "Principal": {"AWS": role_arn("Other")}, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    key_id = east.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    calls: dict[str, Callable[..., object]] = {
        "create": lambda **more: east.create_key(Policy=policy, **more),
        "put": lambda **more: east.put_key_policy(KeyId=key_id, PolicyName="default", Policy=policy, **more),
        "replicate": lambda **more: east.replicate_key(KeyId=key_id, ReplicaRegion="us-west-2", Policy=policy, **more),
    }

    code, message = error(calls[operation])
    assert code == "MalformedPolicyDocumentException"
    assert message == "The new key policy will not allow you to update the key policy in the future."
    calls[operation](BypassPolicyLockoutSafetyCheck=True)


def test_a_policy_may_name_its_own_key(local_aws: Any) -> None:
    """`Resource` with the key's ARN in place of `*` locks nobody out."""
    east = local_aws.client("kms")
    made = east.create_key(MultiRegion=True)["KeyMetadata"]
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "kms:*",
        "Resource": made["Arn"],
        "Condition": {"Bool": {"kms:MultiRegion": "true"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    east.put_key_policy(KeyId=made["KeyId"], PolicyName="default", Policy=json.dumps(policy))
    statement["Resource"] = made["Arn"].replace("us-east-1", "us-west-2")
    east.replicate_key(KeyId=made["KeyId"], ReplicaRegion="us-west-2", Policy=json.dumps(policy))


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param({"Effect": [], "Principal": "*", "Action": "kms:*", "Resource": "*"}, id="effect"),
        pytest.param({"Effect": "Allow", "Principal": "*", "Action": None, "Resource": "*"}, id="action"),
    ],
)
def test_a_malformed_policy_is_no_failure_of_the_server(local_aws: Any, statement: dict[str, Any]) -> None:
    """It is refused with KMS's own code."""
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    code, _ = error(lambda: local_aws.client("kms").create_key(Policy=policy))
    assert code == "MalformedPolicyDocumentException"


# -- what decides, and what must not ------------------------------------------------------------------------------


def test_tags_of_a_replica_need_their_permission(enforcing: Any, payment: str) -> None:
    """As those of a new key do."""
    key_id = enforcing.client("kms").create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    asked = {"KeyId": key_id, "ReplicaRegion": "eu-west-1", "Tags": [{"TagKey": "a", "TagValue": "b"}]}
    may = allow("kms:ReplicateKey", "kms:CreateKey")
    with roles_added(enforcing, [role("Bare", may), role("Tagger", may, allow("kms:TagResource"))]):
        assert "kms:TagResource" in error(lambda: as_role(enforcing, "Bare").replicate_key(**asked))[1]
        as_role(enforcing, "Tagger").replicate_key(**asked)


def test_re_encrypt_asks_for_the_alias_of_its_source(enforcing: Any, payment: str) -> None:
    """And a member that the operation does not have decides nothing."""
    admin = enforcing.client("kms")
    key_id = admin.create_key()["KeyMetadata"]["KeyId"]
    admin.create_alias(AliasName="alias/source", TargetKeyId=key_id)
    blob = admin.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    by_alias = allow("kms:ReEncryptFrom", StringEquals={"kms:RequestAlias": "alias/source"})
    with roles_added(enforcing, [role("Mover", by_alias, allow("kms:ReEncryptTo"))]):
        mover = as_role(enforcing, "Mover")
        asked = {"CiphertextBlob": blob, "DestinationKeyId": key_id}
        mover.re_encrypt(**asked, SourceKeyId="alias/source")

        def forge(params: dict[str, Any], **_: Any) -> None:
            params["body"] = json.dumps({**json.loads(params["body"]), "KeyId": "alias/source"}).encode()

        mover.meta.events.register("before-call.kms.ReEncrypt", forge)
        assert error(lambda: mover.re_encrypt(**asked))[0] == "AccessDeniedException"


def test_a_stray_field_names_no_other_topic(enforcing: Any, payment: str) -> None:
    """Policies are asked about the topic that is published to."""
    sns = enforcing.client("sns")
    mine, other = (sns.create_topic(Name=name)["TopicArn"] for name in ("mine", "other"))
    with roles_added(enforcing, [role("Narrow", allow("sns:Publish", resource=mine))]):
        narrow = as_role(enforcing, "Narrow", "sns")

        def forge(params: dict[str, Any], **_: Any) -> None:
            params["body"]["SubscriptionArn"] = f"{mine}:0"

        narrow.meta.events.register("before-call.sns.Publish", forge)
        assert error(lambda: narrow.publish(TopicArn=other, Message="x"))[0] == "AuthorizationError"
        narrow.publish(TopicArn=mine, Message="x")


def test_a_trust_may_ask_for_an_external_id(enforcing: Any, payment: str) -> None:
    """`sts:ExternalId` is a condition key; session policies are refused, not dropped."""
    trusting = role("Guarded", allow("kms:ListKeys"), trust={"AWS": role_arn("GreedyRole")})
    statement = trusting["AssumeRolePolicyDocument"]["Statement"][0]
    statement["Condition"] = {"StringEquals": {"sts:ExternalId": "secret"}}
    with roles_added(enforcing, [trusting]):
        sts = as_role(enforcing, "GreedyRole", "sts")
        asked = {"RoleArn": role_arn("Guarded"), "RoleSessionName": "night"}
        assert error(lambda: sts.assume_role(**asked))[0] == "AccessDenied"
        assert error(lambda: sts.assume_role(**asked, ExternalId="secret", Policy="{}"))[0] == "ValidationError"
        sts.assume_role(**asked, ExternalId="secret")


# -- handing roles over -------------------------------------------------------------------------------------------


def managed(arn: str, *statements: dict[str, Any]) -> dict[str, Any]:
    document = quote(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))  # as the API encodes it
    return {"Arn": arn, "PolicyVersionList": [{"IsDefaultVersion": True, "Document": document}]}


def test_a_policy_that_is_put_counts_at_once(enforcing: Any, payment: str) -> None:
    """For credentials that are in use; who has no right to it puts none."""
    lister = as_role(enforcing, "NobodyRole")
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("kms:ListKeys")]})
    put = {"RoleName": "NobodyRole", "PolicyName": "List", "PolicyDocument": document}
    before = error(lister.list_keys)[0]
    refused = error(lambda: as_role(enforcing, "NobodyRole", "iam").put_role_policy(**put))[0]
    administrator = enforcing.client("iam")

    administrator.put_role_policy(**put)
    lister.list_keys()
    administrator.delete_role_policy(RoleName="NobodyRole", PolicyName="List")

    assert (before, refused) == ("AccessDeniedException", "AccessDenied")
    assert error(lister.list_keys)[0] == "AccessDeniedException"


def test_an_accounts_own_details_are_taken(starts_local_aws: Callable[..., Any], tmp_path: Path) -> None:
    """Managed policies, boundaries and percent-encoded documents, from a file at the start."""
    wide, narrow = f"arn:aws:iam::{ACCOUNT}:policy/Wide", f"arn:aws:iam::{ACCOUNT}:policy/Narrow"
    bounded = role("Bounded")
    bounded["AttachedManagedPolicies"] = [{"PolicyName": "Wide", "PolicyArn": wide}]
    bounded["PermissionsBoundary"] = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": narrow}
    details = {
        "UserDetailList": [],
        "RoleDetailList": [bounded],
        "Policies": [managed(wide, allow("kms:*")), managed(narrow, allow("kms:ListKeys"))],
    }
    file = tmp_path / "details.json"
    file.write_text(json.dumps(details))

    aws = starts_local_aws("--iam", str(file), "--enforce-policies", "--no-toxiproxy", "--regions", "us-east-1")
    client = as_role(aws, "Bounded")

    client.list_keys()
    code, message = error(client.list_aliases)
    assert code == "AccessDeniedException"
    assert "no permissions boundary" in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "cannot read", id="missing"),
        pytest.param("{", "Expecting", id="broken"),
        pytest.param("[]", "RoleDetailList", id="a-list"),
        pytest.param('{"RoleDetailList": [{"RoleName": "a b"}]}', "name of a role", id="name"),
        pytest.param('{"RoleDetailList": [{"RoleName": "A", "RolePolicyList": 7}]}', "RolePolicyList", id="list"),
        pytest.param('{"RoleDetailList": [{"RoleName": "A", "RolePolicyList": [{}]}]}', "role A", id="document"),
        pytest.param(
            '{"RoleDetailList": [{"RoleName": "A", "AttachedManagedPolicies": [{"PolicyArn": "x"}]}]}',
            "x is not among Policies",
            id="unknown-policy",
        ),
        pytest.param('{"RoleDetailList": [], "Policies": [{}]}', "PolicyVersionList", id="no-version"),
        pytest.param('{"RoleDetailList": [{"RoleName": "A", "Path": "/x/"}]}', "paths", id="path"),
        pytest.param('{"RoleDetailList": [{"RoleName": "A", "Tags": [{}]}]}', "tags", id="tags"),
        pytest.param('{"RoleDetailList": [{"RoleName": "default"}]}', "name of a role", id="the-administrators-name"),
    ],
)
def test_bad_roles_are_one_line(tmp_path: Path, content: str | None, says: str) -> None:
    """The command ends with 2 and says what is wrong, and leaves nothing."""
    file, directory = tmp_path / "details.json", tmp_path / "aws"
    if content is not None:
        file.write_text(content)
    command = [sys.executable, "-m", "kms_local", "serve", "--dir", str(directory), "--iam", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not directory.exists()


def test_advertised_names_are_in_the_certificates(starts_local_aws: Callable[..., Any]) -> None:
    """A container reached by another name is still who it says."""
    aws = starts_local_aws("--advertise", "aws.internal", "--advertise", "127.0.0.2", "--no-toxiproxy")
    for name in ("aws.internal", "127.0.0.2"):
        assert aws.certificate_is_good_for(name)
    assert not aws.certificate_is_good_for("other.internal")


# -- grants -------------------------------------------------------------------------------------------------------


@pytest.fixture
def lent(enforcing: Any, payment: str) -> Iterator[str]:
    """A key whose policy lets IAM policies decide, and a grant on it for a role without any."""
    key_id = enforcing.client("kms").create_key()["KeyMetadata"]["KeyId"]
    with roles_added(enforcing, [role("Borrower"), role("Keeper")]):
        yield str(key_id)


def lend(aws: Any, key_id: str, *operations: str, **more: Any) -> str:
    asked = {"KeyId": key_id, "GranteePrincipal": role_arn("Borrower"), "Operations": list(operations), **more}
    return str(aws.client("kms").create_grant(**asked)["GrantId"])


def test_a_grant_gives_what_no_policy_gives(enforcing: Any, lent: str) -> None:
    """Its operations, under its constraints, until it is revoked."""
    borrower = as_role(enforcing, "Borrower")
    assert error(lambda: data_key(borrower, lent, CANARY))[0] == "AccessDeniedException"
    constraints = {"EncryptionContextSubset": CANARY}
    grant = lend(enforcing, lent, "GenerateDataKey", "Decrypt", Constraints=constraints)

    blob = data_key(borrower, lent, {**CANARY, "more": "x"})["CiphertextBlob"]
    assert borrower.decrypt(CiphertextBlob=blob, EncryptionContext={**CANARY, "more": "x"})
    for refused in (
        lambda: data_key(borrower, lent, CUSTOMER),
        lambda: borrower.describe_key(KeyId=lent),
        lambda: data_key(as_role(enforcing, "Keeper"), lent, CANARY),
    ):
        assert error(refused)[0] == "AccessDeniedException"
    enforcing.client("kms").revoke_grant(KeyId=lent, GrantId=grant)
    assert error(lambda: data_key(borrower, lent, CANARY))[0] == "AccessDeniedException"


def test_who_may_retire_a_grant(enforcing: Any, lent: str) -> None:
    """The principal named for it, and a grantee to whom it was given; nobody else."""
    named = lend(enforcing, lent, "Decrypt", RetiringPrincipal=role_arn("Keeper"))
    given = lend(enforcing, lent, "Decrypt", "RetireGrant")
    borrower, keeper = as_role(enforcing, "Borrower"), as_role(enforcing, "Keeper")

    assert error(lambda: borrower.retire_grant(KeyId=lent, GrantId=named))[0] == "AccessDeniedException"
    assert error(lambda: keeper.retire_grant(KeyId=lent, GrantId=given))[0] == "AccessDeniedException"
    keeper.retire_grant(KeyId=lent, GrantId=named)
    borrower.retire_grant(KeyId=lent, GrantId=given)
    assert enforcing.client("kms").list_grants(KeyId=lent)["Grants"] == []


def test_a_grantee_passes_on_no_more_than_it_has(enforcing: Any, lent: str) -> None:
    """CreateGrant by grant: the same operations at most, and constraints as strict."""
    lend(enforcing, lent, "CreateGrant", "Decrypt", Constraints={"EncryptionContextEquals": CANARY})
    borrower = as_role(enforcing, "Borrower")
    asked = {"KeyId": lent, "GranteePrincipal": role_arn("Keeper")}

    for more in (
        {"Operations": ["Decrypt", "Encrypt"], "Constraints": {"EncryptionContextEquals": CANARY}},
        {"Operations": ["Decrypt"]},
    ):
        assert error(lambda more=more: borrower.create_grant(**asked, **more))[0] == "AccessDeniedException"
    borrower.create_grant(**asked, Operations=["Decrypt"], Constraints={"EncryptionContextEquals": CANARY})


def test_a_deny_beats_a_grant(enforcing: Any, payment: str) -> None:
    """The payment key lets nobody make one, and would not honour it."""
    refused = error(lambda: lend(enforcing, payment, "Decrypt"))
    assert refused[0] == "AccessDeniedException"
    assert "explicit deny" in refused[1]
