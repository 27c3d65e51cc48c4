"""`kms-watchdog iam render`: every role by name, before and after there are keys, and the ceilings that hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_kit import LocalCloud

from kms_watchdog.cli import command
from kms_watchdog.config import Settings, load
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.policy import Outcome, Policy, Request, evaluate, parse_policy
from kms_watchdog.estate.role_policies import Rendering
from kms_watchdog.iam.estate_roles import account_details, estate_roles

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "daemon" / "watchdog.example.toml"
RENDERED = ROOT / "deploy" / "iam"
KEY_IDS = {"general": "mrk-" + "a" * 32, "pii": "mrk-" + "b" * 32, "payment": "mrk-" + "c" * 32}
KEYS = [part for purpose, key_id in KEY_IDS.items() for part in ("--key", f"{purpose}={key_id}")]
POLICIES = {
    "ParkerFlightServiceRole": "ParkerFlightKMSPolicy",
    "ParkerFlightPaymentRole": "PaymentKMSPolicy",
    "ecsTaskExecutionRole": "KmsWatchdogEstate",
    "KmsWatchdogRole": "KmsWatchdogEstate",
    "KmsDrillRole": "KmsWatchdogEstate",
    "KmsAuditRole": "KmsWatchdogEstate",
    "KmsProvisioningRole": "KmsWatchdogEstate",
    "KmsIamAdminRole": "KmsWatchdogEstate",
    "KmsBreakGlassRole": "KmsWatchdogEstate",
}
INLINE_LIMIT, MANAGED_LIMIT, TRUST_LIMIT = 10_240, 6_144, 2_048
"""Characters without white space. Source: AWS IAM User Guide, "IAM and AWS STS quotas"."""


def render(*arguments: str, config: Path = EXAMPLE) -> Result:
    return CliRunner().invoke(command, ["iam", "render", *arguments, "--config", str(config)])


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(EXAMPLE)


@pytest.fixture(scope="module")
def details(settings: Settings) -> dict[str, Any]:
    return account_details(Rendering(settings=settings, key_ids=KEY_IDS))


def role_of(details: Mapping[str, Any], name: str) -> Any:
    return next(one for one in details["RoleDetailList"] if one["RoleName"] == name)


def test_the_committed_policies_are_those_of_the_example(tmp_path: Path) -> None:
    """`deploy/iam` is what the command writes today: with other files, or another word in one, this fails."""
    written = render(*KEYS, "--into", str(tmp_path))

    found = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert (written.exit_code, written.stderr) == (0, "")
    assert found == {path.name: path.read_text(encoding="utf-8") for path in RENDERED.glob("*.json")}
    assert found.keys() == {
        *(f"{role}.{policy}.json" for role, policy in POLICIES.items()),
        *(f"{role}.trust.json" for role in POLICIES),
        *(f"key-{purpose}.json" for purpose in KEY_IDS),
        "KmsEstateBoundary.boundary.json",
        "KmsIamAdminBoundary.boundary.json",
    }


def test_every_role_is_rendered_by_name(details: dict[str, Any]) -> None:
    """With the guide's names for the guide's policies, in the form that AWS itself prints."""
    assert {
        role["RoleName"]: [policy["PolicyName"] for policy in role["RolePolicyList"]]
        for role in details["RoleDetailList"]
    } == {role: [policy] for role, policy in POLICIES.items()}
    assert {policy["Arn"] for policy in details["Policies"]} == {
        "arn:aws:iam::123456789012:policy/KmsEstateBoundary",
        "arn:aws:iam::123456789012:policy/KmsIamAdminBoundary",
    }
    bounded = {role["RoleName"] for role in details["RoleDetailList"] if "PermissionsBoundary" in role}
    assert bounded == {"KmsWatchdogRole", "KmsDrillRole", "KmsAuditRole", "KmsProvisioningRole", "KmsIamAdminRole"}


EVERYTHING = """
[drills.lease]
table = "kms-drills"
region = "us-west-2"
[drills.evidence]
store = "s3://evidence/kms"
signing = { kind = "kms", key_id = "alias/evidence", regions = ["us-east-1", "us-west-2"] }
[cloudwatch.proof.slot]
day = 5
at = "10:00"
[overrides]
ssm_parameter = "/parker-flight/kms/overrides"
"""
ALL_KEYS = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[keys.general]
alias = "alias/parker-flight-general-production"
used_by = ["ParkerFlightServiceRole"]
[keys.pii]
alias = "alias/parker-flight-pii-production"
used_by = ["ParkerFlightServiceRole"]
[keys.payment]
alias = "alias/parker-flight-payment-production"
used_by = ["ParkerFlightPaymentRole"]
[state]
dir = "state"
"""


