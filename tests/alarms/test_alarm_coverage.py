"""Whatever can go wrong is told by an alarm, or is said to need none; and alerts go to whom they should."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from alerting import binary
from click.testing import CliRunner

from kms_alarms import cloudformation, coverage, prometheus, runbooks
from kms_alarms.cli import cli
from kms_alarms.coverage import OF_EVENT, OF_KIND, OF_STATE, covered
from kms_alarms.table import ALARMS
from kms_watchdog.config import load
from kms_watchdog.results import Kind, Reason

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "daemon" / "watchdog.example.toml"
ROUTES = ROOT / "alarms" / "prometheus" / "alertmanager.example.yml"


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, [*arguments], catch_exceptions=False)


def told_by(what: str) -> Any:
    [found] = [one for one in covered() if one.what == what]
    return found.told


def test_nothing_is_left_out() -> None:
    """Every answer of every canary, every event of the core, every state of the watchdog itself; each has its page."""
    done = run("check", "--runbooks", str(ROOT / "alarms" / "runbooks"))

    assert [one.wrong for one in covered() if one.wrong] == []
    assert done.exit_code == 0
    assert done.output.endswith(f"{len(ALARMS)} alarms, 0 wrong\n")


@pytest.mark.parametrize(
    ("what", "alarm"),
    [
        ("round_trip timeout", "HighErrorRate"),
        ("golden mismatch", "PlaintextMismatch"),
        ("must_fail_kms accepted_must_refuse", "MustFailAccepted"),
        ("must_fail_core asked_kms", "RefusalProvesNothing"),
        ("key_state rotation_off", "RotationOff"),
        ("replica_drift blind", "CanaryBlind"),
        ("event KeyQuarantined", "KeyQuarantined"),
    ],
)
def test_the_narrowest_alarm_tells(what: str, alarm: str) -> None:
    """What must never happen before the reason's own, that before the kind's."""
    assert told_by(what) == alarm


def test_a_kind_an_event_or_an_alarm_that_nobody_thought_of_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its name, and the command ends with 1."""
    monkeypatch.delitem(OF_KIND, Kind.GOLDEN)  # type: ignore[arg-type]
    monkeypatch.delitem(OF_EVENT, "StaleKeyUsed")  # type: ignore[arg-type]
    monkeypatch.setitem(OF_STATE, "a drill is overdue", "NoSuchAlarm")  # type: ignore[index]

    done = run("check")

    assert done.exit_code == 1
    assert f"golden {Reason.TIMEOUT}: no alarm, and no reason why not" in done.output
    assert "event StaleKeyUsed: no alarm, and no reason why not" in done.output
    assert "a drill is overdue: there is no alarm NoSuchAlarm" in done.output


def test_every_alarm_is_told_of_by_something() -> None:
    """One that nothing leads to is either left over, or its cause is missing on the list."""
    told = {one.told for one in covered() if isinstance(one.told, str)}
    of_others = {
        "RegionUnhealthy", "TwoRegionsDown", "KeyUsableNowhere", "HighLatency", "CheckFails",  # sums of many answers
        "CircuitBreakerFlapping", "Throttled", "DrillStuck", "DrillsHalted", "SchedulerFails", "ExportFailing",
        "MetadataStale",
    }  # fmt: skip

    assert {row.name for row in ALARMS} - told == of_others


def test_a_page_that_is_missing_is_red(tmp_path: Path) -> None:
    """Which one."""
    for name in list(runbooks.pages())[1:]:
        (tmp_path / name).write_text("", encoding="utf-8")

    done = run("check", "--runbooks", str(tmp_path))

    assert done.exit_code == 1
    assert f"{tmp_path / next(iter(runbooks.pages()))}: not there" in done.output


def test_the_list_tells_how_soon() -> None:
    """For people, and as JSON."""
    table, found = run("list", "--config", str(EXAMPLE)), run("list", "--config", str(EXAMPLE), "--json")

    rows = {one["alarm"]: one for one in json.loads(found.output)}
    assert len(rows) == len(ALARMS)
    assert rows["HeartbeatMissing"]["prometheus_seconds"] == 0
    assert rows["HeartbeatMissing"]["cloudwatch_seconds"] == 495
    assert "HeartbeatMissing" in table.output
    assert "495 s" in table.output


