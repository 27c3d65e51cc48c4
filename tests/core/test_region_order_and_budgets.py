"""Which region is asked, how often again, and what people may decide: by the core's public names, and as values."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms_core import Core, CoreConfig, KeyConfig
from kms_core._budget import RETRY_CAPACITY, Bucket, Budgets, full
from kms_core._order import by_time, with_overrides
from kms_core._timing import Timing, measured, percentile, slow_limit
from kms_core.errors import ConfigurationError, KmsDeniedError, KmsUnavailableError
from kms_core.events import Attempt, BreakerMoved
from kms_core.message import encrypted_data_keys
from kms_core.testing import FakeEstate, ManualClock

EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
REGIONS = (EAST, WEST, IRELAND)


def seal(core: Core, number: int = 0, purpose: str = "general") -> bytes:
    return core.encrypt(b"x", purpose=purpose, context={"number": str(number)})


def test_behind_the_own_region_the_faster_one_comes_first(
    estate: FakeEstate, make_core: Callable[..., Core], clock: ManualClock
) -> None:
    """Measured at the start already; an own region that fails is followed by the nearest, not by the next named."""
    estate[EAST].latency_seconds, estate[WEST].latency_seconds, estate[IRELAND].latency_seconds = 0.3, 0.2, 0.05
    core = make_core()
    estate.fail("ConnectionRefused", regions=[EAST])

    seal(core)

    assert estate.asked() == [EAST, IRELAND]
    assert list(core.health().regions) == [EAST, IRELAND, WEST]
    assert core.health().regions[IRELAND].smoothed_seconds == pytest.approx(0.05)


def test_a_configured_preference_overrides_what_was_measured(
    estate: FakeEstate, make_core: Callable[..., Core]
) -> None:
    """People know more than a stop-watch."""
    estate[WEST].latency_seconds, estate[IRELAND].latency_seconds = 0.2, 0.05
    core = make_core(region_preference=REGIONS)
    estate.fail("ConnectionRefused", regions=[EAST])

    seal(core)

    assert estate.asked() == [EAST, WEST]


@pytest.mark.parametrize(
    ("seconds", "order"),
    [
        pytest.param({EAST: 0.2, WEST: 0.1, IRELAND: 0.09}, [EAST, WEST, IRELAND], id="not clearly faster"),
        pytest.param({EAST: 0.2, WEST: 0.1, IRELAND: 0.07}, [EAST, IRELAND, WEST], id="clearly faster"),
        pytest.param({WEST: 0.006, IRELAND: 0.002}, [EAST, WEST, IRELAND], id="by less than 5 ms"),
        pytest.param({WEST: 0.1}, [EAST, WEST, IRELAND], id="never measured"),
    ],
)
def test_two_like_regions_do_not_take_turns(seconds: dict[str, float], order: list[str]) -> None:
    """Hysteresis: each change of region is a cold connection."""
    assert list(by_time(REGIONS, 1, seconds)) == order


@given(
    seconds=st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 3)),
    fixed=st.integers(0, 6),
    prefer=st.sets(st.sampled_from("abcdef")),
    avoid=st.sets(st.sampled_from("abcdef")),
)
def test_every_order_has_every_region_once(
    seconds: dict[str, float], fixed: int, prefer: set[str], avoid: set[str]
) -> None:
    """Whatever was measured and said; the fixed ones stay, and an order that was reached is kept."""
    order = by_time("abcdef", fixed, seconds)

    assert sorted(order) == sorted("abcdef")
    assert order[:fixed] == tuple("abcdef")[:fixed]
    assert by_time(order, fixed, seconds) == order
    overridden = with_overrides(order, prefer, avoid)
    assert sorted(overridden) == sorted(order)
    assert set(overridden[len(order) - len(avoid) :]) == avoid


def test_requests_that_leave_the_own_region_are_counted(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """They cost money and time, and say that something is wrong at home."""
    before = core.health()
    estate.fail("ConnectionRefused", regions=[EAST])

    seal(core)

    after = core.health()
    assert after.cross_region_requests - before.cross_region_requests == 1
    assert after.regions[WEST].requests - before.regions[WEST].requests == 1
    assert [(attempt.region, attempt.cross_region) for attempt in recorder.of(Attempt)] == [(EAST, False), (WEST, True)]


def test_retries_end_when_nothing_has_paid_for_them(core: Core, estate: FakeEstate) -> None:
    """A region that answers nothing but faults gets ten retries in place, and then one call, one request."""
    estate.fail("KMSInternalException")
    for number in range(60):
        with pytest.raises(KmsUnavailableError):
            core.pinned(EAST).encrypt(b"x", purpose="general", context={"number": str(number)})

    assert len(estate.calls) == 60 + 10
    assert core.health().regions[EAST].retry_tokens == 0.0
    estate.fail(None)
    for number in range(10):
        core.pinned(EAST).encrypt(b"x", purpose="general", context={"number": str(number)})
    assert core.health().regions[EAST].retry_tokens == 10.0


def test_the_hop_to_another_region_costs_nothing(core: Core, estate: FakeEstate) -> None:
    """It moves load, and does not multiply it."""
    estate.fail("ConnectionRefused", regions=[EAST])
    for number in range(50):
        seal(core, number)
    assert core.health().regions[WEST].retry_tokens == core.health().regions[EAST].retry_tokens == RETRY_CAPACITY


def test_a_throttled_region_spills_a_tenth(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """More would only have the next region throttled too; the breaker stays out of it."""
    estate.fail("ThrottlingException", regions=[EAST])
    spilled = 0
    for number in range(200):
        with contextlib.suppress(KmsUnavailableError):
            seal(core, number)
            spilled += 1

    assert 10 <= spilled <= 10 + 0.1 * 200
    assert not recorder.of(BreakerMoved)


@given(
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 200)), max_size=50),
    capacity=st.floats(1, 100),
)
def test_a_bucket_never_holds_more_than_it_can_nor_less_than_nothing(
    steps: list[tuple[bool, float]], capacity: float
) -> None:
    """And never gives more than was put in."""
    bucket, given_out, put_in = full(capacity), 0.0, capacity
    for pays, amount in steps:
        if not pays:
            bucket, put_in = bucket.refilled(amount), put_in + amount
        elif bucket.affords(amount):
            bucket, given_out = bucket.paid(amount), given_out + amount
        assert 0 <= bucket.tokens <= capacity
        assert given_out <= put_in + 1e-6


def test_a_bucket_that_cannot_be_is_refused() -> None:
    """Wrong at birth."""
    with pytest.raises(ValueError, match="tokens must be"):
        Bucket(capacity=1.0, tokens=2.0)


@given(st.lists(st.sampled_from(["success", "retry", "throttled"]), max_size=300))
def test_retries_are_at_most_a_tenth_of_the_successes_and_a_burst(events: list[str]) -> None:
    """Amplification is bounded, whatever happens."""
    budgets = Budgets([EAST])
    successes = retries = throttled = 0
    for event in events:
        if event == "success":
            budgets.succeeded(EAST)
            successes += 1
        elif budgets.retry(EAST, throttled=event == "throttled"):
            retries, throttled = retries + (event == "retry"), throttled + (event == "throttled")
    assert 10 * retries + 5 * throttled <= RETRY_CAPACITY + successes


def test_what_is_slow_follows_what_is_usual() -> None:
    """A second, or four times what 99 of 100 need; and slow answers do not become the measure."""
    near = far = Timing()
    for _ in range(200):
        near, far = measured(near, 0.02), measured(far, 0.4)

    assert slow_limit(Timing(), floor_seconds=1.0, ceiling_seconds=2.5) == 1.0
    assert slow_limit(near, floor_seconds=1.0, ceiling_seconds=2.5) == 1.0
    assert slow_limit(far, floor_seconds=1.0, ceiling_seconds=2.5) == pytest.approx(1.6)
    assert slow_limit(far, floor_seconds=1.0, ceiling_seconds=1.2) == 1.2
    assert slow_limit(Timing(), floor_seconds=9.0, ceiling_seconds=2.5) == 2.5, "else a spent attempt never counted"
    assert percentile(Timing(seconds=(1.0,) * 99), 0.99) is None
    assert len(near.seconds) == 200


def test_a_far_region_is_not_slow_for_being_far(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """Whose usual 400 ms become 1.5 s is not yet left; at 2 s it is."""
    estate[EAST].latency_seconds = 0.4
    for number in range(120):
        seal(core, number)
    estate[EAST].latency_seconds = 1.5
    for number in range(200, 204):
        seal(core, number)
    assert not recorder.of(BreakerMoved)

    estate[EAST].latency_seconds = 2.0
    estate[WEST].latency_seconds = 0.0
    for number in range(300, 303):
        seal(core, number)
    assert [move.cause for move in recorder.of(BreakerMoved)] in (["slow"], [])


def test_a_breaker_forced_open_heals_by_itself(
    core: Core, estate: FakeEstate, clock: ManualClock, recorder: Any
) -> None:
    """Whoever forced it may have crashed."""
    core.force(EAST, "open", for_seconds=60, reason="drill 7")
    seal(core)
    assert core.health().regions[EAST].breaker == "open"
    assert core.health().regions[EAST].forced_reason == "drill 7"
    clock.advance(60)
    seal(core, 1)

    assert estate.asked() == [WEST, EAST]
    assert [(move.old, move.new, move.cause) for move in recorder.of(BreakerMoved)] == [
        ("closed", "open", "forced"),
        ("open", "closed", "expired"),
    ]
    assert not core.health().regions[EAST].forced_reason


def test_a_breaker_forced_closed_lets_every_call_in(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """Somebody knows better than three failures; afterwards it counts again."""
    core.force(EAST, "closed", for_seconds=60, reason="the network people are at it")
    estate.fail("ConnectionRefused", regions=[EAST])
    for number in range(5):
        seal(core, number)
    assert estate.asked() == [EAST, WEST] * 5
    clock.advance(60)
    for number in range(10, 14):
        seal(core, number)
    assert estate.asked()[10:] == [EAST, WEST] * 3 + [WEST]


def test_the_last_door_is_not_closed_by_force_either(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """All forced open: somebody is asked all the same; and force can be taken back before its time."""
    for region in REGIONS:
        core.force(region, "open", for_seconds=60, reason="a mistake")
    assert seal(core)

    core.unforce(EAST)

    assert core.health().regions[EAST].breaker == "closed"
    assert recorder.of(BreakerMoved)[-1].cause == "expired"


@pytest.mark.parametrize(
    "change",
    [
        {"region": "eu-central-1"},
        {"state": "ajar"},
        {"for_seconds": 0},
        {"for_seconds": 86_401},
        {"for_seconds": float("nan")},
        {"reason": ""},
    ],
    ids=str,
)
def test_force_without_an_end_or_a_reason_is_refused(core: Core, change: dict[str, Any]) -> None:
    """It always expires."""
    asked: dict[str, Any] = {"region": EAST, "state": "open", "for_seconds": 60, "reason": "x"} | change
    with pytest.raises(ConfigurationError):
        core.force(asked.pop("region"), asked.pop("state"), **asked)


def test_a_payment_key_is_strict_unless_somebody_says_otherwise(config: CoreConfig) -> None:
    """The state of any other key is its region's own."""
    keys = {
        "payment": KeyConfig(alias="alias/payment"),
        "pii": KeyConfig(alias="alias/pii"),
        "general": KeyConfig(alias="alias/general", strict_key_state=True),
    }
    config = dataclasses.replace(config, keys=keys)
    assert {purpose: config.strict(purpose) for purpose in keys} == {"payment": True, "pii": False, "general": True}
    loose = dataclasses.replace(config, keys={"payment": KeyConfig(alias="alias/payment", strict_key_state=False)})
    assert not loose.strict("payment")


