"""Provisioning a whole estate, roles and all, on the local AWS: from nothing, again, killed, two at once, put right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import KEYS_ALONE, REGIONS, LocalCloud
from provisioned_estate import BUCKET, CHANGES_OF_ONE_KEY, Estate, estate

from kms_core.clock import SystemClock
from kms_local.admin_client import ask
from kms_watchdog.commands.provision import only_one
from kms_watchdog.config import load
from kms_watchdog.estate import provision
from kms_watchdog.estate.desired import PURPOSE_TAG, desired_keys
from kms_watchdog.estate.kms_admin import KmsAdmin
from kms_watchdog.estate.plan import Group, KeyPlan

pytestmark = pytest.mark.slow

KEYS: frozenset[Group] = frozenset({"keys", "aliases", "rotation", "tags"})


def test_from_nothing_to_a_whole_estate(cloud: LocalCloud, tmp_path: Path) -> None:
    """Roles first, then keys, then the roles' policies, which name the keys; a second run has nothing to do."""
    made = estate(cloud, tmp_path, "whole")

    planned = made.provision("plan")
    applied = made.provision("apply", "--yes")
    again = made.provision("plan")

    done = [line for line in applied.stdout.splitlines() if line.startswith("done: ")]
    assert (planned.returncode, planned.stdout.count("+ ")) == (1, 47)
    assert (applied.returncode, len(done), applied.stderr) == (0, 47, "")
    assert all("boundary of roles" in line or "with its trust policy" in line for line in done[:10])
    assert all(line.startswith("done: trail kms-watchdog-keys: ") for line in done[10:12])
    assert all(line.endswith("put its policy") for line in done[-8:])
    assert applied.stdout.endswith("read back: every role, trail, key, replica, alias and policy is as configured\n")
    assert (again.returncode, again.stdout) == (0, "nothing to do\n")
    assert all(len(names) == 1 for names in made.role_policies().values())
    policy = made.cloud.client("iam").get_role_policy(
        RoleName="wholeService", PolicyName=made.role_policies()["wholeService"][0]
    )
    named = set(re.findall(r"mrk-[0-9a-f]{32}", json.dumps(policy["PolicyDocument"])))
    assert named == set(made.keys("us-east-1"))


@pytest.mark.computes
@pytest.mark.minutes(6)
@pytest.mark.timeout(2400)
def test_killed_after_each_change_the_next_run_makes_the_same_estate(cloud: LocalCloud, tmp_path: Path) -> None:
    """SIGKILL when a change was made and its answer not yet read: never a second key, and nothing is missing."""

    def see_through(number: int) -> tuple[Any, ...]:
        made = estate(cloud, tmp_path / f"{number}", f"killed{number}", purposes=1)
        killed = made.die_applying(number, "after")
        finished = made.provision("apply", "--yes")
        left = made.provision("plan")
        keys = [len(made.keys(region)) for region in REGIONS]
        roles = [*map(len, made.role_policies().values())]
        return killed, finished.returncode, left.stdout, keys, roles, made.trails()

    seen = [see_through(number) for number in range(1, CHANGES_OF_ONE_KEY + 2)]

    well = (0, "nothing to do\n", [1, 1, 1], [1] * 8, {"kms-watchdog-keys": True})
    assert [one[1:] for one in seen] == [well] * len(seen)
    assert [one[0] for one in seen] == [-9] * CHANGES_OF_ONE_KEY + [0]


@pytest.mark.computes
@pytest.mark.minutes(6)
@pytest.mark.timeout(2400)
def test_killed_before_each_change_the_last_run_makes_the_same_estate(cloud: LocalCloud, tmp_path: Path) -> None:
    """One estate, and a run after the other that makes one change and dies before its next is sent."""
    made = estate(cloud, tmp_path, "diesbefore", purposes=1)

    *killed, last = made.die_until_applied("before")

    left = made.provision("plan")
    assert (set(killed), last) == ({-9}, 0)
    assert len(killed) >= CHANGES_OF_ONE_KEY - 1
    assert (left.returncode, left.stdout) == (0, "nothing to do\n")
    assert [len(made.keys(region)) for region in REGIONS] == [1, 1, 1]


