"""`kms-watchdog iam check` of files: the guide's policies yield each mistake, ours none; each rule by itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from kms_watchdog.cli import command
from kms_watchdog.config import load
from kms_watchdog.estate.policies import Principals, key_policy
from kms_watchdog.estate.role_policies import Rendering
from kms_watchdog.iam.account import wanted_estate
from kms_watchdog.iam.catalogue import RULES, Finding
from kms_watchdog.iam.documents import KeyToCheck, RoleToCheck, ToCheck, document
from kms_watchdog.iam.estate_roles import account_details
from kms_watchdog.iam.estate_rules import Wanted, check
from kms_watchdog.iam.files import of_details, read_files

DATA = Path(__file__).parent / "data"
GUIDE, GUIDE_ACCOUNT = DATA / "setup-guide", DATA / "setup-guide-account.json"
ROOT = Path(__file__).parents[2]
EXAMPLE, RENDERED = ROOT / "daemon" / "watchdog.example.toml", ROOT / "deploy" / "iam"
KEY_IDS = {"general": "mrk-" + "a" * 32, "pii": "mrk-" + "b" * 32, "payment": "mrk-" + "c" * 32}
KEY = f"arn:aws:kms:us-east-1:123456789012:key/{KEY_IDS['general']}"
ALIAS = "arn:aws:kms:us-east-1:123456789012:alias/general"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["iam", "check", *map(str, arguments)])


def ids(found: tuple[Finding, ...]) -> Counter[str]:
    return Counter(one.rule.id for one in found)


# -- the guide's, and ours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "kms-permissions-policy.json",
            {
                ("B1", "AllowKMSOperations"),
                ("B2", "AllowDirectKMSAccess"),
                ("B3", ""),
                ("B4k", "AllowKMSOperations"),
                ("B6", "AllowKMSOperations"),
                ("P6", "AllowDirectKMSAccess"),
            },
            id="kms-permissions",
        ),
        pytest.param(
            "cross-region-access-policy.json",
            {
                ("B3", ""),
                ("B4", "AllowCrossRegionKMSAccess"),
                ("P6", "AllowCrossRegionKMSAccess"),
                ("P7", "AllowCrossRegionKMSAccess"),
            },
            id="cross-region",
        ),
        pytest.param(
            "service-role-trust-policy.json", {("B7", "statement 1"), ("B7s", "statement 1")}, id="trust-of-the-service"
        ),
        pytest.param("payment-role-trust-policy.json", {("B8", "statement 1")}, id="trust-of-payment"),
    ],
)
def test_each_of_the_guides_policies_yields_its_mistakes(name: str, expected: set[tuple[str, str]]) -> None:
    """By id, at the statement, and nothing besides."""
    found = check(read_files([GUIDE / name]))

    assert {(one.rule.id, one.statement) for one in found} == expected
    assert len(found) == len(expected)


def test_the_guides_account_yields_all_of_its_mistakes() -> None:
    """As the AWS CLI prints it after the guide's commands: also what two roles share."""
    found = check(read_files([GUIDE_ACCOUNT]))

    of_one = {"B1": 1, "B2": 1, "B3": 1, "B4k": 1, "B6": 1, "P6": 1}
    assert ids(found) == Counter({id_: 2 * count for id_, count in of_one.items()}) + Counter(
        {"B5": 1, "B7": 1, "B7s": 1, "B8": 1}
    )
    assert {one.subject for one in found if one.rule.id == "B5"} == {
        "ParkerFlightServiceRole and ParkerFlightPaymentRole"
    }
    assert {one.subject for one in found if one.rule.id == "B7"} == {"ParkerFlightServiceRole"}


def test_the_guides_folder_lacks_key_policies() -> None:
    """It names files with key policies and never shows them: KMS would give every key the default one."""
    assert ids(check(read_files([GUIDE])))["B9m"] == 1


