"""`kms-watchdog iam check` of an account: planted mistakes are found by name; what cannot be read is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from iam_kit import Stand, settings_on, stand

from kms_local.demo.configuration import DemoFolder
from kms_local.testing import start_local_aws
from kms_watchdog import aws
from kms_watchdog.cli import command

__all__ = ["stand"]

pytestmark = pytest.mark.slow

GUIDE_ACCOUNT = Path(__file__).parent / "data" / "setup-guide-account.json"
Details = dict[str, Any]


@contextmanager
def changed(stand: Stand, change: Callable[[Details], object]) -> Iterator[None]:
    """Change the account's roles inside the block."""
    before = stand.server.admin("GET", "/iam")
    after = json.loads(json.dumps(before))
    change(after)
    stand.server.replace_roles(after)
    try:
        yield
    finally:
        stand.server.replace_roles(before)


def role_in(details: Details, name: str) -> Details:
    return next(one for one in details["RoleDetailList"] if one["RoleName"] == name)


def add(name: str, *statements: Mapping[str, Any]) -> Callable[[Details], None]:
    """Give a role one more policy."""
    more = {"PolicyName": "More", "PolicyDocument": {"Statement": list(statements)}}
    return lambda details: role_in(details, name)["RolePolicyList"].append(more)


def found(stand: Stand, *arguments: str, role: str = "KmsAuditRole") -> tuple[int, set[tuple[str, str]], str]:
    """Exit code, what was found where, and what was told besides."""
    result, _ = stand.run(command, "iam", "check", "--json", *arguments, role=role)
    findings = json.loads(result.stdout)["findings"] if result.stdout else []
    return result.exit_code, {(one["id"], one["subject"]) for one in findings}, result.stderr


def test_what_provisioning_makes_from_nothing_has_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Roles with boundaries, keys and their policies, made by an administrator in an empty account."""
    folder = DemoFolder(tmp_path)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with start_local_aws(folder.aws, flags=("--enforce-policies",), toxiproxy=False) as server:
        empty = Stand(server, settings_on(server, folder), folder.configuration, monkeypatch)
        before, _ = empty.run(command, "iam", "check", role=None)
        made, _ = empty.run(command, "provision", "apply", "--yes", role=None)
        after, _ = empty.run(command, "iam", "check", role=None)
    aws._session.cache_clear()

    assert before.exit_code == 1
    assert before.stdout.count("B10 role-missing") == 9
    assert "could not be read: key payment: there is no alias/parker-flight-payment-production" in before.stderr
    assert made.exit_code == 0, made.stderr
    assert (after.exit_code, after.stdout, after.stderr) == (
        0,
        "nothing wrong in 9 roles or policies and 9 key policies\n",
        "",
    )


def test_the_guides_roles_in_place_of_ours_are_found_by_name(stand: Stand) -> None:
    """Both of them, with every mistake; and the keys that they may use without being meant to."""
    guides = {one["RoleName"]: one for one in json.loads(GUIDE_ACCOUNT.read_text(encoding="utf-8"))["RoleDetailList"]}

    def take(details: Details) -> None:
        details["RoleDetailList"] = [guides.get(one["RoleName"], one) for one in details["RoleDetailList"]]

    with changed(stand, take):
        code, mistakes, told = found(stand)

    both = {(id_, name) for id_ in ("B1", "B2", "B3", "B4k", "B5", "B6", "P1", "P6") for name in guides}
    assert (code, told) == (1, "")
    assert mistakes == both | {
        ("B7", "ParkerFlightServiceRole"),
        ("B7s", "ParkerFlightServiceRole"),
        ("B8", "ParkerFlightPaymentRole"),
    }


def test_a_managed_policy_is_read_in_its_default_version(stand: Stand) -> None:
    """Whoever attached it, and AWS's own too."""
    arn = "arn:aws:iam::aws:policy/AdministratorAccess"
    everything = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}

    def attach(details: Details) -> None:
        role_in(details, "ParkerFlightServiceRole")["AttachedManagedPolicies"] = [{"PolicyArn": arn}]
        version = {"VersionId": "v1", "IsDefaultVersion": True, "Document": everything}
        details["Policies"].append({"Arn": arn, "PolicyName": "AdministratorAccess", "PolicyVersionList": [version]})

    with changed(stand, attach):
        result, _ = stand.run(command, "iam", "check", role="KmsAuditRole")

    assert result.exit_code == 1
    assert f"HIGH P4 all-actions: ParkerFlightServiceRole / {arn} / statement 1: *\n" in result.stdout
    assert f"HIGH B5 no-key-separation: ParkerFlightServiceRole / {arn} / statement 1: may use the keys of payment" in (
        result.stdout
    )


def test_a_role_that_is_gone_is_missing(stand: Stand) -> None:
    """The others are still compared."""

    def drop(details: Details) -> None:
        details["RoleDetailList"] = [one for one in details["RoleDetailList"] if one["RoleName"] != "KmsDrillRole"]

    with changed(stand, drop):
        assert found(stand) == (1, {("B10", "KmsDrillRole")}, "")