def test_a_trail_that_records_all_is_enough_whoever_made_it(cloud: LocalCloud, tmp_path: Path) -> None:
    """At home in whatever region; once it is stopped, one is made beside it."""
    made = estate(cloud, tmp_path, "theirs", purposes=1)
    cloudtrail = cloud.client("cloudtrail", "eu-west-1")
    cloudtrail.create_trail(Name="organization", S3BucketName=BUCKET, IsMultiRegionTrail=True)
    cloudtrail.start_logging(Name="organization")

    enough = made.provision("plan", "--steps", "trail")
    cloudtrail.stop_logging(Name="organization")
    stopped = made.provision("apply", "--steps", "trail", "--yes")

    cloudtrail.delete_trail(Name="organization")
    assert (enough.returncode, enough.stdout) == (0, "nothing to do\n")
    assert (stopped.returncode, stopped.stdout.count("done: trail kms-watchdog-keys: ")) == (0, 2)


def test_our_trail_that_leaves_something_out_is_told_and_left(cloud: LocalCloud, tmp_path: Path) -> None:
    """Somebody narrowed it: nothing is changed about it, and nothing is said to be well."""
    made = estate(cloud, tmp_path, "narrow", purposes=1)
    made.provision("apply", "--steps", "trail", "--yes")
    cloud.client("cloudtrail").put_event_selectors(
        TrailName="kms-watchdog-keys", EventSelectors=[{"ReadWriteType": "WriteOnly"}]
    )

    planned = made.provision("plan", "--steps", "trail")
    applied = made.provision("apply", "--steps", "trail", "--yes")

    told = "trail kms-watchdog-keys: it leaves regions or events out"
    assert (planned.returncode, planned.stdout) == (1, f"! {told} (left as it is)\n")
    assert (applied.returncode, applied.stderr) == (1, f"still different: {told}\n")


