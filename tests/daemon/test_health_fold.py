"""Health: a pure fold with hysteresis; silence is never health."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from daemon_kit import START, result
from hypothesis import given
from hypothesis import strategies as st

from kms_watchdog.health import (
    Board,
    CanaryHealth,
    Health,
    State,
    Status,
    Subject,
    assess,
    below_paging,
    board,
    fold,
    pages,
    regions_down,
    silent,
)
from kms_watchdog.results import CanaryResult, Kind, Outcome, Reason

REGIONS, KEYS = ("us-east-1", "us-west-2"), ("general", "pii")
SUBJECTS = [Subject("round_trip", region, key) for region in REGIONS for key in KEYS]
OK, FAILED, BLIND = Outcome.OK, Outcome.FAILED, Outcome.BLIND
CLOSED = dict.fromkeys(REGIONS, "closed")
STALE_AFTER = 90.0


def after(outcomes: Sequence[Outcome]) -> CanaryHealth:
    health = CanaryHealth()
    for i, outcome in enumerate(outcomes):
        health = fold(health, result(outcome, at=i), now=float(i))
    return health


def board_of(answers: dict[tuple[str, str], Sequence[Outcome]], *, now: float = 0.0) -> Board:
    """A board on which every canary is OK but for those named."""
    standing = board(SUBJECTS)
    for subject in SUBJECTS:
        for outcome in answers.get((subject.region, subject.key), [OK]):
            standing = standing.fold(result(outcome, region=subject.region, key=subject.key), now=now)
    return standing


def judge(standing: Board, *, now: float = 0.0, breakers: dict[str, str] | None = None) -> Health:
    return assess(standing, breakers or CLOSED, now=now, stale_after_seconds={"round_trip": STALE_AFTER})


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        pytest.param([], State.UNKNOWN, id="never-looked"),
        pytest.param([OK], State.UP, id="first-ok"),
        pytest.param([FAILED, FAILED], State.UNKNOWN, id="not-down-yet-and-never-up"),
        pytest.param([FAILED] * 3, State.DOWN, id="never-up-and-down"),
        pytest.param([OK, FAILED, FAILED], State.UP, id="two-failures-are-a-blip"),
        pytest.param([OK, FAILED, FAILED, FAILED], State.DOWN, id="three-failures"),
        pytest.param([OK, FAILED, FAILED, OK, FAILED, FAILED], State.UP, id="not-in-a-row"),
        pytest.param([OK] + [FAILED] * 3 + [OK], State.DOWN, id="one-success-is-a-blip"),
        pytest.param([OK] + [FAILED] * 3 + [OK, OK], State.UP, id="two-successes"),
        pytest.param([OK, FAILED, BLIND, FAILED, BLIND, FAILED], State.DOWN, id="blind-breaks-no-row-of-failures"),
        pytest.param([OK] + [FAILED] * 3 + [OK, BLIND, OK], State.UP, id="blind-breaks-no-row-of-successes"),
        pytest.param([BLIND] * 5, State.UNKNOWN, id="blind-is-no-answer"),
    ],
)
def test_hysteresis(outcomes: list[Outcome], state: State) -> None:
    """Three failures go down, two successes come up, and what could not ask says nothing."""
    assert after(outcomes).state is state


@given(st.lists(st.sampled_from([OK, FAILED])))
def test_blindness_never_changes_what_is_known(answers: list[Outcome]) -> None:
    """Blind looks strewn in anywhere change neither state nor counts."""
    strewn = [each for answer in answers for each in (BLIND, answer)]

    with_blind, without = after(strewn), after(answers)

    assert (with_blind.state, with_blind.failures, with_blind.successes) == (
        without.state,
        without.failures,
        without.successes,
    )


@given(st.lists(st.sampled_from([OK, FAILED, BLIND]), min_size=1))
def test_down_needs_three_failures_in_a_row_somewhere(outcomes: list[Outcome]) -> None:
    """Nothing else brings a canary down."""
    told = [outcome for outcome in outcomes if outcome is not BLIND]
    three = any(told[i : i + 3] == [FAILED] * 3 for i in range(len(told)))

    assert (after(outcomes).state is State.DOWN) <= three


def test_since_when_is_the_look_that_changed_it() -> None:
    """Down since the third failure, not since the newest."""
    health = after([OK] + [FAILED] * 5)

    assert health.since_utc == result(at=3).started_at_utc


def test_all_up_is_healthy() -> None:
    """Every region, every key, no reason."""
    health = judge(board_of({}))

    assert health.status is Status.HEALTHY
    assert health.reasons == ()
    assert dict(health.regions) == dict.fromkeys(REGIONS, True)
    assert dict(health.keys) == dict.fromkeys(KEYS, True)


def test_one_region_down_is_degraded() -> None:
    """Something is down, yet every key is usable somewhere."""
    health = judge(board_of({("us-east-1", key): [FAILED] * 3 for key in KEYS}))

    assert health.status is Status.DEGRADED
    assert dict(health.regions) == {"us-east-1": False, "us-west-2": True}
    assert {(r.code, r.region, r.key) for r in health.reasons} == {("down", "us-east-1", key) for key in KEYS}


def test_a_key_down_everywhere_is_unhealthy() -> None:
    """Nobody can use it, however well the others are."""
    health = judge(board_of({(region, "pii"): [FAILED] * 3 for region in REGIONS}))

    assert health.status is Status.UNHEALTHY
    assert (health.reasons[0].code, health.reasons[0].key) == ("key_usable_nowhere", "pii")
    assert dict(health.keys) == {"general": True, "pii": False}


def test_before_the_first_look_nothing_is_healthy() -> None:
    """An empty map is not a green one."""
    health = judge(board(SUBJECTS))

    assert health.status is Status.UNHEALTHY
    assert health.reasons[0].code == "no_fresh_result"
    assert not any(health.regions.values())


def test_one_canary_that_never_looked_is_degraded() -> None:
    """Unknown is not healthy."""
    health = judge(board_of({("us-east-1", "pii"): []}))

    assert health.status is Status.DEGRADED
    assert [r.code for r in health.reasons] == ["never_probed"]


def test_blindness_is_degraded_even_while_the_last_answer_is_fresh() -> None:
    """It was up a moment ago, and now nobody knows."""
    health = judge(board_of({("us-east-1", "pii"): [OK, BLIND]}))

    assert health.status is Status.DEGRADED
    assert [r.code for r in health.reasons] == ["blind"]


def test_old_answers_do_not_count() -> None:
    """What was up an hour ago is stale, and all stale is no fresh answer at all."""
    standing = board_of({})

    assert judge(standing, now=STALE_AFTER).status is Status.HEALTHY
    late = judge(standing, now=STALE_AFTER + 1)

    assert late.status is Status.UNHEALTHY
    assert [r.code for r in late.reasons] == ["no_fresh_result"] + ["stale"] * len(SUBJECTS)
    assert late.reasons[1].age_seconds == STALE_AFTER + 1


def test_an_open_breaker_is_degraded() -> None:
    """The setup guide's rule; half-open alone is not."""
    standing = board_of({})

    assert judge(standing, breakers={**CLOSED, "us-east-1": "half_open"}).status is Status.HEALTHY
    health = judge(standing, breakers={**CLOSED, "us-east-1": "open"})

    assert health.status is Status.DEGRADED
    assert [(r.code, r.region) for r in health.reasons] == [("breaker_open", "us-east-1")]