def test_what_we_render_yields_nothing() -> None:
    """The committed folder: roles, trust, boundaries, key policies."""
    told = run("--files", RENDERED)

    assert (told.exit_code, told.stdout, told.stderr) == (
        0,
        "nothing wrong in 9 roles or policies and 3 key policies\n",
        "",
    )


EVERYTHING = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2"]
[keys.general]
alias = "alias/general"
used_by = ["Service", "Reports"]
[keys.pii]
alias = "alias/pii"
used_by = ["Service", "Reports"]
[keys.payment]
alias = "alias/payment"
used_by = ["Payment"]
[state]
dir = "state"
[drills.lease]
table = "kms-drills"
region = "us-west-2"
[drills.evidence]
store = "s3://evidence/kms"
signing = { kind = "kms", key_id = "alias/evidence", regions = ["us-east-1"] }
[cloudwatch.proof.slot]
day = 5
at = "10:00"
[overrides]
ssm_parameter = "/kms/overrides"
"""


@pytest.fixture
def everything(write_config: Callable[..., Path]) -> Rendering:
    return Rendering(settings=load(write_config(base=EVERYTHING)), key_ids=KEY_IDS)


def account(given: Rendering, change: Callable[[dict[str, Any]], object] = lambda _: None) -> ToCheck:
    """The estate as it is rendered, changed."""
    details = json.loads(json.dumps(account_details(given)))
    change(details)
    keys = [
        KeyToCheck(name=name, policy=document(name, policy), account_id="123456789012")
        for name, policy in wanted_estate(given).key_policies.items()
    ]
    return ToCheck(roles=tuple(of_details(details)), keys=tuple(keys), whole=True)


def test_an_estate_with_everything_yields_nothing(everything: Rendering) -> None:
    """Lease, evidence, proofs, overrides, and two applications that share keys on purpose."""
    read = account(everything)

    assert check(read) == ()
    assert check(read, wanted_estate(everything)) == ()


# -- each rule by itself ------------------------------------------------------------------------------------------

USE = ["kms:Decrypt", "kms:GenerateDataKey"]
WITH_CONTEXT = {"Null": {"kms:EncryptionContextKeys": "false"}}
METRICS = {
    "Effect": "Allow",
    "Action": "cloudwatch:PutMetricData",
    "Resource": "*",
    "Condition": {"StringEquals": {"cloudwatch:namespace": "N"}},
}
ROOT_ALLOWED = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
    "Action": "kms:*",
    "Resource": "*",
}
OTHERS_DENIED = {
    "Effect": "Deny",
    "Principal": {"AWS": "*"},
    "Action": USE,
    "Resource": "*",
    "Condition": {"ArnNotEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/R"}},
}


def allow(action: Any = USE, resource: Any = KEY, condition: Any = WITH_CONTEXT, **more: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource, "Condition": condition, **more}
    return {name: value for name, value in statement.items() if value is not None}


def role(*statements: Mapping[str, Any], metrics: bool = True) -> ToCheck:
    policy = document("P", {"Statement": [*statements, *([METRICS] if metrics else [])]})
    return ToCheck(roles=(RoleToCheck(name="R", policies=(policy,)),))


def trust(principal: Any, condition: Any = None) -> ToCheck:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", "Condition": condition or {}}
    found = RoleToCheck(name="R", policies=(), trust=document("T", {"Statement": statement}))
    return ToCheck(roles=(found,))


def key(*statements: Mapping[str, Any]) -> ToCheck:
    policy = document("key", {"Statement": list(statements)})
    return ToCheck(keys=(KeyToCheck(name="key", policy=policy, account_id="123456789012"),))


VIA = {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}
SOURCE = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
WRONG = [
    pytest.param("B1", role(allow(condition=VIA)), id="by-a-service-only"),
    pytest.param("B1", role(allow(condition=VIA), allow(resource=ALIAS)), id="by-a-service-and-an-alias"),
    pytest.param("B2", role(allow(), allow(resource=[KEY, ALIAS])), id="alias"),
    pytest.param("B2", role({**allow(resource=ALIAS), "Effect": "Deny"}), id="alias-that-forbids-nothing"),
    pytest.param("B3", role(allow(), metrics=False), id="no-metrics"),
    pytest.param("B3n", role(allow(), {**METRICS, "Condition": {}}), id="any-namespace"),
    pytest.param("B4", role(allow(resource="*")), id="star"),
    pytest.param("B4", role(allow(resource="arn:aws:kms:*:*:key/*")), id="star-account"),
    pytest.param("B4k", role(allow(resource="arn:aws:kms:us-east-1:123456789012:key/mrk-*")), id="any-key"),
    pytest.param("B6", role(allow(), allow("kms:CreateGrant")), id="grants"),
    pytest.param("B6", role(allow(), allow("kms:*Grant", condition=None)), id="grants-by-a-wildcard"),
    pytest.param("B7", trust({"Service": "ec2.amazonaws.com"}), id="ec2"),
    pytest.param("B7s", trust({"Service": "ecs-tasks.amazonaws.com"}), id="no-source"),
    pytest.param("B7p", trust("*"), id="everybody"),
    pytest.param("B7p", trust({"AWS": "*"}, {"StringEquals": {"sts:ExternalId": "x"}}), id="who-knows-a-word"),
    pytest.param("B8", trust({"AWS": "arn:aws:iam::123456789012:role/Service"}), id="chain"),
    pytest.param(
        "B9",
        key({**ROOT_ALLOWED, "Principal": {"AWS": "arn:aws:iam::123456789012:role/R"}}, OTHERS_DENIED),
        id="one-role-alone",
    ),
    pytest.param(
        "B9",
        key({**ROOT_ALLOWED, "Principal": {"AWS": "arn:aws:iam::210987654321:root"}}, OTHERS_DENIED),
        id="another-account",
    ),
    pytest.param("B9d", key(ROOT_ALLOWED), id="default-key-policy"),
    pytest.param("B9d", key(ROOT_ALLOWED, {**OTHERS_DENIED, "Action": "kms:CreateGrant"}), id="denies-something-else"),
    pytest.param("P2", role({"Effect": "Allow", "NotAction": "iam:*", "Resource": KEY}), id="not-action"),
    pytest.param(
        "P2",
        key(
            ROOT_ALLOWED,
            OTHERS_DENIED,
            {**allow(None), "NotAction": "kms:Sign", "Principal": {"AWS": "arn:aws:iam::123456789012:role/R"}},
        ),
        id="not-action-of-a-key",
    ),
    pytest.param("P3", role({**allow(resource=None), "NotResource": KEY}), id="not-resource"),
    pytest.param("P4", role(allow("kms:*")), id="all-of-kms"),
    pytest.param("P4", role(allow("*", "*", None)), id="all"),
    pytest.param("P5", role(allow(), allow("kms:ReEncrypt")), id="no-such-action"),
    pytest.param("P5", role(allow(), allow(["kms:Descrybe*"], condition=None)), id="no-such-actions"),
    pytest.param(
        "P5", key(ROOT_ALLOWED, {**OTHERS_DENIED, "Action": [*USE, "kms:Delete"]}), id="no-such-action-of-a-key"
    ),
    pytest.param("P6", role(allow(condition=None)), id="no-context"),
    pytest.param(
        "P6", role(allow(condition={"Null": {"kms:EncryptionContextKeys": "true"}})), id="only-without-context"
    ),
    pytest.param(
        "P6", role(allow(condition={"StringNotEquals": {"kms:EncryptionContext:a": "b"}})), id="another-context"
    ),
    pytest.param("P7", role(allow(condition={**WITH_CONTEXT, "Bool": {"aws:SecureTransport": "true"}})), id="tls"),
    pytest.param(
        "P8", role(allow(condition={"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "a"}})), id="for-all"
    ),
    pytest.param("P9", role(allow([*USE, "kms:DescribeKey"])), id="describe-under-a-context"),
    pytest.param("P10", role(allow(), allow("kms:PutKeyPolicy", condition=None)), id="uses-and-changes"),
    pytest.param("P11", key({**ROOT_ALLOWED, "Principal": "*"}, ROOT_ALLOWED, OTHERS_DENIED), id="anybodys-key"),
]


@pytest.mark.parametrize(("identifier", "read"), WRONG)
def test_a_mistake_is_found_by_its_id(identifier: str, read: ToCheck) -> None:
    """At least that one; a mistake may well be two."""
    assert identifier in ids(check(read))


RIGHT = [
    pytest.param(role(allow(), allow("kms:DescribeKey", condition=None)), id="direct-use"),
    pytest.param(role(allow(), allow(condition=VIA)), id="direct-use-and-by-a-service"),
    pytest.param(role(allow(), allow(["kms:CreateAlias", "kms:UpdateAlias"], [KEY, ALIAS], None)), id="alias-is-made"),
    pytest.param(role(METRICS, metrics=False), id="metrics-alone"),
    pytest.param(
        role(
            allow(
                resource="arn:aws:kms:us-east-1:123456789012:key/*",
                condition={**WITH_CONTEXT, "ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/x-*"}},
            )
        ),
        id="keys-by-their-alias",
    ),
    pytest.param(
        role(allow(), allow("kms:CreateGrant", condition={"Bool": {"kms:GrantIsForAWSResource": "true"}})),
        id="grants-for-services",
    ),
    pytest.param(trust({"Service": "ecs-tasks.amazonaws.com"}, SOURCE), id="tasks-of-this-account"),
    pytest.param(trust({"AWS": "arn:aws:iam::123456789012:root"}), id="the-account"),
    pytest.param(trust({"AWS": "*"}, {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}), id="the-organisation"),
    pytest.param(key(ROOT_ALLOWED, OTHERS_DENIED), id="key-policy"),
    pytest.param(
        key({**ROOT_ALLOWED, "Principal": {"AWS": "123456789012"}}, OTHERS_DENIED), id="account-by-its-number"
    ),
    pytest.param(role(allow(condition={"StringEquals": {"kms:EncryptionContext:canary": "true"}})), id="one-context"),
    pytest.param(
        role(allow(condition={**WITH_CONTEXT, "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "a"}})),
        id="for-all-and-not-absent",
    ),
    pytest.param(role(allow(["kms:ReEncrypt*", "kms:GenerateDataKey*"])), id="wildcards-that-match"),
    pytest.param(role({"Effect": "Deny", "NotAction": "kms:Decrypt", "Resource": "*"}, allow()), id="deny-not-action"),
    pytest.param(role(allow("kms:PutKeyPolicy", condition=None), metrics=False), id="changes-and-does-not-use"),
    pytest.param(role(allow("s3:GetObject", "*", None), metrics=False), id="nothing-about-keys"),
]


@pytest.mark.parametrize("read", RIGHT)
def test_what_is_right_is_left_alone(read: ToCheck) -> None:
    """The way each remedy says."""
    assert [(one.rule.id, one.detail) for one in check(read)] == []


def test_every_rule_is_shown_by_an_example() -> None:
    """Here, or by the estate below: a rule that nothing can trip is none."""
    shown = {str(param.values[0]) for param in WRONG}
    by_estate = {"B5", "B9m", "B10", "P1", "P1a", "P1b"}

    assert shown | by_estate == {one.id for one in RULES}
    assert len({one.id for one in RULES}) == len({one.name for one in RULES}) == len(RULES)


# -- against the estate -------------------------------------------------------------------------------------------


def edit(name: str, **members: Any) -> Callable[[dict[str, Any]], None]:
    def change(details: dict[str, Any]) -> None:
        found = next(one for one in details["RoleDetailList"] if one["RoleName"] == name)
        for member, value in members.items():
            if value is None:
                del found[member]
            else:
                found[member] = value

    return change


def more(name: str, statement: Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
    def change(details: dict[str, Any]) -> None:
        found = next(one for one in details["RoleDetailList"] if one["RoleName"] == name)
        found["RolePolicyList"].append({"PolicyName": "More", "PolicyDocument": {"Statement": [statement]}})

    return change


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(details: dict[str, Any]) -> None:
        details["RoleDetailList"] = [one for one in details["RoleDetailList"] if one["RoleName"] != name]

    return change


def widen(name: str) -> Callable[[dict[str, Any]], None]:
    def change(details: dict[str, Any]) -> None:
        [version] = next(one for one in details["Policies"] if one["PolicyName"] == name)["PolicyVersionList"]
        version["Document"]["Statement"].pop()

    return change


OTHER_KEY = f"arn:aws:kms:us-east-1:123456789012:key/{KEY_IDS['payment']}"
ANY_KEY = "arn:aws:kms:us-east-1:123456789012:key/*"
OWN = f"arn:aws:kms:us-east-1:123456789012:key/{KEY_IDS['pii']}"
TRUSTS_SERVICE = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:role/Service"},
    "Action": "sts:AssumeRole",
}
NAMED = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/payment"}}
NAMED_OWN = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": ["alias/pii", "alias/general"]}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(without("Payment"), {("B10", "Payment")}, id="missing"),
        pytest.param(
            more("Service", allow(resource=OTHER_KEY)), {("B5", "Service"), ("P1", "Service")}, id="foreign-key"
        ),
        pytest.param(
            more("Service", allow(resource=ANY_KEY, condition={**WITH_CONTEXT, **NAMED})),
            {("B5", "Service"), ("P1", "Service")},
            id="foreign-key-by-its-alias",
        ),
        pytest.param(
            more("Service", allow(resource=ANY_KEY, condition={**WITH_CONTEXT, **NAMED_OWN})),
            {("P1", "Service")},
            id="own-keys-by-their-aliases",
        ),
        pytest.param(
            more("KmsAuditRole", allow(resource=OWN)),
            {("B3", "KmsAuditRole"), ("B5", "KmsAuditRole"), ("P1", "KmsAuditRole")},
            id="reviewer-uses",
        ),
        pytest.param(more("Service", allow("s3:GetObject", "*", None)), set(), id="application-does-more-elsewhere"),
        pytest.param(
            more("KmsWatchdogRole", allow("s3:GetObject", "*", None)), {("P1", "KmsWatchdogRole")}, id="ours-does-more"
        ),
        pytest.param(more("ecsTaskExecutionRole", allow("ecr:*", "*", None)), set(), id="ecs-has-a-policy-of-its-own"),
        pytest.param(edit("Service", RolePolicyList=[]), {("P1", "Service")}, id="no-policy"),
        pytest.param(
            edit("Payment", AssumeRolePolicyDocument={"Statement": TRUSTS_SERVICE}),
            {("B8", "Payment"), ("P1", "Payment")},
            id="another-trust",
        ),
        pytest.param(edit("KmsDrillRole", PermissionsBoundary=None), {("P1b", "KmsDrillRole")}, id="no-boundary"),
        pytest.param(
            edit("KmsIamAdminRole", PermissionsBoundary=None), {("P1a", "KmsIamAdminRole")}, id="no-admin-boundary"
        ),
        pytest.param(widen("KmsIamAdminBoundary"), {("P1", "KmsIamAdminRole")}, id="wider-boundary"),
    ],
)
def test_what_differs_from_the_estate_is_told(
    everything: Rendering, change: Callable[[dict[str, Any]], None], expected: set[tuple[str, str]]
) -> None:
    """By role; an application's other rights are its own affair, those of our roles are not."""
    found = check(account(everything, change), wanted_estate(everything))

    assert {(one.rule.id, one.subject) for one in found} == expected


