"""A second request beside one that is late: rare, seen by the breaker, and nothing it brought is thrown away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from waiting import wait_until

from kms_core import Core, CoreConfig
from kms_core._hedge import BURST, Hedging, delay_seconds
from kms_core.clock import SystemClock
from kms_core.errors import KmsUnavailableError
from kms_core.events import Attempt, BreakerMoved, Hedged
from kms_core.kms import KmsFailure
from kms_core.message import encrypted_data_keys
from kms_core.testing import FakeEstate

EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"


def seal(core: Core, number: int = 0) -> bytes:
    return core.encrypt(b"x", purpose="general", context={"number": str(number)})


def sealed_in(message: bytes) -> str:
    return encrypted_data_keys(message)[0].provider_info.decode().split(":")[3]


def test_a_late_region_is_overtaken_and_counts_as_slow(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event, recorder: Any
) -> None:
    """The caller waits 250 ms and a round trip, three times; then the breaker knows."""
    core = threaded(hedging=True)
    real_estate[EAST].during = lambda call: go_on.wait(60)
    clock = SystemClock()
    began = clock.monotonic()

    assert [sealed_in(seal(core, number)) for number in range(4)] == [WEST] * 4

    assert clock.monotonic() - began < 30.0  # nobody waited for the late one
    assert [(move.region, move.cause) for move in recorder.of(BreakerMoved)] == [(EAST, "slow")]
    assert [(hedged.region, hedged.other, hedged.won) for hedged in recorder.of(Hedged)] == [(EAST, WEST, True)] * 3
    codes = [attempt.error_code for attempt in recorder.of(Attempt) if attempt.region == EAST]
    assert codes == ["HedgeLost"] * 3


def test_the_key_of_who_came_too_late_is_the_next_one(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event
) -> None:
    """It was paid for: the message after the last allowed under the winner's key needs no request."""
    core = threaded(hedging=True, max_encryptions_per_key=1)
    real_estate[EAST].during = lambda call: go_on.wait(10)
    first = seal(core)
    go_on.set()
    cache = core._envelope._sealing  # no public name shows what has landed in the background
    wait_until(
        lambda: any(entry.successor is not None for entry in cache._entries.values()), says="the late key has landed"
    )
    (waiting,) = [entry.successor.value for entry in cache._entries.values() if entry.successor is not None]

    second = seal(core)

    assert (sealed_in(first), sealed_in(second)) == (WEST, EAST)
    assert encrypted_data_keys(second)[0].ciphertext in waiting.header_rest, "it was there before anybody asked"
    assert core.decrypt(second, purpose="general", context={"number": "0"}) == b"x"


def test_a_region_in_time_is_not_hedged(threaded: Callable[..., Core], real_estate: FakeEstate, recorder: Any) -> None:
    """Nothing is sent twice in health."""
    core = threaded(hedging=True)
    for number in range(5):
        seal(core, number)
    assert real_estate.asked() == [EAST] * 5
    assert not recorder.of(Hedged)


def test_a_hedge_that_fails_leaves_the_first(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event, recorder: Any
) -> None:
    """It was late, and it is what there is."""
    core = threaded(hedging=True)
    real_estate[EAST].during = lambda call: go_on.wait(10)
    real_estate[WEST].fault = "ConnectionRefused"
    real_estate[WEST].during = lambda call: go_on.set()

    assert sealed_in(seal(core)) == EAST

    assert [hedged.won for hedged in recorder.of(Hedged)] == [False]


def test_when_both_fail_the_call_goes_on_elsewhere(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event
) -> None:
    """Both are listed, and neither is asked again before the third."""
    core = threaded(hedging=True, max_retries=2)
    real_estate[EAST].during = lambda call: go_on.wait(10)
    real_estate[WEST].during = lambda call: go_on.set()
    for region in (EAST, WEST):
        real_estate[region].fault = "ConnectionReset"
    assert sealed_in(seal(core)) == IRELAND

    real_estate[EAST].during = real_estate[WEST].during = None
    real_estate.fail("ConnectionReset")
    with pytest.raises(KmsUnavailableError) as failed:
        seal(core, 1)
    assert len(failed.value.attempts) == 3


def test_only_a_closed_breaker_gets_a_hedge(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event, recorder: Any
) -> None:
    """A region that is ill is not asked to help out; the next one is."""
    core = threaded(hedging=True)
    core.force(WEST, "open", for_seconds=60, reason="a test")
    real_estate[EAST].during = lambda call: go_on.wait(10)

    assert sealed_in(seal(core)) == IRELAND


def test_a_throttled_call_is_not_hedged(threaded: Callable[..., Core], real_estate: FakeEstate, recorder: Any) -> None:
    """More load is the last thing that it needs."""
    core = threaded(hedging=True)
    real_estate[EAST].script.append(KmsFailure("ThrottlingException", status=400, retry_after_seconds=0.001))
    waiting = threading.Event()
    real_estate[EAST].during = lambda call: len(real_estate.calls) > 1 and waiting.wait(0.4)

    assert sealed_in(seal(core)) == EAST
    assert not recorder.of(Hedged)


def test_it_is_off_unless_somebody_switches_it_on(config: CoreConfig) -> None:
    """It costs load, and hides what is slow."""
    assert not config.hedging


def test_at_most_one_in_twenty_calls_is_hedged() -> None:
    """And a few at the beginning."""
    hedging = Hedging(None, None, None, clock=SystemClock(), emit=None)  # type: ignore[arg-type] # budget alone
    hedges = 0
    for _ in range(1000):
        hedging.called()
        hedges += hedging._pays()
    assert hedges <= 1000 * 0.05 + BURST


@pytest.mark.parametrize(
    ("usual", "delay"), [(None, 0.25), (0.004, 0.05), (0.12, 0.12)], ids=["unknown", "fast", "known"]
)
def test_a_hedge_waits_for_what_is_usual(usual: float | None, delay: float) -> None:
    """What 95 of 100 answers need, and never less than 50 ms."""
    assert delay_seconds(usual) == delay
