"""Alarms where several watchdogs share the canaries: one that dies is missed by name, and what is another's is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from kms_alarms import alarm_tests, cloudwatch, prometheus
from kms_alarms.alarm_tests import Case, Data, Expect
from kms_dashboards.cloudwatch_values import values_of
from kms_watchdog.config import Settings, load

CONFIG = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[keys.pii]
alias = "alias/pii"
[state]
dir = "state"
"""
REPLICAS = '[replicas]\nmembers = ["use1", "usw2"]\nplace = "use1"\n'
FIVE_MINUTES = 5 * 4
"""Samples of 15 s."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "watchdog.toml").write_text(CONFIG + REPLICAS, encoding="utf-8")
    return load(tmp_path / "watchdog.toml", environ={})


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    (tmp_path / "alone.toml").write_text(CONFIG, encoding="utf-8")
    return load(tmp_path / "alone.toml", environ={})


# ----------------------------------------------------------------------------------------------------------- CloudWatch

HEARTBEAT = "ParkerFlight-KMS-HeartbeatMissing-production"


def beats(monitor: str, values: str) -> Data:
    return Data(metric="CanaryHeartbeat", dimensions={"Monitor": f"production-{monitor}"}, values=values)


def test_each_place_has_an_alarm_on_its_heartbeat(settings: Settings, alone: Settings) -> None:
    """The same in whichever place they are rendered; one watchdog alone has the one it always had."""
    of_both, of_one = (
        {
            one["AlarmName"]
            for one in cloudwatch.render(each, alarm_region="us-west-2")
            if "Heartbeat" in one["AlarmName"]
        }
        for each in (settings, alone)
    )

    assert of_both == {f"{HEARTBEAT}-use1", f"{HEARTBEAT}-usw2"}
    assert of_one == {f"{HEARTBEAT}-us-east-1"}
    assert values_of(settings)["Monitor"] == ("production-use1", "production-usw2")


@pytest.mark.parametrize(
    ("dies", "lives"), [pytest.param("use1", "usw2", id="this-one"), pytest.param("usw2", "use1", id="the-other")]
)
def test_one_watchdog_of_two_that_dies_alarms(settings: Settings, dies: str, lives: str) -> None:
    """And the one that lives does not cover for it, nor is it called dead."""
    both = (beats(dies, "2*5"), beats(lives, "2*40"))
    cases = [
        Case(name="dead", alarm=f"{HEARTBEAT}-{dies}", data=both, expect=(expect(5, "OK"), expect(12, "ALARM"))),
        Case(name="alive", alarm=f"{HEARTBEAT}-{lives}", data=both, expect=(expect(40, "OK"),), never="ALARM"),
    ]

    assert [one.wrong for one in alarm_tests.run(cases, settings, alarm_region="us-east-1")] == [(), ()]


def expect(after: int, state: Any) -> Expect:
    return Expect(after=after, state=state)


def test_a_region_that_one_of_two_cannot_reach_is_told(settings: Settings) -> None:
    """Both count into one metric: half of the round trips fail, which is more than a twentieth."""
    where = {"Region": "us-west-2"}
    data = (
        Data(metric="CanaryRuns", dimensions=where, values="2+2*20"),
        Data(metric="CanaryFailures", dimensions=where, values="0+0*5 0+2*15"),
    )
    case = Case(name="half", alarm="ParkerFlight-KMS-HighErrorRate-us-west-2", data=data, expect=(expect(8, "ALARM"),))

    assert [one.wrong for one in alarm_tests.run([case], settings, alarm_region="us-east-1")] == [()]


# ----------------------------------------------------------------------------------------------------------- Prometheus


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        assert os.environ.get("CI") != "true", "CI installs prometheus, which has promtool"
        pytest.skip("no promtool here: it comes with Debian's prometheus")
    return found


HERE = 'job="kms-watchdog",instance="a:9464",place="use1"'
THERE = 'job="kms-watchdog",instance="b:9464",place="usw2"'


def trips(place: str, region: str, value: str) -> Mapping[str, str]:
    series = f'kms_watchdog_canary_up{{canary="round_trip",region="{region}",key="pii",mode="live",{place}}}'
    return {"series": series, "values": value}


def failures(place: str, region: str, values: str) -> Mapping[str, str]:
    of = f'canary="round_trip",region="{region}",key="pii",mode="live",{place}'
    return {"series": f"kms_watchdog_canary_consecutive_failures{{{of}}}", "values": values}


def told_of_drill(name: str, place: str, values: str) -> Mapping[str, str]:
    return {"series": f'kms_watchdog_{name}{{drill="d",{place}}}', "values": values}


def heart(place: str, values: str) -> Mapping[str, str]:
    return {"series": f"kms_watchdog_scheduler_heartbeat_timestamp_seconds{{{place}}}", "values": values}


DAY_SAMPLES = 4
"""Samples of a day, of six hours each."""
CASES = [
    pytest.param(
        "KmsWatchdogDown",
        [heart(HERE, "0+15x80"), heart(THERE, "0+15x7 stale")],
        {"3m": [], "5m": ["There is no watchdog at usw2"], "15m": ["There is no watchdog at usw2"]},
        id="one-of-two-dies-and-its-target-with-it",
    ),
    pytest.param(
        "KmsWatchdogDown",
        [heart(HERE, "0+15x80"), heart(THERE, "0+15x7 stale 135+15x70")],
        {"3m": [], "5m": [], "15m": []},
        id="one-scrape-of-one-place-fails",
    ),
    pytest.param(
        "KmsWatchdogDown",
        [heart(HERE, "0+15x80"), heart(THERE, "0+15x80")],
        {"5m": [], "15m": []},
        id="both-live",
    ),
    pytest.param(
        "KmsKeyUsableNowhere",
        [trips(HERE, "us-east-1", "1x8 0x80"), trips(THERE, "us-west-2", "1x80")],
        {"5m": [], "15m": []},
        id="a-key-is-down-for-one-place-and-usable-for-the-other",
    ),
    pytest.param(
        "KmsKeyUsableNowhere",
        [trips(HERE, "us-east-1", "1x8 0x80"), trips(THERE, "us-west-2", "1x8 0x80")],
        {"2m": [], "5m": ["A key can be used in no region, or nothing has been looked at lately"]},
        id="a-key-is-down-for-both",
    ),
    pytest.param(
        "KmsTwoRegionsDown",
        [failures(HERE, "us-east-1", "0x8 1+1x80"), failures(THERE, "us-west-2", "0x8 1+1x80")],
        {"2m": [], "5m": ["2 regions fail at once"]},
        id="two-regions-are-down-of-which-each-place-sees-one",
    ),
    pytest.param(
        "KmsTwoRegionsDown",
        [failures(HERE, "us-east-1", "0x8 1+1x80"), failures(THERE, "us-east-1", "0x8 1+1x80")],
        {"5m": [], "15m": []},
        id="one-region-is-down-for-both",
    ),
]
LONG_CASES = [
    pytest.param(
        "KmsDrillOverdue",
        [
            told_of_drill("drill_missed_slot_timestamp_seconds", THERE, f"86400x{9 * DAY_SAMPLES}"),
            told_of_drill("drill_missed_slot_timestamp_seconds", HERE, f"0x{9 * DAY_SAMPLES}"),
            told_of_drill("drill_last_success_timestamp_seconds", HERE, f"100000x{9 * DAY_SAMPLES}"),
            told_of_drill("drill_interval_seconds", HERE, f"604800x{9 * DAY_SAMPLES}"),
            told_of_drill("drill_interval_seconds", THERE, f"604800x{9 * DAY_SAMPLES}"),
        ],
        {"2d": [], "8d": []},
        id="the-slot-was-another-places",
    ),
    pytest.param(
        "KmsDrillOverdue",
        [
            told_of_drill("drill_missed_slot_timestamp_seconds", THERE, f"86400x{9 * DAY_SAMPLES}"),
            told_of_drill("drill_missed_slot_timestamp_seconds", HERE, f"86400x{9 * DAY_SAMPLES}"),
            told_of_drill("drill_last_success_timestamp_seconds", HERE, f"80000x{9 * DAY_SAMPLES}"),
            told_of_drill("drill_interval_seconds", HERE, f"604800x{9 * DAY_SAMPLES}"),
        ],
        {"2d": ["Drill d is overdue"]},
        id="nobody-ran-it",
    ),
    pytest.param(
        "KmsAlarmUnproven",
        [
            {
                "series": f'kms_watchdog_alarm_last_fired_timestamp_seconds{{alarm="x",system="cloudwatch",{each}}}',
                "values": v,
            }
            for each, v in ((HERE, f"0x{40 * DAY_SAMPLES}"), (THERE, f"{30 * 86400}x{40 * DAY_SAMPLES}"))
        ],
        {"39d": []},
        id="another-place-saw-the-alarm-fire",
    ),
]


@pytest.mark.parametrize(("alert", "given", "expected"), [*CASES, *LONG_CASES])
def test_rules_of_several_places(
    promtool: str,
    settings: Settings,
    tmp_path: Path,
    alert: str,
    given: Sequence[Mapping[str, str]],
    expected: Mapping[str, Sequence[str]],
) -> None:
    """What fires, by its summary, and when; nothing else does."""
    of = [rule for rule in rendered(settings) if rule.get("alert") == alert and "up{job" not in rule["expr"]]
    long = any("d" in when for when in expected)
    checks = [
        {
            "expr": f'ALERTS{{alertname="{alert}",alertstate="firing"}}',
            "eval_time": when,
        }
        for when in expected
    ]
    case = {"interval": "6h" if long else "15s", "input_series": list(given), "promql_expr_test": checks}
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": of}]}))
    found = fired(promtool, tmp_path, case)

    assert found == {when: sorted(summaries) for when, summaries in expected.items()}


def fired(promtool: str, folder: Path, case: dict[str, Any]) -> dict[str, list[str]]:
    """Return the summaries of what fires at each time: promtool tells what it got where nothing was expected."""
    found = {}
    for check in case["promql_expr_test"]:
        alert = check["expr"].partition('alertname="')[2].partition('"')[0]
        one = {key: value for key, value in case.items() if key != "promql_expr_test"}
        one["alert_rule_test"] = [{"eval_time": check["eval_time"], "alertname": alert, "exp_alerts": []}]
        document = {"rule_files": ["rules.yml"], "evaluation_interval": case["interval"], "tests": [one]}
        (folder / "cases.yml").write_text(json.dumps(document))
        done = subprocess.run(
            [promtool, "test", "rules", folder / "cases.yml"], capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        got = said.partition("got:")[2]
        assert done.returncode == 0 or "got:" in said, said
        found[check["eval_time"]] = sorted(summaries_in(got))
    return found


def summaries_in(said: str) -> list[str]:
    return [part.partition('"')[2].partition('"')[0] for part in said.split("summary=")[1:]]


def rendered(settings: Settings) -> list[dict[str, Any]]:
    groups = yaml.safe_load(prometheus.render(settings))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_promtool_takes_the_rules_of_several_places(promtool: str, settings: Settings, tmp_path: Path) -> None:
    """Its linter finds nothing; each place has a rule of its own, and one watchdog alone has none of them."""
    (tmp_path / "rules.yml").write_text(prometheus.render(settings), encoding="utf-8")

    checked = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert [rule["expr"] for rule in rendered(settings) if 'place="' in rule["expr"]] == [
        f'absent(kms_watchdog_scheduler_heartbeat_timestamp_seconds{{place="{place}"}})' for place in ("use1", "usw2")
    ]


def test_one_watchdog_alone_has_the_rules_it_had(alone: Settings) -> None:
    """None speaks of places, and none is aggregated over them."""
    text = prometheus.render(alone)

    assert not any("place=" in rule.get("expr", "") or "place" in rule.get("labels", {}) for rule in rendered(alone))
    assert "count by (job, instance)" in text
    assert "max by (region, job) " not in text
