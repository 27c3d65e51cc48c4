"""The breaker at its borders: the least that a policy may say, who holds the permit, what each move is counted as."""

from __future__ import annotations

from typing import Any

import pytest

from kms_core.breaker import (
    Admission,
    BreakerPolicy,
    Closed,
    HalfOpen,
    Open,
    Outcome,
    admit,
    admit_last,
    open_seconds,
    report,
    trip,
)

POLICY = BreakerPolicy(jitter=0.2)
OPEN = Open(generation=3, until=5.0)


def half_open(**changes: Any) -> HalfOpen:
    values: dict[str, Any] = {"generation": 4, "failed_probes": 0, "permit_until": None} | changes
    return HalfOpen(**values)


@pytest.mark.parametrize(
    "settings",
    [
        {"trip_after_failures": 1},
        {"successes_to_close": 1},
        {"jitter": 0.0},
        {"open_seconds": 60.0},
        {"open_seconds": 0.5},
        {"max_open_seconds": 5.0},
        {"probe_seconds": 0.5, "failure_window_seconds": 0.5},
    ],
    ids=str,
)
def test_the_least_that_makes_sense_is_taken(settings: dict[str, Any]) -> None:
    """One failure may open it, one success may close it, no jitter at all, and a wait that never grows."""
    BreakerPolicy(**settings)


def test_a_jitter_below_none_is_refused() -> None:
    """However little."""
    with pytest.raises(ValueError, match="jitter must be"):
        BreakerPolicy(jitter=-0.5)


def test_jitter_lengthens_and_shortens_by_so_much() -> None:
    """Upwards for a spread above 0."""
    assert [open_seconds(POLICY, 0, spread) for spread in (-1.0, 0.0, 1.0)] == pytest.approx([4.0, 5.0, 6.0])


def test_every_move_begins_a_generation() -> None:
    """Exactly one later than the one before: what began before a move can be told from what began after it."""
    opened = trip(Closed(generation=2), POLICY, now=0.0, spread=0.0)
    admission, probing = admit(opened, POLICY, now=5.0)
    assert admission is not None
    reopened, _ = report(probing, POLICY, admission, Outcome.FAILURE, now=5.0, spread=0.0)
    closed, _ = report(
        half_open(successes=1), POLICY, Admission(generation=4, probe=True), Outcome.GOOD, now=5.0, spread=0.0
    )

    generations = [opened.generation, probing.generation, reopened.generation, closed.generation]
    assert generations == [3, 4, 5, 5]


def test_a_call_while_all_is_well_is_no_probe() -> None:
    """Closed, or half-open with the permit out: its end frees nobody's permit."""
    well, _ = admit_last(Closed(), POLICY, now=0.0)
    beside, _ = admit_last(half_open(permit_until=9.0), POLICY, now=0.0)

    assert (well.probe, beside.probe) == (False, False)


def test_the_last_door_that_is_due_is_an_ordinary_probe() -> None:
    """Only one that opens before its time is early: a due one's failure makes the wait longer, as anybody's does."""
    admission, probing = admit_last(OPEN, POLICY, now=5.0)
    reopened, _ = report(probing, POLICY, admission, Outcome.FAILURE, now=5.0, spread=0.0)

    assert admission.probe
    assert isinstance(reopened, Open)
    assert (reopened.failed_probes, reopened.until) == (1, 15.0)


def test_the_last_door_takes_a_permit_that_is_free() -> None:
    """Who comes next finds it taken."""
    admission, probing = admit_last(half_open(), POLICY, now=1.0)

    assert admission.probe
    assert admit(probing, POLICY, now=1.0) == (None, probing)


def test_a_second_probe_holds_its_permit_for_its_time() -> None:
    """As the first: refused until then, given away from then on; whoever gets it is a probe."""
    first, probing = admit(half_open(permit_until=2.0), POLICY, now=2.0)

    assert first == Admission(generation=4, probe=True)
    assert admit(probing, POLICY, now=6.9)[0] is None
    assert admit(probing, POLICY, now=7.0)[0] == Admission(generation=4, probe=True)


def test_a_probe_that_says_nothing_hands_the_permit_to_a_probe() -> None:
    """Whose failure to be sent would count: only a probe's does."""
    free, _ = report(
        half_open(permit_until=9.0), POLICY, Admission(generation=4, probe=True), Outcome.UNKNOWN, now=5.0, spread=0.0
    )
    admission, probing = admit(free, POLICY, now=5.0)
    assert admission is not None
    after, cause = report(probing, POLICY, admission, Outcome.NOT_SENT, now=5.0, spread=0.0)

    assert (type(after), cause) == (Open, "probe_failed")


def test_a_good_call_beside_the_probe_leaves_the_permit_where_it_is() -> None:
    """Its success counts; else two would probe at once."""
    probing = half_open(permit_until=9.0)

    after, _ = report(probing, POLICY, Admission(generation=4), Outcome.GOOD, now=5.0, spread=0.0)

    assert after == half_open(permit_until=9.0, successes=1)


def test_a_call_beside_the_probe_that_says_nothing_leaves_the_permit_where_it_is() -> None:
    """It never had it to give back."""
    probing = half_open(permit_until=9.0)

    assert report(probing, POLICY, Admission(generation=4), Outcome.UNKNOWN, now=5.0, spread=0.0) == (probing, None)


def test_a_half_open_breaker_is_early_only_if_it_is_said_so() -> None:
    """Early is the exception: it takes the failure for nothing."""
    probe = Admission(generation=4, probe=True)

    late, _ = report(half_open(), POLICY, probe, Outcome.FAILURE, now=5.0, spread=0.0)
    early, _ = report(half_open(early=True), POLICY, probe, Outcome.FAILURE, now=5.0, spread=0.0)

    assert isinstance(late, Open)
    assert isinstance(early, Open)
    assert (late.failed_probes, early.failed_probes) == (1, 0)
