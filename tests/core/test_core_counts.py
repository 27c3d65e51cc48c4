"""What an observer and `health()` can count: retries, and what the data-key cache holds and lets go of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kms_core import Core
from kms_core._cache import DataKeyCache, Limits
from kms_core.errors import KmsUnavailableError
from kms_core.events import Attempt
from kms_core.testing import FakeEstate, ManualClock

CONTEXT = {"canary": "true"}


def seal(core: Core, size: int = 1) -> bytes:
    return core.encrypt(bytes(size), purpose="general", context=CONTEXT)


def test_what_follows_a_failed_attempt_of_a_call_is_a_retry(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """In another region as in the same; the first attempt of the next call is none."""
    estate["us-east-1"].script.extend(["KMSInternalException"] * 2)

    seal(core)
    core.pinned("us-west-2").encrypt(b"x", purpose="general", context=CONTEXT)

    sealing = [(a.region, a.retry) for a in recorder.of(Attempt) if a.operation == "GenerateDataKey"]
    assert sealing == [("us-east-1", False), ("us-east-1", True), ("us-west-2", True), ("us-west-2", False)]


def test_health_tells_what_the_cache_holds(make_core: Callable[..., Core], clock: ManualClock) -> None:
    """Keys for sealing and for opening; and why it let go of others."""
    core = make_core(max_encryptions_per_key=2)
    message = seal(core)
    held = core.health().cached_keys
    core.decrypt(message, purpose="general", context=CONTEXT)
    seal(core)
    seal(core)
    used_up = dict(core.health().evicted_keys)
    clock.advance(301)
    seal(core)

    assert (held, core.health().cached_keys) == (1, 2)
    assert used_up == {"expired": 0, "used_up": 1, "full": 0}
    assert core.health().evicted_keys["expired"] == 1


@pytest.mark.parametrize("entries", [1, 3])
def test_room_for_others_is_a_reason_of_its_own(clock: ManualClock, entries: int) -> None:
    """Many of those say that the cache is too small."""
    cache: DataKeyCache[str, str] = DataKeyCache(Limits(ttl_seconds=300, entries=entries), clock)

    for number in range(5):
        cache.offer(f"k{number}", "v")

    assert cache.evicted() == {"expired": 0, "used_up": 0, "full": 5 - entries}


def test_an_entry_that_ends_is_counted_once(clock: ManualClock) -> None:
    """However often it is asked for after that."""
    cache: DataKeyCache[str, str] = DataKeyCache(Limits(ttl_seconds=300), clock)
    cache.offer("k", "v")
    clock.advance(300)

    for _ in range(3):
        assert cache.reserve("k") is None

    assert cache.evicted() == {"expired": 1, "used_up": 0, "full": 0}


def test_a_call_that_fails_everywhere_retried(core: Core, estate: FakeEstate, recorder: Any) -> None:
    """All but its first attempt are retries."""
    seal(core)
    recorder.events.clear()
    estate.fail("ReadTimeout")

    with pytest.raises(KmsUnavailableError):
        core.encrypt(b"x", purpose="general", context={**CONTEXT, "n": "1"})

    retries = [a.retry for a in recorder.of(Attempt)]
    assert retries == [False, *[True] * (len(retries) - 1)]
    assert len(retries) > 2