def test_a_difference_is_told_by_sid(everything: Rendering) -> None:
    """Which statements are missing, and which are too many; another name of the policy or order is no difference."""

    def change(details: dict[str, Any]) -> None:
        found = next(one for one in details["RoleDetailList"] if one["RoleName"] == "KmsWatchdogRole")
        [policy] = found["RolePolicyList"]
        first, *others = policy["PolicyDocument"]["Statement"]
        assert first["Sid"] == "CanaryRoundTrips"
        extra = {"Sid": "Extra", "Effect": "Allow", "Action": "kms:Sign", "Resource": KEY}
        renamed = {"PolicyName": "Another", "PolicyDocument": {"Statement": list(reversed(others))}}
        found["RolePolicyList"] = [renamed, {"PolicyName": "E", "PolicyDocument": {"Statement": extra}}]

    [found] = check(account(everything, change), wanted_estate(everything))

    assert (found.rule.id, found.detail) == ("P1", "lacks CanaryRoundTrips; has besides Extra")


def test_a_key_policy_that_somebody_changed_in_one_region_is_told(everything: Rendering) -> None:
    """A replica that was made without a policy has KMS's default one."""
    read = account(everything)
    default = {"Statement": [{"Sid": "Enable IAM User Permissions", **ROOT_ALLOWED}]}
    changed = [
        KeyToCheck(name=key.name, policy=document(key.name, default), account_id=key.account_id)
        if key.name == "key payment in us-west-2"
        else key
        for key in read.keys
    ]

    found = check(ToCheck(roles=read.roles, keys=tuple(changed), whole=True), wanted_estate(everything))

    assert {(one.rule.id, one.subject) for one in found} == {
        ("B9d", "key payment in us-west-2"),
        ("P1", "key payment in us-west-2"),
    }


