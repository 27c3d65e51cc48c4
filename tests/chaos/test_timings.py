"""The error of a measurement is the longest distance between samples around it; what is told is told whole."""

from __future__ import annotations

import pytest
from judged_stories import BASE, journal_of

from kms_chaos.judging.history import History
from kms_chaos.testing import TARGET
from kms_chaos.timings import KeyLoss, _spacing, key_loss, timings


@pytest.mark.parametrize(
    ("samples", "spacing"),
    [
        pytest.param([0.0, 5.0, 6.0, 16.0], 1.0, id="from-sample-to-sample"),
        pytest.param([0.0, 4.0, 5.5, 7.0, 20.0], 1.5, id="those-around-it-count"),
        pytest.param([0.0, 4.0, 5.25, 5.5], 1.25, id="none-after-it"),
        pytest.param([5.25, 5.5, 9.0, 20.0], 3.5, id="none-before-it"),
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


def test_the_loss_of_keys_is_told_whole() -> None:
    """None was lost."""
    loss = key_loss(History.of(journal_of(BASE)))

    assert isinstance(loss, KeyLoss)
    assert loss.to_json() == {
        "sealed": 80, "sealed_in_fault": loss.sealed_in_fault, "lost": [], "untried": 0,
        "regions": ["us-east-1", "us-west-2", "eu-west-1"],
    }  # fmt: skip
    assert loss.sealed_in_fault == 41
