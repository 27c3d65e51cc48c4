"""The one table of alarms: names, twins, and what is rendered from it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate
import pytest
import yaml
from click.testing import CliRunner

from kms_alarms import bounds, burn_rate, cloudwatch, prometheus, runbooks
from kms_alarms.apply import protocol_of
from kms_alarms.cli import cli
from kms_alarms.cloudwatch import alarm_name
from kms_alarms.parts import Alarm, MetricAlarm, NoneBecause, Seen, series
from kms_alarms.table import ALARMS, alarm
from kms_watchdog import alarm_definitions, metrics
from kms_watchdog.config import Settings, load
from kms_watchdog.results import Mode

ROOT = Path(__file__).parents[2]
DRILLS = ROOT / "chaos" / "kms_chaos" / "drills"
SEEN_BY_PROMETHEUS = {"RegionUnhealthy"}
"""Whose twin a drill cannot read, for it has none in CloudWatch: test_alerts_end_to_end sees it fire and clear."""
EXAMPLE = ROOT / "daemon" / "watchdog.example.toml"
SETTINGS = load(EXAMPLE)


def rendered(mode: str, settings: Settings = SETTINGS) -> list[dict[str, Any]]:
    alarms = cloudwatch.render(settings, alarm_region="us-east-1")
    return [dict(a) for a in alarms if ("-Drill-" in a["AlarmName"]) is (mode == "drill")]


def test_the_committed_alarms_are_what_the_table_makes(tmp_path: Path) -> None:
    """`alarms/cloudwatch` has a file for every region that gets metrics, all current; if not: make alarms."""
    example = str(ROOT / "daemon" / "watchdog.example.toml")

    done = CliRunner().invoke(cli, ["render", "--config", example, "--into", str(tmp_path)], catch_exceptions=False)

    assert done.exit_code == 0
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    committed = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "alarms" / "cloudwatch").glob("*.json")}
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
    live = {a["AlarmName"]: a for a in rendered("live")}
    assert rendered("drill")
    for twin in rendered("drill"):
        plain = json.loads(json.dumps(twin).replace("/KMS/Drill", "/KMS").replace("-Drill", ""))
        of = live[plain["AlarmName"]]

        assert plain | {"AlarmActions": of["AlarmActions"], "OKActions": of["OKActions"]} == of
        assert twin["AlarmActions"] != of["AlarmActions"]


def test_a_twin_never_speaks_to_a_pager() -> None:
    """Drill alarms go to the drills' topic, live ones never do."""
    drills = f":{SETTINGS.cloudwatch.drills_topic}"

    assert all(a["AlarmActions"][0].endswith(drills) for a in rendered("drill"))
    assert not any(a["AlarmActions"][0].endswith(drills) for a in rendered("live"))