def test_a_role_that_could_not_be_read_is_not_missing(everything: Rendering) -> None:
    """Silence is not absence."""
    read = account(everything, without("Payment"))
    unread = ToCheck(roles=read.roles, keys=read.keys, not_read={"Payment": "iam: GetRole: AccessDenied"}, whole=True)

    assert check(unread, wanted_estate(everything)) == ()
    assert ids(check(ToCheck(), Wanted(roles=(), key_policies={}))) == Counter()


def test_the_rendered_key_policy_of_a_key_that_nobody_uses_is_right() -> None:
    """With the watchdog and the drills as its only users."""
    who = Principals(account_id="123456789012", partition="aws", applications=(), watchers=("W", "D"), break_glass="B")
    policy = key_policy(who, regions=("us-east-1",), canary_context=("canary", "true"))

    assert check(ToCheck(keys=(KeyToCheck(name="k", policy=document("k", policy), account_id="123456789012"),))) == ()


# -- the command --------------------------------------------------------------------------------------------------


def test_findings_are_explained_once_each_and_the_worst_come_first() -> None:
    """What it is, where, what it means, what to do: 1."""
    told = run("--files", GUIDE / "kms-permissions-policy.json", GUIDE / "payment-role-trust-policy.json")

    lines = told.stdout.splitlines()
    heads = [line for line in lines if not line.startswith("    ")]
    assert told.exit_code == 1
    assert [head.split()[0] for head in heads[:-1]] == ["HIGH"] * 3 + ["MEDIUM"] * 3 + ["INFORMATION"]
    assert "B2 alias-as-resource: " in told.stdout
    assert "/ AllowDirectKMSAccess: allows nothing on arn:aws:kms:*:123456789012:alias/parker-flight-*" in told.stdout
    assert "    To do: Name the keys' own ARNs, one for each region; `kms-watchdog iam render` writes them." in lines
    assert heads[-1] == "7 findings in 2 roles or policies and 0 key policies"


