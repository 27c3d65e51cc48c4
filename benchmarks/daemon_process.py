"""The whole daemon as a process: how soon it knows something, what it takes when nothing is wrong, how many it can do.

Parker Flight's estate (3 regions, 3 keys) with the default configuration, and round trips alone under 334 keys: that is
1,002 canaries every 30 s. The local AWS is a process of its own on the same machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks import many_keys
from benchmarks.aws_servers import AwsServer, let_in, ours
from benchmarks.benchmark import ONCE, Bars, Benchmark, Section, Size
from benchmarks.daemon_estate import configuration, provision
from benchmarks.lag import count, percentile
from benchmarks.table import Cell, Table
from benchmarks.watchdog import CLOCK, Watchdog, await_ready, first_result_seconds, pause, running

FIRST_RESULT_GOAL_SECONDS = 3.0
IDLE_CPU_GOAL = 0.03
"""Of one core."""
IDLE_MEMORY_GOAL_MIB = 120.0
METRICS_GOAL_MS = 50.0
LATE_GOAL_SECONDS = 1.0
"""99 of 100 canaries start no later than this after they are due."""
MANY_PURPOSES = tuple(f"k{number}" for number in range(334))
SCRAPES = 20


BENCHMARK = Benchmark(
    title="The whole daemon as a process",
    section=Section.DAEMON,
    goals=(
        f"first result {FIRST_RESULT_GOAL_SECONDS:g} s after the start",
        f"{IDLE_CPU_GOAL} of a core and {IDLE_MEMORY_GOAL_MIB:g} MiB with Parker Flight's estate and nothing wrong",
        f"`/metrics` in {METRICS_GOAL_MS:g} ms",
        f"of a thousand canaries 99 of 100 start within {LATE_GOAL_SECONDS:g} s of their time",
    ),
    runs=ONCE,
    bars=(Bars(table=0, labels=(0,), value=1, title="measured", log=True),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure an ordinary estate, then a thousand canaries."""
    with ours() as server, let_in(server.credentials), tempfile.TemporaryDirectory() as folder:
        return (_ordinary(server, Path(folder), size), _many(server, Path(folder), size))


def _ordinary(server: AwsServer, folder: Path, size: Size) -> Table:
    seconds = size.pick(quick=5, normal=30, full=300)
    place = _place(folder, "ordinary")
    path = configuration(server, place)
    provision(path)
    with running(path) as watchdog:
        first = first_result_seconds(watchdog)
        await_ready(watchdog)
        pause(size.pick(quick=2, normal=10, full=30))  # the first round is dearer: connections, caches
        cpu = _cpu_share(watchdog, seconds)
        held = watchdog.resources()
        metrics_ms = _scrape_ms(watchdog)
    rows: list[tuple[Cell, ...]] = [
        ("start to first result, s", first, FIRST_RESULT_GOAL_SECONDS),
        ("processor, share of a core", cpu, IDLE_CPU_GOAL),
        ("resident, MiB", held.resident_mib, IDLE_MEMORY_GOAL_MIB),
        ("/metrics, ms, median", metrics_ms, METRICS_GOAL_MS),
        ("threads", held.threads, None),
        ("files", held.files, None),
    ]
    return Table(
        title="Three regions, three keys, all canaries, every 30 s",
        columns=("what", "measured", "goal, at most"),
        rows=tuple(rows),
        notes=(f"processor time over {seconds} s after the first round; nothing is wrong, nobody looks at the page",),
        missed=tuple(_missed(rows)),
    )


def _many(server: AwsServer, folder: Path, size: Size) -> Table:
    seconds = size.pick(quick=4, normal=60, full=180)
    purposes = size.pick(quick=MANY_PURPOSES[:34], normal=MANY_PURPOSES, full=MANY_PURPOSES)
    interval = size.pick(quick=3.0, normal=30.0, full=30.0)
    place = _place(folder, "many")
    path = configuration(
        server,
        place,
        purposes=purposes,
        canaries={"kinds": ["round_trip"], "interval_seconds": interval, "deadline_seconds": interval / 3},
    )
    many_keys.make(server, purposes)
    with running(path) as watchdog:
        await_ready(watchdog)
        pause(interval)
        before, cpu_before, began = (
            watchdog.samples("scheduler_job_lag_seconds"),
            watchdog.cpu_seconds(),
            CLOCK.monotonic(),
        )
        pause(seconds)
        quiet = watchdog.samples("scheduler_job_lag_seconds")
        cpu = (watchdog.cpu_seconds() - cpu_before) / (CLOCK.monotonic() - began)
        metrics_ms = _scrape_ms(watchdog)
        scraped_from = watchdog.samples("scheduler_job_lag_seconds")
        until = CLOCK.monotonic() + seconds / 2
        while CLOCK.monotonic() < until:
            watchdog.get("/metrics")
            pause(1.0)
        scraped = watchdog.samples("scheduler_job_lag_seconds")
        held = watchdog.resources()
    rows: list[tuple[Cell, ...]] = [
        ("99 of 100 start within, s", percentile(before, quiet, 0.99), LATE_GOAL_SECONDS),
        ("the same, scraped every second, s", percentile(scraped_from, scraped, 0.99), LATE_GOAL_SECONDS),
        ("looks", count(before, quiet), None),
        ("processor, share of a core", cpu, None),
        ("resident, MiB", held.resident_mib, None),
        ("/metrics, ms, median", metrics_ms, None),
    ]
    return Table(
        title=f"{3 * len(purposes):,} round-trip canaries, every {interval:g} s",
        columns=("what", "measured", "goal, at most"),
        rows=tuple(rows),
        notes=(
            f"{seconds} s without a scrape, then {seconds // 2} s with one a second; lateness by the bucket's bound",
        ),
        missed=tuple(_missed(rows)),
    )


def _place(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    return place


def _cpu_share(watchdog: Watchdog, seconds: float) -> float:
    before, began = watchdog.cpu_seconds(), CLOCK.monotonic()
    pause(seconds)
    return (watchdog.cpu_seconds() - before) / (CLOCK.monotonic() - began)


def _scrape_ms(watchdog: Watchdog) -> float:
    found = []
    for _ in range(SCRAPES):
        began = CLOCK.monotonic()
        watchdog.get("/metrics")
        found.append(CLOCK.monotonic() - began)
    return sorted(found)[SCRAPES // 2] * 1000


def _missed(rows: Iterable[tuple[Cell, ...]]) -> Iterable[str]:
    for what, measured, goal in rows:
        if isinstance(measured, float) and isinstance(goal, float) and measured > goal:
            yield f"{what}: {measured:.3g}; the goal is {goal:g}"
