"""What a region is blamed for, what a call may cost, and what the background does, when much goes wrong at once."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from waiting import wait_until

from kms_core import Core, CoreConfig
from kms_core._bulkhead import Bulkhead, GivenUpError
from kms_core._cache import DataKeyCache, Limits
from kms_core._deadline import Deadline
from kms_core._regions import AttemptFailedError
from kms_core._single_flight import SingleFlight
from kms_core.breaker import BreakerPolicy, HalfOpen, Open, Outcome, admit, report
from kms_core.clock import SystemClock
from kms_core.context import serialised
from kms_core.errors import ClosedError, KmsCoreError, KmsDeniedError, KmsUnavailableError
from kms_core.events import Attempt, BreakerMoved, CacheRefreshed, KeyQuarantined, StaleKeyUsed
from kms_core.kms import DECRYPT, GENERATE_DATA_KEY, KmsFailure
from kms_core.message import KMS_PROVIDER, EncryptedDataKey, encrypted_data_keys
from kms_core.testing import FakeEstate, HeldLane, ManualClock, core_over, encode

EAST, WEST, IRELAND = "us-east-1", "us-west-2", "eu-west-1"
CONTEXT = {"canary": "true"}
CLOCK = SystemClock()


def seal(core: Core, number: int = 0, purpose: str = "general") -> bytes:
    return core.encrypt(b"x", purpose=purpose, context={"number": str(number)})


def sealed_in(message: bytes) -> str:
    return encrypted_data_keys(message)[0].provider_info.decode().split(":")[3]


# Our own queue is not the region's fault.


def test_waiting_for_a_worker_of_ours_is_not_the_regions_slowness(
    threaded: Callable[..., Core], real_estate: FakeEstate, recorder: Any
) -> None:
    """Four times as many callers as workers: the last ones wait three rounds, and the region answers each in time."""
    core = threaded(slow_call_seconds=0.5, attempt_timeout_seconds=20.0, deadline_seconds=60.0)
    pause = threading.Event()
    real_estate[EAST].during = lambda call: pause.wait(0.2)

    with ThreadPoolExecutor(64) as pool:
        messages = list(pool.map(lambda n: seal(core, n), range(64)))

    assert {sealed_in(message) for message in messages} == {EAST}
    assert max(attempt.seconds for attempt in recorder.of(Attempt)) > 0.5
    assert not recorder.of(BreakerMoved)


def test_a_request_that_was_overtaken_before_it_was_sent_never_is(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event, recorder: Any
) -> None:
    """It counts as nothing: the region has not seen it."""
    core = threaded(hedging=True, attempt_timeout_seconds=20.0, deadline_seconds=60.0)
    real_estate[EAST].during = lambda call: go_on.wait(20)
    with ThreadPoolExecutor(16) as pool:
        held = [pool.submit(core.pinned(EAST).encrypt, b"x", purpose="general", context=CONTEXT) for _ in range(16)]
        wait_until(lambda: len(real_estate.asked()) == 16, says="every worker is held")

        assert [sealed_in(seal(core, n)) for n in range(3)] == [WEST] * 3

        assert not recorder.of(BreakerMoved)
        go_on.set()
        for call in held:
            call.result(20)
    core.pinned(EAST).encrypt(b"x", purpose="general", context=CONTEXT)
    assert real_estate.asked(GENERATE_DATA_KEY).count(EAST) == 17, "16 held, and the one after: none for nobody"


def test_a_probe_that_finds_every_worker_held_opens_the_breaker_again() -> None:
    """For as long as before: what holds the workers is that region, but it was not asked."""
    policy = BreakerPolicy(jitter=0.0)
    admission, half_open = admit(Open(generation=1, until=5.0, failed_probes=2), policy, now=6.0)
    assert admission is not None

    after, cause = report(half_open, policy, admission, Outcome.NOT_SENT, now=7.0, spread=0.0)

    assert cause == "probe_failed"
    assert after == Open(generation=3, until=7.0 + 20.0, failed_probes=2)


def test_what_was_not_sent_and_was_no_probe_changes_nothing() -> None:
    """A canary beside the probe."""
    policy = BreakerPolicy()
    half_open = HalfOpen(generation=2, failed_probes=0, permit_until=10.0)
    admission, _ = admit(HalfOpen(generation=2, failed_probes=0, permit_until=None), policy, now=0.0)
    assert admission is not None
    canary = dataclasses.replace(admission, probe=False)

    assert report(half_open, policy, canary, Outcome.NOT_SENT, now=7.0, spread=0.0) == (half_open, None)


# A hedge bypasses nothing.


@pytest.mark.parametrize(
    ("code", "purpose"),
    [("DisabledException", "payment"), ("AccessDeniedException", "payment"), ("AccessDeniedException", "general")],
)
def test_a_hedge_goes_round_no_refusal(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event, code: str, purpose: str
) -> None:
    """What the first region says late is as final as what it says at once."""
    core = threaded(hedging=True)
    real_estate[EAST].fault = code
    real_estate[EAST].during = lambda call: CLOCK.wait(go_on, 0.4)
    real_estate[WEST].during = lambda call: go_on.wait(10)

    with pytest.raises(KmsDeniedError) as denied:
        seal(core, 0, purpose)

    assert denied.value.error_code == code


def test_a_key_state_that_a_hedge_has_passed_by_is_still_quarantined(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event, recorder: Any
) -> None:
    """Disabled in the first region, sealed in the second: the next call knows."""
    core = threaded(hedging=True)
    real_estate[EAST].fault = "DisabledException"
    real_estate[EAST].during = lambda call: CLOCK.wait(go_on, 0.4)
    real_estate[WEST].during = lambda call: CLOCK.wait(go_on, 0.4)

    assert sealed_in(seal(core)) == WEST

    assert [(one.region, one.error_code) for one in recorder.of(KeyQuarantined)] == [(EAST, "DisabledException")]


def test_silence_counts_with_hedging_on_too(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event, recorder: Any
) -> None:
    """Two silent regions: who was asked first had its whole time, though the race between them used it up."""
    core = threaded(hedging=True, attempt_timeout_seconds=0.6, slow_call_seconds=0.5)
    for region in (EAST, WEST):
        real_estate[region].during = lambda call: go_on.wait(20)

    for number in range(7):
        assert sealed_in(seal(core, number)) == IRELAND

    assert {(move.region, move.new) for move in recorder.of(BreakerMoved)} == {(EAST, "open"), (WEST, "open")}


# Threads may not be had, and may hang.


def test_a_thread_that_cannot_be_started_is_no_exception_of_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as if every worker were busy; and once threads can be had again, all is well."""
    bulkhead = Bulkhead("starved", CLOCK, workers=2)
    with monkeypatch.context() as starved:

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        starved.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(GivenUpError) as given_up:
                bulkhead.submit(lambda: 1).result(10)
            assert not given_up.value.started

    assert bulkhead.submit(lambda: 5).result(10) == 5
    bulkhead.close()
    bulkhead.join(10)