def test_as_json_every_finding_is_whole() -> None:
    """For whoever keeps them."""
    told = run("--files", GUIDE_ACCOUNT, "--json", "--role", "ParkerFlightPaymentRole")

    document_ = json.loads(told.stdout)
    assert (told.exit_code, document_["schema"]) == (1, 1)
    assert document_["roles"] == ["ParkerFlightPaymentRole"]
    assert {one["id"] for one in document_["findings"]} == {"B1", "B2", "B3", "B4k", "B6", "B8", "P6"}
    assert all(one["means"] and one["remedy"] and one["severity"] for one in document_["findings"])


def test_information_alone_is_no_bad_end() -> None:
    """It is told: 0."""
    told = run("--files", GUIDE / "payment-role-trust-policy.json")

    assert (told.exit_code, "INFORMATION B8 role-chaining" in told.stdout) == (0, True)


def test_rules_are_listed() -> None:
    """All of them, in words and as JSON."""
    words = CliRunner().invoke(command, ["iam", "rules"])
    listed = CliRunner().invoke(command, ["iam", "rules", "--json"])

    assert [one["id"] for one in json.loads(listed.stdout)] == [one.id for one in RULES]
    assert all(f"{one.id} {one.name} ({one.severity})" in words.stdout for one in RULES)


