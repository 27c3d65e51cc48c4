"""The breaker as values: when it opens, whom it lets probe, and what never counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kms_core.breaker import (
    Admission,
    Breaker,
    BreakerPolicy,
    Closed,
    HalfOpen,
    Open,
    Outcome,
    admit,
    admit_anyway,
    admit_last,
    name_of,
    open_seconds,
    report,
    trip,
)

POLICY = BreakerPolicy(jitter=0.2)


def after(breaker: Breaker, *outcomes: Outcome, now: float = 0.0, policy: BreakerPolicy = POLICY) -> Breaker:
    for outcome in outcomes:
        admission, breaker = admit_anyway(breaker, policy, now=now)
        breaker, _ = report(breaker, policy, admission, outcome, now=now, spread=0.0)
    return breaker


def probe(breaker: Breaker, *, now: float) -> tuple[Admission, Breaker]:
    admission, half_open = admit(breaker, POLICY, now=now)
    assert admission is not None
    return admission, half_open


FAILURE, SLOW, GOOD, UNKNOWN = Outcome.FAILURE, Outcome.SLOW, Outcome.GOOD, Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        pytest.param([FAILURE, FAILURE], "closed", id="two failures"),
        pytest.param([FAILURE, FAILURE, FAILURE], "open", id="three failures"),
        pytest.param([FAILURE, SLOW, FAILURE], "open", id="slow counts"),
        pytest.param([FAILURE, FAILURE, GOOD, FAILURE, FAILURE], "closed", id="a success clears"),
        pytest.param([FAILURE, FAILURE, UNKNOWN, FAILURE], "open", id="unknown neither counts nor clears"),
        pytest.param([UNKNOWN] * 9, "closed", id="unknown never opens"),
    ],
)
def test_three_bad_ones_in_a_row_open_it(outcomes: list[Outcome], state: str) -> None:
    """Failures and slow calls count alike, a success clears, and what says nothing changes nothing."""
    assert name_of(after(Closed(), *outcomes)) == state


def test_a_failure_that_is_too_old_does_not_count() -> None:
    """Three failures open it only when the first is no older than the window."""
    two = after(after(Closed(), FAILURE, now=0.0), FAILURE, now=50.0)

    assert name_of(after(two, FAILURE, now=60.0)) == "open"
    assert name_of(after(two, FAILURE, now=60.1)) == "closed"


@pytest.mark.parametrize(("last", "cause"), [(FAILURE, "failures"), (SLOW, "slow")])
def test_the_last_straw_is_the_cause(last: Outcome, cause: str) -> None:
    """A drill asserts that the breaker opened for the right reason."""
    breaker = after(Closed(), FAILURE, FAILURE)

    _, moved = report(breaker, POLICY, Admission(generation=0), last, now=0.0, spread=0.0)

    assert moved == cause


def test_it_stays_open_for_its_time_and_then_lets_one_probe_out() -> None:
    """One permit; who comes while it is out is refused."""
    breaker = after(Closed(), FAILURE, FAILURE, FAILURE)

    assert admit(breaker, POLICY, now=4.99) == (None, breaker)
    first, half_open = probe(breaker, now=5.0)
    assert first.probe
    assert admit(half_open, POLICY, now=5.0) == (None, half_open)


def test_two_good_probes_close_it() -> None:
    """The first gives its permit back, the second closes."""
    admission, breaker = probe(after(Closed(), FAILURE, FAILURE, FAILURE), now=5.0)
    breaker, cause = report(breaker, POLICY, admission, GOOD, now=5.1, spread=0.0)
    assert (name_of(breaker), cause) == ("half_open", None)

    admission, breaker = probe(breaker, now=5.1)
    breaker, cause = report(breaker, POLICY, admission, GOOD, now=5.2, spread=0.0)
    assert (name_of(breaker), cause) == ("closed", "probe_succeeded")


def test_failed_probes_double_the_wait_up_to_a_minute() -> None:
    """5, 10, 20, 40, 60, 60 seconds."""
    breaker: Breaker = trip(Closed(), POLICY, now=0.0, spread=0.0)
    now, waits = 0.0, []
    for _ in range(6):
        assert isinstance(breaker, Open)
        waits.append(breaker.until - now)
        now = breaker.until
        admission, breaker = probe(breaker, now=now)
        breaker, cause = report(breaker, POLICY, admission, SLOW, now=now, spread=0.0)
        assert cause == "probe_failed"

    assert waits == [5, 10, 20, 40, 60, 60]


def test_a_probe_that_never_ends_gives_way_to_another() -> None:
    """Else a half-open breaker could stick for ever."""
    _, breaker = probe(after(Closed(), FAILURE, FAILURE, FAILURE), now=5.0)

    assert admit(breaker, POLICY, now=9.9)[0] is None
    assert admit(breaker, POLICY, now=10.0)[0] is not None


def test_a_probe_that_says_nothing_gives_its_permit_back() -> None:
    """Its request was not sent, say; the next call may probe at once."""
    admission, breaker = probe(after(Closed(), FAILURE, FAILURE, FAILURE), now=5.0)
    breaker, cause = report(breaker, POLICY, admission, UNKNOWN, now=5.0, spread=0.0)

    assert cause is None
    assert admit(breaker, POLICY, now=5.0)[0] is not None


def test_the_result_of_a_call_that_began_before_a_transition_is_ignored() -> None:
    """A success that was under way when it opened does not close it, nor does a late failure open it again."""
    before, closed = probe(Closed(), now=0.0)
    opened = after(closed, FAILURE, FAILURE, FAILURE)
    admission, half_open = probe(opened, now=5.0)

    assert report(opened, POLICY, before, GOOD, now=1.0, spread=0.0) == (opened, None)
    assert report(half_open, POLICY, before, FAILURE, now=5.0, spread=0.0) == (half_open, None)
    assert admission.generation != before.generation


def test_a_canary_is_never_refused_and_its_result_counts() -> None:
    """While it is open, the result changes nothing; when it is due, the canary is the probe."""
    breaker = after(Closed(), FAILURE, FAILURE, FAILURE)

    early, same = admit_anyway(breaker, POLICY, now=1.0)
    assert same == breaker
    assert report(breaker, POLICY, early, GOOD, now=1.0, spread=0.0) == (breaker, None)

    due, half_open = admit_anyway(breaker, POLICY, now=5.0)
    assert due.probe
    assert name_of(half_open) == "half_open"


def test_the_last_door_opens_before_its_time_and_its_failure_does_not_lengthen_the_wait() -> None:
    """When all regions are refused, somebody has to be asked; that must not push the recovery away."""
    breaker = after(Closed(), FAILURE, FAILURE, FAILURE)

    admission, half_open = admit_last(breaker, POLICY, now=1.0)
    assert isinstance(half_open, HalfOpen)
    assert half_open.early
    another, same = admit_last(half_open, POLICY, now=1.0)
    assert same == half_open, "the permit stays with who has it, and the other goes out all the same"
    reopened, _ = report(half_open, POLICY, admission, FAILURE, now=2.0, spread=0.0)
    assert isinstance(reopened, Open)
    assert reopened.until == 7.0
    assert report(reopened, POLICY, another, FAILURE, now=2.0, spread=0.0) == (reopened, None)


@given(failed=st.integers(0, 10_000), spread=st.floats(-1, 1))
def test_the_wait_is_bounded(failed: int, spread: float) -> None:
    """However often probes failed, and whatever the jitter."""
    assert 5 * 0.8 <= open_seconds(POLICY, failed, spread) <= 60 * 1.2


@pytest.mark.parametrize(
    "settings",
    [
        {"trip_after_failures": 0},
        {"successes_to_close": 0},
        {"jitter": 1.0},
        {"open_seconds": 0.0},
        {"open_seconds": 61.0},
        {"probe_seconds": 0.0},
        {"failure_window_seconds": -1.0},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    """Wrong at birth."""
    with pytest.raises(ValueError, match="must be"):
        BreakerPolicy(**settings)


class AnyHistory(RuleBasedStateMachine):
    """Calls begin and end in any order, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker: Breaker = Closed()
        self.out: list[Admission] = []
        self.last_generation = 0

    @rule(seconds=st.floats(0, 70))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(how=st.sampled_from([admit, admit_anyway, admit_last]))
    def a_call_begins(self, how: Any) -> None:
        admission, self.breaker = how(self.breaker, POLICY, now=self.now)
        if admission is not None:
            self.out.append(admission)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), spread=st.floats(-1, 1))
    def a_call_ends(self, data: st.DataObject, outcome: Outcome, spread: float) -> None:
        admission = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        old = self.breaker
        self.breaker, cause = report(old, POLICY, admission, outcome, now=self.now, spread=spread)
        assert (cause is None) == (type(old) is type(self.breaker)), "a move has a cause, and only a move"
        if admission.generation != old.generation:
            assert self.breaker == old

    @invariant()
    def generations_never_go_back(self) -> None:
        assert self.breaker.generation >= self.last_generation
        self.last_generation = self.breaker.generation

    @invariant()
    def it_always_lets_somebody_in_some_day(self) -> None:
        assert admit(self.breaker, POLICY, now=self.now + 72.0)[0] is not None

    @invariant()
    def a_closed_one_has_fewer_failures_than_would_open_it(self) -> None:
        if isinstance(self.breaker, Closed):
            assert len(self.breaker.failed_at) < POLICY.trip_after_failures


TestAnyHistory = AnyHistory.TestCase
