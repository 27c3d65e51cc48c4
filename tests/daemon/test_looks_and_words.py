"""Looks on demand beside those of the schedule; and no code without words."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pytest
from daemon_kit import result

from kms_core import Core
from kms_core.clock import Clock
from kms_watchdog.canaries.canary import canary_id
from kms_watchdog.canaries.round_trip import RoundTrip
from kms_watchdog.health import ReasonCode
from kms_watchdog.installed_series import subject_of
from kms_watchdog.looks import ON_DEMAND_AT_ONCE, CanaryBusyError, Looks, TooManyLooksError, UnknownCanaryError
from kms_watchdog.results import CanaryResult, Kind, Reason
from kms_watchdog.web.words import FLAWS, KINDS, REASONS, kind_words, reason_words

RUNBOOKS = Path(__file__).parents[2] / "alarms" / "runbooks"
CANARIES = [RoundTrip(region, key) for region in ("us-east-1", "us-west-2") for key in ("general", "pii", "payment")]
NAMES = [canary_id(canary) for canary in CANARIES]


@dataclass
class Runner:
    """Runs canaries; each waits for `go` if it is told to."""

    waits: bool = False
    go: threading.Event = field(default_factory=threading.Event)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ran: list[str] = field(default_factory=list)

    def __call__(self, canary: RoundTrip) -> CanaryResult:
        self.ran.append(canary_id(canary))
        self.begun.release()
        if self.waits:
            assert self.go.wait(20)
        return result(region=canary.region, key=canary.purpose)


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.fixture
def looks(runner: Runner) -> Looks:
    return Looks(CANARIES, runner)


def in_background(runner: Runner, *calls: Callable[[], object]) -> list[threading.Thread]:
    """Start looks that stay under way until `runner.go` is set."""
    runner.waits = True
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
        assert runner.begun.acquire(timeout=20)
    return threads


def end(runner: Runner, threads: list[threading.Thread]) -> None:
    runner.go.set()
    for thread in threads:
        thread.join(20)


def test_a_look_on_demand_is_one_as_any(looks: Looks, runner: Runner) -> None:
    """The same canary, the same way; its result is the answer."""
    seen = looks.on_demand(NAMES[1])

    assert (seen.region, seen.key, runner.ran) == ("us-east-1", "pii", [NAMES[1]])


def test_a_canary_looks_once_at_a_time(looks: Looks, runner: Runner) -> None:
    """Asked for while it looks: busy. Due while a person has asked: that look counts. Afterwards both again."""
    threads = in_background(runner, lambda: looks.on_demand(NAMES[0]))
    with pytest.raises(CanaryBusyError):
        looks.on_demand(NAMES[0])
    looks.scheduled(NAMES[0])
    end(runner, threads)

    looks.scheduled(NAMES[0])
    looks.on_demand(NAMES[0])

    assert runner.ran == [NAMES[0]] * 3


def test_a_look_of_the_schedule_makes_it_busy_too(looks: Looks, runner: Runner) -> None:
    """Whoever began it."""
    threads = in_background(runner, lambda: looks.scheduled(NAMES[0]))
    with pytest.raises(CanaryBusyError):
        looks.on_demand(NAMES[0])
    end(runner, threads)

    assert runner.ran == [NAMES[0]]


def test_few_may_be_asked_for_at_once(looks: Looks, runner: Runner) -> None:
    """They hold threads of the web server; the schedule's own looks do not count, and are never refused."""
    threads = in_background(runner, *(lambda name=name: looks.on_demand(name) for name in NAMES[:ON_DEMAND_AT_ONCE]))
    with pytest.raises(TooManyLooksError):
        looks.on_demand(NAMES[ON_DEMAND_AT_ONCE])
    threads += in_background(runner, lambda: looks.scheduled(NAMES[ON_DEMAND_AT_ONCE]))
    end(runner, threads)

    looks.on_demand(NAMES[ON_DEMAND_AT_ONCE])

    assert len(runner.ran) == ON_DEMAND_AT_ONCE + 2


def test_what_breaks_leaves_no_canary_busy() -> None:
    """An exception, which the runner never lets through, would not end the watching."""

    def breaks(_canary: object) -> CanaryResult:
        raise ZeroDivisionError

    looks = Looks(CANARIES, breaks)

    for _ in range(ON_DEMAND_AT_ONCE + 1):
        with pytest.raises(ZeroDivisionError):
            looks.on_demand(NAMES[0])


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        pytest.param("round_trip:us-east-1:pi", "round_trip:us-east-1:pii", id="near"),
        pytest.param("zzz", None, id="nothing-near"),
    ],
)
def test_an_unknown_canary_is_named_with_the_nearest(looks: Looks, asked: str, nearest: str | None) -> None:
    """A misspelling is answered with what was probably meant."""
    with pytest.raises(UnknownCanaryError) as caught:
        looks.on_demand(asked)

    assert caught.value.nearest == nearest


@dataclass(frozen=True)
class AnyCanary:
    """A canary of any shape."""

    kind: str
    region: str
    purpose: str
    deadline_seconds: float = 1.0

    def run(self, core: Core, clock: Clock) -> CanaryResult:
        raise NotImplementedError


@pytest.mark.parametrize(
    "canary",
    [
        AnyCanary("round_trip", "us-east-1", "pii"),
        AnyCanary("clock_offset", "us-east-1", ""),
        AnyCanary("cross_region", "us-east-1:eu-west-1", "pii"),
    ],
)
def test_what_is_looked_at_has_the_canarys_own_name(canary: AnyCanary) -> None:
    """The page's ids are those of jobs and logs."""
    assert subject_of(canary).id == canary_id(canary)


def test_every_code_has_words() -> None:
    """Nobody reads `topic_refuses` at three in the morning and knows what to do."""
    assert set(KINDS) == set(Kind)
    assert set(REASONS) == set(Reason)
    assert set(FLAWS) == {*get_args(ReasonCode), "with_region"}
    assert all(words.title and words.question.endswith("?") and words.failing.endswith(".") for words in KINDS.values())


def test_every_runbook_is_there() -> None:
    """A link into nothing is worse than none."""
    named = {words.runbook for words in KINDS.values() if words.runbook}

    assert named
    assert all((RUNBOOKS / name).is_file() for name in named)


def test_a_code_of_another_version_is_shown_as_it_is() -> None:
    """A history may hold what this version does not know."""
    assert kind_words("new_kind").title == "new kind"
    assert reason_words("new_reason") == "new reason"
    assert reason_words(None) == ""