def test_the_page_tells_of_every_rule_and_role() -> None:
    """`docs/iam.md`: ids and names of the rules, the roles with their policies, the boundaries."""
    page = (ROOT / "docs" / "iam.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    told = {
        pair
        for row in rows
        if len(row) == 3
        for pair in zip(row[0].strip("| ").split(", "), row[1].split(", "), strict=False)
    }
    roles = {(row[0].strip("| `"), row[1].strip("`")) for row in rows if len(row) == 4}
    written = {path.name.removesuffix(".json") for path in RENDERED.glob("*.json")}

    assert {(one.id, one.name) for one in RULES} == told - {("id", "name")}
    assert {f"{role}.{policy}" for role, policy in roles - {("role", "inline policy")}} == {
        name for name in written if not name.endswith((".trust", ".boundary")) and "." in name
    }
    assert all(name.removesuffix(".boundary") in page for name in written if name.endswith(".boundary"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("{", "not JSON: ", id="json"),
        pytest.param("[" * 100_000, "not JSON: ", id="nested-too-deeply"),
        pytest.param("[]", "no policy: a JSON object with Statement", id="list"),
        pytest.param('{"a": 1}', "no policy: a JSON object with Statement", id="other-object"),
        pytest.param('{"Statement": ["x"]}', "statement 1 is not an object", id="statement"),
        pytest.param('{"Statement": []}', "it has no statement", id="no-statement"),
        pytest.param('{"Statement": {"Effect": "Maybe"}}', "statement 1: Effect must be Allow or Deny", id="effect"),
        pytest.param('{"Statement": {"Effect": "Allow", "Resource": "*"}}', "statement 1 has no Action", id="action"),
        pytest.param(
            '{"Statement": {"Sid": "S", "Effect": "Allow", "Action": "kms:Decrypt"}}',
            "S has neither Resource nor Principal",
            id="resource",
        ),
        pytest.param(
            '{"Statement": {"Effect": "Allow", "Action": {}, "Resource": "*"}}',
            "statement 1: Action must be text or a list of texts",
            id="action-of-another-kind",
        ),
        pytest.param(
            '{"Statement": {"Effect": "Allow", "Action": "a:b", "NotAction": "a:c", "Resource": "*"}}',
            "statement 1 has both Action and NotAction",
            id="both",
        ),
        pytest.param(
            '{"Statement": {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"Bool": 1}}}',
            "statement 1: Condition must be an object of objects",
            id="condition",
        ),
        pytest.param(
            '{"Statement": {"Effect": "Allow", "Action": "kms:Decrypt", "Principal": 1}}',
            "statement 1: Principal must be * or an object",
            id="principal",
        ),
        pytest.param(
            '{"Statement": {"Effect": "Allow", "Action": "sns:Publish", "Principal": "*", "Resource": "*"}}',
            "neither a role's policy, nor a role's trust policy, nor a key's policy",
            id="policy-of-a-topic",
        ),
        pytest.param('{"RoleDetailList": {}}', "RoleDetailList must be a list of objects", id="details"),
        pytest.param(
            '{"RoleDetailList": [{"RoleName": "R", "RolePolicyList": [{"PolicyDocument": "%7B"}]}]}',
            "role R: a policy is not JSON",
            id="encoded",
        ),
        pytest.param(
            '{"RoleDetailList": [{"RoleName": "R", "AttachedManagedPolicies": [{"PolicyArn": "arn:p"}]}]}',
            "role R: the text of arn:p is not in the file",
            id="managed-policy-left-out",
        ),
    ],
)
def test_a_file_that_is_no_policy_is_told_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    """Nothing is known about it: 3."""
    path = tmp_path / "policy.json"
    path.write_text(content, encoding="utf-8")

    told = run("--files", path)

    assert told.exit_code == 3
    assert told.stderr.startswith(f"kms-watchdog: could not be read: {path}: {says}")
    assert told.stderr.count("\n") == 1