def test_iam_takes_them_and_the_evaluator_too(write_config: Callable[..., Path]) -> None:
    """Within IAM's limits on size, also where lease, evidence, proofs and overrides are all configured."""
    settings = load(write_config(EVERYTHING, base=ALL_KEYS))

    found = account_details(Rendering(settings=settings, key_ids=KEY_IDS))

    for role in found["RoleDetailList"]:
        trust = role["AssumeRolePolicyDocument"]
        parse_policy(trust, of_resource=True)
        assert size(trust) < TRUST_LIMIT
        for policy in role["RolePolicyList"]:
            parse_policy(policy["PolicyDocument"])
            assert size(policy["PolicyDocument"]) < INLINE_LIMIT, role["RoleName"]
    for managed in found["Policies"]:
        [version] = managed["PolicyVersionList"]
        parse_policy(version["Document"])
        assert size(version["Document"]) < MANAGED_LIMIT, managed["PolicyName"]


def size(document: Any) -> int:
    return len("".join(json.dumps(document).split()))


def test_no_policy_has_a_wildcard_where_it_lets_somebody_use_a_key(details: dict[str, Any]) -> None:
    """Use is allowed by the keys' own ARNs and under a context; nobody else's policy allows it at all."""
    using = {}
    for role in details["RoleDetailList"]:
        for policy in role["RolePolicyList"]:
            for one in policy["PolicyDocument"]["Statement"]:
                if {"kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt"} & set(one["Action"]):
                    using[role["RoleName"]] = one
                assert not [action for action in one["Action"] if "*" in action]

    assert using.keys() == {"ParkerFlightServiceRole", "ParkerFlightPaymentRole", "KmsWatchdogRole", "KmsDrillRole"}
    for one in using.values():
        assert all("*" not in arn for arn in one["Resource"])
        assert "kms:EncryptionContext" in json.dumps(one["Condition"])


def test_evidence_is_signed_and_kept_where_it_is_configured(write_config: Callable[..., Path]) -> None:
    """A key named by its alias is allowed by a condition on the alias: its ARN as resource would allow nothing."""
    settings = load(write_config(EVERYTHING, base=ALL_KEYS))

    found = account_details(Rendering(settings=settings, key_ids=KEY_IDS))

    drills = {
        one["Sid"]: one for one in role_of(found, "KmsDrillRole")["RolePolicyList"][0]["PolicyDocument"]["Statement"]
    }
    assert drills["SignEvidence"]["Condition"] == {
        "ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/evidence"}
    }
    assert drills["SignEvidence"]["Action"] == ["kms:Sign", "kms:GetPublicKey", "kms:Verify"]
    assert drills["KeepEvidence"]["Resource"] == "arn:aws:s3:::evidence/kms/*"
    assert not [action for one in drills.values() for action in one["Action"] if "Delete" in action]
    watches = role_of(found, "KmsWatchdogRole")["RolePolicyList"][0]["PolicyDocument"]["Statement"]
    assert {one["Sid"]: (one["Action"], one["Resource"]) for one in watches if "Evidence" in one["Sid"]} == {
        "ReadEvidence": (["s3:GetObjectVersion"], "arn:aws:s3:::evidence/kms/*"),
        "ListEvidence": (["s3:ListBucketVersions"], "arn:aws:s3:::evidence"),
    }


@pytest.mark.parametrize(
    ("key_id", "resource"),
    [
        pytest.param("mrk-" + "d" * 32, f"arn:aws:kms:us-west-2:123456789012:key/mrk-{'d' * 32}", id="id"),
        pytest.param(
            f"arn:aws:kms:us-east-1:210987654321:key/mrk-{'d' * 32}",
            f"arn:aws:kms:us-west-2:210987654321:key/mrk-{'d' * 32}",
            id="arn-of-another-account",
        ),
    ],
)
def test_the_key_that_signs_is_named_in_its_region(
    write_config: Callable[..., Path], key_id: str, resource: str
) -> None:
    """Whatever region its configured ARN is of; an HMAC key makes MACs."""
    signing = f'{{ kind = "kms", key_id = "{key_id}", regions = ["us-west-2"], algorithm = "HMAC_SHA_256" }}'
    settings = load(write_config(f"[drills.evidence]\nsigning = {signing}\n", base=ALL_KEYS))

    found = account_details(Rendering(settings=settings, key_ids=KEY_IDS))

    [sign] = [
        one
        for one in role_of(found, "KmsDrillRole")["RolePolicyList"][0]["PolicyDocument"]["Statement"]
        if one["Sid"] == "SignEvidence"
    ]
    assert (sign["Resource"], sign["Action"]) == ([resource], ["kms:GenerateMac", "kms:VerifyMac"])


