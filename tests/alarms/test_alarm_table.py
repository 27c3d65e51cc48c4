"""The one table of alarms: names, twins, and what is rendered from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate
import pytest
from click.testing import CliRunner

from kms_alarms import cloudwatch
from kms_alarms.apply import protocol_of
from kms_alarms.cli import cli
from kms_alarms.table import ALARMS, HIGH_ERROR_RATE, alarm, alarm_name
from kms_watchdog import alarm_definitions, metrics
from kms_watchdog.config import Settings, load
from kms_watchdog.results import Mode

ROOT = Path(__file__).parents[2]
SETTINGS = load(ROOT / "daemon" / "watchdog.example.toml")


def rendered(mode: str, settings: Settings = SETTINGS) -> list[dict[str, Any]]:
    alarms = cloudwatch.render(settings, alarm_region="us-east-1")
    return [dict(a) for a in alarms if ("-Drill-" in a["AlarmName"]) is (mode == "drill")]


def test_the_committed_alarms_are_what_the_table_makes(tmp_path: Path) -> None:
    """`alarms/cloudwatch` has a file for every region that gets metrics, all current; if not: make alarms."""
    example = str(ROOT / "daemon" / "watchdog.example.toml")

    done = CliRunner().invoke(cli, ["render", "--config", example, "--into", str(tmp_path)], catch_exceptions=False)

    assert done.exit_code == 0
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    committed = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "alarms" / "cloudwatch").iterdir()}
    assert committed == made, "stale: run make alarms"


def test_rendered_files_are_read_back_as_they_were_made(tmp_path: Path) -> None:
    """What the watchdog compares with is what `kms-alarms apply` puts."""
    wanted = cloudwatch.render(SETTINGS, alarm_region="us-west-2")
    path = alarm_definitions.path_of(tmp_path, "us-west-2")
    path.write_text(alarm_definitions.text_of(wanted), encoding="utf-8")

    assert alarm_definitions.changes(alarm_definitions.read(path), wanted) == ()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A file in the folder's place: exit code 2, and no traceback."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    arguments = ["render", "--config", str(ROOT / "daemon" / "watchdog.example.toml"), "--into", str(in_the_way / "x")]

    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)

    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "cannot be written" in done.stderr


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

    found = alarm_definitions.changes(wanted, present)

    assert [(c.name, c.differs) for c in found] == [
        (wanted[0]["AlarmName"], ()),
        (wanted[1]["AlarmName"], ("Threshold",)),
    ]


def test_slowest_firing_allows_for_a_period_that_has_just_begun() -> None:
    """Three bad periods of ten seconds take up to forty."""
    assert HIGH_ERROR_RATE.slowest_seconds(10) == 40


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
        pytest.param("https://hooks.example/x", "https", id="https"),
        pytest.param("http://127.0.0.1:14100/", "http", id="http"),
        pytest.param("arn:aws:lambda:us-east-1:123456789012:function:page", "lambda", id="function"),
        pytest.param("arn:aws:sqs:us-east-1:123456789012:pages", "sqs", id="queue"),
        pytest.param("oncall@example.com", "email", id="e-mail"),
    ],
)
def test_an_endpoint_says_how_it_is_told(endpoint: str, protocol: str) -> None:
    """SNS wants the protocol named; people name the endpoint alone."""
    assert protocol_of(endpoint) == protocol


@pytest.mark.parametrize("endpoint", ["oncall", "", "mailto:oncall@example.com", "arn:aws:s3:::bucket", "ftp://x"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    """One line and exit code 2, before anything is asked of AWS."""
    arguments = ["subscribe", "--config", str(ROOT / "daemon" / "watchdog.example.toml"), "--", endpoint]

    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)

    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