def test_what_is_not_there_or_empty_is_told(tmp_path: Path) -> None:
    """An empty folder is no clean estate."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")

    told = run("--files", tmp_path / "nowhere.json", tmp_path / "empty", tmp_path / "binary.json")

    assert (told.exit_code, told.stderr.count("\n")) == (3, 3)
    assert "nowhere.json: cannot be read: No such file or directory" in told.stderr
    assert "empty: no file here ends in .json" in told.stderr


def test_a_finding_weighs_more_than_a_file_that_could_not_be_read(tmp_path: Path) -> None:
    """What is bad is bad, whatever else there may be: 1; the file is told of all the same."""
    told = run("--files", GUIDE / "cross-region-access-policy.json", tmp_path / "nowhere.json")

    assert told.exit_code == 1
    assert "nowhere.json" in told.stderr


def test_arguments_without_files_are_refused() -> None:
    """A name after `check` is no role: 2."""
    assert (run("KmsAuditRole").exit_code, run("--files", GUIDE_ACCOUNT, "--role", "Nobody").exit_code) == (2, 2)


def test_documents_may_be_percent_encoded(tmp_path: Path) -> None:
    """As IAM's API has them, and SDKs that do not decode; managed policies in their default version."""
    details = json.loads(GUIDE_ACCOUNT.read_text(encoding="utf-8"))
    for one in details["RoleDetailList"]:
        [policy] = one["RolePolicyList"]
        old = {"VersionId": "v1", "IsDefaultVersion": False, "Document": {"Statement": allow()}}
        new = {"VersionId": "v2", "IsDefaultVersion": True, "Document": quote(json.dumps(policy["PolicyDocument"]))}
        arn = f"arn:aws:iam::123456789012:policy/{one['RoleName']}"
        details["Policies"].append({"Arn": arn, "PolicyVersionList": [old, new]})
        one["RolePolicyList"], one["AttachedManagedPolicies"] = [], [{"PolicyArn": arn, "PolicyName": "P"}]
        one["AssumeRolePolicyDocument"] = quote(json.dumps(one["AssumeRolePolicyDocument"]))
    path = tmp_path / "account.json"
    path.write_text(json.dumps(details), encoding="utf-8")

    assert ids(check(read_files([path]))) == ids(check(read_files([GUIDE_ACCOUNT])))


def test_roles_that_have_nothing_to_do_with_keys_are_passed_over(tmp_path: Path) -> None:
    """An account has hundreds of them."""
    other = {
        "RoleName": "Web",
        "AssumeRolePolicyDocument": {
            "Statement": {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        },
        "RolePolicyList": [{"PolicyName": "P", "PolicyDocument": {"Statement": allow("s3:GetObject", "*", None)}}],
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps({"RoleDetailList": [other], "Policies": []}), encoding="utf-8")

    told = run("--files", path)

    assert (told.exit_code, told.stdout) == (0, "nothing wrong in 0 roles or policies and 0 key policies\n")