def test_threads_that_hang_hold_up_close_once_and_not_each(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event
) -> None:
    """And whoever waits for them, pinned or not, hears that the core was closed."""
    core = threaded(attempt_timeout_seconds=20.0, deadline_seconds=60.0)
    for region in (EAST, WEST, IRELAND):
        real_estate[region].during = lambda call: go_on.wait(20)
    errors: list[KmsCoreError] = []

    def ask(number: int) -> None:
        try:
            core.pinned((EAST, WEST, IRELAND)[number % 3]).encrypt(b"x", purpose="general", context=CONTEXT)
        except KmsCoreError as e:
            errors.append(e)

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(60)]
    for caller in callers:
        caller.start()
    wait_until(lambda: len(real_estate.calls) == 48, says="every worker of all regions is held")
    began = CLOCK.monotonic()

    core.close()

    assert CLOCK.monotonic() - began < 5.0, "48 hanging threads at 0.2 s each would be 9.6 s"
    go_on.set()
    for caller in callers:
        caller.join(20)
    assert {type(error) for error in errors} == {ClosedError}


def test_a_call_that_ends_after_close_leaves_no_key_behind(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event
) -> None:
    """The cache is closed too."""
    core = threaded()
    real_estate[EAST].during = lambda call: go_on.wait(20)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(seal, core)
        wait_until(lambda: len(real_estate.calls) == 1, says="the request is out")
        core.close()
        go_on.set()
        call.exception(20)

    assert len(core._envelope._sealing) == 0  # no public name shows what a closed core holds


