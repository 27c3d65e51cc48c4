"""A year of the whole daemon on a manual clock, over KMS in memory: nothing in it grows."""

from __future__ import annotations

import gc
import heapq
import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from daemon_kit import REGIONS

from kms_core.testing import FakeEstate, ManualClock, core_over
from kms_watchdog.config import load
from kms_watchdog.daemon import Daemon
from kms_watchdog.health import Status
from kms_watchdog.scheduler import Job
from kms_watchdog.state_folder import StateFolder

CONFIG = f"""
[estate]
name = "year"
account_id = "123456789012"
primary_region = "us-east-1"
regions = {list(REGIONS)}
[keys.general]
alias = "alias/general"
[keys.pii]
alias = "alias/pii"
[keys.payment]
alias = "alias/payment"
[canaries]
kinds = ["round_trip", "cross_region", "failover_path", "must_fail_core", "must_fail_kms"]
interval_seconds = 21600
[state]
dir = "state"
[cloudwatch]
enabled = false
"""
SIX_HOURS = 21_600.0
WEEK, QUARTER, YEAR = timedelta(days=7), timedelta(days=91), timedelta(days=365)
MIDDLE = (QUARTER + YEAR) / 2


@dataclass(frozen=True)
class Held:
    """What the process holds."""

    objects: int
    threads: int
    files: int
    series: int


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto_advance=True)


@pytest.fixture
def estate(clock: ManualClock) -> FakeEstate:
    made = FakeEstate(REGIONS, clock=clock)
    for purpose in ("general", "pii", "payment"):
        made.create_key(f"alias/{purpose}")
    return made


@pytest.fixture
def daemon(estate: FakeEstate, clock: ManualClock, tmp_path: Path) -> Iterator[Daemon]:
    path = tmp_path / "watchdog.toml"
    path.write_text(CONFIG)
    settings = load(path)
    folder = StateFolder(settings.state.dir)
    folder.prepare()
    made = Daemon(
        settings,
        path,
        folder,
        clock,
        make_core=lambda config, observer: core_over(estate, config, observer=observer),
    )
    made.prometheus.begin()
    yield made
    made.kept.close()
    made.core.close()


def seldom(job: Job) -> Job:
    """Housekeeping of every second would be thirty million steps: as often as the canaries is often enough here."""
    return replace(job, interval_seconds=max(job.interval_seconds, SIX_HOURS))


def held(daemon: Daemon) -> Held:
    for _ in range(3):
        gc.collect()
    return Held(
        objects=len(gc.get_objects()),
        threads=threading.active_count(),
        files=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a Path each would be counted too
        series=daemon.metrics_text("")[0].count(b"\n"),
    )


def live(daemon: Daemon, clock: ManualClock, estate: FakeEstate) -> Iterator[datetime]:
    """Do each job when it is due, and say when it is."""
    order = itertools.count()
    jobs = [seldom(job) for job in daemon.jobs()]
    due = [(job.first_run(clock.now_utc()), next(order), job) for job in jobs]
    heapq.heapify(due)
    while True:
        at, _, job = heapq.heappop(due)
        clock.advance(max(0.0, (at - clock.now_utc()).total_seconds()))
        job.action()
        daemon.on_job(job, "executed", 0.0)
        estate.calls.clear()  # the fake's own record of what it was asked
        heapq.heappush(due, (job.grid.next_run(at, clock.now_utc()), next(order), job))
        yield at


@pytest.mark.slow
@pytest.mark.computes
@pytest.mark.minutes(3)
@pytest.mark.timeout(2400)
def test_a_year_leaves_nothing_behind(daemon: Daemon, clock: ManualClock, estate: FakeEstate) -> None:
    """After the first quarter no object, thread, file or series is added; the year is as green as its first day.

    Objects by their most of some months: the core's table of known headers is emptied whenever it has 1000.
    """
    began = clock.now_utc()
    looks = 0
    seen: dict[timedelta, Held] = {}
    for at in live(daemon, clock, estate):
        looks += 1
        passed = (at - began) // WEEK * WEEK
        if passed >= QUARTER and passed not in seen:
            seen[passed] = held(daemon)
        if at - began >= YEAR:
            break
    before = [one for passed, one in seen.items() if passed < MIDDLE]
    after = [one for passed, one in seen.items() if passed >= MIDDLE]

    assert looks > 60_000
    assert daemon.health_now().status is Status.HEALTHY
    assert {(one.threads, one.files, one.series) for one in after} == {(o.threads, o.files, o.series) for o in before}
    assert max(one.objects for one in after) - max(one.objects for one in before) < 500, seen