def test_a_replica_with_kms_default_policy_is_found_in_its_region(stand: Stand) -> None:
    """As ReplicateKey makes it where nobody passes a policy."""
    kms = boto3.client("kms", **stand.server.client_settings("kms", "eu-west-1"))
    key_id = stand.key_ids["payment"]
    before = kms.get_key_policy(KeyId=key_id)["Policy"]
    root = {"AWS": "arn:aws:iam::123456789012:root"}
    default = {"Sid": "Enable IAM User Permissions", "Effect": "Allow", "Principal": root, "Action": "kms:*"}
    policy = {"Version": "2012-10-17", "Statement": [{**default, "Resource": "*"}]}
    kms.put_key_policy(KeyId=key_id, Policy=json.dumps(policy))
    try:
        result = found(stand)
    finally:
        kms.put_key_policy(KeyId=key_id, Policy=before)

    name = "key payment in eu-west-1"
    assert result == (1, {("B9d", name), ("P1", name)}, "")


def test_one_role_alone_is_looked_at(stand: Stand) -> None:
    """And no key: what others do wrong is not told."""
    use = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}
    with changed(stand, add("ParkerFlightServiceRole", use)):
        assert found(stand, "--role", "KmsWatchdogRole") == (0, set(), "")
        code, mistakes, _ = found(stand, "--role", "ParkerFlightServiceRole")

    assert (code, {id_ for id_, _ in mistakes}) == (1, {"B4", "B5", "P1", "P6"})


def test_what_may_not_be_read_is_told_and_nothing_is_called_missing(stand: Stand) -> None:
    """The watchdog's role does not see the roles of people, nor may anybody guess from that: 3."""
    code, mistakes, told = found(stand, role="KmsWatchdogRole")

    assert (code, mistakes) == (3, set())
    assert [line.split(": ")[2:] for line in told.splitlines()] == [
        [name, "iam", "GetRole", "AccessDenied"]
        for name in (
            "ecsTaskExecutionRole", "KmsAuditRole", "KmsProvisioningRole", "KmsIamAdminRole", "KmsBreakGlassRole",
        )
    ]  # fmt: skip


def test_a_region_whose_policies_cannot_be_read_is_told_and_the_rest_is_judged(stand: Stand) -> None:
    """Key by key: 3."""
    with stand.server.fault(
        service="kms", region="us-west-2", operation="GetKeyPolicy", error_code="KMSInternalException"
    ):
        code, mistakes, told = found(stand)

    assert (code, mistakes) == (3, set())
    assert [line.split(": ")[2] for line in told.splitlines()] == [
        f"key {purpose} in us-west-2" for purpose in ("general", "pii", "payment")
    ]


def test_another_account_is_not_judged(stand: Stand, tmp_path: Path) -> None:
    """Credentials of one account, configuration of another: 4."""
    other = tmp_path / "other.toml"
    text = stand.config.read_text(encoding="utf-8")
    other.write_text(text.replace('account_id = "123456789012"', 'account_id = "210987654321"'), encoding="utf-8")
    stand.act_as("KmsAuditRole")

    told = CliRunner().invoke(command, ["iam", "check", "--config", str(other)])

    assert (told.exit_code, told.stdout) == (4, "")
    assert told.stderr == (
        "kms-watchdog: the credentials are of account 123456789012, the configuration of 210987654321\n"
    )


@pytest.mark.parametrize(
    ("replaced", "by", "says"),
    [
        pytest.param("sts", "https://127.0.0.1:1", "STS in us-east-1 does not say who we are", id="sts"),
        pytest.param("kms", "https://127.0.0.1:1", "us-east-1: DescribeKey: EndpointConnectionError", id="kms"),
    ],
)
def test_who_does_not_answer_is_could_not_tell(stand: Stand, tmp_path: Path, replaced: str, by: str, says: str) -> None:
    """In one line: 3."""
    silent = tmp_path / "silent.toml"
    address = stand.server.urls(replaced)["us-east-1"]
    silent.write_text(stand.config.read_text(encoding="utf-8").replace(address, by), encoding="utf-8")
    stand.act_as("KmsAuditRole")

    told = CliRunner().invoke(command, ["iam", "check", "--config", str(silent)])

    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (3, "", 1)
    assert says in told.stderr


def test_iam_that_does_not_answer_leaves_the_keys_judged(stand: Stand, tmp_path: Path) -> None:
    """Every role is told of as not read; no role is called missing."""
    silent = tmp_path / "silent.toml"
    address = stand.server.urls("iam")["us-east-1"]
    silent.write_text(
        stand.config.read_text(encoding="utf-8").replace(f'iam = "{address}"', 'iam = "https://127.0.0.1:1"'),
        encoding="utf-8",
    )
    stand.act_as("KmsAuditRole")

    told = CliRunner().invoke(command, ["iam", "check", "--json", "--config", str(silent)])

    document = json.loads(told.stdout)
    assert (told.exit_code, document["findings"], len(document["keys"])) == (3, [], 9)
    assert set(document["not_read"].values()) == {"iam: GetRole: EndpointConnectionError"}


def test_without_credentials_nothing_is_known(stand: Stand) -> None:
    """They are refused: 3."""
    stand.act_as("KmsAuditRole")
    stand.patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    told = CliRunner().invoke(command, ["iam", "check", "--config", str(stand.config)])

    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (3, "", 1)