def test_no_name_is_given_twice() -> None:
    """The second would overwrite the first without a word; and every name says whose it is."""
    names = [a["AlarmName"] for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1")]

    assert len(names) == len(set(names))
    assert all(name.startswith("ParkerFlight-KMS-") for name in names)


def test_every_row_of_a_region_is_rendered_for_every_region_and_mode() -> None:
    """An alarm that one region lacks is a region that nobody watches."""
    names = {a["AlarmName"] for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1")}
    for region in SETTINGS.estate.regions:
        assert set(cloudwatch.names_about(SETTINGS, region, Mode.LIVE)) <= names
        assert set(cloudwatch.names_about(SETTINGS, region, Mode.DRILL)) <= names
    about = cloudwatch.names_about(SETTINGS, "eu-west-1", Mode.LIVE)
    assert {"ParkerFlight-KMS-HighErrorRate-eu-west-1", "ParkerFlight-KMS-KeyUnusable-eu-west-1-pii"} <= set(about)
    assert not any("us-" in name for name in about)


def test_alarms_read_only_metrics_that_are_published() -> None:
    """Names and exact dimensions are those of `metrics.py`: one of the setup guide's alarms read what nobody sends."""
    published = {(m.name, m.dimensions) for m in metrics.CLOUDWATCH}
    queries = [q for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1") for q in a.get("Metrics", ())]
    stats = [query["MetricStat"]["Metric"] for query in queries if "MetricStat" in query]

    read = {(m["MetricName"], tuple(d["Name"] for d in m["Dimensions"])) for m in stats}

    assert read
    assert read <= published


def test_cloudwatch_would_accept_every_alarm() -> None:
    """Shape, enumerations and limits of the service's own model; at most ten metrics in an expression."""
    model = botocore.session.get_session().get_service_model("cloudwatch")
    for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1"):
        shape = model.operation_model("PutCompositeAlarm" if "AlarmRule" in a else "PutMetricAlarm").input_shape
        report = botocore.validate.ParamValidator().validate(dict(a), shape)

        assert not report.has_errors(), report.generate_report()
        assert sum("MetricStat" in query for query in a.get("Metrics", ())) <= 10
        assert len(a["AlarmDescription"]) <= 1024
        returned = [query for query in a.get("Metrics", ()) if query["ReturnData"]]
        assert len(returned) == (0 if "AlarmRule" in a else 1)


def test_composites_come_after_the_alarms_that_they_name() -> None:
    """CloudWatch refuses a rule on an alarm that is not there; each child is one that is rendered."""
    known: set[str] = set()
    for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1"):
        assert set(re.findall(r'ALARM\("([^"]+)"\)', a.get("AlarmRule", ""))) <= known
        known.add(a["AlarmName"])


def test_two_regions_down_is_any_two() -> None:
    """The portable form: AT_LEAST is not in every API text."""
    [rule] = [
        a["AlarmRule"]
        for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1")
        if a["AlarmName"] == "ParkerFlight-KMS-TwoRegionsDown"
    ]
    one, two, three = (f'ALARM("ParkerFlight-KMS-HighErrorRate-{region}")' for region in SETTINGS.estate.regions)

    assert rule == f"({one} AND {two}) OR ({one} AND {three}) OR ({two} AND {three})"


@pytest.mark.parametrize(
    ("name", "topic"),
    [("HighErrorRate", "parker-flight-alerts"), ("CircuitBreakerOpen", "parker-flight-critical-alerts")],
)
def test_the_setup_guides_alarms_are_there_by_name_and_topic(name: str, topic: str) -> None:
    """One over all regions each; their twins speak to the drills' topic."""
    found = {a["AlarmName"]: a for a in cloudwatch.render(SETTINGS, alarm_region="us-east-1")}

    live, twin = found[f"ParkerFlight-KMS-{name}"], found[f"ParkerFlight-KMS-Drill-{name}"]
    children = [f'ALARM("ParkerFlight-KMS-{name}-{region}")' for region in SETTINGS.estate.regions]
    assert live["AlarmActions"] == [f"arn:aws:sns:us-east-1:123456789012:{topic}"]
    assert live["AlarmRule"] == " OR ".join(children)
    assert twin["AlarmActions"][0].endswith(":parker-flight-drill-alerts")


@pytest.mark.parametrize(
    ("name", "prometheus_seconds", "cloudwatch_seconds"),
    [
        pytest.param("RegionUnhealthy", 240, None, id="region-lost-prometheus"),
        pytest.param("HighErrorRate", 240, 360, id="region-lost-cloudwatch"),
        pytest.param("TwoRegionsDown", 180, 360, id="two-regions"),
        pytest.param("WatchdogDown", 210, None, id="daemon-dead-prometheus"),
        pytest.param("HeartbeatMissing", None, 540, id="daemon-dead-cloudwatch"),
        pytest.param("KeyUnusable", 180, 300, id="key-unusable"),
        pytest.param("MustFailAccepted", 90, None, id="must-fail-accepted"),
        pytest.param("PlaintextMismatch", 90, 180, id="plaintext-mismatch"),
    ],
)
def test_somebody_is_told_within_the_bounds(
    name: str, prometheus_seconds: float | None, cloudwatch_seconds: float | None
) -> None:
    """Worst case, with the example's intervals; a slower canary, a longer `for` or one period more is red here."""
    row = alarm(name)
    if prometheus_seconds is not None:
        assert not isinstance(row.prometheus, NoneBecause)
        assert 0 < min(bounds.prometheus(SETTINGS, row, rule) for rule in row.prometheus) <= prometheus_seconds
    if cloudwatch_seconds is not None:
        assert 0 < bounds.cloudwatch(SETTINGS, row) <= cloudwatch_seconds


def test_bounds_assume_what_the_shipped_prometheus_does() -> None:
    """Its intervals are the ones in the arithmetic."""
    shipped = yaml.safe_load((ROOT / "dashboards" / "provisioning" / "prometheus.yml").read_text(encoding="utf-8"))

    assert shipped["global"]["scrape_interval"] == prometheus.duration(bounds.SCRAPE_SECONDS)
    assert shipped["global"]["evaluation_interval"] == prometheus.duration(bounds.EVALUATION_SECONDS)


def test_every_alarm_has_a_runbook_and_a_drill_that_exist() -> None:
    """A page leads somewhere, and has been seen to fire; the heads of runbooks are current: make alarms."""
    folder = ROOT / "alarms" / "runbooks"
    for name in runbooks.pages():
        assert (folder / name).read_text(encoding="utf-8") == runbooks.render(SETTINGS, folder, name)
    for row in ALARMS:
        for drill in row.proven_by:
            assert (DRILLS / f"{drill}.toml").is_file()


def test_a_drill_that_proves_an_alarm_waits_for_its_twin() -> None:
    """That it makes the same trouble is no proof: it must see the twin fire, and clear."""
    for row in ALARMS:
        for drill in row.proven_by:
            plan = tomllib.loads((DRILLS / f"{drill}.toml").read_text(encoding="utf-8"))["alarms"]
            for must in ("must_fire", "must_clear"):
                seen = {rule["alarm"] for rule in plan.get(must, ())}
                assert row.name in seen | SEEN_BY_PROMETHEUS, (row.name, drill, must)


def test_runbook_links_lead_to_a_heading() -> None:
    """What a page's reader clicks on is there."""
    for row in ALARMS:
        name, _, anchor = row.runbook.partition("#")
        page = (ROOT / "alarms" / "runbooks" / name).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert (anchor or headings[0]) in (anchors if anchor else headings)
        assert anchor or headings[0].startswith(f"{row.name}:")


def test_every_runbook_belongs_to_an_alarm() -> None:
    """A page of an alarm that is gone misleads."""
    assert {path.name for path in (ROOT / "alarms" / "runbooks").glob("*.md")} == set(runbooks.pages())


def test_names_are_those_of_the_setup_guide() -> None:
    """The prefix comes from the configuration; the drill's twin says so in its name."""
    assert alarm_name(SETTINGS, "HighErrorRate", "us-east-1", Mode.LIVE) == "ParkerFlight-KMS-HighErrorRate-us-east-1"
    twin = alarm_name(SETTINGS, "HighErrorRate", "us-east-1", Mode.DRILL)
    assert twin == "ParkerFlight-KMS-Drill-HighErrorRate-us-east-1"


def test_a_drill_that_a_slot_names_by_its_file_is_watched_by_its_name(tmp_path: Path) -> None:
    """Its metric has the name."""
    config = tmp_path / "watchdog.toml"
    slot = '\n[drills.slots.ours]\ndrill = "drills/of-ours.toml"\nday = 3\nat = "03:00"\n'
    config.write_text(EXAMPLE.read_text(encoding="utf-8") + slot, encoding="utf-8")

    names = [a["AlarmName"] for a in cloudwatch.render(load(config), alarm_region="us-east-1")]

    assert "ParkerFlight-KMS-DrillFailed-of-ours" in names


def test_the_alarm_over_all_regions_has_no_regions_name() -> None:
    """`estate` stands for it; each kind of row is asked for in its own way only."""
    twin = alarm_name(SETTINGS, "TwoRegionsDown", cloudwatch.ESTATE, Mode.DRILL)

    assert twin == "ParkerFlight-KMS-Drill-TwoRegionsDown"
    for name, region in (("TwoRegionsDown", "us-east-1"), ("HighErrorRate", cloudwatch.ESTATE)):
        with pytest.raises(KeyError):
            alarm_name(SETTINGS, name, region, Mode.DRILL)


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
    """Three bad periods of ten seconds take up to forty; silence is believed after two periods more."""
    assert cloudwatch.slowest_seconds("HighErrorRate", "us-east-1", 10) == 40
    assert cloudwatch.slowest_seconds("TwoRegionsDown", cloudwatch.ESTATE, 10) == 40
    heartbeat = alarm("HeartbeatMissing").cloudwatch
    assert isinstance(heartbeat, MetricAlarm)
    assert bounds.slowest_seconds(heartbeat, 60) == 480
    with pytest.raises(KeyError):
        cloudwatch.slowest_seconds("HeartbeatMissing", "us-east-1", 10)


def test_a_kind_that_looks_rarely_has_a_longer_period() -> None:
    """Else a canary that always fails would not fail often enough in one to be told."""
    canaries = SETTINGS.canaries
    rarely = canaries.model_copy(update={"golden": canaries.golden.model_copy(update={"interval_seconds": 300.0})})
    settings = SETTINGS.model_copy(update={"canaries": rarely})
    golden = alarm("GoldenFails").cloudwatch
    assert isinstance(golden, MetricAlarm)

    assert (bounds.period_of(SETTINGS, golden), bounds.period_of(settings, golden)) == (300, 3000)
    assert bounds.cloudwatch(settings, alarm("GoldenFails")) > bounds.cloudwatch(SETTINGS, alarm("GoldenFails"))


# ---------------------------------------------------------------------------------------------------- Prometheus


def test_the_committed_rules_are_what_the_table_makes() -> None:
    """Byte for byte; if not: make alarms."""
    committed = ROOT / "alarms" / "prometheus" / "kms-watchdog.rules.yml"

    assert committed.read_text(encoding="utf-8") == prometheus.render(SETTINGS), "stale: run make alarms"


def rules(scale: float = 1.0) -> list[dict[str, Any]]:
    groups = yaml.safe_load(prometheus.render(SETTINGS, scale=scale))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_twins_of_rules_differ_in_mode_and_name_alone() -> None:
    """As in CloudWatch; the receiver goes by `mode`."""
    live = [rule for rule in rules() if rule.get("labels", {}).get("mode") == "live"]
    twins = [rule for rule in rules() if rule.get("labels", {}).get("mode") == "drill"]
    assert twins
    for twin in twins:
        plain = json.loads(json.dumps(twin).replace('mode=\\"drill\\"', 'mode=\\"live\\"'))
        plain["labels"]["mode"] = "live"
        plain["alert"] = plain["alert"].replace("KmsDrill", "Kms")
        assert plain in live


def test_rules_read_only_what_the_daemon_exports() -> None:
    """Every name in an expression is a metric of `metrics.py`, a recorded one, or Prometheus's own `up`."""
    exported = {m.full_name + suffix for m in metrics.PROMETHEUS for suffix in ("", "_bucket", "_count", "_sum")}
    recorded = {burn_rate.record_name(window) for window in burn_rate.WINDOWS}
    for rule in rules():
        names = set(re.findall(r"[a-z_:]*kms_watchdog_[a-z_:0-9]+", rule["expr"]))
        assert names <= exported | recorded
        assert names or "up{" in rule["expr"] or rule["expr"] == "vector(1)"


def seconds_of(duration: str) -> float:
    units = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+)(ms|[dhms])", duration))


def test_every_time_in_a_rule_scales() -> None:
    """A tenth of every range, `for` and hold: a test that sees hours in seconds sees the shipped rules."""
    whole, tenth = rules(), rules(0.1)
    assert len(whole) == len(tenth)
    for one, other in zip(whole, tenth, strict=True):
        times = [
            [*re.findall(r"\[([^]]+)\]", rule["expr"]), *(rule[of] for of in ("for", "keep_firing_for") if of in rule)]
            for rule in (one, other)
        ]
        assert [seconds_of(found) / 10 for found in times[0]] == pytest.approx([seconds_of(f) for f in times[1]])
    stalled = [rule["expr"] for rule in (*whole, *tenth) if rule.get("alert") == "KmsSchedulerStalled"]
    assert [expr.rpartition("> ")[2] for expr in stalled] == ["60", "6"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "1m30s"), (0.25, "250ms"), (3600, "1h"), (259_200, "3d"), (0, "1ms"), (4.5, "4s500ms")]
)
def test_durations_are_written_as_prometheus_does(seconds: float, text: str) -> None:
    """Its own units, the largest first."""
    assert prometheus.duration(seconds) == text


