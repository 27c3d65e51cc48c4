"""The one table of alarms: names, twins, and what is rendered from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate
import pytest

from kms_alarms import cloudwatch
from kms_alarms.table import ALARMS, HIGH_ERROR_RATE, alarm, alarm_name
from kms_watchdog import metrics
from kms_watchdog.config import Settings, load
from kms_watchdog.results import Mode

ROOT = Path(__file__).parents[2]
SETTINGS = load(ROOT / "daemon" / "watchdog.example.toml")


def rendered(mode: str, settings: Settings = SETTINGS) -> list[dict[str, Any]]:
    alarms = cloudwatch.render(settings, alarm_region="us-east-1")
    return [dict(a) for a in alarms if ("-Drill-" in a["AlarmName"]) is (mode == "drill")]


def test_the_committed_alarms_are_what_the_table_makes() -> None:
    """`alarms/cloudwatch/us-east-1.json` is current; if not: make alarms."""
    committed = (ROOT / "alarms" / "cloudwatch" / "us-east-1.json").read_text(encoding="utf-8")

    made = json.dumps(cloudwatch.render(SETTINGS, alarm_region="us-east-1"), indent=2, sort_keys=True) + "\n"

    assert committed == made, "stale: run make alarms"


def test_twins_differ_in_namespace_name_and_action_alone() -> None:
    """What a drill proves of the twin therefore holds for the live alarm."""
    for live, twin in zip(rendered("live"), rendered("drill"), strict=True):
        as_live = json.loads(json.dumps(twin).replace("ParkerFlight/KMS/Drill", "ParkerFlight/KMS"))
        as_live["AlarmName"] = as_live["AlarmName"].replace("-Drill", "")
        as_live |= {"AlarmActions": live["AlarmActions"], "OKActions": live["OKActions"]}

        assert as_live == live
        assert twin != live


def test_a_twin_never_speaks_to_a_pager() -> None:
    """Drill alarms go to the drills' topic, live ones never do."""
    drills = f":{SETTINGS.cloudwatch.drills_topic}"

    assert all(a["AlarmActions"][0].endswith(drills) for a in rendered("drill"))
    assert not any(a["AlarmActions"][0].endswith(drills) for a in rendered("live"))


def test_every_region_has_every_alarm_once() -> None:
    """A row for each watched region, live and drill, and no name twice."""
    names = [a["AlarmName"] for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1")]

    assert len(names) == len(set(names)) == len(ALARMS) * len(SETTINGS.estate.regions) * len(Mode)


def test_alarms_read_only_metrics_that_are_published() -> None:
    """Names and exact dimensions are those of `metrics.py`: one of the setup guide's alarms read what nobody sends."""
    published = {(m.name, m.dimensions) for m in metrics.CLOUDWATCH}
    queries = [q for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1") for q in a["Metrics"]]
    stats = [query["MetricStat"]["Metric"] for query in queries if "MetricStat" in query]

    read = {(m["MetricName"], tuple(d["Name"] for d in m["Dimensions"])) for m in stats}

    assert read
    assert read <= published


def test_cloudwatch_would_accept_every_alarm() -> None:
    """Shape, enumerations and limits of the service's own model; at most ten metrics in an expression."""
    shape = botocore.session.get_session().get_service_model("cloudwatch").operation_model("PutMetricAlarm").input_shape
    for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1"):
        report = botocore.validate.ParamValidator().validate(dict(a), shape)

        assert not report.has_errors(), report.generate_report()
        assert sum("MetricStat" in query for query in a["Metrics"]) <= 10
        assert len(a["AlarmDescription"]) <= 1024


def test_every_alarm_names_a_runbook_and_a_drill_that_exist() -> None:
    """A page leads somewhere, and has been seen to fire."""
    for row in ALARMS:
        assert (ROOT / "alarms" / "runbooks" / row.runbook).is_file()
        assert (ROOT / "chaos" / "kms_chaos" / "drills" / f"{row.proven_by}.toml").is_file()


def test_names_are_those_of_the_setup_guide() -> None:
    """The prefix comes from the configuration; the drill's twin says so in its name."""
    assert alarm_name(SETTINGS, "HighErrorRate", "us-east-1", Mode.LIVE) == "ParkerFlight-KMS-HighErrorRate-us-east-1"
    twin = alarm_name(SETTINGS, "HighErrorRate", "us-east-1", Mode.DRILL)
    assert twin == "ParkerFlight-KMS-Drill-HighErrorRate-us-east-1"


def test_an_unknown_alarm_is_an_error() -> None:
    """A drill that names a missing row is refused, not silently green."""
    with pytest.raises(KeyError):
        alarm("NoSuchAlarm")


def test_changes_finds_what_is_missing_and_what_differs() -> None:
    """Nothing to do for what is there already, in whatever order CloudWatch returns dimensions."""
    wanted = cloudwatch.render(SETTINGS, alarm_region="us-east-1")
    present = [dict(a) for a in wanted[1:]]
    present[0] = {**present[0], "Threshold": 50.0, "Metrics": list(reversed(present[0]["Metrics"]))}

    found = cloudwatch.changes(wanted, present)

    assert [(c.name, c.differs) for c in found] == [
        (wanted[0]["AlarmName"], ()),
        (wanted[1]["AlarmName"], ("Threshold",)),
    ]


def test_slowest_firing_allows_for_a_period_that_has_just_begun() -> None:
    """Three bad periods of ten seconds take up to forty."""
    assert HIGH_ERROR_RATE.slowest_seconds(10) == 40