def test_two_failures_are_shown_and_change_nothing() -> None:
    """Below paging: the board counts them, the whole stays healthy."""
    standing = board_of({("us-east-1", "pii"): [OK, FAILED, FAILED]})

    assert judge(standing).status is Status.HEALTHY
    assert standing.canaries[Subject("round_trip", "us-east-1", "pii")].failures == 2


def test_a_canary_that_fails_from_the_start_is_named() -> None:
    """Two failures and never an OK: not down yet, but nothing to rely on."""
    health = judge(board_of({("us-east-1", "pii"): [FAILED]}))

    assert [r.code for r in health.reasons] == ["never_ok"]


def test_regions_down_are_those_with_a_canary_down() -> None:
    """What a drill's health is made of: silence after its end is no evidence."""
    assert regions_down(board(SUBJECTS)) == frozenset()
    assert regions_down(board_of({("us-east-1", "pii"): [FAILED] * 3})) == {"us-east-1"}


@given(st.dictionaries(st.tuples(st.sampled_from(REGIONS), st.sampled_from(KEYS)), st.lists(st.sampled_from(Outcome))))
def test_healthy_means_that_every_canary_was_ok_lately(answers: dict[tuple[str, str], list[Outcome]]) -> None:
    """Whatever happened, healthy is never said without a reason to."""
    standing = board_of(answers)

    if judge(standing).status is Status.HEALTHY:
        assert all(c.state is State.UP and not c.blind for c in standing.canaries.values())


CROSS = Subject(Kind.CROSS_REGION, "us-east-1:us-west-2", "pii")
ACCESS = Subject(Kind.APPLICATION_ACCESS, "us-east-1", "pii")
CLOCK = Subject(Kind.CLOCK_OFFSET, "us-west-2", "")
OTHERS = [CROSS, ACCESS, CLOCK]
EVERY_KIND_STALE_AFTER = {**dict.fromkeys(Kind, STALE_AFTER), Kind.APPLICATION_ACCESS: 1000.0}


def of(subject: Subject, outcome: Outcome, *, at: float = 0.0, reason: Reason | None = None) -> CanaryResult:
    seen = result(outcome, region=subject.region, key=subject.key, at=at, reason=reason)
    return CanaryResult.from_json({**seen.to_json(), "canary": subject.canary})


def mixed(*results: CanaryResult, now: float = 0.0, first: Outcome = OK) -> Board:
    """A board of several kinds, on which every canary looked once and then gave `results`."""
    standing = board([*SUBJECTS, *OTHERS])
    for subject in standing.canaries:
        standing = standing.fold(of(subject, first), now=0.0)
    for each in results:
        standing = standing.fold(each, now=now)
    return standing


