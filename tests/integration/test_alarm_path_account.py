"""The account of the alarm-path tests: no alarm, no page and no printed command is left out without a reason."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from alarm_path import Page, Situation
from alarm_path_account import NOT_HERE, NOT_SEEN, WAVES
from alarm_path_pages import FIX, OVER, RUNBOOKS, first, named

from kms_alarms.parts import NoneBecause
from kms_alarms.runbooks import pages
from kms_alarms.table import ALARMS

DRILLS = Path(__file__).parents[2] / "chaos" / "kms_chaos" / "drills"
SITUATIONS = tuple(situation for wave in WAVES.values() for situation in wave)
FOLLOWED = tuple(page for situation in SITUATIONS for page in situation.pages)


def wanted() -> set[tuple[str, str]]:
    """Every alarm in each system that has it."""
    found = {(row.name, "prometheus") for row in ALARMS if not isinstance(row.prometheus, NoneBecause)}
    return found | {(row.name, "cloudwatch") for row in ALARMS if not isinstance(row.cloudwatch, NoneBecause)}


def seen() -> set[tuple[str, str]]:
    """What some situation makes fire and clear."""
    found = set()
    for fires in (one for situation in SITUATIONS for one in situation.fires):
        found |= {(fires.row, "prometheus")} if fires.in_prometheus else set()
        found |= {(fires.row, "cloudwatch")} if fires.in_cloudwatch else set()
    return found


def drilled() -> set[tuple[str, str]]:
    """What a drill must see fire: twins, which CloudWatch's alarms are read for."""
    found = set()
    for path in DRILLS.glob("*.toml"):
        drill = tomllib.loads(path.read_text(encoding="utf-8"))
        found |= {(one["alarm"], "cloudwatch") for one in drill.get("alarms", {}).get("must_fire", ())}
    return found


def test_every_alarm_is_seen_to_fire_and_to_clear_in_each_system_that_has_it() -> None:
    """By a situation of the alarm-path tests, or by a drill that must see its twin fire; or it is said why not."""
    assert {name for name, _ in wanted() - seen() - drilled()} == NOT_SEEN.keys()


def test_every_page_is_followed() -> None:
    """Each runbook belongs to a situation."""
    assert {name.partition("#")[0] for name in pages()} - {page.name for page in FOLLOWED} == set()


@pytest.mark.parametrize("name", sorted(path.name for path in RUNBOOKS.glob("*.md")))
def test_each_of_the_first_three_commands_is_run_or_cannot_be(name: str) -> None:
    """Each has a decisive word that must appear, in some situation; or the table says why it cannot be run here."""
    commands = first(name)
    followed = [page for page in FOLLOWED if page.name == name]

    assert len(commands) == 3
    for number, command in enumerate(commands):
        run = any(page.shows[number] is not None for page in followed)
        assert run or command.startswith(tuple(NOT_HERE)), f"{name}: nobody runs {command}"


def test_what_a_situation_runs_is_printed() -> None:
    """A command that was reworded on its page is missed here, not a quarter of an hour later."""
    for situation, page in followed():
        assert len(page.shows) == len(first(page.name)), situation.name
        for step in page.fix:
            if isinstance(step, str):
                named(page.name, FIX, step)
        for beginning in page.over:
            named(page.name, OVER, beginning)


def followed() -> Iterator[tuple[Situation, Page]]:
    for situation in SITUATIONS:
        for page in situation.pages:
            yield situation, page


def test_situations_have_names_of_their_own() -> None:
    """By which their folders are called."""
    names = [situation.name for situation in SITUATIONS]

    assert len(set(names)) == len(names)
