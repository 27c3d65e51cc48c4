"""The whole daemon as a process: how soon it knows something, what it takes when nothing is wrong, how many it can do.

Parker Flight's estate (3 regions, 3 keys) with the default configuration, and round trips alone under 334 keys: that is
1,002 canaries every 30 s. The local AWS is a process of its own on the same machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client.samples import Sample

from benchmarks.aws_servers import AwsServer, let_in, ours
from benchmarks.daemon_estate import configuration, provision
from benchmarks.table import Cell, Table
from benchmarks.watchdog import CLOCK, Watchdog, await_ready, pause, running

FIRST_RESULT_GOAL_SECONDS = 3.0
IDLE_CPU_GOAL = 0.03
"""Of one core."""
IDLE_MEMORY_GOAL_MIB = 120.0
METRICS_GOAL_MS = 50.0
LATE_GOAL_SECONDS = 1.0
"""99 of 100 canaries start no later than this after they are due."""
MANY_PURPOSES = tuple(f"k{number}" for number in range(334))
SCRAPES = 20


def run(*, full: bool = False) -> tuple[Table, ...]:
    """Measure an ordinary estate, then a thousand canaries."""
    with ours() as server, let_in(server.credentials), tempfile.TemporaryDirectory() as folder:
        return (_ordinary(server, Path(folder), full=full), _many(server, Path(folder), full=full))


def _ordinary(server: AwsServer, folder: Path, *, full: bool) -> Table:
    seconds = 300 if full else 30
    place = _place(folder, "ordinary")
    path = configuration(server, place)
    provision(path)
    with running(path) as watchdog:
        first = _first_result_seconds(watchdog)
        await_ready(watchdog)
        pause(30 if full else 10)  # the first round is dearer: connections, caches
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


def _many(server: AwsServer, folder: Path, *, full: bool) -> Table:
    seconds = 180 if full else 60
    place = _place(folder, "many")
    path = configuration(server, place, purposes=MANY_PURPOSES, canaries={"kinds": ["round_trip"]})
    provision(path)
    with running(path) as watchdog:
        await_ready(watchdog)
        pause(30)
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
        ("99 of 100 start within, s", _percentile(before, quiet, 0.99), LATE_GOAL_SECONDS),
        ("the same, scraped every second, s", _percentile(scraped_from, scraped, 0.99), LATE_GOAL_SECONDS),
        ("looks", _count(before, quiet), None),
        ("processor, share of a core", cpu, None),
        ("resident, MiB", held.resident_mib, None),
        ("/metrics, ms, median", metrics_ms, None),
    ]
    return Table(
        title=f"{3 * len(MANY_PURPOSES):,} round-trip canaries, every 30 s",
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


def _first_result_seconds(watchdog: Watchdog) -> float:
    while watchdog.runs() == 0:
        pause(0.02)
    return CLOCK.monotonic() - watchdog.began


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


def _canaries(samples: Iterable[Sample]) -> dict[float, float]:
    """Return the counts by upper bound of the histogram of all canary jobs together."""
    counts: dict[float, float] = {}
    for sample in samples:
        if sample.name.endswith("_bucket") and sample.labels["job"].startswith("canary."):
            bound = float(sample.labels["le"])
            counts[bound] = counts.get(bound, 0.0) + sample.value
    return counts


def _percentile(before: Sequence[Sample], after: Sequence[Sample], share: float) -> float:
    """Return the upper bound of the bucket in which that share of what came between the two samples lies.

    Raises:
        RuntimeError: nothing came: who did not look was not in time.
    """
    old, new = _canaries(before), _canaries(after)
    grown = {bound: count - old.get(bound, 0.0) for bound, count in new.items()}
    total = grown[max(grown)]
    if total == 0:
        raise RuntimeError("no canary has looked between the two samples")
    return min(bound for bound, count in grown.items() if count >= share * total)


def _count(before: Sequence[Sample], after: Sequence[Sample]) -> int:
    old, new = _canaries(before), _canaries(after)
    return int(max(new.values()) - max(old.values()))


def _missed(rows: Iterable[tuple[Cell, ...]]) -> Iterable[str]:
    for what, measured, goal in rows:
        if isinstance(measured, float) and isinstance(goal, float) and measured > goal:
            yield f"{what}: {measured:.3g}; the goal is {goal:g}"