def test_an_observer_may_close_the_core_from_a_thread_of_the_cores_own(
    real_estate: FakeEstate, config: CoreConfig
) -> None:
    """Nobody joins himself."""
    problems: list[BaseException] = []
    closed = threading.Event()

    class Closer:
        core: Core | None = None

        def on_event(self, event: object) -> None:
            if isinstance(event, CacheRefreshed) and self.core is not None:
                try:
                    self.core.close()
                except Exception as e:  # noqa: BLE001 - the core would swallow it, as any observer's
                    problems.append(e)
                closed.set()

    observer = Closer()
    limited = dataclasses.replace(config, max_encryptions_per_key=5)
    observer.core = core = Core(limited, observer, clock=CLOCK, connect=real_estate.connect)
    with contextlib.suppress(ClosedError):  # it may be closed before the fourth
        for _ in range(4):
            core.encrypt(b"x", purpose="general", context=CONTEXT)

    assert closed.wait(10)
    assert not problems
    core.close()


# One call, one deadline, six requests; and who pays.


def three_wrapped(estate: FakeEstate) -> bytes:
    """Return a message with three wrapped keys of ours, none of which opens."""
    key_id = estate[EAST].aliases["alias/general"]
    wrapped = [
        EncryptedDataKey(
            provider_id=KMS_PROVIDER,
            provider_info=estate.arn(key_id, EAST).encode(),
            ciphertext=key_id.encode()
            + b"\0"
            + (iv := os.urandom(12))
            + AESGCM(estate.keys[key_id].material).encrypt(iv, bytes(16), serialised(CONTEXT)),
        )
        for _ in range(3)
    ]
    return encode(b"x", bytes(32), wrapped, CONTEXT, message_id=os.urandom(32))


def test_several_wrapped_keys_share_the_requests_of_one_call(core: Core, estate: FakeEstate) -> None:
    """Each would be asked for in three regions: nine requests."""
    with pytest.raises(KmsCoreError):
        core.decrypt(three_wrapped(estate), purpose="general", context=CONTEXT)

    assert len(estate.asked(DECRYPT)) == 6


def test_an_alias_that_must_be_resolved_first_takes_its_time_from_the_call(
    estate: FakeEstate, config: CoreConfig, core: Core, clock: ManualClock
) -> None:
    """One deadline for all that a call does."""
    message = core.encrypt(b"x", purpose="general", context=CONTEXT)
    estate.fail("ReadTimeout")
    with core_over(estate, config) as late:
        clock.advance(60)
        for region in estate.kms.values():
            region.fault = None
            region.script.extend(["ReadTimeout"] * 10)
        began = clock.monotonic()

        with pytest.raises(KmsUnavailableError):
            late.decrypt(message, purpose="general", context=CONTEXT)

    assert clock.monotonic() - began <= 8.0 + 2.0  # the deadline, and the request that was under way


def test_a_region_that_is_closed_is_asked_again_before_an_open_one(core: Core, estate: FakeEstate) -> None:
    """Only when all breakers are open is there a last door."""
    core.force(EAST, "open", for_seconds=600, reason="a test")
    core.force(IRELAND, "open", for_seconds=600, reason="a test")
    estate[WEST].script.append("ConnectionReset")

    assert sealed_in(core.encrypt(b"x", purpose="general", context=CONTEXT)) == WEST
    assert estate.asked() == [WEST, WEST]


def test_a_throttled_call_goes_through_no_last_door(core: Core, estate: FakeEstate) -> None:
    """Once in place; and as the others are shut, that is all."""
    core.force(WEST, "open", for_seconds=600, reason="a test")
    core.force(IRELAND, "open", for_seconds=600, reason="a test")
    estate[EAST].fault = "ThrottlingException"

    with pytest.raises(KmsUnavailableError):
        core.encrypt(b"x", purpose="general", context=CONTEXT)
    assert estate.asked() == [EAST, EAST]


def test_a_throttled_call_spills_once_whatever_it_finds_there(core: Core, estate: FakeEstate) -> None:
    """One other region; that it is away is no reason to press on."""
    estate[EAST].fault = "ThrottlingException"
    estate[WEST].fault = "ConnectionRefused"

    with pytest.raises(KmsUnavailableError):
        core.encrypt(b"x", purpose="general", context=CONTEXT)
    assert estate.asked() == [EAST, EAST, WEST]


