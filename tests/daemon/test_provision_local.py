"""Provisioning against a local AWS: once, again, and after it was stopped at any call."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_kit import KEYS_ALONE, PURPOSES, REGIONS, LocalCloud

from kms_core.clock import SystemClock
from kms_watchdog import aws
from kms_watchdog.commands.provision import command
from kms_watchdog.config import Settings, load
from kms_watchdog.estate import provision
from kms_watchdog.estate.desired import PURPOSE_TAG, DesiredKey, desired_keys
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.plan import Group, Step

pytestmark = pytest.mark.slow

ALL: frozenset[Group] = frozenset({"keys", "aliases", "rotation"})
MAX_CALLS = 60


class StopsAfter(KmsAdmin):
    """An admin whose process dies at its `calls`-th change; `lost` says whether that change still happened."""

    def __init__(self, settings: Settings, calls: int, *, lost: bool) -> None:
        super().__init__(settings, SystemClock())
        self.left, self.lost, self.died = calls, lost, False

    def _call(self, region: str, operation: str, ask: Any, **more: Any) -> Any:
        changes = operation in ("CreateKey", "CreateAlias", "EnableKeyRotation", "ReplicateKey")
        if changes:
            self.left -= 1
            if self.left < 0:
                self.died = True
                if self.left == -1 and self.lost:
                    super()._call(region, operation, ask, **more)
                raise EstateError(region, operation, "Killed", unreachable=True)
        return super()._call(region, operation, ask, **more)


@pytest.fixture
def credentials(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process in, and make clients anew for them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.setenv(name, cloud.environment[name])
    aws._session.cache_clear()
    yield
    aws._session.cache_clear()


def apply_with(admin: KmsAdmin, wanted: tuple[DesiredKey, ...]) -> list[Step]:
    done: list[Step] = []
    with ThreadPoolExecutor(3) as keys, ThreadPoolExecutor(9) as regions:
        plans = provision.make_plans(wanted, admin, regions, ALL)
        provision.apply_all(plans, admin, SystemClock(), keys=keys, regions=regions, tell=done.append)
    return done


def keys_with_purpose(settings: Settings, region: str, name: str) -> list[str]:
    admin = KmsAdmin(settings, SystemClock())
    tags = {"kms-watchdog:estate": settings.estate.name, PURPOSE_TAG: name}
    return [key.key_id for key in admin.tagged(region, tags)]


def test_the_command_makes_all_and_then_nothing(cloud: LocalCloud, tmp_path: Path) -> None:
    """Nine key resources, aliases and rotation; read back; a second run has nothing to do."""
    config = cloud.config(tmp_path, prefix="prov-all")

    planned = cloud.run("provision", "plan", *KEYS_ALONE, config=config)
    made = cloud.run("provision", "apply", "--yes", "--steps", "keys,aliases,rotation", config=config)
    again = cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)
    looked = cloud.run("once", config=config)

    assert (planned.returncode, planned.stdout.count("+ ")) == (1, 27)
    assert (made.returncode, made.stdout.count("done: ")) == (0, 27)
    assert "read back: every key, replica, alias and policy is as configured" in made.stdout
    assert (again.returncode, again.stdout.count("done: ")) == (0, 0)
    assert (looked.returncode, looked.stdout.count("OK ")) == (0, 9)


def test_without_a_terminal_nobody_can_confirm(cloud: LocalCloud, tmp_path: Path) -> None:
    """The plan is shown, and nothing is changed."""
    config = cloud.config(tmp_path, prefix="prov-noconfirm")

    refused = cloud.run("provision", "apply", *KEYS_ALONE, config=config)

    assert refused.returncode == 4
    assert "+ general in us-east-1" in refused.stdout
    assert refused.stderr.splitlines() == [
        "kms-watchdog: refused: not a terminal, so nobody can confirm; --yes goes without asking"
    ]
    assert cloud.run("provision", "plan", *KEYS_ALONE, config=config).stdout.count("+ ") == 27


def test_another_account_is_not_touched(cloud: LocalCloud, tmp_path: Path) -> None:
    """Credentials of one account, configuration of another: refused before anything is asked of KMS."""
    config = cloud.config(tmp_path, prefix="prov-account")
    config.write_text(config.read_text().replace("123456789012", "210987654321"))

    refused = cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)

    assert refused.returncode == 4
    assert "of account 123456789012" in refused.stderr


def test_unknown_steps_are_a_usage_error(cloud: LocalCloud, tmp_path: Path) -> None:
    """Named, with what there is."""
    config = cloud.config(tmp_path, prefix="prov-steps")

    refused = cloud.run("provision", "plan", "--steps", "keys,wishes", config=config)

    assert refused.returncode == 2
    assert "'wishes' is not one of roles, trail, keys, aliases, rotation, tags, policies" in refused.stderr


def test_a_silent_region_is_could_not_tell(cloud: LocalCloud, tmp_path: Path) -> None:
    """Nothing is known, so nothing is changed: 3."""
    config = cloud.config(tmp_path, prefix="prov-silent")
    kms = cloud.endpoints["regions"]["eu-west-1"]["kms"]
    config.write_text(config.read_text().replace(kms, "https://127.0.0.1:1"))

    told = cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)

    assert told.returncode == 3
    assert told.stderr.startswith("kms-watchdog: eu-west-1: DescribeKey: EndpointConnectionError")
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("lost", [pytest.param(False, id="before-it"), pytest.param(True, id="answer-lost")])
def test_stopped_at_any_call_it_goes_on_and_never_makes_a_second_key(
    cloud: LocalCloud, tmp_path: Path, *, lost: bool
) -> None:
    """Killed at the first change, then at the second of the next run, and so on, until it is done."""
    settings = load(cloud.config(tmp_path, prefix=f"prov-killed-{str(lost).lower()}"))
    wanted = desired_keys(settings)[:1]
    runs = 0
    for calls in range(MAX_CALLS):
        admin = StopsAfter(settings, calls % 3, lost=lost)
        try:
            apply_with(admin, wanted)
        except EstateError:
            runs += 1
        if not admin.died:
            break

    with ThreadPoolExecutor(9) as pool:
        (left,) = provision.make_plans(wanted, KmsAdmin(settings, SystemClock()), pool, ALL)
    assert (left.steps, left.differences, left.refusals) == ((), (), ())
    assert {len(keys_with_purpose(settings, region, "general")) for region in REGIONS} == {1}
    assert runs >= 2


@pytest.mark.usefixtures("credentials")
def test_an_alias_that_points_elsewhere_is_refused(cloud: LocalCloud, tmp_path: Path) -> None:
    """Two keys behind one alias name: a person must say which is right."""
    config = cloud.config(tmp_path, prefix="prov-elsewhere")
    settings = load(config)
    cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)
    kms = aws.client(settings, "kms", "eu-west-1")
    other = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    kms.update_alias(AliasName="alias/prov-elsewhere-pii", TargetKeyId=other)

    refused = cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)

    assert refused.returncode == 4
    assert "pii: alias/prov-elsewhere-pii or our tags lead to several keys" in refused.stderr


@pytest.mark.usefixtures("credentials")
def test_drift_is_told_and_left(cloud: LocalCloud, tmp_path: Path) -> None:
    """A policy that somebody changed in one region is named; this command does not take it back."""
    config = cloud.config(tmp_path, prefix="prov-drift")
    settings = load(config)
    cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)
    kms = aws.client(settings, "kms", "us-west-2")
    statement = {"Sid": "x", "Effect": "Allow", "Action": "kms:*", "Resource": "*"}
    principal = {"AWS": "arn:aws:iam::123456789012:root"}
    policy = {"Version": "2012-10-17", "Statement": [{**statement, "Principal": principal}]}
    key_id = kms.describe_key(KeyId="alias/prov-drift-pii")["KeyMetadata"]["KeyId"]
    kms.put_key_policy(KeyId=key_id, PolicyName="default", Policy=json.dumps(policy))

    told = cloud.run("provision", "apply", "--yes", *KEYS_ALONE, config=config)

    assert told.returncode == 1
    assert "still different: pii in us-west-2: its key policy is not the one rendered here" in told.stderr


@pytest.mark.usefixtures("credentials")
def test_a_throttled_call_is_waited_out(cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CreateAlias allows five a second: being told to wait is not an error."""
    settings = load(cloud.config(tmp_path, prefix="prov-throttled"))
    admin = KmsAdmin(settings, SystemClock())
    pauses: list[float] = []
    monkeypatch.setattr(admin, "pause", pauses.append)
    answers = iter([throttled(), throttled(), None])

    def ask(_kms: Any) -> str:
        if error := next(answers):
            raise error
        return "done"

    assert admin._call("us-east-1", "CreateAlias", ask) == "done"
    assert pauses == [0.2, 0.4]


