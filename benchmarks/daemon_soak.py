"""Does anything grow: the daemon at forty times its pace, ten minutes for nearly seven hours (`--full`).

All canaries of Parker Flight's estate, a scrape and a status page every two seconds, on a local AWS in another process.
What counts is growth after the warm-up, not size: memory per thousand looks, and threads and files at all.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from benchmarks.aws_servers import let_in, ours
from benchmarks.benchmark import ONCE, Bars, Benchmark, Section, Size
from benchmarks.daemon_estate import configuration, provision
from benchmarks.table import Cell, Table
from benchmarks.watchdog import CLOCK, Resources, Watchdog, await_ready, pause, running

PACE = 40
INTERVAL_SECONDS = 30 / PACE
MEMORY_GOAL_MIB = 0.05
"""Growth per thousand looks, at most; a request id as a label would be 2 (scale.md §6.1)."""
OPEN_GOAL = 2
"""Threads or files more in the second half than in the first, at most: a late pooled connection is no leak."""
WARM_UP = 3 / 8
"""The share of the time in which pools, caches and rings fill."""
_EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at the process."""

    runs: float
    held: Resources


BENCHMARK = Benchmark(
    title="Does anything grow",
    section=Section.DAEMON,
    goals=(
        f"at most {MEMORY_GOAL_MIB} MiB for 1,000 looks after the warm-up",
        f"at most {OPEN_GOAL} threads and files more in the second half",
    ),
    least=Size.NORMAL,
    runs=ONCE,
    bars=(Bars(table=0, labels=(0,), value=1, title="measured", log=True),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Run it and watch it grow, or not."""
    seconds = size.pick(quick=10, normal=60, full=600)
    with ours() as server, let_in(server.credentials), tempfile.TemporaryDirectory() as folder:
        canaries = {"interval_seconds": INTERVAL_SECONDS, "deadline_seconds": INTERVAL_SECONDS * 0.9}
        path = configuration(server, Path(folder), canaries=canaries, more="[cloudwatch]\nperiod_seconds = 10")
        provision(path)
        with running(path) as watchdog:
            await_ready(watchdog)
            sights = _watch(watchdog, seconds)
    settled = sights[int(len(sights) * WARM_UP) :]
    looks = settled[-1].runs - settled[0].runs
    slope, _ = linear_regression([s.runs / 1000 for s in settled], [s.held.resident_mib for s in settled])
    rows: list[tuple[Cell, ...]] = [
        ("looks after the warm-up", looks, None),
        ("looks a second", looks / (seconds * (1 - WARM_UP)), None),
        ("resident, MiB, at the end", settled[-1].held.resident_mib, None),
        ("memory, MiB per 1,000 looks", slope, MEMORY_GOAL_MIB),
        ("threads more", _more([s.held.threads for s in settled]), OPEN_GOAL),
        ("files more", _more([s.held.files for s in settled]), OPEN_GOAL),
    ]
    return (
        Table(
            title=f"{seconds} s at {PACE} times the pace",
            columns=("what", "measured", "goal, at most"),
            rows=tuple(rows),
            notes=(
                "memory: slope of a straight line; threads and files: most of the last half less most of the first",
            ),
            missed=tuple(
                f"{what}: {measured:.3g}; the goal is {goal:g}"
                for what, measured, goal in rows
                if isinstance(measured, float | int) and isinstance(goal, float | int) and measured > goal
            ),
        ),
    )


def _watch(watchdog: Watchdog, seconds: float) -> list[Sight]:
    """Return what the process held every two seconds."""
    sights, until = [], CLOCK.monotonic() + seconds
    while CLOCK.monotonic() < until:
        watchdog.get("/")
        sights.append(Sight(watchdog.runs(), watchdog.resources()))
        pause(_EVERY_SECONDS)
    return sights


def _more(counts: list[int]) -> int:
    half = len(counts) // 2
    return max(counts[half:]) - max(counts[:half])