def test_a_spill_is_earned_by_the_region_that_is_really_called(core: Core, estate: FakeEstate) -> None:
    """The preferred one is away, so its share goes to the next."""
    core.force(EAST, "open", for_seconds=80_000, reason="a test")
    estate[WEST].fault = "ThrottlingException"
    spilt = 0
    for number in range(400):
        try:
            core.encrypt(b"x", purpose="general", context={"number": str(number)})
        except KmsUnavailableError:
            continue
        spilt += 1

    assert 40 <= spilt <= 60


def test_a_retry_is_paid_by_the_region_that_is_asked_again(core: Core, estate: FakeEstate) -> None:
    """And never by one that a breaker keeps out."""
    core.force(EAST, "open", for_seconds=80_000, reason="a test")
    estate.fail("ConnectionReset", regions=[WEST, IRELAND])
    with pytest.raises(KmsUnavailableError):
        core.encrypt(b"x", purpose="general", context=CONTEXT)

    tokens = {name: region.retry_tokens for name, region in core.health().regions.items()}
    again = {region: estate.asked().count(region) - 1 for region in (WEST, IRELAND)}
    assert tokens[WEST] == 100 - 10 * again[WEST]
    assert tokens[IRELAND] == 100 - 10 * again[IRELAND]


def test_only_a_throttle_is_asked_how_long_to_wait(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """A fault with Retry-After is retried at once: another region is there."""
    estate[EAST].script.extend(
        KmsFailure("KMSInternalException", status=500, retry_after_seconds=30.0) for _ in range(2)
    )
    began = clock.monotonic()

    assert sealed_in(core.encrypt(b"x", purpose="general", context=CONTEXT)) == WEST
    assert clock.monotonic() - began <= 0.05


# Forced states.


def test_a_new_order_is_not_lost_to_the_end_of_the_old_one(core: Core, clock: ManualClock) -> None:
    """And one that is over holds nobody up, also before anybody has looked."""
    core.force(WEST, "open", for_seconds=10, reason="old")
    clock.advance(11)
    assert core._breakers.closed(WEST)  # health would take the old one away
    core.force(WEST, "open", for_seconds=10, reason="new")
    assert core.health().regions[WEST].forced_reason == "new"


# The cache.


def test_a_successor_that_lands_after_the_end_is_not_lost() -> None:
    """Who missed meanwhile has waited for it: one fetch is enough."""
    clock = ManualClock()
    cache: DataKeyCache[str, int] = DataKeyCache(Limits(ttl_seconds=300), clock, refresh=lambda key: None)
    deadline = Deadline(clock, 8)
    values = iter(range(10))

    def fetch(left: Deadline) -> int:
        value = next(values)
        if value == 1:
            clock.advance(100)
            assert cache.reserve("k") is None
        return value

    assert cache.reserve_or_fetch("k", lambda: fetch(deadline), deadline, again=fetch) == 0
    clock.advance(280)
    cache.reserve("k")

    assert cache.fetch_next("k", deadline)
    assert cache.reserve("k") == 1


def test_a_refresh_that_came_late_leaves_the_next_key_alone() -> None:
    """It was asked for the one before."""
    clock, asked = ManualClock(), list[str]()
    cache: DataKeyCache[str, int] = DataKeyCache(Limits(ttl_seconds=300), clock, refresh=asked.append)
    deadline = Deadline(clock, 8)
    values = iter(range(10))
    cache.reserve_or_fetch("k", lambda: next(values), deadline, again=lambda left: next(values))
    clock.advance(280)
    cache.reserve("k")
    clock.advance(21)
    cache.reserve_or_fetch("k", lambda: next(values), deadline, again=lambda left: next(values))

    assert not cache.fetch_next("k", deadline)
    assert asked == ["k"]


def test_a_key_that_came_early_does_not_replace_the_refresh() -> None:
    """A lost hedge's key is as old as the one it follows; its uses count where uses are what ended."""
    clock = ManualClock()
    cache: DataKeyCache[str, int] = DataKeyCache(Limits(ttl_seconds=300), clock, refresh=lambda key: None)
    deadline = Deadline(clock, 8)
    cache.reserve_or_fetch("k", lambda: 0, deadline, again=lambda left: 2)
    cache.offer("k", 1)
    clock.advance(280)
    cache.reserve("k")

    assert cache.fetch_next("k", deadline)
    clock.advance(60)
    assert cache.reserve("k") == 2


def test_what_nobody_waited_for_passes_no_limit() -> None:
    """Neither is anything kept once the cache is closed."""
    clock = ManualClock()
    cache: DataKeyCache[int, int] = DataKeyCache(Limits(ttl_seconds=300, entries=5), clock)
    for key in range(50):
        cache.offer(key, key)
    assert len(cache) == 5

    cache.close()
    cache.offer(1, 1)
    cache.reserve_or_fetch(2, lambda: 2, Deadline(clock, 8))
    assert len(cache) == 0


def test_who_waits_for_another_hears_what_that_one_heard() -> None:
    """Both began together with the same deadline: its error, which lists the regions, comes in the last moment."""
    flights: SingleFlight[str] = SingleFlight(CLOCK)
    started = threading.Event()

    def fetch() -> None:
        started.set()
        CLOCK.wait(threading.Event(), 0.35)
        raise KmsUnavailableError("the leader's")

    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(flights.join, "k", fetch, Deadline(CLOCK, 0.3))
        assert started.wait(10)
        with pytest.raises(KmsUnavailableError, match="the leader's"):
            flights.join("k", fetch, Deadline(CLOCK, 0.3))
        with pytest.raises(KmsUnavailableError, match="the leader's"):
            leading.result(10)


def test_refreshes_do_not_press_on_in_an_outage(
    estate: FakeEstate, config: CoreConfig, clock: ManualClock, recorder: Any
) -> None:
    """Two hundred keys are due while every region is away: the first finds out, the others wait."""
    held = HeldLane(clock)
    with core_over(estate, config, observer=recorder, background=held) as core:
        for number in range(200):
            seal(core, number)
        estate.fail("ConnectionRefused")
        clock.advance(265)
        estate.calls.clear()
        for number in range(200):
            seal(core, number)
        held.run()

    assert len(estate.calls) <= 18


# Stale keys.


def stale_core(estate: FakeEstate, config: CoreConfig, recorder: Any) -> Core:
    core = core_over(estate, dataclasses.replace(config, stale_if_unavailable=True), observer=recorder)
    core.decrypt(seal(core), purpose="general", context={"number": "0"})
    return core


@pytest.mark.parametrize("rest", ["ThrottlingException", "KMSInvalidStateException"])
def test_a_region_that_answers_ends_the_outage(
    estate: FakeEstate, config: CoreConfig, clock: ManualClock, recorder: Any, rest: str
) -> None:
    """One is away and its breaker open, the others say something: nothing stale is used."""
    core = stale_core(estate, config, recorder)
    core.force(EAST, "open", for_seconds=900, reason="a test")
    estate.fail(rest, regions=[WEST, IRELAND])
    estate.fail("ConnectionRefused", regions=[EAST])
    clock.advance(301)

    with pytest.raises(KmsCoreError):
        seal(core)
    assert not recorder.of(StaleKeyUsed)


def test_one_region_away_is_no_outage_when_others_answer(
    estate: FakeEstate, config: CoreConfig, clock: ManualClock, recorder: Any
) -> None:
    """The first is refused, the next one throttles: that is an answer, however unwelcome."""
    core = stale_core(estate, config, recorder)
    estate.fail("ConnectionRefused", regions=[EAST])
    estate.fail("ThrottlingException", regions=[WEST, IRELAND])
    clock.advance(301)

    with pytest.raises(KmsUnavailableError) as failed:
        seal(core)

    assert [attempt.region for attempt in failed.value.attempts][:2] == [EAST, WEST]
    assert not recorder.of(StaleKeyUsed)


def test_a_revocation_in_one_region_counts_though_others_are_away(
    estate: FakeEstate, config: CoreConfig, clock: ManualClock, recorder: Any
) -> None:
    """And its code is the one that the error shows, though the last attempt failed otherwise."""
    core = stale_core(estate, config, recorder)
    message = seal(core)
    clock.advance(301)
    estate.set_key_state(estate[EAST].aliases["alias/general"], "Disabled", regions=[EAST])
    estate.fail("ConnectionRefused", regions=[WEST, IRELAND])
    with pytest.raises(KmsDeniedError) as denied:
        seal(core)
    assert denied.value.error_code == "DisabledException"
    estate.fail("ConnectionRefused")

    for attempt in (lambda: seal(core), lambda: core.decrypt(message, purpose="general", context={"number": "0"})):
        with pytest.raises(KmsUnavailableError):
            attempt()


def test_a_successor_is_revoked_with_what_it_follows(
    estate: FakeEstate, config: CoreConfig, clock: ManualClock, recorder: Any
) -> None:
    """It serves its time, and not a moment more."""
    held, stale = HeldLane(clock), dataclasses.replace(config, stale_if_unavailable=True)
    core = core_over(estate, stale, observer=recorder, background=held)
    seal(core)
    clock.advance(265)
    seal(core)
    assert held.run() == 1
    estate.set_key_state(estate[EAST].aliases["alias/general"], "Disabled")
    with pytest.raises(KmsDeniedError):
        seal(core, 1)
    clock.advance(40)
    seal(core)
    clock.advance(300)
    estate.fail("ConnectionRefused")

    with pytest.raises(KmsUnavailableError):
        seal(core)


def test_in_a_long_silence_one_caller_asks_and_the_others_are_served(
    threaded: Callable[..., Core], real_estate: FakeEstate, go_on: threading.Event
) -> None:
    """Once the outage is known, nobody else waits for KMS."""
    core = threaded(stale_if_unavailable=True, data_key_ttl_seconds=0.2, attempt_timeout_seconds=0.3)
    for number in range(4):
        seal(core, number)
    CLOCK.wait(threading.Event(), 0.3)
    for region in real_estate.kms.values():
        region.during = lambda call: go_on.wait(30)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda n: seal(core, n), range(4)))
    core._supply._outages["general"] = 0.0  # the five seconds are over
    asked = len(real_estate.calls)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda n: seal(core, n % 4), range(400)))

    assert 1 <= len(real_estate.calls) - asked <= 3