def test_a_selector_names_labels_that_the_metric_has() -> None:
    """And its mode: a drill's numbers must not mix in unasked."""
    runs = metrics.CANARY_RUNS
    assert series(runs, region="us-east-1", result="!~success|blind") == (
        'kms_watchdog_canary_runs_total{region="us-east-1",mode="$mode",result!~"success|blind"}'
    )
    assert series(metrics.CANARY_INTERVAL, canary="~a|b") == 'kms_watchdog_canary_interval_seconds{canary=~"a|b"}'
    assert series(metrics.DRILLS_HALTED) == "kms_watchdog_drills_halted"
    with pytest.raises(ValueError, match="canary_runs_total has no label zone"):
        series(runs, zone="a")


def test_an_alarm_without_proof_is_refused() -> None:
    """It cannot even be written down."""
    row = {field: getattr(alarm("KeyUnusable"), field) for field in Alarm.__dataclass_fields__}
    with pytest.raises(ValueError, match="rumour"):
        Alarm(**{**row, "proven_on_path": ""})
    with pytest.raises(ValueError, match="there is none"):
        Alarm(**{**row, "proven_by": ("region-blackhole",)})


def test_a_page_without_a_place_for_its_alarm_is_not_rendered(tmp_path: Path) -> None:
    """Nor one that is not there: which alarm, in which file."""
    arguments = ["render", "--config", str(EXAMPLE), "--format", "runbooks", "--into", str(tmp_path)]
    missing = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    first = next(iter(runbooks.pages()))
    (tmp_path / first).write_text("# A page\n", encoding="utf-8")
    empty = CliRunner().invoke(cli, arguments, catch_exceptions=False)

    assert (missing.exit_code, empty.exit_code) == (1, 1)
    assert "an alarm without a runbook is not rendered" in missing.stderr
    assert f"{first}: no place for" in empty.stderr


def test_a_look_that_takes_its_time_is_in_the_bound() -> None:
    """Each of the looks it needs, the last with its whole deadline."""
    row = alarm("RegionUnhealthy")
    assert row.seen == Seen(kind=row.seen.kind, looks=3)
    assert bounds.seen_seconds(SETTINGS, row) == 3 * 30 + 10


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
