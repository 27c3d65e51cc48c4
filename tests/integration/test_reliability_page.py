"""docs/reliability.md names tests that are there, each promise at least one way to see it broken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from named_tests import functions_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise |")]


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_every_test_that_is_named_is_there(path: str, name: str) -> None:
    """A test that was renamed shows nothing."""
    assert name in functions_of(ROOT / path)


@pytest.mark.parametrize("row", ROWS, ids=[row.strip("| ")[:40] for row in ROWS])
def test_every_promise_names_what_shows_it(row: str) -> None:
    """A promise without a test belongs at the end of the page."""
    promise, shown, _figure = row.strip("|").split("|")

    assert promise.strip()
    assert re.search(r"`(tests/[\w/]+\.py::\w+|make bench ARGS=[^`]+)`", shown)