# Regions that nobody calls.


def test_a_region_that_nobody_calls_joins_when_it_is_back(
    estate: FakeEstate, config: CoreConfig, clock: ManualClock
) -> None:
    """The preferred one is well, so only the background asks the others: their breakers would say open for good."""
    held = HeldLane(clock)
    estate.fail("ConnectTimeout", regions=[WEST])
    with core_over(estate, config, background=held) as core:
        estate.fail(None)
        clock.advance(7)
        for number in range(3):
            seal(core, number)
            assert held.run() <= 1
        health = core.health().regions

    assert health[WEST].joined
    assert health[WEST].breaker == "closed"


def test_a_probe_that_found_no_thread_is_tried_again(
    estate: FakeEstate, config: CoreConfig, clock: ManualClock
) -> None:
    """Nothing was asked, so the next call has it asked."""

    class Starved(HeldLane):
        threads = False

        def submit(self, call: Callable[[], Any]) -> Any:
            ticket = super().submit(call)
            if not self.threads:
                self._held.remove(ticket)
                ticket.refuse(GivenUpError(started=False))
            return ticket

    lane = Starved(clock)
    estate.fail("ConnectTimeout", regions=[WEST])
    with core_over(estate, config, background=lane) as core:
        estate.fail(None)
        clock.advance(7)
        seal(core, 0)
        lane.threads = True
        seal(core, 1)
        assert lane.run() == 1
        assert core.health().regions[WEST].joined


