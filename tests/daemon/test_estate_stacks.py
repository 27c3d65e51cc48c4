"""The estate as CloudFormation stacks: keys, policies and roles as `apply` makes them, and who is told of changes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kms_watchdog.commands.provision import command
from kms_watchdog.config import Settings, load
from kms_watchdog.estate import cloudformation
from kms_watchdog.estate.desired import desired_keys
from kms_watchdog.estate.role_plan import desired_roles

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "daemon" / "watchdog.example.toml"
COMMITTED = ROOT / "deploy" / "estate"
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
KEY_ID = "mrk-0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def example() -> Settings:
    return load(EXAMPLE)


@pytest.fixture(scope="module")
def stacks(example: Settings) -> Mapping[str, dict[str, Any]]:
    return cloudformation.templates(example)


def of_type(template: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one["Properties"] for one in template["Resources"].values() if one["Type"] == kind]


def filled_in(document: Any) -> Any:
    """Return a policy as CloudFormation makes it: every reference to a key is that key's id."""
    if isinstance(document, Mapping):
        if document.keys() == {"Fn::Sub"}:
            head, _, tail = document["Fn::Sub"].partition("${")
            assert tail in {"GeneralKey}", "PiiKey}", "PaymentKey}"}
            return head + KEY_ID
        return {name: filled_in(value) for name, value in document.items()}
    return [filled_in(one) for one in document] if isinstance(document, list) else document


def test_the_committed_stacks_are_what_the_example_makes(tmp_path: Path) -> None:
    """If not: `kms-watchdog provision render --format terraform --into deploy/estate` with the example's --config."""
    words = ["render", "--format", "terraform", "--config", str(EXAMPLE), "--into", str(tmp_path)]

    assert CliRunner().invoke(command, words).exit_code == 0

    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert {path.name: path.read_text(encoding="utf-8") for path in COMMITTED.glob("*.json")} == made
    assert sorted(made) == sorted([*map(cloudformation.file_name, REGIONS), "main.tf.json"])


@pytest.mark.slow
def test_cfn_lint_finds_nothing() -> None:
    """In no template, not even a hint."""
    linter = shutil.which("cfn-lint") or str(ROOT / ".venv" / "bin" / "cfn-lint")
    files = sorted(map(str, COMMITTED.glob("estate-*.json")))

    done = subprocess.run([linter, *files], check=False, capture_output=True, text=True)

    assert len(files) == len(REGIONS)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("region", REGIONS)
def test_a_stack_can_be_made_in_one_call(region: str) -> None:
    """CloudFormation takes no larger template without a bucket (CloudFormation User Guide, quotas)."""
    assert (COMMITTED / cloudformation.file_name(region)).stat().st_size <= 51_200


def test_what_an_account_may_have_already_is_made_on_request(stacks: Mapping[str, dict[str, Any]]) -> None:
    """ECS's own role, by its usual name; all else is ours."""
    roles = [one for one in stacks["us-east-1"]["Resources"].values() if one["Type"] == "AWS::IAM::Role"]

    assert {one["Properties"]["RoleName"]: one.get("Condition") for one in roles if one.get("Condition")} == {
        "ecsTaskExecutionRole": "MakesExecutionRole"
    }