def test_everything_covered_can_be_shown() -> None:
    """With the reason where there is no alarm."""
    done = run("check", "--all")

    assert "event CacheLookup" in done.output
    assert "none: a miss costs one call" in done.output
    assert len(list(coverage.covered())) > 100


# ------------------------------------------------------------------------------------------------------- who is told


@pytest.fixture
def amtool() -> str:
    return binary("amtool")


def test_alertmanager_takes_the_example(amtool: str) -> None:
    """By its own checker."""
    subprocess.run([amtool, "check-config", str(ROUTES)], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=KmsRegionUnhealthy", "severity=critical", "mode=live"), "pager"),
        (("alertname=KmsDrillRegionUnhealthy", "severity=critical", "mode=drill"), "drills"),
        (("alertname=KmsReplicaDrift", "severity=warning", "mode=live"), "tickets"),
        (("alertname=KmsWatchdogHeartbeat", "severity=none", "mode=live"), "deadman"),
        (("alertname=Watchdog", "severity=none", "mode=live"), "deadman"),
    ],
)
def test_each_alert_goes_to_its_receiver(amtool: str, labels: tuple[str, ...], receiver: str) -> None:
    """A drill never pages, whatever its severity."""
    arguments = [amtool, "config", "routes", "test", "--config.file", str(ROUTES), *labels]

    assert subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip() == receiver


def test_no_drill_keeps_a_live_alert_quiet() -> None:
    """Each rule's source is a live alert by its name, or holds within one mode alone."""
    names = {rule["alert"] for group in rules() for rule in group["rules"] if "alert" in rule}
    for rule in yaml.safe_load(ROUTES.read_text(encoding="utf-8"))["inhibit_rules"]:
        [source] = rule["source_matchers"]
        name = source.partition(" = ")[2].strip('"')
        assert name in names
        assert not name.startswith("KmsDrill")
        assert "mode" in rule.get("equal", ()) or 'mode = "live"' in rule["target_matchers"]


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(prometheus.render(load(EXAMPLE)))["groups"]
    return found


# ---------------------------------------------------------------------------------------------------- CloudFormation


def test_the_committed_templates_are_what_the_table_makes() -> None:
    """One for every region that gets metrics; if not: make alarms."""
    settings = load(EXAMPLE)
    for region in settings.publish_regions:
        committed = (ROOT / "alarms" / "cloudformation" / f"{region}.json").read_text(encoding="utf-8")
        assert committed == cloudformation.render(settings, alarm_region=region), "stale: run make alarms"


def test_cfn_lint_finds_nothing() -> None:
    """In no template, not even a hint."""
    templates = sorted(map(str, (ROOT / "alarms" / "cloudformation").glob("*.json")))
    linter = shutil.which("cfn-lint") or str(ROOT / ".venv" / "bin" / "cfn-lint")

    done = subprocess.run([linter, *templates], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


def test_a_template_has_every_alarm_and_lets_cloudwatch_speak() -> None:
    """With its topics by reference: nothing names an account."""
    settings = load(EXAMPLE)
    template = json.loads(cloudformation.render(settings, alarm_region="us-west-2"))
    resources = template["Resources"].values()
    alarms = [one["Properties"] for one in resources if one["Type"].startswith("AWS::CloudWatch::")]
    [policy] = [one["Properties"] for one in resources if one["Type"] == "AWS::SNS::TopicPolicy"]

    assert {one["AlarmName"] for one in alarms} == {
        one["AlarmName"] for one in cloudformation.cloudwatch.render(settings, alarm_region="us-west-2")
    }
    assert all("Ref" in action for one in alarms for action in one["AlarmActions"])
    assert settings.estate.account_id not in json.dumps(template)
    assert len(policy["Topics"]) == 3
    assert policy["PolicyDocument"]["Statement"][0]["Condition"]["StringEquals"]["aws:SourceAccount"]