def judge_mixed(standing: Board, *, now: float = 0.0) -> Health:
    return assess(standing, CLOSED, now=now, stale_after_seconds=EVERY_KIND_STALE_AFTER)


@pytest.mark.parametrize("subject", OTHERS, ids=lambda subject: subject.id)
def test_other_kinds_add_reasons_and_take_no_region_and_no_key_away(subject: Subject) -> None:
    """Whether a region or a key can be used is for round trips to say; all else is degraded."""
    standing = mixed(*[of(subject, FAILED, at=i) for i in range(3)])
    health = judge_mixed(standing)

    assert regions_down(standing) == frozenset()
    assert health.status is Status.DEGRADED
    assert [(r.code, r.canary, r.region, r.key) for r in health.reasons] == [
        ("down", subject.canary, subject.region, subject.key)
    ]
    assert set(health.regions) == set(REGIONS)
    assert set(health.keys) == set(KEYS)
    assert all(health.regions.values())
    assert all(health.keys.values())


def test_all_other_kinds_well_do_not_make_a_key_usable() -> None:
    """A key that no round trip can use is usable nowhere, whatever DescribeKey says of it."""
    failures = [of(s, FAILED, at=i) for s in SUBJECTS if s.key == "pii" for i in range(3)]

    health = judge_mixed(mixed(*failures))

    assert (health.status, health.reasons[0].code) == (Status.UNHEALTHY, "key_usable_nowhere")


def test_each_kind_has_an_age_of_its_own() -> None:
    """What looks every five minutes is not stale after one."""
    health = judge_mixed(mixed(), now=STALE_AFTER + 1)

    assert health.status is Status.UNHEALTHY  # round trips are stale: no key is known to be usable
    assert {r.canary for r in health.reasons if r.code == "stale"} == {
        Kind.ROUND_TRIP,
        Kind.CROSS_REGION,
        Kind.CLOCK_OFFSET,
    }


def test_a_reason_carries_the_last_result() -> None:
    """Why it is down, for those who may know."""
    health = judge_mixed(mixed(*[of(ACCESS, FAILED, at=i, reason=Reason.ACCESS_EXCESS) for i in range(3)]))

    (reason,) = health.reasons
    assert reason.last is not None
    assert reason.last.reason is Reason.ACCESS_EXCESS


def test_what_must_be_refused_and_is_not_is_down_at_once() -> None:
    """Chance accepts nothing: one answer is enough, and it pages."""
    refusal = Subject(Kind.MUST_FAIL_KMS, "us-east-1", "pii")
    standing = board([*SUBJECTS, refusal])
    for outcome, reason in ((OK, None), (FAILED, Reason.ACCEPTED_MUST_REFUSE)):
        standing = standing.fold(of(refusal, outcome, reason=reason), now=0.0)

    found = standing.canaries[refusal]

    assert found.state is State.DOWN
    assert pages(refusal, found)


@pytest.mark.parametrize(
    ("subject", "failures", "pages_somebody"),
    [
        pytest.param(SUBJECTS[0], 2, False, id="round-trip-not-down-yet"),
        pytest.param(SUBJECTS[0], 3, True, id="round-trip-down"),
        pytest.param(CROSS, 100, False, id="another-kind-however-long"),
    ],
)
def test_what_pages_is_a_round_trip_that_is_down(subject: Subject, failures: int, *, pages_somebody: bool) -> None:
    """What does not is on the list of what fails below paging, and the other way round."""
    standing = mixed(*[of(subject, FAILED, at=i) for i in range(failures)])

    assert pages(subject, standing.canaries[subject]) is pages_somebody
    assert below_paging(standing) == (() if pages_somebody else (subject,))


def test_what_fails_below_paging_is_listed_oldest_first_and_until_it_is_ok() -> None:
    """Blind looks count as not OK, and break no since."""
    standing = mixed(
        of(CLOCK, BLIND, at=10),
        of(CLOCK, FAILED, at=20),
        of(CROSS, FAILED, at=5),
        of(ACCESS, FAILED, at=1),
        of(ACCESS, OK, at=2),
    )

    assert below_paging(standing) == (CROSS, CLOCK)
    assert standing.canaries[CLOCK].not_ok_since_utc == result(at=10).started_at_utc
    assert standing.canaries[ACCESS].not_ok_since_utc is None
    assert result(at=10).started_at_utc > START


def test_a_blind_look_is_no_answer_but_no_silence_either() -> None:
    """Stale counts answers, silence counts looks."""
    standing = mixed(of(CROSS, BLIND), now=STALE_AFTER + 50)
    now = STALE_AFTER + 60

    found = silent(standing, now=now, stale_after_seconds=EVERY_KIND_STALE_AFTER)

    assert CROSS not in found
    assert ACCESS not in found
    assert set(found) == {*SUBJECTS, CLOCK}
    assert silent(board([CROSS]), now=0.0, stale_after_seconds=EVERY_KIND_STALE_AFTER) == (CROSS,)
