"""How soon a daemon looks again after a restart: without a history, and with one of a gibibyte.

From the start of the process to the first counted look of a canary, asked for over HTTP every 20 ms.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import big_history
from benchmarks.aws_servers import AwsServer, let_in, ours
from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.daemon_estate import configuration, provision
from benchmarks.table import Table
from benchmarks.watchdog import first_result_seconds, running

GOAL_SECONDS = 3.0
_MIB = 2**20
BENCHMARK = Benchmark(
    title="Restart to the first look",
    section=Section.DAEMON,
    goals=(f"{GOAL_SECONDS:g} s, also with a history of 1 GiB",),
    bars=(Bars(table=0, labels=(0,), value=1, title="seconds to the first look"),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Start it with each history."""
    mebibytes = size.pick(quick=64, normal=1024, full=1024)
    with ours() as server, let_in(server.credentials), tempfile.TemporaryDirectory() as folder:
        rows = [_row(server, Path(folder), held, provide=not at) for at, held in enumerate((0, mebibytes))]
    missed = [f"{row[0]}: {row[1]:.1f} s; the goal is {GOAL_SECONDS:g} s" for row in rows if row[1] > GOAL_SECONDS]
    return (
        Table(
            title="From the start of the process",
            columns=("history", "first look after, s", "resident then, MiB"),
            rows=tuple(rows),
            notes=(
                "A file larger than 32 MiB is looked through for damage 10 s after the start, beside the looks.",
                "The file is in the machine's cache; after a cold boot the disk's time adds to it.",
            ),
            missed=tuple(missed),
        ),
    )


def _row(server: AwsServer, folder: Path, mebibytes: int, *, provide: bool) -> tuple[str, float, float]:
    place = folder / f"history-{mebibytes}"
    (place / "state").mkdir(parents=True)
    path = configuration(server, place)
    if provide:
        provision(path)
    if mebibytes:
        big_history.make(place / "state" / "history.db", mebibytes * _MIB)
    with running(path) as watchdog:
        first = first_result_seconds(watchdog)
        held = watchdog.resources().resident_mib
    return (f"{mebibytes:,} MiB" if mebibytes else "none", first, held)
