"""The data-key cache: its limits hold under threads, one caller fetches for all, and errors are not kept."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from kms_core import Core, CoreConfig
from kms_core._cache import DataKeyCache, Limits
from kms_core._deadline import Deadline
from kms_core.clock import SystemClock
from kms_core.errors import KmsUnavailableError
from kms_core.events import CacheLookup
from kms_core.message import encrypted_data_keys
from kms_core.testing import FakeEstate, ManualClock, core_over

CONTEXT = {"canary": "true"}


def seal(core: Core, size: int = 1, **context: str) -> bytes:
    return core.encrypt(bytes(size), purpose="general", context=context or CONTEXT)


def test_one_data_key_seals_many_messages(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """And no two messages have the same id, without which a nonce would be used twice."""
    messages = [seal(core) for _ in range(50)]

    assert estate.asked() == ["us-east-1"]
    assert len({message[3:35] for message in messages}) == 50
    assert [lookup.hit for lookup in recorder.of(CacheLookup)] == [False] + [True] * 49


def test_the_message_after_the_last_allowed_has_a_new_key(make_core: Callable[..., Core], estate: FakeEstate) -> None:
    """12 messages at 3 a key are 4 keys, exactly."""
    core = make_core(max_encryptions_per_key=3)

    wrapped = [encrypted_data_keys(seal(core))[0].ciphertext for _ in range(12)]

    assert [wrapped.count(key) for key in dict.fromkeys(wrapped)] == [3] * 4
    assert len(estate.calls) == 4


def test_a_key_is_used_until_its_time_is_over(core: Core, estate: FakeEstate, clock: ManualClock) -> None:
    """300 seconds from when it was made, however often it is used."""
    seal(core)
    clock.advance(299.9)
    seal(core)
    assert len(estate.calls) == 1
    clock.advance(0.1)
    seal(core)
    assert len(estate.calls) == 2


def test_the_whole_context_and_the_purpose_are_in_the_key(core: Core, estate: FakeEstate) -> None:
    """Order of insertion is not; anything else is."""
    seal(core, a="1", b="2")
    seal(core, b="2", a="1")
    assert len(estate.calls) == 1
    seal(core, a="1", b="3")
    core.encrypt(b"x", purpose="payment", context={"a": "1", "b": "2"})
    assert len(estate.calls) == 3


def test_a_message_opened_before_opens_without_kms(core: Core, estate: FakeEstate) -> None:
    """By the wrapped key and the context in the message."""
    message = seal(core)
    for _ in range(3):
        core.decrypt(message, purpose="general", context=CONTEXT)

    assert estate.asked("Decrypt") == ["us-east-1"]


def test_no_message_opens_from_the_cache_under_another_context(core: Core, estate: FakeEstate) -> None:
    """Without the context in the key, a hit would skip the check that KMS makes."""
    first, second = seal(core, a="1"), seal(core, a="2")
    core.decrypt(first, purpose="general", context={"a": "1"})
    (good,), (other,) = encrypted_data_keys(first), encrypted_data_keys(second)
    forged = second.replace(other.ciphertext, good.ciphertext)

    with pytest.raises(Exception, match="cannot be opened"):
        core.decrypt(forged, purpose="general", context={"a": "2"})

    assert estate.asked("Decrypt") == ["us-east-1"] * 2


def test_twenty_threads_on_a_cold_cache_make_one_call(config: CoreConfig) -> None:
    """The first asks, the others wait for it."""
    estate = FakeEstate()
    estate.create_key("alias/general")
    estate.create_key("alias/payment")
    at_the_door, asked = threading.Barrier(21), threading.Event()
    with Core(config, clock=SystemClock(), connect=estate.connect) as core, ThreadPoolExecutor(20) as pool:
        estate.calls.clear()
        estate["us-east-1"].during = lambda call: asked.wait(10)

        def work() -> bytes:
            at_the_door.wait(10)
            return seal(core)

        running = [pool.submit(work) for _ in range(20)]
        at_the_door.wait(10)
        wait(running, timeout=0.2)  # long enough for all to reach the cache; being late would not hide a second call
        asked.set()
        messages = [future.result(10) for future in running]

    assert estate.asked("GenerateDataKey") == ["us-east-1"]
    assert len({encrypted_data_keys(message)[0].ciphertext for message in messages}) == 1


def test_waiting_callers_share_the_error_and_the_next_one_asks_again(config: CoreConfig) -> None:
    """An error is never kept; each caller gets an exception of its own."""
    estate = FakeEstate()
    estate.create_key("alias/general")
    estate.create_key("alias/payment")
    asked = threading.Event()
    with Core(config, clock=SystemClock(), connect=estate.connect) as core, ThreadPoolExecutor(8) as pool:
        estate.calls.clear()
        estate["us-east-1"].during = lambda call: asked.wait(10)
        estate.fail("AccessDeniedException")
        running = [pool.submit(seal, core) for _ in range(8)]
        wait(running, timeout=0.2)
        asked.set()
        errors = [future.exception(10) for future in running]
        calls = len(estate.calls)
        estate.fail(None)
        assert seal(core)

    assert {str(error) for error in errors} == {str(errors[0])}
    assert len({id(error) for error in errors}) == 8
    assert 1 <= calls <= 8
    assert all(error.attempts for error in errors)  # type: ignore[union-attr]


def test_no_key_is_used_more_often_than_allowed_by_threads(config: CoreConfig) -> None:
    """A use is reserved before it happens."""
    estate = FakeEstate()
    estate.create_key("alias/general")
    estate.create_key("alias/payment")
    limited = dataclasses.replace(config, max_encryptions_per_key=7)
    with Core(limited, clock=SystemClock(), connect=estate.connect) as core, ThreadPoolExecutor(8) as pool:
        messages = list(pool.map(lambda _: seal(core), range(300)))

    used = [encrypted_data_keys(message)[0].ciphertext for message in messages]
    assert max(used.count(key) for key in set(used)) <= 7


def test_a_caller_waits_no_longer_than_its_own_deadline() -> None:
    """For somebody else's request, too."""
    clock, landed, began = SystemClock(), threading.Event(), threading.Event()
    cache: DataKeyCache[str, str] = DataKeyCache(Limits(ttl_seconds=1.0), clock)

    def fetch() -> str:
        began.set()
        landed.wait(10)
        return "value"

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(cache.reserve_or_fetch, "key", fetch, Deadline(clock, 10))
        assert began.wait(10)
        with pytest.raises(KmsUnavailableError, match="no time was left"):
            cache.reserve_or_fetch("key", fetch, Deadline(clock, 0.01))
        landed.set()
        assert leader.result(10) == "value"