@pytest.mark.parametrize("region", REGIONS)
def test_keys_are_those_that_apply_makes(stacks: Mapping[str, dict[str, Any]], example: Settings, region: str) -> None:
    """Policy, description and tags on each, since KMS copies none of them; an alias for each; all outlive the stack."""
    kind = "AWS::KMS::Key" if region == "us-east-1" else "AWS::KMS::ReplicaKey"
    found = of_type(stacks[region], kind)
    aliases = of_type(stacks[region], "AWS::KMS::Alias")
    kept = [one for one in stacks[region]["Resources"].values() if one["Type"].startswith("AWS::KMS::")]

    wanted = desired_keys(example)
    assert [one["KeyPolicy"] for one in found] == [key.policy for key in wanted]
    assert [one["Description"] for one in found] == [key.description_in(region) for key in wanted]
    assert [{tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in found] == [key.tags for key in wanted]
    assert [one["AliasName"] for one in aliases] == [key.alias for key in wanted]
    assert {(one["DeletionPolicy"], one["UpdateReplacePolicy"]) for one in kept} == {("RetainExceptOnCreate", "Retain")}
    if region == "us-east-1":
        assert all(one["MultiRegion"] and one["EnableKeyRotation"] for one in found)


def test_roles_are_those_that_apply_makes(stacks: Mapping[str, dict[str, Any]], example: Settings) -> None:
    """Once, in the primary region's stack; their policies name its keys by reference, in every region."""
    found = of_type(stacks["us-east-1"], "AWS::IAM::Role")
    wanted = desired_roles(example, dict.fromkeys(example.keys, KEY_ID))

    assert [one["RoleName"] for one in found] == [role.name for role in wanted]
    assert [one["AssumeRolePolicyDocument"] for one in found] == [role.trust for role in wanted]
    for one, role in zip(found, wanted, strict=True):
        [policy] = one["Policies"]
        assert (policy["PolicyName"], filled_in(policy["PolicyDocument"])) == (role.policy_name, role.policy)
    assert not any("RoleName" in one for region in REGIONS[1:] for one in of_type(stacks[region], "AWS::IAM::Role"))


@pytest.mark.parametrize("region", REGIONS)
def test_whoever_touches_a_key_is_told_of(stacks: Mapping[str, dict[str, Any]], example: Settings, region: str) -> None:
    """In its own region, on the critical topic; from where no topic is, by way of every region that has one."""
    [rule] = of_type(stacks[region], "AWS::Events::Rule")
    told = [target["Arn"] for target in rule["Targets"]]

    assert set(rule["EventPattern"]["detail"]["eventName"]) == {
        "DisableKey",
        "ScheduleKeyDeletion",
        "PutKeyPolicy",
        "CreateGrant",
        "CreateAlias",
        "UpdateAlias",
        "DeleteAlias",
        "DisableKeyRotation",
        "UpdatePrimaryRegion",
    }
    if region in example.publish_regions:
        assert told == [f"arn:aws:sns:{region}:123456789012:{example.cloudwatch.critical_topic}"]
        [policy] = of_type(stacks[region], "AWS::SNS::TopicPolicy")
        lets_in = {one["Principal"]["Service"]: one.get("Condition") for one in policy["PolicyDocument"]["Statement"]}
        assert lets_in.keys() == {"cloudwatch.amazonaws.com", "events.amazonaws.com"}
        assert lets_in["events.amazonaws.com"] is None  # EventBridge says nothing that a condition could compare
        assert {tuple(one["Resource"]) for one in policy["PolicyDocument"]["Statement"]} == {tuple(told)}
    else:
        assert told == [f"arn:aws:events:{to}:123456789012:event-bus/default" for to in example.publish_regions]
        [role] = of_type(stacks[region], "AWS::IAM::Role")
        [policy] = role["Policies"]
        [statement] = policy["PolicyDocument"]["Statement"]
        assert (statement["Action"], statement["Resource"]) == ("events:PutEvents", told)


def test_the_trail_leaves_kms_out_nowhere(stacks: Mapping[str, dict[str, Any]]) -> None:
    """Every region, reads and writes, nothing excluded, and files that show when they were changed."""
    [trail] = of_type(stacks["us-east-1"], "AWS::CloudTrail::Trail")
    [selector] = trail["EventSelectors"]

    assert (trail["IsMultiRegionTrail"], trail["IsLogging"], trail["EnableLogFileValidation"]) == (True, True, True)
    assert selector == {"IncludeManagementEvents": True, "ReadWriteType": "All", "ExcludeManagementEventSources": []}


@pytest.mark.parametrize("region", REGIONS)
def test_failover_has_a_private_way_to_every_region(stacks: Mapping[str, dict[str, Any]], region: str) -> None:
    """Where a VPC is named: KMS of each region, under its own name; our account's keys and nobody else's."""
    endpoints = [one for one in of_type(stacks[region], "AWS::EC2::VPCEndpoint") if one["ServiceName"].endswith(".kms")]
    ways = {one["ServiceName"]: one.get("ServiceRegion", region) for one in endpoints}

    assert ways == {f"com.amazonaws.{other}.kms": other for other in REGIONS}
    assert all(one["PrivateDnsEnabled"] for one in endpoints)
    for one in endpoints:
        for statement in one["PolicyDocument"]["Statement"]:
            assert statement["Condition"] == {"StringEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}}


def test_terraform_owns_the_stacks_and_hands_the_primaries_on(example: Settings) -> None:
    """Each stack in its own region from the file beside it; replicas wait for the primaries' ARNs."""
    document = cloudformation.terraform(example)
    stacks = document["resource"]["aws_cloudformation_stack"]
    names = {key.purpose.title() + "KeyArn" for key in desired_keys(example)}

    assert {one["provider"] for one in stacks.values()} == {f"aws.{region}" for region in REGIONS}
    templates = cloudformation.templates(example)
    for region in REGIONS:
        given = stacks[region.title().replace("-", "")]["parameters"]
        assert given.keys() == templates[region]["Parameters"].keys()
        handed_on = {name for name, text in given.items() if "aws_cloudformation_stack.UsEast1.outputs" in text}
        assert handed_on == (set() if region == "us-east-1" else names)
        assert all(f'lookup(var.parameters["{region}"]' in given[name] for name in given.keys() - handed_on)
    assert names <= set(templates["us-east-1"]["Outputs"])
    assert json.loads(cloudformation.text_of(document)) == document
