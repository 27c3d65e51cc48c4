"""CloudWatch's dashboards: rendered from the configuration, and every metric in them is one that somebody publishes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from daemon_kit import START, result

from kms_alarms import cloudwatch as alarms
from kms_core.events import Attempt
from kms_dashboards import cloudwatch
from kms_dashboards.cli import cli
from kms_dashboards.cloudwatch_check import TWINS, Known, findings
from kms_watchdog import metrics
from kms_watchdog.config import Settings, load
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.health import Subject
from kms_watchdog.results import Kind, Mode
from kms_watchdog.sinks.cloudwatch import CloudWatchSink, Publishing
from kms_watchdog.sinks.sink import DrillChange, Seen

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "daemon" / "watchdog.example.toml"
FOLDER = ROOT / "dashboards" / "cloudwatch"
REGION, OTHER = "us-east-1", "us-west-2"
Body = dict[str, Any]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(CONFIG)


@pytest.fixture
def body(settings: Settings) -> Body:
    return cloudwatch.body(settings, region=REGION)


@pytest.fixture
def known(settings: Settings) -> Known:
    return Known.of(settings, REGION)


def graph(body: Body, title: str) -> dict[str, Any]:
    """Return the properties of the metric widget whose title begins so."""
    [found] = [w["properties"] for w in body["widgets"] if w.get("properties", {}).get("title", "").startswith(title)]
    properties: dict[str, Any] = found
    return properties


def named(body: Body) -> set[tuple[str, str, tuple[str, ...]]]:
    """Return every metric that the dashboard draws: namespace, name, dimensions."""
    lines = [line for w in body["widgets"] for line in w["properties"].get("metrics", [])]
    plain = [[part for part in line if isinstance(part, str)] for line in lines]
    return {(line[0], line[1], tuple(line[2::2])) for line in plain if line}


@pytest.mark.parametrize("region", [REGION, OTHER])
def test_committed_dashboard_is_current(settings: Settings, region: str) -> None:
    """If not: make dashboards."""
    text = (FOLDER / f"{region}.json").read_text(encoding="utf-8")

    assert text == cloudwatch.render(settings, region=region), "stale: run make dashboards"


def test_there_is_one_for_each_region_that_gets_metrics(settings: Settings) -> None:
    """The loss of one region must not take the other's dashboard along."""
    assert {path.stem for path in FOLDER.glob("*.json")} == set(settings.publish_regions)


@pytest.mark.parametrize("region", [REGION, OTHER])
def test_what_is_rendered_shows_what_it_says(settings: Settings, region: str) -> None:
    """On the grid, with titles, over metrics and alarms that are there."""
    assert findings(cloudwatch.body(settings, region=region), Known.of(settings, region)) == ()


def test_every_metric_and_every_alarm_is_on_it(settings: Settings, body: Body) -> None:
    """What is published and shown nowhere is found by nobody."""
    live = settings.cloudwatch.namespace
    unscheduled = {metrics.CW_DRILL_FAILED}  # the example schedules no drill
    wanted = {(live, metric.name, metric.dimensions) for metric in metrics.CLOUDWATCH if metric not in unscheduled}
    shown = [arn.rpartition(":")[2] for w in body["widgets"] for arn in w["properties"].get("alarms", [])]

    assert wanted <= named(body)
    assert sorted(shown) == sorted(a["AlarmName"] for a in alarms.render(settings, alarm_region=REGION))


def test_the_sink_publishes_every_metric_that_is_drawn(settings: Settings, body: Body) -> None:
    """With exactly these dimensions: CloudWatch draws an empty graph for any other set of them."""
    kinds = [str(kind) for kind in settings.canaries.kinds]
    subjects = [Subject(kind, REGION, "general") for kind in kinds]
    namespaces = {Mode.LIVE: settings.cloudwatch.namespace, Mode.DRILL: settings.cloudwatch.drill_namespace}
    where = Publishing(namespaces=namespaces, period_seconds=60, regions=(REGION,), monitor="m")
    sink = CloudWatchSink(where, subjects=subjects, now=START.timestamp())
    for active, verdict in ((True, None), (False, Verdict.BROKE)):
        at = START + timedelta(seconds=1)
        sink.on_drill(DrillChange(run_id="r", drill="d", region=REGION, active=active, verdict=verdict, at_utc=at))
    for mode in Mode:
        sink.write(result(at=1, mode=mode))
    for kind, facts in ((Kind.KEY_STATE, {"usable": 1.0}), (Kind.REPLICA_DRIFT, {})):
        sink.write(replace(result(at=1, facts=facts), canary=str(kind)))
    attempt = Attempt(
        region=REGION, operation="Decrypt", purpose="pii", seconds=0.01, error_code="", request_id="", pinned=True
    )
    sink.on_event(Seen(event=attempt, mode=Mode.LIVE, at_utc=START + timedelta(seconds=1)))

    published = {
        (d.namespace, d.name, tuple(name for name, _ in d.dimensions)) for d in sink.close(START.timestamp() + 60)
    }

    assert named(body) <= published
    assert {one for one in published if one[0] == namespaces[Mode.DRILL]} == {
        (namespaces[Mode.DRILL], metric.name, metric.dimensions) for metric in TWINS
    }
    assert published == Known.of(settings, REGION).metrics


def _break(of: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Body], object]:
    return lambda body: change(graph(body, of))


def _extra_dimension(properties: dict[str, Any]) -> None:
    properties["metrics"][0][2:2] = ["Key", "general"]


def _other_order(properties: dict[str, Any]) -> None:
    line = properties["metrics"][0]
    line[2:6] = [*line[4:6], *line[2:4]]


