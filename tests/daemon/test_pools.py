"""Who waits for whom: each canary's look against the threads of its pool, when a region or IAM takes all the time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_kit import BASE, REGIONS

from kms_core.testing import ManualClock
from kms_watchdog.canaries.canary import Canary, canary_id
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.config import Settings, load
from kms_watchdog.daemon import MOST_THREADS, pool_of, pools_of
from kms_watchdog.results import Kind
from kms_watchdog.scheduler import GRACE_SECONDS
from kms_watchdog.spread import fraction

QUICK_SECONDS = 0.5
AT_WORST = 1.5
"""A look that its deadline ends is over when the one call returns that is out: 5 s later, by `aws.client`."""
ROUNDS = 6

Hold = Callable[[Canary], float]


@pytest.fixture
def watched(write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Three regions, three keys, all kinds, every 30 s: what an installation has that says nothing."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return load(write_config('[keys.pii]\nalias = "alias/pii"\n', base=BASE))


@pytest.fixture
def canaries(watched: Settings) -> tuple[Canary, ...]:
    return live_canaries(Ports(watched, ManualClock()))


def waits(settings: Settings, canaries: tuple[Canary, ...], hold: Hold) -> dict[str, float]:
    """Return each canary's longest wait for a thread, in seconds; infinite where it got none within the grace."""
    free = {pool: [0.0] * threads for pool, threads in pools_of(settings, canaries).items()}
    slots = [
        ((fraction(canary_id(canary)) + turn) * settings.canaries.timing(canary.kind).interval_seconds, canary)
        for canary in canaries
        for turn in range(ROUNDS)
    ]
    longest: dict[str, float] = {}
    for due, canary in sorted(slots, key=lambda slot: slot[0]):
        name, threads = canary_id(canary), free[pool_of(canary)]
        wait = max(0.0, threads[0] - due)
        if wait > GRACE_SECONDS:
            longest[name] = float("inf")
            continue
        longest[name] = max(longest.get(name, 0.0), wait)
        heapq.heapreplace(threads, due + wait + hold(canary))
    return longest


def slow(settings: Settings, is_slow: Callable[[Canary], bool]) -> Hold:
    """Let those looks take more than all their time, and the others half a second."""

    def hold(canary: Canary) -> float:
        return settings.canaries.timing(canary.kind).deadline_seconds * AT_WORST if is_slow(canary) else QUICK_SECONDS

    return hold


@pytest.mark.parametrize("dead", REGIONS)
def test_a_region_that_takes_all_the_time_keeps_nobody_waiting(
    watched: Settings, canaries: tuple[Canary, ...], dead: str
) -> None:
    """Regression: two threads a pool made the same looks there miss every round, blind when they had most to say."""
    home = {Kind.FAILOVER_PATH, Kind.MUST_FAIL_CORE}

    found = waits(watched, canaries, slow(watched, lambda canary: dead in canary.region or canary.kind in home))

    assert len(found) == len(canaries) == 89
    assert max(found.values()) <= GRACE_SECONDS


def test_a_slow_iam_keeps_nobody_waiting(watched: Settings, canaries: tuple[Canary, ...]) -> None:
    """Regression: nine looks that wait for roles held all threads that read keys, in regions that were well."""
    found = waits(watched, canaries, slow(watched, lambda canary: canary.kind == Kind.APPLICATION_ACCESS))

    assert max(found.values()) <= GRACE_SECONDS


def test_threads_are_bounded(write_config: Callable[..., Path]) -> None:
    """However many keys there are."""
    many = load(write_config("".join(f'[keys.k{n}]\nalias = "alias/k{n}"\n' for n in range(40))))

    assert max(pools_of(many, live_canaries(Ports(many, ManualClock()))).values()) == MOST_THREADS
