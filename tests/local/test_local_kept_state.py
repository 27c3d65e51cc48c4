"""State that outlives the server: taken up again after a clean stop and after SIGKILL, refused when it is not ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.slow

FLAGS = ("--keep-state", "--no-toxiproxy", "--creating-seconds", "0", "--regions", "us-east-1,us-west-2")


@pytest.fixture
def keeping(tmp_path: Path, local_aws_starter: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Start servers one after the other in the same directory."""
    started: list[Any] = []

    def start(*flags: str) -> Any:
        started.append(local_aws_starter(tmp_path / "aws", *FLAGS, *flags))
        return started[-1]

    yield start
    if started[-1].process.poll() is None:
        started[-1].close()


def fill(aws: Any) -> dict[str, Any]:
    """Make something of every kind, and return what is needed to find it again."""
    east, west = aws.client("kms"), aws.client("kms", "us-west-2")
    key_id = east.create_key(MultiRegion=True, Tags=[{"TagKey": "a", "TagValue": "b"}])["KeyMetadata"]["KeyId"]
    east.replicate_key(KeyId=key_id, ReplicaRegion="us-west-2", Description="replica")
    west.create_alias(AliasName="alias/kept", TargetKeyId=key_id)
    blob = east.encrypt(KeyId=key_id, Plaintext=b"x", EncryptionContext={"k": "v"})["CiphertextBlob"]
    east.enable_key_rotation(KeyId=key_id, RotationPeriodInDays=120)
    grantee = "arn:aws:iam::123456789012:role/Someone"
    east.create_grant(KeyId=key_id, GranteePrincipal=grantee, Operations=["Decrypt"])
    sns, cloudwatch = aws.client("sns"), aws.client("cloudwatch")
    topic = sns.create_topic(Name="alerts")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint="http://127.0.0.1:9/")
    alarm = {
        "Namespace": "N", "MetricName": "M", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1,
        "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold", "AlarmActions": [topic],
        "TreatMissingData": "ignore",
    }  # fmt: skip
    cloudwatch.put_metric_alarm(AlarmName="kept", **alarm)
    cloudwatch.set_alarm_state(AlarmName="kept", StateValue="ALARM", StateReason="by hand")
    cloudwatch.put_composite_alarm(AlarmName="both", AlarmRule='ALARM("kept")')
    assert aws.admin("PUT", "/iam", {"RoleDetailList": [{"RoleName": "Someone"}]})[0] == 200
    policy = '{"Statement": {"Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*"}}'
    aws.client("iam").put_role_policy(RoleName="Someone", PolicyName="Put", PolicyDocument=policy)
    trails = aws.client("cloudtrail")
    trails.create_trail(Name="kept", S3BucketName="b", IsMultiRegionTrail=True)
    trails.start_logging(Name="kept")
    return {"key_id": key_id, "blob": blob, "topic": topic, "before": aws.endpoints, "ca": ca(aws)}


def ca(aws: Any) -> str:
    return Path(aws.endpoints["ca_bundle"]).read_text()


def check(aws: Any, made: dict[str, Any]) -> None:
    """Find all of it again."""
    east, west, key_id = aws.client("kms"), aws.client("kms", "us-west-2"), made["key_id"]
    metadata = west.describe_key(KeyId="alias/kept")["KeyMetadata"]
    assert (metadata["KeyId"], metadata["Description"], metadata["KeyState"]) == (key_id, "replica", "Enabled")
    assert west.decrypt(CiphertextBlob=made["blob"], EncryptionContext={"k": "v"})["Plaintext"] == b"x"
    assert east.get_key_rotation_status(KeyId=key_id)["RotationPeriodInDays"] == 120
    assert east.list_resource_tags(KeyId=key_id)["Tags"] == [{"TagKey": "a", "TagValue": "b"}]
    assert len(east.list_grants(KeyId=key_id)["Grants"]) == 1
    trails = aws.client("cloudtrail")
    assert [one["Name"] for one in trails.describe_trails()["trailList"]] == ["kept"]
    assert trails.get_trail_status(Name="kept")["IsLogging"]
    assert len(aws.client("sns").list_subscriptions_by_topic(TopicArn=made["topic"])["Subscriptions"]) == 1
    cloudwatch = aws.client("cloudwatch")
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=["kept"])["MetricAlarms"]
    assert (alarm["StateValue"], alarm["StateReason"], alarm["AlarmActions"]) == ("ALARM", "by hand", [made["topic"]])
    (composite,) = cloudwatch.describe_alarms(AlarmTypes=["CompositeAlarm"])["CompositeAlarms"]
    assert composite["AlarmRule"] == 'ALARM("kept")'
    history = cloudwatch.describe_alarm_history(AlarmName="kept", HistoryItemType="StateUpdate")["AlarmHistoryItems"]
    assert [item["HistorySummary"] for item in history] == ["Alarm updated from INSUFFICIENT_DATA to ALARM"]
    assert aws.client("iam").list_role_policies(RoleName="Someone")["PolicyNames"] == ["Put"]
    for name in ("credentials", "roles"):
        assert aws.endpoints[name] == made["before"][name]
    assert ca(aws) == made["ca"]