# -- the command --------------------------------------------------------------------------------------------------


def test_one_role_is_printed_and_nobody_is_asked() -> None:
    """A role whose policy names no key needs neither keys nor credentials."""
    printed = render("--role", "KmsProvisioningRole", "--role", "KmsAuditRole")

    assert (printed.exit_code, printed.stderr) == (0, "")
    assert {role["RoleName"] for role in json.loads(printed.stdout)["RoleDetailList"]} == {
        "KmsProvisioningRole",
        "KmsAuditRole",
    }


@pytest.mark.slow
def test_before_there_are_keys_the_other_roles_are_written(cloud_here: LocalCloud, tmp_path: Path) -> None:
    """What is left out is told, with the purpose that is missing: 1. With the keys, all is there: 0."""
    config = cloud_here.config(tmp_path, prefix="iam-render")

    early = render("--into", str(tmp_path / "early"), config=config)
    CliRunner().invoke(command, ["provision", "apply", "--yes", "--steps", "keys,aliases", "--config", str(config)])
    late = render("--into", str(tmp_path / "late"), config=config)

    written = {path.name for path in (tmp_path / "early").iterdir()}
    assert early.exit_code == 1
    assert early.stderr.splitlines() == [
        f"left out: {role}: its policy names the keys of general, payment, pii, which are not there"
        for role in ("ServiceRole", "KmsWatchdogRole", "KmsDrillRole", "KmsBreakGlassRole")
    ]
    assert {"KmsAuditRole.trust.json", "KmsIamAdminBoundary.boundary.json", "key-payment.json"} <= written
    assert not [name for name in written if name.startswith(("ServiceRole", "KmsWatchdogRole"))]
    assert (late.exit_code, late.stderr) == (0, "")
    assert "key/mrk-" in (tmp_path / "late" / "ServiceRole.KmsWatchdogEstate.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "late" / "key-pii.json").read_text()) == desired_keys(load(config))[1].policy


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--role", "KmsAuditRol"], "no such role; did you mean KmsAuditRole?", id="role"),
        pytest.param(["--key", "pi=mrk-" + "a" * 32], "no such purpose; did you mean pii?", id="purpose"),
        pytest.param(["--key", "pii=1234"], "is not PURPOSE=mrk- and 32 hex digits", id="key-id"),
        pytest.param(["--key", "pii=mrk-" + "G" * 32], "is not PURPOSE=mrk- and 32 hex digits", id="not-hex"),
    ],
)
def test_what_is_asked_wrongly_is_told(arguments: list[str], says: str) -> None:
    """Before anybody is asked: 2."""
    told = render(*arguments)

    assert (told.exit_code, told.stdout) == (2, "")
    assert says in told.stderr


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """In one line, with the path: 2."""
    (tmp_path / "file").write_text("")

    told = render(*KEYS, "--into", str(tmp_path / "file" / "iam"))

    assert told.exit_code == 2
    assert (told.stderr.count("\n"), "cannot be written" in told.stderr) == (1, True)


# -- who may take a role on ---------------------------------------------------------------------------------------

ACCOUNT = "arn:aws:iam::123456789012"
MFA = {"aws:MultiFactorAuthPresent": "true", "aws:MultiFactorAuthAge": "60"}


