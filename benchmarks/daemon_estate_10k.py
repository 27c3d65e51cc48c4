"""Ten thousand targets on one process: 3,334 keys in three regions, a round trip each; what it sustains and why.

A target is a key in a region. The third dimension, accounts, is none of one process's: a daemon watches one account,
and several `[estates]` of a file are a process each. The local AWS is a process of its own on the same cores.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.samples import Sample

from benchmarks import many_keys
from benchmarks.aws_servers import REGIONS, AwsServer, let_in, ours
from benchmarks.benchmark import ONCE, Bars, Benchmark, Section, Size
from benchmarks.daemon_estate import configuration
from benchmarks.lag import percentile
from benchmarks.table import Cell, Table
from benchmarks.watchdog import CLOCK, Watchdog, await_ready, first_result_seconds, pause, running

MEMORY_GOAL_MIB = 400.0
KEYS = 3334
BENCHMARK = Benchmark(
    title="Ten thousand targets on one process",
    section=Section.DAEMON,
    goals=(f"{MEMORY_GOAL_MIB:g} MiB", "every target looked at, and none missed after the first round, every 120 s"),
    runs=ONCE,
    bars=(Bars(table=0, labels=(0,), value=1, title="every 120 s: measured", log=True),),
)
_START_SECONDS = 600.0
_TOGETHER = "[prometheus]\ncounted_by_key = false"
"""Counted by key they would be 574,000 series, which the daemon refuses."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often each target is to be looked at, and for how long that is watched."""

    interval_seconds: float
    watched_seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What a daemon did while it was watched."""

    looks: float
    missed: float
    skipped: float
    seconds: float
    cpu: float
    """Of one core."""
    aws_cpu: float
    lag_seconds: float
    """99 of 100 began no later than this, by the bucket's bound."""


def run(size: Size) -> tuple[Table, ...]:
    """Watch it at a pace that it can hold, and at one that it cannot."""
    keys = size.pick(quick=100, normal=KEYS, full=KEYS)
    held, asked = size.pick(
        quick=(Pace(6.0, 6.0), Pace(0.5, 3.0)),
        normal=(Pace(120.0, 120.0), Pace(30.0, 60.0)),
        full=(Pace(120.0, 240.0), Pace(30.0, 120.0)),
    )
    purposes = tuple(f"k{number}" for number in range(keys))
    with ours() as server, let_in(server.credentials), tempfile.TemporaryDirectory() as folder:
        many_keys.make(server, purposes)
        return (
            _table(server, Path(folder), purposes, held, holds=True),
            _table(server, Path(folder), purposes, asked, holds=False),
        )


def _table(server: AwsServer, folder: Path, purposes: tuple[str, ...], pace: Pace, *, holds: bool) -> Table:
    place = folder / f"every-{pace.interval_seconds:g}"
    place.mkdir()
    canaries = {
        "kinds": ["round_trip"],
        "interval_seconds": pace.interval_seconds,
        "deadline_seconds": min(10.0, pace.interval_seconds / 2),
    }
    path = configuration(server, place, purposes=purposes, canaries=canaries, more=_TOGETHER)
    targets = len(purposes) * len(REGIONS)
    with running(path, start_seconds=_START_SECONDS) as watchdog:
        first = first_result_seconds(watchdog)
        await_ready(watchdog, _START_SECONDS)
        round_seconds = CLOCK.monotonic() - watchdog.began
        seen = _watch(watchdog, server, pace.watched_seconds)
        metrics_ms, lines = _scrape(watchdog)
        health_ms = _health_ms(watchdog)
        resident = watchdog.resources().resident_mib
    rows: list[tuple[Cell, ...]] = [
        ("looks a second that are asked for", targets / pace.interval_seconds, None),
        ("looks a second that were made", seen.looks / seen.seconds, None),
        (
            "looks missed or skipped, share",
            (seen.missed + seen.skipped) / (seen.looks + seen.missed + seen.skipped),
            0.0 if holds else None,
        ),
        ("99 of 100 start within, s", seen.lag_seconds, None),
        ("processor, share of a core", seen.cpu, None),
        ("the same, ms a look", seen.cpu * seen.seconds / seen.looks * 1000, None),
        ("the local AWS, share of a core", seen.aws_cpu, None),
        ("resident, MiB", resident, MEMORY_GOAL_MIB),
        ("start to the first look, s", first, None),
        ("start to the end of the first round, s", round_seconds, None),
        ("/metrics, ms", metrics_ms, None),
        ("/health, ms", health_ms, None),
        ("series", lines, None),
    ]
    return Table(
        title=f"{targets:,} targets, every {pace.interval_seconds:g} s",
        columns=("what", "measured", "goal, at most"),
        rows=tuple(rows),
        notes=(
            f"Watched for {pace.watched_seconds:g} s after the first round; nobody scrapes meanwhile.",
            "Bound by the processor time of the looks: Python runs one thread at a time, so a process has one core.",
            "The start asks every region for every key once, before the first look.",
        ),
        missed=tuple(_missed(rows)),
    )


def _watch(watchdog: Watchdog, server: AwsServer, seconds: float) -> Seen:
    before, lag_before = watchdog.samples("scheduler_jobs_total"), watchdog.samples("scheduler_job_lag_seconds")
    began, cpu, aws_cpu = CLOCK.monotonic(), watchdog.cpu_seconds(), server.cpu_seconds()
    pause(seconds)
    took = CLOCK.monotonic() - began
    cpu, aws_cpu = watchdog.cpu_seconds() - cpu, server.cpu_seconds() - aws_cpu
    after, lag_after = watchdog.samples("scheduler_jobs_total"), watchdog.samples("scheduler_job_lag_seconds")
    grown = {
        result: _jobs(after, result) - _jobs(before, result) for result in ("executed", "missed", "skipped_overlap")
    }
    # What is counted during the two scrapes is divided by the seconds between them, to which the scrapes belong.
    counted = CLOCK.monotonic() - began
    if not grown["executed"]:
        raise RuntimeError("no canary has looked while it was watched")
    return Seen(
        looks=grown["executed"] * took / counted,
        missed=grown["missed"] * took / counted,
        skipped=grown["skipped_overlap"] * took / counted,
        seconds=took,
        cpu=cpu / took,
        aws_cpu=aws_cpu / took,
        lag_seconds=percentile(lag_before, lag_after, 0.99),
    )


def _jobs(samples: Iterable[Sample], result: str) -> float:
    return sum(s.value for s in samples if s.labels["job"].startswith("canary.") and s.labels["result"] == result)


def _scrape(watchdog: Watchdog) -> tuple[float, int]:
    began = CLOCK.monotonic()
    body = watchdog.get("/metrics")
    milliseconds = (CLOCK.monotonic() - began) * 1000
    return milliseconds, sum(1 for line in body.splitlines() if not line.startswith(b"#"))


def _health_ms(watchdog: Watchdog) -> float:
    """Return how long an answer takes, whatever it says: at a pace that is not held it is 500."""
    began = CLOCK.monotonic()
    with contextlib.suppress(OSError):
        watchdog.get("/health")
    return (CLOCK.monotonic() - began) * 1000


def _missed(rows: Iterable[tuple[Cell, ...]]) -> Iterable[str]:
    for what, measured, goal in rows:
        if isinstance(measured, float | int) and isinstance(goal, float) and measured > goal:
            yield f"{what}: {measured:.3g}; the goal is {goal:g}"
