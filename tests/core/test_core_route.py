"""Where a call goes after a failure: failover first, a retry in place where the table has one, and an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_core._route import Failed, Move, Plan, ends_as, next_move
from kms_core.taxonomy import TABLE, FailOver, Family

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
PLAN = Plan(order=REGIONS, max_attempts=6)
EAST, WEST, IRELAND = REGIONS


def failed(*attempts: tuple[str, str]) -> list[Failed]:
    return [Failed(region=region, error=TABLE[code]) for region, code in attempts]


def test_it_begins_with_the_preferred_region() -> None:
    """All regions are candidates, in order, without a pause."""
    assert next_move(PLAN, []) == Move(regions=REGIONS)


def test_a_silent_region_is_left_at_once() -> None:
    """Another region is another fault domain: nothing to wait for."""
    assert next_move(PLAN, failed((EAST, "ConnectTimeout"))) == Move(regions=(WEST, IRELAND))
    assert next_move(PLAN, failed((EAST, "ConnectTimeout"), (WEST, "ConnectionRefused"))) == Move(regions=(IRELAND,))


def test_coming_back_pauses_longer_each_round() -> None:
    """Up to 50 ms, then up to 100 ms; the region that failed last is not the first to be asked again."""
    once = failed((EAST, "ReadTimeout"), (WEST, "ReadTimeout"), (IRELAND, "ReadTimeout"))

    first = next_move(PLAN, once)
    assert first == Move(regions=(EAST, WEST, IRELAND), pause_seconds=0.05)
    move = next_move(Plan(order=REGIONS, max_attempts=9), once * 2)
    assert move == Move(regions=(EAST, WEST, IRELAND), pause_seconds=0.1)


def test_six_attempts_are_all() -> None:
    """max_retries=5 means six attempts over all regions together."""
    assert next_move(PLAN, failed(*[(region, "ReadTimeout") for region in REGIONS] * 2)) is None


def test_a_servers_fault_is_retried_once_in_place() -> None:
    """Then the next region is asked; a second fault there is retried there too."""
    first = next_move(PLAN, failed((EAST, "KMSInternalException")))
    assert first == Move(regions=(EAST,), pause_seconds=0.05, in_place=True)
    assert next_move(PLAN, failed(*[(EAST, "KMSInternalException")] * 2)) == Move(regions=(WEST, IRELAND))


def test_throttling_waits_once_and_spills_once() -> None:
    """A region that is throttled is well; moving all load on would throttle the next one too."""
    throttled = failed((EAST, "ThrottlingException"))
    assert next_move(PLAN, throttled) == Move(regions=(EAST,), pause_seconds=1.0, in_place=True)
    assert next_move(PLAN, throttled * 2) == Move(regions=(WEST, IRELAND))
    assert next_move(PLAN, [*throttled * 2, *failed((WEST, "ThrottlingException"))]) is None


def test_a_pause_that_the_region_asks_for_is_kept() -> None:
    """Up to two seconds of it."""
    error = TABLE["ThrottlingException"]
    move = next_move(PLAN, [Failed(region=EAST, error=error, retry_after_seconds=0.7)])
    assert move == Move(regions=(EAST,), pause_seconds=0.7, exact_pause=True, in_place=True)
    move = next_move(PLAN, [Failed(region=EAST, error=error, retry_after_seconds=30.0)])
    assert move is not None
    assert move.pause_seconds == 2.0


@pytest.mark.parametrize("code", ["AccessDeniedException", "InvalidCiphertextException", "ValidationException"])
def test_what_no_other_region_can_change_ends_the_call(code: str) -> None:
    """Three denials would cost three calls and three alarms, and hide drift."""
    assert next_move(PLAN, failed((EAST, code))) is None


def test_a_disabled_key_is_tried_elsewhere_unless_it_is_strict() -> None:
    """Key state is per region; for a strict key, one region's word is enough."""
    disabled = failed((EAST, "DisabledException"))

    assert next_move(PLAN, disabled) == Move(regions=(WEST, IRELAND))
    assert next_move(Plan(order=REGIONS, max_attempts=6, strict=True), disabled) is None


def test_no_call_comes_back_to_a_region_that_denied() -> None:
    """What was denied stays denied; what was silent may have recovered."""
    mixed = failed((EAST, "DisabledException"), (WEST, "ReadTimeout"), (IRELAND, "DisabledException"))
    assert next_move(PLAN, mixed) == Move(regions=(WEST,), pause_seconds=0.05)
    assert next_move(PLAN, failed(*[(region, "DisabledException") for region in REGIONS])) is None


def test_a_pinned_call_goes_nowhere_else() -> None:
    """It has the retry in place of the table, and nothing more."""
    pinned = Plan(order=(EAST,), max_attempts=6, pinned=True)
    assert next_move(pinned, failed((EAST, "ReadTimeout"))) is None
    assert next_move(pinned, failed((EAST, "KMSInternalException"))) is not None
    assert next_move(pinned, failed(*[(EAST, "KMSInternalException")] * 2)) is None


@pytest.mark.parametrize(
    ("codes", "family"),
    [
        pytest.param(["ReadTimeout", "ConnectionRefused"], Family.UNAVAILABLE, id="all silent"),
        pytest.param(["DisabledException", "ReadTimeout"], Family.DENIED, id="a denial anywhere"),
        pytest.param(["ReadTimeout", "InvalidCiphertextException"], Family.MESSAGE, id="refused at last"),
    ],
)
def test_a_failed_call_ends_as_what_the_caller_can_act_on(codes: list[str], family: Family) -> None:
    """Unavailable only when availability was all that was wrong."""
    assert ends_as(failed(*zip(REGIONS, codes, strict=False))) is family


@given(data=st.data(), strict=st.booleans(), pinned=st.booleans())
def test_every_call_ends(data: st.DataObject, strict: bool, pinned: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever fails, a call makes at most its attempts, and is never sent where it was not meant to go."""
    plan = Plan(order=REGIONS[:1] if pinned else REGIONS, max_attempts=6, strict=strict, pinned=pinned)
    history: list[Failed] = []
    while (move := next_move(plan, history)) is not None:
        assert move.regions
        assert set(move.regions) <= set(plan.order)
        assert 0 <= move.pause_seconds <= 2
        region = data.draw(st.sampled_from(move.regions))
        history.append(Failed(region=region, error=TABLE[data.draw(st.sampled_from(sorted(TABLE)))]))
    assert 1 <= len(history) <= 6


@given(data=st.data(), spent=st.sets(st.sampled_from(REGIONS)), spills=st.booleans())
def test_nothing_is_asked_again_that_cannot_be_paid(
    data: st.DataObject,
    spent: set[str],
    spills: bool,  # noqa: FBT001 - drawn
) -> None:
    """A region without tokens is asked once at most; without a spill, a throttled call stays where it is."""
    plan = Plan(order=REGIONS, max_attempts=6, spent=frozenset(spent), spills=spills)
    history: list[Failed] = []
    while (move := next_move(plan, history)) is not None:
        region = data.draw(st.sampled_from(move.regions))
        if history and history[-1].error.fails_over is FailOver.ONCE and not spills:
            assert region == history[-1].region
        assert region not in spent or region not in {attempt.region for attempt in history}
        history.append(Failed(region=region, error=TABLE[data.draw(st.sampled_from(sorted(TABLE)))]))
    assert len(history) <= 6
