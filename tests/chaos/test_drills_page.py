"""`docs/drills.md` names every drill that is shipped, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from kms_chaos import drill
from kms_chaos.drill import Drill

PAGE = (Path(__file__).parents[2] / "docs" / "drills.md").read_text(encoding="utf-8")


def _part(heading: str) -> str:
    return PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_the_catalogue_is_the_one_that_is_shipped() -> None:
    """Its table's first column, drill for drill."""
    rows = [line.split("|")[1] for line in _part("The catalogue").splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row)]

    assert sorted(named) == list(drill.shipped_names())


def test_the_tables_of_a_drill_file_are_those_it_may_have() -> None:
    """And so is the other way round."""
    rows = [line.split("|")[1] for line in _part("A drill of your own").splitlines() if line.startswith("| `")]
    named = {name.strip("[]") for row in rows for name in re.findall(r"`([^`]+)`", row)}

    assert named == set(Drill.model_fields) - {"name"}
