"""Dashboards as code: the committed JSON is what the code makes, is laid out soundly, and asks for what exists."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from alerting import binary
from click.testing import CliRunner

from kms_alarms import burn_rate
from kms_dashboards.asked import asked, filled, variables
from kms_dashboards.cli import cli
from kms_dashboards.queries import breaker, chosen, worst_look
from kms_dashboards.rendering import BUILDERS, render
from kms_watchdog import metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dashboards" / "grafana"
NAMES = sorted(BUILDERS)
METRICS = {metric.full_name: metric for metric in metrics.PROMETHEUS}
RECORDS = {name for name, _ in burn_rate.records()}
OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus gives every series of a target; a metric's own `job` becomes `exported_job`."""
OF_ALERTS = {"alertname", "alertstate", "alarm", "severity", "owner", "mode", "region", "key"}
MADE = {"well", "every"}
"""Labels that `count_values` makes for a legend."""


def documents() -> dict[str, dict[str, Any]]:
    return {name: json.loads(render(name)) for name in NAMES}


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render(name))
    return found


def panels(name: str) -> Iterator[dict[str, Any]]:
    for panel in document(name)["panels"]:
        yield panel
        yield from panel.get("panels", [])


def drawn(name: str) -> Iterator[dict[str, Any]]:
    """Return the panels that draw data."""
    return (panel for panel in panels(name) if panel["type"] not in {"row", "text"})


def expressions(name: str) -> list[str]:
    return [one.expression for one in asked(document(name))]


def family(series: str) -> str:
    """Return the metric that a series of a histogram belongs to."""
    return series if series in METRICS else re.sub(r"_(bucket|sum|count)$", "", series)


@pytest.mark.parametrize("name", NAMES)
def test_committed_dashboard_is_current(name: str) -> None:
    """If not: make dashboards."""
    assert (FOLDER / name).read_text(encoding="utf-8") == render(name), "stale: run make dashboards"


def test_every_committed_dashboard_has_code() -> None:
    """A file nobody makes would never be updated."""
    assert {path.name for path in FOLDER.glob("*.json")} == set(BUILDERS)