def test_a_region_that_is_still_away_is_asked_once_a_time_out(
    estate: FakeEstate, config: CoreConfig, clock: ManualClock
) -> None:
    """However many calls notice it."""
    held = HeldLane(clock)
    estate.fail("ConnectionRefused", regions=[WEST])
    with core_over(estate, config, background=held) as core:
        clock.advance(7)
        estate.calls.clear()
        for number in range(50):
            seal(core, number)
        held.run()
        for number in range(50, 100):
            seal(core, number)
        held.run()

    assert estate.asked().count(WEST) == 1


def test_the_key_of_a_probe_is_not_thrown_away(estate: FakeEstate, config: CoreConfig, clock: ManualClock) -> None:
    """It was paid for: it is the next."""
    held = HeldLane(clock)
    estate.fail("ConnectionRefused", regions=[WEST])
    limited = dataclasses.replace(config, max_encryptions_per_key=1)
    with core_over(estate, limited, background=held) as core:
        estate.fail(None)
        clock.advance(7)
        seal(core)
        held.run()
        assert sealed_in(seal(core)) == WEST


def test_a_forced_state_ends_for_everybody_when_its_time_is_over(core: Core, clock: ManualClock, recorder: Any) -> None:
    """Observers hear of it with the next request, though nobody asks for health and no call goes to that region."""
    core.force(IRELAND, "open", for_seconds=60, reason="a test")
    clock.advance(61)

    seal(core)

    assert [(move.region, move.new, move.cause) for move in recorder.of(BreakerMoved)] == [
        (IRELAND, "open", "forced"),
        (IRELAND, "closed", "expired"),
    ]