@pytest.mark.parametrize("how", ["terminate", pytest.param("kill", marks=pytest.mark.slow)])
def test_a_restart_takes_everything_up(keeping: Callable[..., Any], how: str) -> None:
    """After a clean stop, and after SIGKILL: what was answered had been written."""
    aws = keeping()
    made = fill(aws)
    getattr(aws.process, how)()
    aws.process.wait(10)
    aws.close()

    again = keeping()

    check(again, made)
    again.close()
    check(keeping(), made)


def test_a_rotation_that_time_has_done_is_kept(keeping: Callable[..., Any], eventually: Callable[..., None]) -> None:
    """Whoever notices it first, what was sealed under the new material opens after SIGKILL."""
    aws = keeping()
    east = aws.client("kms")
    key_id = east.create_key()["KeyMetadata"]["KeyId"]
    first = east.describe_key(KeyId=key_id)["KeyMetadata"]["CurrentKeyMaterialId"]
    east.rotate_key_on_demand(KeyId=key_id)
    aws.admin("GET", "/state")
    eventually(lambda: east.describe_key(KeyId=key_id)["KeyMetadata"]["CurrentKeyMaterialId"] != first)
    blob = east.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    aws.process.kill()
    aws.process.wait(10)
    aws.close()

    assert keeping().client("kms").decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_without_the_flag_nothing_is_kept(tmp_path: Path, local_aws_starter: Callable[..., Any]) -> None:
    """A new run is a new account, and leaves no state file."""
    aws = local_aws_starter(tmp_path / "aws", "--no-toxiproxy")
    key_id = aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
    aws.close()
    assert not (tmp_path / "aws" / "state.json").exists()
    again = local_aws_starter(tmp_path / "aws", "--no-toxiproxy")
    with pytest.raises(ClientError, match="does not exist"):
        again.client("kms").describe_key(KeyId=key_id)
    again.close()


def test_the_file_is_its_owners_alone(keeping: Callable[..., Any]) -> None:
    """It holds key material."""
    aws = keeping()
    aws.client("kms").create_key()
    assert (aws.directory / "state.json").stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def kept_state(tmp_path_factory: pytest.TempPathFactory, local_aws_starter: Callable[..., Any]) -> Any:
    """What a server with something of everything has kept."""
    aws = local_aws_starter(tmp_path_factory.mktemp("kept"), *FLAGS)
    fill(aws)
    aws.close()
    return json.loads((aws.directory / "state.json").read_text())


@pytest.mark.parametrize(
    ("change", "flags", "says"),
    [
        pytest.param(lambda _: "{", (), "not JSON", id="broken"),
        pytest.param(lambda _: "[]", (), "schema 1", id="a-list"),
        pytest.param(lambda state: json.dumps({**state, "schema": 2}), (), "schema 1", id="another-schema"),
        pytest.param(json.dumps, ("--regions", "us-east-1"), "us-west-2", id="a-region-less"),
        pytest.param(
            lambda state: json.dumps({**state, "parts": {**state["parts"], "authority": "x"}}),
            (),
            "authority cannot be read",
            id="a-broken-part",
        ),
        pytest.param(
            lambda state: json.dumps({**state, "parts": {**state["parts"], "estate": {"version": 1}}}),
            (),
            "of account None, not of 123456789012",
            id="another-account",
        ),
    ],
)
def test_a_state_that_is_not_ours_is_one_line(
    kept_state: Any, tmp_path: Path, change: Callable[[Any], str], flags: tuple[str, ...], says: str
) -> None:
    """Nothing is served, nothing is overwritten."""
    file = tmp_path / "aws" / "state.json"
    file.parent.mkdir()
    file.write_text(change(kept_state))
    content = file.read_bytes()

    command = [sys.executable, "-m", "kms_local", "serve", "--dir", str(tmp_path / "aws"), *FLAGS, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert file.read_bytes() == content
