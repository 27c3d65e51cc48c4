"""`kms-alarms plan` and `apply` against a local CloudWatch: what differs is shown, and only what is ours is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_kit import LocalCloud, cloud, cloud_here

from kms_alarms import apply, cloudwatch
from kms_alarms.cli import cli
from kms_watchdog import alarm_definitions, aws
from kms_watchdog.config import Settings, load

__all__ = ["cloud", "cloud_here"]

HERE, THERE = "us-east-1", "us-west-2"


class Installed:
    """An estate's configuration, and CloudWatch as others see it."""

    def __init__(self, config: Path) -> None:
        self.config, self.settings = config, load(config)
        self.client: Any = aws.client(self.settings, "cloudwatch", HERE)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, [*arguments, "--config", str(self.config)], catch_exceptions=False)

    def wanted(self, name: str) -> dict[str, Any]:
        rendered = cloudwatch.render(self.settings, alarm_region=HERE)
        return dict(next(one for one in rendered if one["AlarmName"] == name))

    def there(self, name: str) -> dict[str, Any]:
        [found] = self.client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return dict(found)


@pytest.fixture
def installed(cloud_here: LocalCloud, tmp_path: Path) -> Installed:
    config, own = cloud_here.config(tmp_path, prefix="apply"), tmp_path.name.replace("_", "-")[:50]
    topics = "".join(f'{kind}_topic = "{own}-{kind}"\n' for kind in ("alerts", "critical", "drills"))
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[cloudwatch]", f'[cloudwatch]\nalarm_prefix = "{own}"\n{topics}', 1), "utf-8")
    return Installed(config)


def name_of(settings: Settings) -> str:
    return f"{settings.cloudwatch.alarm_prefix}-HighLatency-us-east-1"


def test_from_nothing_to_nothing_to_do(installed: Installed) -> None:
    """Everything is shown before it is made, in both regions; a second run finds nothing."""
    before, refused = installed.run("plan"), installed.run("apply")
    applied, after = installed.run("apply", "--yes"), installed.run("plan")

    names = [one["AlarmName"] for one in cloudwatch.render(installed.settings, alarm_region=HERE)]
    assert (before.exit_code, refused.exit_code, applied.exit_code, after.exit_code) == (1, 4, 0, 0)
    topics = [f"topic {name}" for name in alarm_definitions.topics(installed.settings)]
    expected = [f"{region}  create  {name}" for region in (HERE, THERE) for name in (*topics, *names)]
    assert before.output.splitlines() == expected
    assert after.output == f"{HERE}  nothing to do\n{THERE}  nothing to do\n"


def test_a_change_by_hand_is_shown_as_exactly_that_and_put_right(installed: Installed) -> None:
    """Which alarm, which parameter, from what to what; and no other alarm is touched."""
    installed.run("apply", "--yes")
    name = name_of(installed.settings)
    installed.client.put_metric_alarm(**{**installed.wanted(name), "Threshold": 50.0})

    plan = installed.run("plan")
    mended, after = installed.run("apply", "--yes"), installed.run("plan")

    assert plan.output.splitlines() == [
        f"{HERE}  change Threshold  {name}",
        "    Threshold: 50.0 -> 1000.0",
        f"{THERE}  nothing to do",
    ]
    assert (plan.exit_code, mended.exit_code, after.exit_code) == (1, 0, 0)
    assert installed.there(name)["Threshold"] == 1000.0


def test_a_topic_that_was_deleted_is_made_again(installed: Installed) -> None:
    """Though no alarm differs: each would speak to nobody."""
    installed.run("apply", "--yes")
    arn = alarm_definitions.topic_arn(installed.settings, installed.settings.cloudwatch.critical_topic, HERE)
    sns: Any = aws.client(installed.settings, "sns", HERE)
    sns.delete_topic(TopicArn=arn)

    plan, mended = installed.run("plan"), installed.run("apply", "--yes")

    assert plan.output.splitlines() == [
        f"{HERE}  create  topic {installed.settings.cloudwatch.critical_topic}",
        f"{THERE}  nothing to do",
    ]
    assert (plan.exit_code, mended.exit_code) == (1, 0)
    assert sns.get_topic_attributes(TopicArn=arn)["Attributes"]["TopicArn"] == arn


def test_what_nobody_owns_is_left_alone_unless_it_is_adopted(installed: Installed) -> None:
    """Made by hand under our name: it may be on purpose."""
    installed.run("apply", "--yes")
    name = name_of(installed.settings)
    installed.client.delete_alarms(AlarmNames=[name])
    installed.client.put_metric_alarm(**{**installed.wanted(name), "Threshold": 50.0})

    plan, left = installed.run("plan"), installed.run("apply", "--yes")
    kept = installed.there(name)["Threshold"]
    adopted = installed.run("apply", "--yes", "--adopt")

    assert f"{name}  (owned by nobody by its tags)" in plan.output
    assert (left.exit_code, kept) == (4, 50.0)
    assert f"{HERE}  {name}" in left.stderr
    assert (adopted.exit_code, installed.there(name)["Threshold"]) == (0, 1000.0)
    assert installed.client.list_tags_for_resource(ResourceARN=installed.there(name)["AlarmArn"])["Tags"] == [
        apply.OWNER_TAG
    ]


@pytest.mark.parametrize(
    ("tags", "owner", "adoptable"),
    [
        pytest.param({"aws:cloudformation:stack-name": "alarms"}, "the CloudFormation stack alarms", False, id="stack"),
        pytest.param({"managed-by": "terraform"}, "terraform", False, id="somebody-else"),
        pytest.param({"team": "sre"}, "nobody by its tags", True, id="nobody"),
        pytest.param({"managed-by": "kms-alarms"}, "", False, id="ours"),
    ],
)
def test_an_owner_is_told_by_tags(installed: Installed, tags: dict[str, str], owner: str, *, adoptable: bool) -> None:
    """A stack's alarms are the stack's: two owners would undo each other for ever."""

    class Tagged:
        def list_tags_for_resource(self, **_: str) -> dict[str, Any]:
            return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    change = apply.plan(installed.settings)[0].changes[0].change

    found = apply._with_owner(Tagged(), HERE, replace(change, present={"AlarmArn": "arn"}))

    assert (found.owner, found.adoptable) == (owner, adoptable)


@pytest.mark.parametrize("command", [("plan",), ("apply", "--yes"), ("subscribe", "oncall@example.com")], ids=" ".join)
def test_credentials_of_another_account_are_refused(installed: Installed, command: tuple[str, ...]) -> None:
    """In one line, before CloudWatch or SNS is asked: nothing is put."""
    text = installed.config.read_text(encoding="utf-8").replace("123456789012", "210987654321")
    installed.config.write_text(text, encoding="utf-8")

    refused = installed.run(*command)

    assert (refused.exit_code, refused.stdout) == (4, "")
    assert refused.stderr == (
        "kms-alarms: the credentials are of account 123456789012, the configuration of 210987654321\n"
    )
    assert (
        installed.client.describe_alarms(AlarmNamePrefix=installed.settings.cloudwatch.alarm_prefix)["MetricAlarms"]
        == []
    )
