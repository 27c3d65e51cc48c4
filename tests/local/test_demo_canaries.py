"""What the demo shows while the canaries turn green."""

from __future__ import annotations

import io

from rich.console import Console

from kms_local.demo.canaries import _line, _table

STATUS = {
    "canaries": [
        {"canary": "round_trip", "region": "us-east-1", "key": "pii", "state": "up"},
        {"canary": "golden", "region": "us-east-1", "key": "pii", "state": "down"},
        {"canary": "clock_offset", "region": "us-east-1", "key": "", "state": "up"},
    ]
}


def test_round_trips_are_a_matrix_and_other_kinds_a_count() -> None:
    """A kind that is down neither hides behind a round trip's cell nor takes its place."""
    console = Console(file=io.StringIO(), width=80)

    console.print(_table(STATUS))

    assert isinstance(console.file, io.StringIO)
    shown = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert shown == [
        ["region", "pii"],
        ["us-east-1", "●", "OK"],
        ["golden", "0", "of", "1", "OK"],
        ["clock", "offset", "1", "of", "1", "OK"],
    ]


def test_piped_it_is_one_line_of_all() -> None:
    """Of every kind."""
    assert _line(STATUS) == "  2 of 3 canaries OK"