@pytest.mark.parametrize("command", [("plan",), ("apply", "--yes")], ids=" ".join)
def test_a_trail_without_a_bucket_is_not_called_done(
    cloud: LocalCloud, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Whoever asks for it by name is told that nothing says where it should write."""
    made = estate(cloud, tmp_path, "nowhere", purposes=1)
    text = made.config.read_text(encoding="utf-8").replace(f'trail_bucket = "{BUCKET}"\n', "")
    made.config.write_text(text, encoding="utf-8")

    refused = made.provision(*command, "--steps", "trail")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == ("kms-watchdog: --steps trail: [estate] trail_bucket does not say where it should write\n")


@pytest.mark.parametrize("code", ["S3BucketDoesNotExistException", "InsufficientS3BucketPolicyException"])
def test_a_bucket_that_takes_no_trail_is_told_with_what_to_do(cloud: LocalCloud, tmp_path: Path, code: str) -> None:
    """Keys are not made before their trail is: the next run goes on from there."""
    made = estate(cloud, tmp_path, "nobucket", purposes=1)
    members = {"service": "cloudtrail", "operation": "CreateTrail", "error_code": code, "times": 1}
    ask(cloud.directory, "POST", "/faults", members)

    refused = made.provision("apply", "--yes")

    assert refused.returncode == 1
    assert refused.stderr == (
        f"kms-watchdog: us-east-1: CreateTrail: {code}: is [estate] trail_bucket there,"
        " and does its policy let CloudTrail write? (docs/estate.md)\n"
    )
    assert (made.keys("us-east-1"), made.trails()) == ([], {})


def test_of_two_at_once_one_is_refused(cloud: LocalCloud, tmp_path: Path) -> None:
    """By one user on one machine: the other run changes nothing."""
    made = estate(cloud, tmp_path, "twice", purposes=1)

    with only_one(load(made.config)):
        refused = made.provision("apply", "--yes")
    applied = made.provision("apply", "--yes")

    assert (refused.returncode, refused.stdout) == (4, "")
    assert refused.stderr == "kms-watchdog: refused: somebody else is applying to twice: wait until it is over\n"
    assert applied.returncode == 0


def test_who_comes_second_to_the_alias_is_told_and_disowns_what_it_made(cloud_here: LocalCloud, tmp_path: Path) -> None:
    """Both saw nothing, and each makes a key: only one of them says whose it is."""
    made = estate(cloud_here, tmp_path, "second", purposes=1)
    settings = load(made.config)
    admin, clock, wanted = KmsAdmin(settings, SystemClock()), SystemClock(), desired_keys(settings)
    with ThreadPoolExecutor(1) as keys, ThreadPoolExecutor(3) as regions:
        here, there = (provision.make_plans(wanted, admin, regions, KEYS) for _ in range(2))

        def apply(plans: tuple[KeyPlan, ...]) -> None:
            provision.apply_all(plans, admin, clock, keys=keys, regions=regions, tell=lambda _: None)

        apply(here)
        with pytest.raises(
            provision.AliasTakenError, match="somebody else is provisioning: alias/second-general leads"
        ):
            apply(there)

        (left,) = provision.make_plans(wanted, admin, regions, KEYS)
    [first, second] = made.keys("us-east-1")
    tags = {key_id: admin.tags("us-east-1", key_id) for key_id in (first, second)}
    assert (left.steps, left.refusals) == ((), ())
    assert {PURPOSE_TAG in given for key_id, given in tags.items() if key_id == left.key_id} == {True}
    assert {PURPOSE_TAG in given for key_id, given in tags.items() if key_id != left.key_id} == {False}
    assert [len(made.keys(region)) for region in REGIONS] == [2, 1, 1]


def test_from_two_machines_the_alias_decides(cloud: LocalCloud, tmp_path: Path) -> None:
    """Whoever comes second is told so, and the estate stays one; what the second made carries no purpose any more."""
    made = [estate(cloud, tmp_path / name, "race", purposes=1) for name in ("a", "b", "c")]
    for one in made:
        (one.config.parent / "tmp").mkdir()
    elsewhere = [{**cloud.environment, "TMPDIR": str(tmp_path / name / "tmp")} for name in ("a", "b", "c")]

    def apply(one: Estate, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kms_watchdog", "provision", "apply", "--yes", "--config", str(one.config)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL
        )

    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(apply, made, elsewhere))
    left = made[0].provision("apply", "--yes")
    plan = made[0].provision("plan")

    for done in ran:
        told = done.stderr
        assert (done.returncode == 0) or "somebody else is provisioning: " in told or "several keys" in told
        assert told.count("\n") <= 1
    assert 0 in {done.returncode for done in ran}
    assert (left.returncode, plan.returncode, plan.stdout) == (0, 0, "nothing to do\n")


def test_a_key_about_to_be_deleted_is_not_replaced(cloud: LocalCloud, tmp_path: Path) -> None:
    """Its alias is gone already: a new key would open nothing that was sealed under it."""
    made = estate(cloud, tmp_path, "leaving", purposes=1)
    made.provision("apply", "--yes", *KEYS_ALONE)
    [key_id] = made.keys("us-east-1")
    for region in REGIONS:
        made.cloud.client("kms", region).delete_alias(AliasName="alias/leaving-general")
    for region in reversed(REGIONS):
        made.cloud.client("kms", region).schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)

    refused = made.provision("apply", "--yes", *KEYS_ALONE)

    assert refused.returncode == 4
    assert f"{key_id} carries our tags and is Pending" in refused.stderr
    assert len(made.keys("us-east-1")) == 1


def test_policies_and_tags_are_put_right_when_asked_for(cloud: LocalCloud, tmp_path: Path) -> None:
    """Policies are told and left otherwise; tags and descriptions are put right unasked."""
    made = estate(cloud, tmp_path, "right", purposes=1)
    made.provision("apply", "--yes")
    [key_id] = made.keys("us-east-1")
    kms, iam = made.cloud.client("kms", "eu-west-1"), made.cloud.client("iam")
    statement = {"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "kms:*", "Resource": "*"}
    wide = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    kms.put_key_policy(KeyId=key_id, PolicyName="default", Policy=wide)
    kms.untag_resource(KeyId=key_id, TagKeys=["managed-by"])
    kms.update_key_description(KeyId=key_id, Description="x")
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.update_assume_role_policy(
        RoleName="rightService", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    [name] = made.role_policies()["rightDrill"]
    nothing = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    iam.put_role_policy(
        RoleName="rightDrill",
        PolicyName=name,
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [nothing]}),
    )

    usual = made.provision("apply", "--yes")
    asked = made.provision("apply", "--yes", "--steps", "roles,keys,policies")
    after = made.provision("plan")

    assert usual.returncode == 1
    assert sorted(line for line in usual.stdout.splitlines() if line.startswith("done")) == [
        "done: general in eu-west-1: give the key its description",
        "done: general in eu-west-1: give the key its tags",
    ]
    assert sorted(line.removeprefix("still different: ") for line in usual.stderr.splitlines()) == [
        "general in eu-west-1: its key policy is not the one rendered here",
        f"rightDrill: its policy {name} is not the one rendered here",
        "rightService: its trust policy is not the one rendered here",
    ]
    assert (asked.returncode, asked.stdout.count("done: ")) == (0, 3)
    assert (after.returncode, after.stdout) == (0, "nothing to do\n")


def test_whose_credentials_may_not_use_iam_is_told_how_to_go_on(cloud: LocalCloud, tmp_path: Path) -> None:
    """One line, and the steps that need no IAM."""
    made = estate(cloud, tmp_path, "noiam", purposes=1)
    fault = ask(cloud.directory, "POST", "/faults", {"service": "iam", "error_code": "AccessDenied"})["id"]
    refused = made.provision("plan")
    ask(cloud.directory, "DELETE", f"/faults/{fault}")

    assert refused.returncode == 3
    assert refused.stderr == (
        "kms-watchdog: iam: GetPolicy: AccessDenied: who may not use IAM leaves roles out,"
        " with --steps keys,aliases,rotation,tags\n"
    )


def test_what_was_made_a_moment_ago_may_not_be_known_everywhere(cloud: LocalCloud, tmp_path: Path) -> None:
    """KMS and IAM say NotFound of it for a while: it is asked again, and the estate is made in one run."""
    made = estate(cloud, tmp_path, "soon", purposes=1)
    late = [
        {"service": "kms", "operation": operation, "error_code": "NotFoundException", "times": 2}
        for operation in ("CreateAlias", "EnableKeyRotation", "ReplicateKey")
    ]
    late.append({"service": "iam", "operation": "PutRolePolicy", "error_code": "NoSuchEntity", "times": 2})
    faults = [ask(cloud.directory, "POST", "/faults", members)["id"] for members in late]

    applied = made.provision("apply", "--yes")

    left = {one["id"] for one in ask(cloud.directory, "GET", "/faults")["faults"]}
    assert not left & set(faults)  # each was met as often as it was to be
    assert (applied.returncode, applied.stderr) == (0, "")


def test_roles_can_be_made_before_there_is_a_key(cloud: LocalCloud, tmp_path: Path) -> None:
    """By whoever may use IAM alone: their policies, which name keys, are still to be put, and that is said."""
    made = estate(cloud, tmp_path, "early", purposes=1)

    roles = made.provision("apply", "--yes", "--steps", "roles")
    keys = made.provision("apply", "--yes", *KEYS_ALONE)
    rest = made.provision("apply", "--yes")

    assert roles.returncode == 1
    assert sorted(roles.stderr.splitlines()) == sorted(
        f"still different: {name}: put its policy"
        for name in ("KmsBreakGlassRole", "earlyService", "earlyDrill", "earlyWatchdog")
    )
    assert (keys.returncode, rest.returncode, rest.stdout.count(": put its policy\n")) == (0, 0, 2 * 4)  # + and done


def test_a_key_that_keeps_us_out_is_named(cloud: LocalCloud, tmp_path: Path) -> None:
    """It might be ours, half made: nothing is made beside it before somebody has looked."""
    made = estate(cloud, tmp_path, "keptout", purposes=1)
    cloud.client("kms").create_key(MultiRegion=True)  # whoever's it is
    members = {"service": "kms", "operation": "ListResourceTags", "error_code": "AccessDeniedException"}
    fault = ask(cloud.directory, "POST", "/faults", members)["id"]

    refused = made.provision("apply", "--yes", *KEYS_ALONE)

    ask(cloud.directory, "DELETE", f"/faults/{fault}")
    assert refused.returncode == 3
    assert re.search(r"ListResourceTags of mrk-[0-9a-f]{32}: AccessDeniedException", refused.stderr)
