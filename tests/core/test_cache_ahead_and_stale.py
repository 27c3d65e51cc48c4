"""Data keys are fetched before they are missed, and, where that was asked for, used on while no region is there."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kms_core import Core, CoreConfig
from kms_core.clock import SystemClock
from kms_core.errors import ConfigurationError, KmsDeniedError, KmsUnavailableError
from kms_core.events import CacheRefreshed, StaleKeyUsed
from kms_core.message import encrypted_data_keys
from kms_core.testing import FakeEstate, HeldLane, ManualClock, core_over

CONTEXT = {"canary": "true"}
EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"


def seal(core: Core, purpose: str = "general") -> bytes:
    return core.encrypt(b"x", purpose=purpose, context=CONTEXT)


def opened(core: Core, message: bytes, purpose: str = "general") -> bytes:
    return core.decrypt(message, purpose=purpose, context=CONTEXT)


def wrapped(message: bytes) -> bytes:
    return encrypted_data_keys(message)[0].ciphertext


@pytest.fixture
def held(clock: ManualClock) -> HeldLane:
    return HeldLane(clock)


@pytest.fixture
def make(estate: FakeEstate, held: HeldLane, recorder: Any, config: CoreConfig) -> Iterator[Callable[..., Core]]:
    made: list[Core] = []

    def make(**changes: Any) -> Core:
        changed = dataclasses.replace(config, **changes)
        made.append(core_over(estate, changed, observer=recorder, background=held))
        estate.calls.clear()
        return made[-1]

    yield make
    for core in made:
        core.close()


def test_a_key_is_followed_before_its_time_is_over(
    make: Callable[..., Core], estate: FakeEstate, clock: ManualClock, held: HeldLane, recorder: Any
) -> None:
    """At four fifths of it, once, while the old one serves; nobody waits when it ends."""
    core = make()
    old = seal(core)
    clock.advance(220.0)
    seal(core)
    assert held.run() == 0
    clock.advance(40.0)
    assert {wrapped(seal(core)) for _ in range(3)} == {wrapped(old)}

    assert held.run() == 1
    assert wrapped(seal(core)) == wrapped(old)
    estate.fail("ConnectionRefused")
    clock.advance(40.0)

    assert wrapped(seal(core)) != wrapped(old)
    assert recorder.of(CacheRefreshed) == [CacheRefreshed(purpose="general", operation="encrypt", error_code="")]


def test_a_key_is_followed_before_its_uses_are_over(
    make: Callable[..., Core], estate: FakeEstate, held: HeldLane
) -> None:
    """And used to the last: a thousand messages at 100 a key are no more requests than without."""
    core = make(max_encryptions_per_key=100)
    keys = []
    for _ in range(1000):
        keys.append(wrapped(seal(core)))
        held.run()

    assert [keys.count(key) for key in dict.fromkeys(keys)] == [100] * 10
    assert len(estate.calls) == 11


def test_opening_is_refreshed_too(
    make: Callable[..., Core], estate: FakeEstate, clock: ManualClock, held: HeldLane
) -> None:
    """A blip of a minute is not noticed by who opens the same messages."""
    core = make()
    message = core.pinned(EAST).encrypt(b"x", purpose="general", context=CONTEXT)
    opened(core, message)
    clock.advance(260.0)
    opened(core, message)
    assert held.run() == 1
    estate.fail("ReadTimeout")
    clock.advance(100.0)

    assert opened(core, message) == b"x"


def test_a_refresh_that_failed_hurts_nobody_and_is_tried_again(
    make: Callable[..., Core], estate: FakeEstate, clock: ManualClock, held: HeldLane, recorder: Any
) -> None:
    """The key that is there serves on until its own time ends."""
    core = make()
    old = seal(core)
    estate.fail("ConnectionRefused")
    clock.advance(260.0)
    assert wrapped(seal(core)) == wrapped(old)
    held.run()
    estate.fail(None)
    clock.advance(20.0)
    assert wrapped(seal(core)) == wrapped(old)
    assert held.run() == 1
    clock.advance(20.0)

    assert wrapped(seal(core)) != wrapped(old)
    assert [event.error_code for event in recorder.of(CacheRefreshed)] == ["ConnectionRefused", ""]


def test_refreshing_happens_in_a_thread_of_its_own(config: CoreConfig) -> None:
    """The caller that notices does not wait; and one refresh goes out, however many threads seal."""
    estate, asked, go_on = FakeEstate(), threading.Event(), threading.Event()
    estate.create_key("alias/general")
    estate.create_key("alias/payment")
    limited = dataclasses.replace(config, max_encryptions_per_key=1000)
    with Core(limited, clock=SystemClock(), connect=estate.connect) as core, ThreadPoolExecutor(8) as pool:
        estate.calls.clear()
        seal(core)

        def hold(call: object) -> None:
            asked.set()
            assert go_on.wait(10)

        estate[EAST].during = hold
        messages = list(pool.map(lambda _: seal(core), range(900)))
        assert asked.wait(10)
        go_on.set()

    assert {wrapped(message) for message in messages} == {wrapped(messages[0])}
    assert len(estate.asked("GenerateDataKey")) == 2


def outage(core: Core, estate: FakeEstate, clock: ManualClock, purpose: str = "general") -> bytes:
    """Seal and open once, then let the keys expire while every region is away."""
    message = seal(core, purpose)
    opened(core, message, purpose)
    clock.advance(301.0)
    estate.fail("ConnectionRefused")
    return message


def test_an_expired_key_ends_with_its_time_unless_somebody_chose_otherwise(
    make: Callable[..., Core], estate: FakeEstate, clock: ManualClock
) -> None:
    """Off by default: no AWS library does this."""
    core = make()
    message = outage(core, estate, clock)

    with pytest.raises(KmsUnavailableError):
        seal(core)
    with pytest.raises(KmsUnavailableError):
        opened(core, message)


def test_with_every_region_away_an_expired_key_is_used_on_and_counted(
    make: Callable[..., Core], estate: FakeEstate, clock: ManualClock, recorder: Any
) -> None:
    """Up to 900 seconds of age; each use is told, and `health` counts it."""
    core = make(stale_if_unavailable=True)
    message = outage(core, estate, clock)

    assert wrapped(seal(core)) == wrapped(message)
    assert opened(core, message) == b"x"
    assert core.health().stale_uses == {"general": 2}
    assert [event.operation for event in recorder.of(StaleKeyUsed)] == ["encrypt", "decrypt"]
    assert recorder.of(StaleKeyUsed)[0].age_seconds >= 301.0

    clock.advance(590.0)
    assert seal(core)
    clock.advance(10.0)
    with pytest.raises(KmsUnavailableError):
        seal(core)


def test_while_the_outage_is_known_nobody_waits_for_it_again(
    make: Callable[..., Core], estate: FakeEstate, clock: ManualClock
) -> None:
    """For five seconds; then one asks again, and finds the region well."""
    core = make(stale_if_unavailable=True)
    message = outage(core, estate, clock)
    seal(core)
    estate.calls.clear()

    seal(core)
    assert not estate.calls
    estate.fail(None)
    clock.advance(5.0)

    assert wrapped(seal(core)) != wrapped(message)
    assert estate.calls


def test_one_region_that_answers_is_no_outage(
    make: Callable[..., Core], estate: FakeEstate, clock: ManualClock
) -> None:
    """Throttling is an answer that ends a call before every region was asked."""
    core = make(stale_if_unavailable=True)
    outage(core, estate, clock)
    estate.fail("ThrottlingException", regions=[EAST, WEST])

    with pytest.raises(KmsUnavailableError):
        seal(core)


def test_no_more_messages_under_a_stale_key_than_under_any(
    make: Callable[..., Core], estate: FakeEstate, clock: ManualClock
) -> None:
    """The number of messages is a limit of the cipher, not of patience."""
    core = make(stale_if_unavailable=True, max_encryptions_per_key=5)
    outage(core, estate, clock)
    for _ in range(4):
        seal(core)

    with pytest.raises(KmsUnavailableError):
        seal(core)


@pytest.mark.parametrize("strict", [None, False])
def test_a_payment_key_is_never_stale(
    make: Callable[..., Core],
    estate: FakeEstate,
    clock: ManualClock,
    config: CoreConfig,
    strict: bool | None,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Whatever its strictness was set to."""
    payment = dataclasses.replace(config.keys["payment"], strict_key_state=strict)
    core = make(stale_if_unavailable=True, keys=dict(config.keys) | {"payment": payment})
    outage(core, estate, clock, "payment")

    with pytest.raises(KmsUnavailableError):
        seal(core, "payment")


@pytest.mark.parametrize("state", ["Disabled", "PendingDeletion"])
def test_revocation_ends_stale_keys_at_once(
    make: Callable[..., Core], estate: FakeEstate, clock: ManualClock, state: str
) -> None:
    """One region that is back and says no is enough, even when all are away again afterwards."""
    core = make(stale_if_unavailable=True)
    message = outage(core, estate, clock)
    opened(core, message)
    seal(core)
    clock.advance(70.0)
    estate.fail(None)
    estate.set_key_state(estate[EAST].aliases["alias/general"], state)
    with pytest.raises(KmsDeniedError):
        seal(core)
    with pytest.raises(KmsDeniedError):
        opened(core, message)
    estate.fail("ConnectionRefused")

    with pytest.raises(KmsUnavailableError):
        seal(core)
    with pytest.raises(KmsUnavailableError):
        opened(core, message)


def test_a_stale_age_beyond_the_limit_is_refused(config: CoreConfig) -> None:
    """Fifteen minutes are the most."""
    with pytest.raises(ConfigurationError, match="at most 900"):
        dataclasses.replace(config, stale_max_age_seconds=1000.0)