def throttled() -> Exception:
    error: Exception = aws.ClientError({"Error": {"Code": "ThrottlingException", "Message": "m"}}, "CreateAlias")
    return error


def test_every_purpose_has_its_own_key(cloud: LocalCloud, tmp_path: Path) -> None:
    """Three purposes, three keys."""
    wanted = desired_keys(load(cloud.config(tmp_path, prefix="prov-purposes")))

    assert [key.purpose for key in wanted] == list(PURPOSES)


def test_policies_are_printed_and_written(cloud_here: LocalCloud, tmp_path: Path) -> None:
    """What IAM and KMS take, with the keys' own ARNs; before there are keys, that is said: 1."""
    config = cloud_here.config(tmp_path, prefix="prov-policies")
    other = tmp_path / "other.toml"
    other.write_text(config.read_text().replace("123456789012", "210987654321"))

    def run(*arguments: str, config: Path = config) -> Result:
        return CliRunner().invoke(command, [*arguments, "--config", str(config)])

    early = run("policies")
    run("apply", "--yes")
    printed = json.loads(run("policies").stdout)
    written = run("policies", "--into", str(tmp_path / "to"))
    refused = run("policies", config=other)

    roles = {role["RoleName"]: role for role in printed["RoleDetailList"]}
    files = {Path(line).name: json.loads(Path(line).read_text()) for line in written.stdout.splitlines()}
    resource = files["ServiceRole.policy.json"]["Statement"][0]["Resource"][0]
    assert (early.exit_code, early.stdout, early.stderr.count("\n")) == (1, "", 1)
    assert "no alias/prov-policies-general in us-east-1: `kms-watchdog provision apply` makes it" in early.stderr
    assert roles.keys() == {"ServiceRole", "KmsWatchdogRole", "KmsDrillRole"}
    assert files.keys() == {f"{role}.{kind}.json" for role in roles for kind in ("policy", "trust")} | {
        f"key-{purpose}.json" for purpose in PURPOSES
    }
    assert files["ServiceRole.policy.json"] == roles["ServiceRole"]["RolePolicyList"][0]["PolicyDocument"]
    assert resource.startswith("arn:aws:kms:us-east-1:123456789012:key/mrk-")
    assert files["key-pii.json"] == desired_keys(load(config))[1].policy
    # staging and production may have the same aliases: ARNs of one with key ids of the other would be nobody's
    assert (refused.exit_code, refused.stdout) == (4, "")
    assert "is of account 123456789012, the configuration of 210987654321" in refused.stderr


@pytest.mark.parametrize("subcommand", ["policies", "plan"])
def test_who_is_not_let_in_could_not_tell(cloud: LocalCloud, tmp_path: Path, subcommand: str) -> None:
    """Without credentials nothing is known: a plan that could not look is no drift."""
    config = cloud.config(tmp_path, prefix="prov-stranger")
    stranger = {**cloud.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    arguments = [sys.executable, "-m", "kms_watchdog", "provision", subcommand, "--config", str(config)]

    told = subprocess.run(arguments, env=stranger, capture_output=True, text=True, check=False, timeout=60)

    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (3, "", 1)