BREAKS = {
    "overlap": (lambda b: b["widgets"][2].update(x=0), "lies over"),
    "out-of-the-grid": (lambda b: b["widgets"][-1].update(width=20), "reaches out of the grid"),
    "no-place": (lambda b: b["widgets"][1].pop("y"), "has no place"),
    "no-title": (_break("Circuit", lambda p: p.pop("title")), "has no title"),
    "renamed-metric": (_break("Keys", lambda p: p["metrics"][0].__setitem__(1, "KeysUsable")), "nobody publishes"),
    "missing-dimension": (_break("Keys", lambda p: p["metrics"][0].__delitem__(slice(4, 6))), "nobody publishes"),
    "extra-dimension": (_break("Round trip (ms)", _extra_dimension), "nobody publishes"),
    "other-order": (_break("Keys", _other_order), "nobody publishes"),
    "other-namespace": (_break("Keys", lambda p: p["metrics"][0].__setitem__(0, "AWS/KMS")), "nobody publishes"),
    "no-twin": (
        _break("A drill's", lambda p: p["metrics"][0].__setitem__(slice(1, 4), ["DrillActive"])),
        "nobody publishes",
    ),
    "unknown-value": (_break("Keys", lambda p: p["metrics"][0].__setitem__(3, "eu-north-1")), "is never eu-north-1"),
    "shorthand": (_break("Keys", lambda p: p["metrics"][1].__setitem__(0, ".")), "written out"),
    "other-region": (_break("Keys", lambda p: p.update(region=OTHER)), f"not {REGION}, whose dashboard"),
    "odd-period": (_break("Keys", lambda p: p.update(period=45)), "not 1, 5, 10"),
    "period-too-fine": (_break("Keys", lambda p: p.update(period=30)), "not a multiple of the 60 s"),
    "no-statistic": (_break("Keys", lambda p: p["metrics"][0][-1].update(stat="Median")), "is no statistic"),
    "unknown-id": (
        _break("Round trips that", lambda p: p["metrics"][2][0].update(expression="r9 / f0")),
        "expression of r9",
    ),
    "same-id": (_break("Round trips that", lambda p: p["metrics"][0][-1].update(id="f0")), "is there twice"),
    "capital-id": (_break("Round trips that", lambda p: p["metrics"][0][-1].update(id="R0")), "small letter"),
    "too-many-metrics": (_break("Keys", lambda p: p.update(metrics=p["metrics"] * 60)), "not 1 to 500"),
    "no-metrics": (_break("Keys", lambda p: p.update(metrics=[])), "not 1 to 500"),
    "unknown-alarm": (
        _break("Alarms that wake", lambda p: p["alarms"].append("arn:aws:cloudwatch:us-east-1:1:alarm:x")),
        "is rendered",
    ),
    "alarm-of-another-region": (
        _break("Alarms that wake", lambda p: p["alarms"].append(p["alarms"][0].replace(REGION, OTHER))),
        "is rendered",
    ),
    "too-many-alarms": (_break("Alarms that wake", lambda p: p.update(alarms=p["alarms"] * 60)), "not 1 to 100"),
    "empty-text": (lambda b: b["widgets"][0]["properties"].update(markdown=""), "says nothing"),
    "unknown-type": (lambda b: b["widgets"][0].update(type="log"), "is of type log"),
    "empty": (lambda b: b.update(widgets=[]), "0 widgets"),
}


@pytest.mark.parametrize(("change", "told"), BREAKS.values(), ids=BREAKS.keys())
def test_what_cloudwatch_would_show_empty_is_found(
    body: Body, known: Known, change: Callable[[Body], object], told: str
) -> None:
    """PutDashboard takes all of these without a word."""
    change(body)

    assert [line for line in findings(body, known) if told in line]


def test_a_metric_that_is_renamed_is_found(settings: Settings, body: Body) -> None:
    """On the very dashboard that was rendered before."""
    now = Known.of(settings, REGION)
    renamed = Known(
        frozenset(one for one in now.metrics if one[1] != "CanaryHeartbeat"),
        now.values,
        now.alarms,
        now.region,
        now.period_seconds,
    )

    assert [line for line in findings(body, renamed) if "nobody publishes CanaryHeartbeat" in line]


def test_check_names_what_is_stale_and_what_is_wrong(tmp_path: Path) -> None:
    """`kms-dashboards check --format cloudwatch`: exit code 1 with the file and the widget, 0 after render."""
    runner = CliRunner()
    these = ["--format", "cloudwatch", "--config", str(CONFIG), str(tmp_path)]
    runner.invoke(cli, ["render", *these])
    path = tmp_path / f"{REGION}.json"
    edited = json.loads(path.read_text(encoding="utf-8"))
    graph(edited, "Keys")["region"] = OTHER
    path.write_text(json.dumps(edited), encoding="utf-8")

    bad = runner.invoke(cli, ["check", *these])
    runner.invoke(cli, ["render", *these])
    good = runner.invoke(cli, ["check", *these])

    assert (bad.exit_code, good.exit_code) == (1, 0), good.output
    assert f"{REGION}.json: stale" in bad.output
    assert f"region is {OTHER}" in bad.output


def test_a_configuration_that_is_none_is_one_line(tmp_path: Path) -> None:
    """Exit code 2, no traceback."""
    (tmp_path / "watchdog.toml").write_text("[estate]\n", encoding="utf-8")

    done = CliRunner().invoke(
        cli, ["render", "--format", "cloudwatch", "--config", str(tmp_path / "watchdog.toml"), str(tmp_path)]
    )

    assert done.exit_code == 2
    assert done.output.startswith("kms-dashboards: ")
