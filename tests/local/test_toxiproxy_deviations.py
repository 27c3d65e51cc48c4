"""docs/local-toxiproxy.md lists every deviation from the real Toxiproxy, and the tests that hold one say which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

_TABLE = Path(__file__).parents[2] / "docs" / "local-toxiproxy.md"
_HEAD = "| name | the real server | here | why | test |"


def listed() -> dict[str, str]:
    """Return the table's names, and the test that each names, if any."""
    rows = _TABLE.read_text().partition(_HEAD)[2].strip().splitlines()[1:]
    cells = [[cell.strip() for cell in row.strip().strip("|").split(" | ")] for row in rows if row.startswith("|")]
    return {row[0]: row[4].strip("`") if len(row) > 4 else "" for row in cells}


def marked() -> dict[str, set[str]]:
    """Return which tests carry which names."""
    found: dict[str, set[str]] = {}
    for path in sorted(Path(__file__).parent.glob("test_toxiproxy_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.deviates":
                    assert isinstance(mark.args[0], ast.Constant)
                    assert isinstance(node, ast.FunctionDef)
                    found.setdefault(str(mark.args[0].value), set()).add(node.name)
    return found


def test_every_marked_deviation_is_listed() -> None:
    """A test may not hold a difference that nobody can read about."""
    assert set(marked()) <= set(listed())


@pytest.mark.parametrize(("name", "test"), [(name, test) for name, test in listed().items() if test])
def test_a_listed_test_holds_its_row(name: str, test: str) -> None:
    """The test that a row names is there, and carries the row's name."""
    assert test in marked().get(name, set())