@pytest.mark.parametrize(
    ("role", "principal", "context", "outcome"),
    [
        pytest.param("KmsAuditRole", "user/ann", {}, Outcome.ALLOWED, id="person-audits"),
        pytest.param("KmsAuditRole", "role/KmsWatchdogRole", MFA, Outcome.NOT_ALLOWED_BY_RESOURCE, id="task-audits"),
        pytest.param(
            "KmsProvisioningRole",
            "role/ParkerFlightServiceRole",
            MFA,
            Outcome.NOT_ALLOWED_BY_RESOURCE,
            id="application-provisions",
        ),
        pytest.param("KmsBreakGlassRole", "user/ann", MFA, Outcome.ALLOWED, id="person-breaks-glass"),
        pytest.param("KmsBreakGlassRole", "user/ann", {}, Outcome.NOT_ALLOWED_BY_RESOURCE, id="one-factor-is-too-few"),
        pytest.param(
            "KmsIamAdminRole",
            "user/ann",
            {**MFA, "aws:MultiFactorAuthAge": "7200"},
            Outcome.NOT_ALLOWED_BY_RESOURCE,
            id="two-hours-ago-is-too-long",
        ),
        pytest.param("ParkerFlightPaymentRole", "user/ann", MFA, Outcome.NOT_ALLOWED_BY_RESOURCE, id="person-pays"),
    ],
)
def test_people_take_on_peoples_roles_and_tasks_do_not(
    details: dict[str, Any], role: str, principal: str, context: dict[str, str], outcome: Outcome
) -> None:
    """Even where the caller's own policies allow to take on anything."""
    trust = parse_policy(role_of(details, role)["AssumeRolePolicyDocument"], of_resource=True)
    anything = parse_policy({"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}})
    request = Request(
        action="sts:AssumeRole",
        resource=f"{ACCOUNT}:role/{role}",
        principal=f"{ACCOUNT}:{principal}",
        context=context,
    )

    assert evaluate(request, identity=[anything], resource=trust).outcome is outcome


# -- the ceilings -------------------------------------------------------------------------------------------------

ALLOW_ALL = parse_policy({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
CEILING = f"{ACCOUNT}:policy/KmsEstateBoundary"
KEY = f"arn:aws:kms:us-east-1:123456789012:key/{KEY_IDS['payment']}"


def boundary(details: Mapping[str, Any], name: str) -> Policy:
    [version] = next(one for one in details["Policies"] if one["PolicyName"] == name)["PolicyVersionList"]
    return parse_policy(version["Document"])


def own_policies(details: Mapping[str, Any], name: str) -> list[Policy]:
    return [parse_policy(policy["PolicyDocument"]) for policy in role_of(details, name)["RolePolicyList"]]


def ask(
    details: Mapping[str, Any], role: str, action: str, resource: str, *, policies: list[Policy], **context: str
) -> bool:
    """Whether `role` may, with these policies and under its boundary."""
    named = role_of(details, role)["PermissionsBoundary"]["PermissionsBoundaryArn"].rpartition("/")[2]
    request = Request(
        action=action,
        resource=resource,
        principal=f"{ACCOUNT}:role/{role}",
        context={key.replace("__", ":"): value for key, value in context.items()},
    )
    return evaluate(request, identity=policies, boundary=boundary(details, named)).allowed


def test_the_iam_administrator_does_his_work(details: dict[str, Any]) -> None:
    """He looks at roles, and writes the policies of those that have the ceiling."""
    own = own_policies(details, "KmsIamAdminRole")
    watchdog = f"{ACCOUNT}:role/KmsWatchdogRole"

    assert ask(details, "KmsIamAdminRole", "iam:GetRolePolicy", watchdog, policies=own)
    for action in ("iam:CreateRole", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary"):
        assert ask(details, "KmsIamAdminRole", action, watchdog, policies=own, iam__PermissionsBoundary=CEILING)
        assert not ask(details, "KmsIamAdminRole", action, watchdog, policies=own)


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        pytest.param("iam:CreateRole", "role/New", {}, id="role-without-a-ceiling"),
        pytest.param(
            "iam:CreateRole",
            "role/New",
            {"iam__PermissionsBoundary": f"{ACCOUNT}:policy/Other"},
            id="role-with-another-ceiling",
        ),
        pytest.param("iam:PutRolePolicy", "role/Admin", {}, id="policy-of-a-role-without-a-ceiling"),
        pytest.param("iam:AttachRolePolicy", "role/KmsAuditRole", {"iam__PermissionsBoundary": CEILING}, id="attach"),
        pytest.param(
            "iam:PutRolePolicy", "role/KmsIamAdminRole", {"iam__PermissionsBoundary": CEILING}, id="his-own-policy"
        ),
        pytest.param(
            "iam:PutRolePermissionsBoundary",
            "role/KmsIamAdminRole",
            {"iam__PermissionsBoundary": CEILING},
            id="his-own-boundary",
        ),
        pytest.param(
            "iam:PutRolePolicy", "role/KmsBreakGlassRole", {"iam__PermissionsBoundary": CEILING}, id="break-glass"
        ),
        pytest.param(
            "iam:DeleteRolePermissionsBoundary",
            "role/KmsAuditRole",
            {"iam__PermissionsBoundary": CEILING},
            id="take-a-boundary-away",
        ),
        pytest.param("iam:CreatePolicyVersion", "policy/KmsEstateBoundary", {}, id="widen-the-ceiling"),
        pytest.param("iam:SetDefaultPolicyVersion", "policy/KmsIamAdminBoundary", {}, id="an-older-ceiling"),
        pytest.param("iam:UpdateAssumeRolePolicy", "role/ParkerFlightPaymentRole", {}, id="let-himself-in"),
        pytest.param("iam:DeleteRole", "role/ParkerFlightPaymentRole", {}, id="make-it-anew"),
        pytest.param("iam:PassRole", "role/ParkerFlightPaymentRole", {}, id="let-a-task-do-it"),
        pytest.param("iam:CreateUser", "user/eve", {}, id="become-a-user"),
        pytest.param("iam:CreateAccessKey", "user/ann", {}, id="become-another-user"),
        pytest.param("sts:AssumeRole", "role/ParkerFlightPaymentRole", {}, id="take-a-role-on"),
        pytest.param("kms:PutKeyPolicy", "", {}, id="open-a-key"),
        pytest.param("kms:Decrypt", "", {}, id="use-a-key"),
    ],
)
def test_the_iam_administrator_cannot_give_himself_more(
    details: dict[str, Any], action: str, resource: str, context: dict[str, str]
) -> None:
    """Not even with a policy that allows everything: his boundary holds, and he can neither change nor leave it."""
    arn = f"{ACCOUNT}:{resource}" if resource else KEY

    assert not ask(details, "KmsIamAdminRole", action, arn, policies=[ALLOW_ALL], **context)


@pytest.mark.parametrize("role", ["KmsAuditRole", "KmsProvisioningRole", "KmsWatchdogRole", "KmsDrillRole"])
def test_a_role_that_he_gives_everything_opens_nothing_of_customers(details: dict[str, Any], role: str) -> None:
    """Under the ceiling nobody opens what is not a canary, destroys a key, makes roles or reads other data."""

    def may(action: str, resource: str = KEY, **context: str) -> bool:
        return ask(details, role, action, resource, policies=[ALLOW_ALL], **context)

    assert not may("kms:Decrypt", kms__EncryptionContext__tenant="x")
    assert not may("kms:Decrypt")
    assert not may("kms:ScheduleKeyDeletion")
    assert not may("kms:CreateGrant")
    assert not may("iam:PutRolePolicy", f"{ACCOUNT}:role/KmsAuditRole", iam__PermissionsBoundary=CEILING)
    assert not may("sts:AssumeRole", f"{ACCOUNT}:role/ParkerFlightPaymentRole")
    assert not may("s3:GetObject", "arn:aws:s3:::customers/all")
    assert may("kms:PutKeyPolicy") == (role == "KmsProvisioningRole")
    watches = role in {"KmsWatchdogRole", "KmsDrillRole"}
    assert may("kms:Decrypt", kms__EncryptionContext__canary="true") == watches


def test_the_ceiling_takes_nothing_from_the_roles_under_it(settings: Settings, details: dict[str, Any]) -> None:
    """Every action that a role's own policy allows, its boundary allows too, in the way the role is to use it."""
    given = Rendering(settings=settings, key_ids=KEY_IDS)
    for role in estate_roles(settings):
        if not role.boundary:
            continue
        limit = boundary(details, role.boundary)
        for statement in role.statements(given):
            for action in statement["Action"]:
                request = Request(
                    action=action,
                    resource="arn:aws:any:us-east-1:123456789012:thing",
                    principal=f"{ACCOUNT}:role/{role.name}",
                    context={"kms:EncryptionContext:canary": "true", "iam:PermissionsBoundary": CEILING},
                )
                decision = evaluate(request, identity=[ALLOW_ALL], boundary=limit)
                assert decision.allowed, (role.name, action, decision)
