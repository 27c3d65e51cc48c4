"""The page of an estate with thousands of keys: what is in trouble first, and no row looked for among all others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import REGIONS
from status_kit import ServedWatchdog, look

from kms_watchdog.config import load
from kms_watchdog.health import Subject, board
from kms_watchdog.results import Kind, Outcome
from kms_watchdog.web.documents import LATENCIES_SHOWN, status_document
from kms_watchdog.web.page import ROWS_SHOWN, Page, Viewer, excerpt

ESTATE = """
[estate]
account_id = "123456789012"
primary_region = "us-east-1"
regions = ["us-east-1", "us-west-2", "eu-west-1"]
[state]
dir = "state"
"""
TICKS = 60


@pytest.fixture
def of_keys(tmp_path: Path) -> Callable[[int], ServedWatchdog]:
    """Returns a watchdog of so many keys, whose canaries have all looked sixty times."""

    def make(number: int) -> ServedWatchdog:
        names = [f"k{count:04}" for count in range(number)]
        path = tmp_path / f"{number}.toml"
        path.write_text(ESTATE + "".join(f'[keys.{name}]\nalias = "alias/{name}"\n' for name in names))
        subjects = tuple(Subject(Kind.ROUND_TRIP, region, name) for name in names for region in REGIONS)
        made = ServedWatchdog(load(path, environ={}), subjects=subjects[:1])
        made.subjects, made.board = subjects, board(subjects)
        seen = board(subjects[:1]).fold(look(subjects[0]), now=made.clock.monotonic()).canaries[subjects[0]]
        made.board = type(made.board)(canaries=dict.fromkeys(subjects, seen))
        made.ticks = {subject: [look(subject, at=30.0 * turn) for turn in range(TICKS)] for subject in subjects}
        return made

    return make


class Counting(dict[str, Any]):
    """A canary in the document that counts how often it is looked at."""

    looked = 0

    def __getitem__(self, name: str) -> Any:
        Counting.looked += 1
        return super().__getitem__(name)


def looks_at(watchdog: ServedWatchdog) -> float:
    """How often the page looks at each canary."""
    document = status_document(watchdog.status())
    document["canaries"] = [Counting(canary) for canary in document["canaries"]]
    Counting.looked = 0
    Page().whole(document, Viewer())
    return Counting.looked / len(document["canaries"])


def test_the_page_looks_at_each_canary_as_often_whatever_their_number(
    of_keys: Callable[[int], ServedWatchdog],
) -> None:
    """Ten times the keys are no more work for each: once it took minutes for thousands, and held all else up."""
    few, many = looks_at(of_keys(ROWS_SHOWN)), looks_at(of_keys(10 * ROWS_SHOWN))

    assert few > 1
    assert many <= few


def test_those_in_trouble_are_shown_and_the_rest_is_counted(of_keys: Callable[[int], ServedWatchdog]) -> None:
    """The last of a thousand keys is the first row when it fails."""
    watchdog = of_keys(1000)
    bad = Subject(Kind.ROUND_TRIP, "eu-west-1", "k0999")
    for turn in range(3):
        watchdog.board = watchdog.board.fold(look(bad, Outcome.FAILED, at=float(turn)), now=watchdog.clock.monotonic())

    page = Page().whole(status_document(watchdog.status()), Viewer())
    keys = page[page.index('id="canaries"') :]

    assert keys.index("alias/k0999") < keys.index("alias/k0000")
    assert page.count("alias/k") == 2 * ROWS_SHOWN  # the round trips, and the keys
    assert page.count("and 900 more keys, all up") == 2
    assert "and 2900 more canaries, all up" in page
    assert len(page) < 1_000_000


def test_more_in_trouble_than_there_is_room_for(of_keys: Callable[[int], ServedWatchdog]) -> None:
    """Is said, not cut off in silence; the reason names a few of them."""
    watchdog = of_keys(2 * ROWS_SHOWN)
    down = {s: h for s, h in watchdog.board.canaries.items() if s.region == "us-east-1"}
    for turn in range(3):
        for subject in down:
            watchdog.board = watchdog.board.fold(
                look(subject, Outcome.FAILED, at=float(turn)), now=watchdog.clock.monotonic()
            )

    page = Page().whole(status_document(watchdog.status()), Viewer())

    assert page.count(f"and {ROWS_SHOWN} more keys, {ROWS_SHOWN} of them not up") == 2
    assert f"k0005 and {2 * ROWS_SHOWN - 6} more" in page


def test_a_table_with_room_for_all_keeps_its_order() -> None:
    """Nothing moves about while things come and go."""
    rows = [{"bad": count == 5} for count in range(ROWS_SHOWN)]

    shown = excerpt(rows, lambda row: bool(row["bad"]))

    assert (list(shown.rows), shown.more, shown.more_troubled) == (rows, 0, 0)


def test_a_regions_drawing_has_the_newest_looks(of_keys: Callable[[int], ServedWatchdog]) -> None:
    """As many as it can show; the percentiles are those of all."""
    watchdog = of_keys(100)
    slow = Subject(Kind.ROUND_TRIP, "us-east-1", "k0000")
    watchdog.ticks[slow] = [look(slow, at=float(-turn), duration_seconds=9.0) for turn in range(TICKS, 0, -1)] * 2

    document = status_document(watchdog.status())
    region = next(one for one in document["regions"] if one["region"] == "us-east-1")
    moments = [one["at_utc"] for one in region["latency"]]

    assert len(moments) == LATENCIES_SHOWN
    assert moments == sorted(moments)
    assert region["p99_seconds"] == 9.0
    assert 9.0 not in [one["seconds"] for one in region["latency"]]
