"""Forced breakers under any history: they expire, close no last door, and tell every move that is to be seen."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kms_core._breakers import Breakers
from kms_core._forced import MAX_FORCED_SECONDS
from kms_core.breaker import Admission, BreakerPolicy, Outcome
from kms_core.events import BreakerMoved
from kms_core.testing import ManualClock

REGIONS = ("us-east-1", "us-west-2")


class Forcing(RuleBasedStateMachine):
    """People force and let go while calls begin and end."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.seen = dict.fromkeys(REGIONS, "closed")
        self.out: list[tuple[str, Admission]] = []
        self.breakers = Breakers(REGIONS, BreakerPolicy(), clock=self.clock, rng=random.Random(0), emit=self.told)

    def told(self, event: Any) -> None:
        assert isinstance(event, BreakerMoved)
        assert event.old == self.seen[event.region], "no move is missing between two that are told"
        self.seen[event.region] = event.new

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(region=st.sampled_from(REGIONS), state=st.sampled_from(["open", "closed"]), seconds=st.floats(1, 200))
    def somebody_forces(self, region: str, state: Any, seconds: float) -> None:
        self.breakers.force(region, state, seconds, "a reason")
        assert self.breakers.closed(region) == (state == "closed")

    @rule(region=st.sampled_from(REGIONS))
    def somebody_lets_go(self, region: str) -> None:
        self.breakers.unforce(region)

    @rule(region=st.sampled_from(REGIONS), how=st.sampled_from(["admit", "admit_anyway", "admit_last"]))
    def a_call_begins(self, region: str, how: str) -> None:
        admission = getattr(self.breakers, how)(region)
        assert admission is not None or how == "admit"
        if admission is not None:
            self.out.append((region, admission))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def a_call_ends(self, data: st.DataObject, outcome: Outcome) -> None:
        region, admission = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.breakers.report(region, admission, outcome)

    @invariant()
    def what_is_seen_is_what_was_told(self) -> None:
        view = self.breakers.view()
        assert {region: view[region].state for region in REGIONS} == self.seen

    def teardown(self) -> None:
        self.clock.advance(MAX_FORCED_SECONDS)
        assert not any(seen.forced_reason for seen in self.breakers.view().values())
        assert all(self.breakers.admit(region) is not None for region in REGIONS)


TestForcing = Forcing.TestCase