def test_a_fetch_that_crashed_lets_the_next_one_try() -> None:
    """An error that is not the core's own is its caller's alone."""
    clock = ManualClock(auto_advance=True)
    cache: DataKeyCache[str, str] = DataKeyCache(Limits(ttl_seconds=1.0), clock)

    def crash() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.reserve_or_fetch("key", crash, Deadline(clock, 1))
    assert cache.reserve_or_fetch("key", lambda: "value", Deadline(clock, 1)) == "value"


def test_the_least_recently_used_is_forgotten_first() -> None:
    """A process that seals under many contexts keeps its memory bounded."""
    clock = ManualClock()
    cache: DataKeyCache[int, int] = DataKeyCache(Limits(ttl_seconds=1.0, entries=3), clock)
    for key in (1, 2, 3):
        cache.reserve_or_fetch(key, lambda: 0, Deadline(clock, 1))
    cache.reserve(1)
    cache.reserve_or_fetch(4, lambda: 0, Deadline(clock, 1))

    assert [cache.reserve(key) for key in (1, 2, 3, 4)] == [0, None, 0, 0]
    assert len(cache) == 3


def test_bytes_under_one_key_are_limited() -> None:
    """A message above the limit alone has a key for itself."""
    clock, made = ManualClock(), iter(range(9))
    cache: DataKeyCache[str, int] = DataKeyCache(Limits(ttl_seconds=1.0, max_bytes=10), clock)

    def key_for(size: int) -> int:
        return cache.reserve_or_fetch("k", lambda: next(made), Deadline(clock, 1), size=size)

    assert [key_for(size) for size in (4, 6, 1, 25, 1, 9)] == [0, 0, 1, 2, 3, 3]


def test_a_closed_core_has_forgotten_its_keys(estate: FakeEstate, config: CoreConfig) -> None:
    """References are dropped; the buffers themselves are Python's."""
    core = core_over(estate, config)
    message = seal(core)
    core.decrypt(message, purpose="general", context=CONTEXT)
    core.close()

    assert len(core._envelope._sealing) == len(core._envelope._opening) == 0
