"""Run the benchmarks beside their peers, print their tables, and add them to a history.

`python -m benchmarks [NAME …]` measures, all when none is named; `python -m benchmarks readme` makes README.md and its
pictures of the committed history. Exit code 1 when a goal was missed and `--strict` was given, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import history, readme
from benchmarks.benchmark import Benchmark, Size
from benchmarks.history import Entry
from benchmarks.machine import machine, watched_load
from benchmarks.summary import Summary, summarise
from benchmarks.table import Table
from kms_core.clock import SystemClock

NAMES = (
    "core_speed",
    "core_threads",
    "core_kms_calls",
    "core_stream",
    "core_import",
    "core_failover",
    "daemon_canary",
    "daemon_process",
    "daemon_metrics",
    "daemon_health",
    "daemon_series",
    "daemon_restart",
    "daemon_estate_10k",
    "daemon_soak",
    "drill_undo",
    "lease_cost",
    "local_aws_speed",
    "toxiproxy_speed",
)
"""Modules of this package, each with a `BENCHMARK` and `run(size) -> tuple[Table, ...]`, in the order of the page."""

README = "readme"
RESULTS = Path(__file__).parent / "results"
"""Where measurements go that are not recorded: nobody's but this machine's."""
_CLOCK = SystemClock()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what `arguments` name, or make the page."""
    asked = _parser().parse_args(arguments)
    if asked.names == [README]:
        readme.write(readme.FOLDER, page(asked.history or history.COMMITTED))
        return 0
    folder = asked.history or (history.COMMITTED if asked.record else RESULTS)
    began, missed = _CLOCK.monotonic(), False
    for name in asked.names or [name for name in NAMES if takes_part(declared(name), asked.size)]:
        entry = measured(name, asked.size, asked.runs)
        for summary in entry.tables:
            _say(_as_text(summary))
        _say(f"{name}: {entry.runs} x {asked.size} in {entry.seconds:.1f} s, load {entry.load['before']:g} before\n")
        history.append(folder, entry)
        missed = missed or bool(entry.missed)
    _say(f"{_CLOCK.monotonic() - began:.0f} s in all")
    return int(missed and asked.strict)


def declared(name: str) -> Benchmark:
    """Return what the module `name` declares."""
    found = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    if not isinstance(found, Benchmark):
        raise TypeError(f"{name}.BENCHMARK is no Benchmark")
    return found


def takes_part(benchmark: Benchmark, size: Size) -> bool:
    """Return whether it is measured in this size without being named."""
    order = list(Size)
    return order.index(benchmark.least) <= order.index(size)


def measured(name: str, size: Size, runs: int | None = None) -> Entry:
    """Measure one benchmark, as often as it declares or `runs` times."""
    benchmark = declared(name)
    run: Callable[[Size], tuple[Table, ...]] = importlib.import_module(f"benchmarks.{name}").run
    times = runs or benchmark.runs[size]
    at_utc, began = _CLOCK.now_utc(), _CLOCK.monotonic()
    with watched_load() as load:
        tables = summarise([run(size) for _ in range(times)])
    return Entry(
        benchmark=name,
        size=size,
        at_utc=f"{at_utc:%Y-%m-%dT%H:%M:%SZ}",
        commit=_commit(),
        seconds=_CLOCK.monotonic() - began,
        runs=times,
        machine=machine(),
        load=load.as_json(),
        tables=tables,
    )


def page(folder: Path) -> dict[str, str]:
    """Return README.md and its pictures, by path, of the history in `folder`."""
    return readme.files({name: declared(name) for name in NAMES}, {name: history.read(folder, name) for name in NAMES})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*NAMES, README]
    parser.add_argument("names", nargs="*", choices=[*known, []], metavar="NAME", help=", ".join(known))
    size = parser.add_mutually_exclusive_group()
    for each, what in (
        (Size.QUICK, "all of them, reduced, in three minutes"),
        (Size.FULL, "the sizes that the goals are stated for, three times where minutes allow: over an hour"),
    ):
        size.add_argument(f"--{each}", dest="size", action="store_const", const=each, help=what)
    parser.add_argument("--runs", type=int, metavar="N", help="measure each so often (default: as it declares)")
    parser.add_argument("--strict", action="store_true", help="end with 1 when a goal was missed")
    parser.add_argument("--record", action="store_true", help="add to the committed history, which the page is made of")
    parser.add_argument("--history", type=Path, metavar="FOLDER", help="another folder for the history")
    parser.set_defaults(size=Size.NORMAL)
    return parser


def _as_text(summary: Summary) -> str:
    table = summary.table
    lines = [f"## {table.title}", "", summary.as_text()]
    lines += ["", *(f"* {note}" for note in table.notes)] if table.notes else []
    lines += ["", *(f"* MISSED: {goal}" for goal in table.missed)] if table.missed else []
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _commit() -> str:
    """Return the commit that is measured, with `+` when files differ from it; `unknown` outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - arguments of our own
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!history", ":!README.md", ":!plots")
    except OSError:
        return "unknown"
    return commit + ("+" if changed else "") if commit else "unknown"


if __name__ == "__main__":
    sys.exit(main())
