"""The error of a measurement is the longest distance between samples around it; what is told is told whole."""

from __future__ import annotations

import pytest
from judged_stories import BASE, between, canary, journal_of

from kms_chaos.judging.history import History
from kms_chaos.testing import FAULT_OFF, PURPOSES, REGIONS, TARGET, WELL_AT, Story, of
from kms_chaos.timings import KeyLoss, Timing, _spacing, key_loss, timings


@pytest.mark.parametrize(
    ("samples", "spacing"),
    [
        pytest.param([0.0, 5.0, 6.0, 16.0], 1.0, id="from-sample-to-sample"),
        pytest.param([0.0, 4.0, 5.5, 7.0, 20.0], 1.5, id="those-around-it-count"),
        pytest.param([0.0, 4.0, 5.25, 5.5], 1.25, id="none-after-it"),
        pytest.param([5.25, 5.5, 9.0, 20.0], 3.5, id="none-before-it"),
        pytest.param([4.5, 5.75], 1.25, id="nothing-but-the-last-gap"),
        pytest.param([16.0, 0.0, 6.0, 5.0], 1.0, id="in-any-order"),
        pytest.param([5.5], None, id="one-sample"),
        pytest.param([], None, id="no-sample"),
    ],
)
def test_what_lies_between_five_and_six_seconds_may_be_off_by(samples: list[float], spacing: float | None) -> None:
    """Those at its ends are its own; what is further away is no matter."""
    assert _spacing(samples, 5.0, 6.0) == spacing


def test_a_part_of_the_recovery_is_told_whole() -> None:
    """As JSON, for reports and programs."""
    history = History.of(journal_of(BASE))
    detect = timings(history)[0]

    assert detect.to_json() == {
        "name": "detect",
        "title": "fault on → breaker open",
        "region": TARGET,
        "lane": "",
        "seconds": 3.0,
        "error_seconds": 1.0,
        "note": "",
        "evidence": list(detect.evidence),
    }
    assert [history.records[seq].event for seq in detect.evidence] == ["fault-injected", "breaker-moved"]


def steady_state(story: Story) -> Timing:
    """Return how long the steady state took to return."""
    return next(one for one in timings(History.of(journal_of(story))) if one.name == "steady-state")


def looked_once(*regions: str) -> Story:
    """Return the drill whose canaries of `regions` looked but once, after the fault; the others every two seconds."""
    places = [canary(region, purpose) for region in regions for purpose in PURPOSES]
    return BASE.without(lambda one: any(place(one) for place in places) and not between(WELL_AT, WELL_AT + 2.0)(one))


def test_the_return_of_the_steady_state_is_as_fine_as_the_rarest_canary() -> None:
    """One that looked once has no spacing: it makes the error no smaller; when all did, nobody can tell the error."""
    assert steady_state(BASE).error_seconds == pytest.approx(2.98)  # the target's, whose last vain look took a second
    assert steady_state(looked_once(*REGIONS[1:])).error_seconds == pytest.approx(2.98)
    assert steady_state(looked_once(TARGET)).error_seconds == pytest.approx(2.0)

    alone = steady_state(looked_once(*REGIONS))
    assert alone.seconds == pytest.approx(WELL_AT + 1.02 - FAULT_OFF)
    assert alone.error_seconds is None


@pytest.mark.parametrize(
    ("opened", "refused", "wrong", "untried"),
    [
        pytest.param(50, 30, 20, 0, id="refused-and-the-first-named"),
        pytest.param(75, 0, 5, 0, id="opened-to-something-else"),
        pytest.param(40, 30, 20, 10, id="ended-early"),
    ],
)
def test_a_message_that_was_asked_for_in_vain_is_lost_not_untried(
    opened: int, refused: int, wrong: int, untried: int
) -> None:
    """Of many that are lost the journal names the first twenty; the others were tried all the same."""
    checked = of("messages-checked", when="check", region=TARGET)
    story = BASE.changed(checked, opened=opened, refused=refused, wrong=list(range(wrong)))

    loss = key_loss(History.of(journal_of(story)))

    assert loss is not None
    assert loss.untried == untried
    assert (TARGET in loss.regions) is not bool(untried)
    assert loss.lost == tuple(range(wrong))


def test_the_loss_of_keys_is_told_whole() -> None:
    """None was lost."""
    loss = key_loss(History.of(journal_of(BASE)))

    assert isinstance(loss, KeyLoss)
    assert loss.to_json() == {
        "sealed": 80, "sealed_in_fault": loss.sealed_in_fault, "lost": [], "untried": 0,
        "regions": ["us-east-1", "us-west-2", "eu-west-1"],
    }  # fmt: skip
    assert loss.sealed_in_fault == 41