def test_access_denied_may_be_taken_for_one_regions_policy(make_core: Callable[..., Core], estate: FakeEstate) -> None:
    """Only where the configuration says so: IAM is the same everywhere, a key policy is not."""
    core = make_core(failover_on_access_denied=True)
    estate.fail("AccessDeniedException", regions=[EAST])
    seal(core)
    assert estate.asked() == [EAST, WEST]

    estate.fail("AccessDeniedException")
    with pytest.raises(KmsDeniedError) as denied:
        seal(core, 1)
    assert len(denied.value.attempts) == 3


def test_a_message_may_always_name_the_primary(make_core: Callable[..., Core], estate: FakeEstate) -> None:
    """For peers that know nothing of replicas; the core opens it wherever it is."""
    core = make_core(edk_arn="primary", primary_region=EAST)
    estate.fail("ConnectionRefused", regions=[EAST])

    message = seal(core)

    (wrapped,) = encrypted_data_keys(message)
    assert wrapped.provider_info == estate.arn(estate[EAST].aliases["alias/general"], EAST).encode()
    assert core.decrypt(message, purpose="general", context={"number": "0"}) == b"x"
    assert core.pinned(IRELAND).decrypt(message, purpose="general", context={"number": "0"}) == b"x"


@pytest.mark.parametrize(
    "change",
    [
        {"edk_arn": "other"},
        {"edk_arn": "primary"},
        {"primary_region": "eu-central-1"},
        {"stale_max_age_seconds": 901.0},
        {"stale_max_age_seconds": 0.0},
    ],
    ids=str,
)
def test_settings_that_cannot_be_right_are_refused(config: CoreConfig, change: dict[str, Any]) -> None:
    """Wrong at birth."""
    with pytest.raises(ConfigurationError):
        dataclasses.replace(config, **change)


def test_the_order_is_the_same_from_many_draws() -> None:
    """Noise of a tenth around like times never moves a region once it is placed."""
    rng = random.Random(7)
    order: tuple[str, ...] = REGIONS
    for _ in range(200):
        order = by_time(order, 1, {WEST: 0.1 * rng.uniform(0.95, 1.05), IRELAND: 0.1 * rng.uniform(0.95, 1.05)})
    assert order == REGIONS
