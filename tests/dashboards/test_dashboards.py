"""Dashboards as code: the committed JSON is what the code makes, is laid out soundly, and asks for what exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kms_dashboards.cli import cli
from kms_dashboards.rendering import BUILDERS, render
from kms_watchdog import metrics

FOLDER = Path(__file__).parents[2] / "dashboards" / "grafana"
NAMES = sorted(BUILDERS)


def panels(name: str) -> Iterator[dict[str, Any]]:
    for panel in json.loads(render(name))["panels"]:
        yield panel
        yield from panel.get("panels", [])


@pytest.mark.parametrize("name", NAMES)
def test_committed_dashboard_is_current(name: str) -> None:
    """If not: make dashboards."""
    assert (FOLDER / name).read_text(encoding="utf-8") == render(name), "stale: run make dashboards"


def test_every_committed_dashboard_has_code() -> None:
    """A file nobody makes would never be updated."""
    assert {path.name for path in FOLDER.glob("*.json")} == set(BUILDERS)


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_a_dashboard_asks_for_is_exported(name: str) -> None:
    """A misspelt name would draw "No data" for ever."""
    known = {m.full_name for m in metrics.PROMETHEUS}
    asked = set(re.findall(r"kms_watchdog_[a-z_]+", render(name)))

    assert asked
    assert {re.sub(r"_(bucket|sum|count)$", "", n) if n not in known else n for n in asked} <= known


@pytest.mark.parametrize("name", NAMES)
def test_panels_say_what_they_show(name: str) -> None:
    """Title, description, unit and a data source that the reader chooses."""
    for panel in panels(name):
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_ids_and_do_not_overlap(name: str) -> None:
    """Grafana's grid is 24 columns wide."""
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels(name)]
    for panel in panels(name):
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len(ids) == len(set(ids))


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
