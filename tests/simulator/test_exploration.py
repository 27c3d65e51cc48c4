"""The lease and the undoing, step by step: two drills, one crash, one freeze, at every step that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from exploration import FREEZES, Ending, Explorer, Story, a_crash_and_a_freeze, one_failure, wrong
from mishaps import Fate

pytestmark = [pytest.mark.slow, pytest.mark.computes, pytest.mark.minutes(6), pytest.mark.timeout(1800)]
LEAST_STEPS = 90
"""A drill takes some hundred: fewer would mean that steps are not seen any more."""
STRIDE, STRIDE_OF_PAIRS = 3, 12
"""Here; `python tests/simulator --explore` takes every step, and every pair of them."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let nobody say anything of what befalls them."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("again", [True, False])
def test_a_crash_or_a_freeze_at_a_step(tmp_path: Path, *, again: bool) -> None:
    """No fault outlives its time, no two are on at once, the slot has its drill once."""
    explorer = Explorer(tmp_path, again=again)
    steps = explorer.tell(Story()).steps[0]
    found = told(explorer, one_failure(steps, STRIDE), again=again)

    assert steps > LEAST_STEPS
    assert found == {}


def test_a_crash_and_a_freeze(tmp_path: Path) -> None:
    """Of two: the first stands still for longer than its lease, the second dies."""
    explorer = Explorer(tmp_path)
    steps = explorer.tell(Story()).steps[0]
    found = told(explorer, a_crash_and_a_freeze(steps, STRIDE_OF_PAIRS), again=True)

    assert found == {}


def told(explorer: Explorer, stories: Iterator[Story], *, again: bool) -> dict[str, list[str]]:
    """Return what was wrong, by story."""
    endings = ((story, explorer.tell(story)) for story in stories)
    return {str(story): found for story, ending in endings if (found := wrong(story, ending, again=again))}


def test_what_remains_is_a_freeze_between_looking_and_acting(tmp_path: Path) -> None:
    """It is seen, and what it lets through is over when the fault's time is: nothing else outlives anything."""
    explorer = Explorer(tmp_path)
    steps = explorer.tell(Story()).steps[0]
    freezes = (Fate(step=step, freeze_seconds=FREEZES[1]) for step in range(1, steps + 1))
    endings = [explorer.tell(Story(first=fate)) for fate in freezes if 30 < fate.step < 60]

    assert any(ending.past_its_check for ending in endings)
    assert [one for ending in endings for one in ending.findings] == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda explorer: explorer.forget_the_lease(), "at once", id="no-lease"),
        pytest.param(lambda explorer: explorer.forget_to_heal(), "still broken", id="no-healing"),
    ],
)
def test_what_is_spoilt_is_found_out(tmp_path: Path, spoil: Callable[[Explorer], None], says: str) -> None:
    """An exploration that finds nothing shows nothing."""
    explorer = Explorer(tmp_path)
    spoil(explorer)
    endings: list[Ending] = [explorer.tell(story) for story in one_failure(99, 11)]

    assert any(says in one for ending in endings for one in ending.findings)