def test_a_dashboard_is_the_same_bytes_each_time() -> None:
    """Else each rendering would be a change to look through."""
    assert [render(name) for name in NAMES] == [render(name) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_a_dashboard_asks_for_is_exported(name: str) -> None:
    """A misspelt name would draw "No data" for ever."""
    text = "\n".join(expressions(name))
    recorded = set(re.findall(r"region_mode:\w+:\w+", text))
    plain = re.sub(r"region_mode:\w+:\w+", "", text)
    series = set(re.findall(r"kms_watchdog_[a-z_]+", plain))

    assert series
    assert {family(one) for one in series} <= METRICS.keys()
    assert recorded <= RECORDS


@pytest.mark.parametrize("name", NAMES)
def test_every_label_a_dashboard_asks_by_is_the_metrics_own(name: str) -> None:
    """A selector by a label that a metric has not matches nothing, or everything."""
    for expression in expressions(name):
        for series, inside in re.findall(r"\b(kms_watchdog_[a-z_]+)\{([^}]*(?:\{\w+\}[^}]*)*)\}", expression):
            names = set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', inside))
            metric = METRICS[family(series)]

            assert names <= {*metric.labels, *({"le"} if metric.kind == "histogram" else ())}, expression


@pytest.mark.parametrize("name", NAMES)
def test_every_label_a_dashboard_groups_by_is_known(name: str) -> None:
    """Grouping by a label that nobody has draws one line without a name."""
    known = {label for metric in METRICS.values() for label in metric.labels} - {"job"}
    known |= OF_TARGETS | OF_ALERTS | MADE | {"le", "exported_job"}
    for one in asked(document(name)):
        groups = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", one.expression)

        assert {label.strip() for group in groups for label in group.split(",") if label.strip()} <= known
        assert set(one.labels) <= known


def test_every_query_is_promql(tmp_path: Path) -> None:
    """Prometheus's own parser takes each: one that it refuses draws an error in its panel."""
    rules = [
        {"record": "x:y", "expr": filled(one.expression, variables(board, __rate_interval="1m", __range="1h"))}
        for board in documents().values()
        for one in asked(board)
    ]
    groups = [{"name": str(number), "rules": [rule]} for number, rule in enumerate(rules)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")

    done = subprocess.run(
        [binary("promtool"), "check", "rules", "--lint=none", str(tmp_path / "rules.yml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


OF_CANARY = 'canary="round_trip",region="r",key="k",job="j",instance="i"'
LOOK = f'{OF_CANARY},mode="drill"'


@pytest.mark.parametrize(
    ("expression", "series", "values"),
    [
        pytest.param(
            worst_look(canary="round_trip", mode="drill"),
            {
                f"kms_watchdog_canary_up{{{LOOK}}}": "0x5 1 1 0 1x6",
                f"kms_watchdog_canary_last_run_timestamp_seconds{{{LOOK}}}": "0x5 90+15x8",
                'kms_watchdog_canary_interval_seconds{canary="round_trip",job="j",instance="i"}': "2x15",
            },
            {75: None, 90: 1, 105: 1, 120: 0, 165: 0, 210: 1},
            id="before-its-first-look-a-canary-is-neither-well-nor-ill",
        ),
        pytest.param(
            breaker("drill"),
            {
                'kms_watchdog_circuit_breaker_state{region="r",state="half_open",mode="drill"}': "0 0 1 0 0 0 0 0 0",
                'kms_watchdog_circuit_breaker_state{region="r",state="open",mode="drill"}': "0 1 0 0 0 0 0 0 0",
            },
            {0: 0, 15: 2, 30: 2, 120: 0},
            id="open-and-half-open-in-one-step-is-open",
        ),
    ],
)
def test_states_are_the_worst_of_a_step(
    tmp_path: Path, expression: str, series: dict[str, str], values: dict[int, float | None]
) -> None:
    """A cell is red where a look in it failed; asked of Prometheus's own engine."""
    text = filled(expression, {"__rate_interval": "1m", "region": ".*", "key": ".*"})
    case = {
        "interval": "15s",
        "input_series": [{"series": name, "values": given} for name, given in series.items()],
        "promql_expr_test": [
            {
                "expr": f"sum({text})",
                "eval_time": f"{at}s",
                "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
            }
            for at, value in values.items()
        ],
    }
    file = tmp_path / "states.test.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": [case]}), encoding="utf-8")

    done = subprocess.run([binary("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_no_query_has_a_window_that_zooming_breaks(name: str) -> None:
    """A fixed window misses scrapes when it is short, and looks past what is shown when it is long."""
    meant = {"$__rate_interval", "$__rate_interval:", "$__range", "$__range:$__rate_interval", "2m", "6h:1m", "30d"}
    windows = {window for expression in expressions(name) for window in re.findall(r"\[([^\]]+)\]", expression)}

    assert windows <= meant


@pytest.mark.parametrize("name", NAMES)
def test_panels_say_what_they_show(name: str) -> None:
    """Title, description, unit and a data source that the reader chooses."""
    for panel in panels(name):
        assert panel["title"]
    for panel in drawn(name):
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


@pytest.mark.parametrize("name", NAMES)
def test_colour_never_speaks_alone(name: str) -> None:
    """A state is named in words; of a number the description says from where on it has which colour."""
    for panel in drawn(name):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] in {"status-history", "state-timeline"}:
            assert defaults["mappings"], panel["title"]
        steps = defaults.get("thresholds", {}).get("steps", [])
        for step in steps[2 if panel["type"] == "stat" else 1 :]:  # grey is for no data, the next is for the lowest
            assert re.search(rf"\b{step['color']}\b", panel["description"], re.IGNORECASE), panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_no_panel_draws_over_a_gap(name: str) -> None:
    """Silence is not health: where nobody looked, nothing is drawn; a number without data is "N/A", never 0."""
    for panel in drawn(name):
        defaults = panel["fieldConfig"]["defaults"]
        match panel["type"]:
            case "state-timeline" | "timeseries":
                assert defaults["custom"]["spanNulls"] is False
            case "stat":
                assert defaults["noValue"] == "N/A"
                assert defaults["thresholds"]["steps"][0] == {"value": None, "color": "#6e7280"}, "grey without data"
            case "table":
                assert defaults["noValue"]
                names = set(panel["transformations"][1]["options"]["renameByName"].values())
                empty = {
                    one["matcher"]["options"]
                    for one in panel["fieldConfig"]["overrides"]
                    if {"id": "noValue", "value": "-"} in one["properties"]
                }
                assert names <= empty, "what a table without rows says would stand in each empty cell"


@pytest.mark.parametrize("name", NAMES)
def test_status_histories_keep_to_what_grafana_can_draw(name: str) -> None:
    """It refuses more cells than it has room for; a step is one look at least."""
    for panel in drawn(name):
        if panel["type"] == "status-history":
            assert panel["interval"] == "30s"
            assert panel["maxDataPoints"] <= 150
            assert "min_over_time" in panel["targets"][0]["expr"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_ids_and_do_not_overlap(name: str) -> None:
    """Grafana's grid is 24 columns wide, and each line of ours fills it."""
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels(name)]
    for panel in panels(name):
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len(ids) == len(set(ids))
    assert len(taken) == 24 * (1 + max(y for _, y in taken))


@pytest.mark.parametrize("name", NAMES)
def test_readers_choose_and_cannot_edit(name: str) -> None:
    """Data source, region and key, fresh with each time range; edits would be lost at the next rendering."""
    board = document(name)
    by_name = {variable["name"]: variable for variable in board["templating"]["list"]}

    assert not board["editable"]
    assert board["timezone"] == "utc"
    assert list(by_name)[:3] == ["datasource", "region", "key"]
    assert {"watchdog", "runbooks"} <= by_name.keys()
    for chosen_from in ("region", "key"):
        assert by_name[chosen_from]["multi"]
        assert by_name[chosen_from]["includeAll"]
        assert by_name[chosen_from]["refresh"] == 2, "on a change of the time range"


@pytest.mark.parametrize("name", NAMES)
def test_drills_are_purple_and_everything_leads_on(name: str) -> None:
    """Red keeps its meaning; from each dashboard to the others, to the status page, to reports and to runbooks."""
    board = document(name)
    colours = {one["name"]: one["iconColor"] for one in board["annotations"]["list"]}
    urls = [link.get("url", "") for link in board["links"]]

    assert colours == {"Drills": "purple", "Alerts": "red", "Configuration": "blue"}
    assert board["links"][0]["tags"] == board["tags"] == ["kms-watchdog"]
    assert urls[1:] == ["${watchdog:raw}/", "${watchdog:raw}/#drills", "${runbooks:raw}"]


def test_every_runbook_that_is_linked_is_there() -> None:
    """A link to nothing costs its reader a minute in an incident."""
    linked = set(re.findall(r"\$\{runbooks:raw\}([a-z-]+\.md)", "".join(render(name) for name in NAMES)))
    there = {path.name for path in (ROOT / "alarms" / "runbooks").glob("*.md")}

    assert len(linked) > 40
    assert linked <= there


def test_dashboards_have_names_of_their_own() -> None:
    """Two of one uid overwrite each other in Grafana."""
    assert len({board["uid"] for board in documents().values()}) == len(NAMES)


def test_a_selector_by_a_label_that_is_not_there_is_refused() -> None:
    """At rendering, not on a wall."""
    with pytest.raises(ValueError, match="has no label state"):
        chosen(metrics.CANARY_UP, state="open")


def test_queries_are_filled_as_grafana_does() -> None:
    """Every way to write a variable; one that nobody knows is an error."""
    values = {"region": ".*", "__range": "6h"}

    assert filled('x{region=~"(.*:)?${region:regex}|$region"}[$__range]', values) == 'x{region=~"(.*:)?.*|.*"}[6h]'
    with pytest.raises(KeyError, match="key"):
        filled('x{key="$key"}', values)


def test_every_variable_of_a_query_is_the_dashboards_or_grafanas_own() -> None:
    """A variable that is not there is sent to Prometheus as it is written."""
    of_grafana = dict.fromkeys(("__rate_interval", "__range"), "1m")
    for board in documents().values():
        for one in asked(board):
            assert "$" not in filled(one.expression, variables(board, **of_grafana))


def test_check_names_a_stale_file(tmp_path: Path) -> None:
    """`kms-dashboards check` is red, with the file's name, where a file was edited by hand, and green after render."""
    runner = CliRunner()
    runner.invoke(cli, ["render", str(tmp_path)])
    (tmp_path / "overview.json").write_text("{}", encoding="utf-8")

    edited = runner.invoke(cli, ["check", str(tmp_path)])
    runner.invoke(cli, ["render", str(tmp_path)])
    fresh = runner.invoke(cli, ["check", str(tmp_path)])

    assert (edited.exit_code, fresh.exit_code) == (1, 0)
    assert "overview.json" in edited.output