def test_a_core_that_was_forgotten_ends_its_threads(real_estate: FakeEstate, config: CoreConfig) -> None:
    """Nobody closed it; nobody holds it."""
    before = set(threading.enumerate())

    def left() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one not in before and one.name.startswith("kms-core")]

    seal(Core(config, clock=CLOCK, connect=real_estate.connect))
    gc.collect()

    wait_until(lambda: not left(), says="its threads have ended")


def test_a_start_with_little_time_left_condemns_no_region(real_estate: FakeEstate, config: CoreConfig) -> None:
    """An attempt that was cut short says nothing, at the start as later."""
    pause = threading.Event()
    for region in real_estate.kms.values():
        region.during = lambda call: pause.wait(0.3)
    hasty = dataclasses.replace(config, deadline_seconds=2.0, attempt_timeout_seconds=0.1)
    with Core(hasty, clock=CLOCK, connect=real_estate.connect) as core:
        before = {name: region.breaker for name, region in core.health().regions.items()}
    patient = dataclasses.replace(config, deadline_seconds=0.1)
    with Core(patient, clock=CLOCK, connect=real_estate.connect) as core:
        assert {region.breaker for region in core.health().regions.values()} == {"closed"}
    assert set(before.values()) == {"open"}, "these had all the time that they are ever given"


def test_a_child_that_forgets_its_parents_core_touches_nothing_of_it(
    real_estate: FakeEstate, config: CoreConfig
) -> None:
    """Its locks may be held for ever, and its sockets are the parent's."""
    core = Core(config, clock=CLOCK, connect=real_estate.connect)
    seal(core)
    core.forked()  # what the operating system's fork calls in the child
    lanes = list(core._regions._lanes.values())
    kms = list(real_estate.kms.values())
    del core
    gc.collect()

    assert not any(one.closed for one in kms)
    for lane in lanes:
        lane.close()


def test_a_call_that_had_a_failure_on_its_way_leaves_nothing_behind(core: Core, estate: FakeEstate) -> None:
    """No cycle keeps its frames, and with them the plaintext, until the collector comes by."""
    estate[EAST].script.append("KMSInternalException")
    gc.collect()
    gc.disable()
    try:
        core.encrypt(b"most secret", purpose="general", context=CONTEXT)
        held = [one for one in gc.get_objects() if isinstance(one, AttemptFailedError)]
    finally:
        gc.enable()

    assert not held


def test_a_younger_stale_key_is_used_before_an_older_one(clock: ManualClock) -> None:
    """A successor that was fetched ahead has more of its time left, also when both have expired."""
    cache: DataKeyCache[str, int] = DataKeyCache(
        Limits(ttl_seconds=300, stale_seconds=900), clock, refresh=lambda key: None
    )
    deadline = Deadline(clock, 8)
    cache.reserve_or_fetch("k", lambda: 0, deadline, again=lambda left: 1)
    clock.advance(280)
    cache.reserve("k")
    assert cache.fetch_next("k", deadline)
    clock.advance(630)

    assert cache.reserve("k") is None
    assert cache.has_stale("k")
    found = cache.reserve_stale("k")
    assert found is not None
    assert found[0] == 1


def test_a_known_outage_shortens_nobodys_call_that_has_nothing_to_fall_back_on(
    estate: FakeEstate, config: CoreConfig, clock: ManualClock, recorder: Any
) -> None:
    """A new context is asked for with all its time: the region after the silent one may be slow, and well."""
    core = stale_core(estate, config, recorder)
    clock.advance(301)
    estate.fail("ConnectionRefused")
    seal(core)  # stale, so the outage is known
    clock.advance(70)
    estate.fail("ReadTimeout", regions=[EAST])
    estate.fail(None, regions=[WEST, IRELAND])
    estate[WEST].latency_seconds = 0.9

    assert sealed_in(seal(core, 77)) in {WEST, IRELAND}
