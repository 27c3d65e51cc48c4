"""A thousand requests a second on `/health`, beside the standard library's server and a bare exporter.

Open loop: each request has its time, and its latency counts from then. The daemon looks after Parker Flight's estate
meanwhile, with its canaries of use; the peers answer with a constant and do nothing else.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import http_peers
from benchmarks.aws_servers import let_in, ours
from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.daemon_estate import configuration, provision
from benchmarks.http_load import CONNECTIONS, Answers, ask
from benchmarks.table import Cell, Table
from benchmarks.watchdog import CLOCK, Watchdog, await_ready, cpu_seconds_of, pause, running

RATE = 1000.0
OURS = "kms-watchdog, /health"
GREEN = ("round_trip", "cross_region", "failover_path", "must_fail_core", "must_fail_kms")
"""Canaries that keys alone make green: others want roles, alarms and subscribers, which nobody made here."""
_GREEN_SECONDS = 120.0
PEERS = (
    (http_peers.HTTP_SERVER, "", "http.server, a constant"),
    (http_peers.EXPORTER, "metrics", "prometheus_client, one gauge"),
)
"""Which server, what it is asked for, and what the table calls it."""
_FLOOR = 0.99
BENCHMARK = Benchmark(
    title="A thousand requests a second on `/health`",
    section=Section.DAEMON,
    goals=(f"{RATE:,.0f} requests a second are answered, none with an error, and no look is missed meanwhile",),
    bars=(
        Bars(table=0, labels=(0,), value=3, title="p50 from the request's time, ms", ours="kms-watchdog", log=True),
        Bars(table=0, labels=(0,), value=4, title="p99 from the request's time, ms", ours="kms-watchdog", log=True),
    ),
)


def run(size: Size) -> tuple[Table, ...]:
    """Ask each of them for a while, one after the other."""
    seconds = size.pick(quick=2.0, normal=10.0, full=30.0)
    found: dict[str, Asked] = {}
    with ours() as server, let_in(server.credentials), tempfile.TemporaryDirectory() as folder:
        path = configuration(server, Path(folder), canaries={"kinds": GREEN})
        provision(path)
        with running(path) as watchdog:
            await_ready(watchdog)
            _await_green(watchdog)
            found[OURS] = _ask(f"{watchdog.url}/health", watchdog.process.pid, seconds)
            jobs = watchdog.samples("scheduler_jobs_total")
    late = sum(sample.value for sample in jobs if sample.labels["result"] == "missed")
    for peer, path_, name in PEERS:
        with http_peers.serving(peer) as (url, pid):
            found[name] = _ask(url + path_, pid, seconds)
    return (
        Table(
            title=f"{RATE:,.0f} requests a second for {seconds:g} s",
            columns=(
                "who",
                "answered a second",
                "errors",
                "p50, ms",
                "p99, ms",
                "longest, ms",
                "CPU, ms each",
                "answers",
            ),
            rows=tuple(_row(name, asked) for name, asked in found.items()),
            notes=(
                f"{CONNECTIONS} connections, kept where the server keeps them (prometheus_client's does not).",
                "The load and the local AWS run on the same cores; the daemon's processor time includes its canaries.",
            ),
            missed=tuple(_missed(found[OURS].answers, late)),
        ),
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server answered, and what it took of the processor for each answer."""

    answers: Answers
    cpu_ms: float


def _ask(url: str, pid: int, seconds: float) -> Asked:
    ask(url, rate=RATE / 10, seconds=1.0)
    before = cpu_seconds_of(pid)
    answers = ask(url, rate=RATE, seconds=seconds)
    return Asked(answers, (cpu_seconds_of(pid) - before) / max(1, len(answers.seconds)) * 1000)


def _await_green(watchdog: Watchdog) -> None:
    until = CLOCK.monotonic() + _GREEN_SECONDS
    while CLOCK.monotonic() < until:
        with contextlib.suppress(OSError):  # as 503 and 500 are
            watchdog.get("/health")
            return
        pause(0.1)
    raise RuntimeError("the daemon did not turn green")


def _row(name: str, asked: Asked) -> tuple[Cell, ...]:
    answers = asked.answers
    statuses = ", ".join(f"{count:,} x {status}" for status, count in sorted(answers.statuses.items()))
    return (
        name,
        len(answers.seconds) / answers.took,
        sum(answers.errors.values()),
        answers.percentile_ms(0.5),
        answers.percentile_ms(0.99),
        max(answers.seconds) * 1000,
        asked.cpu_ms,
        statuses,
    )


def _missed(ours_: Answers, late: float) -> Iterator[str]:
    rate = len(ours_.seconds) / ours_.took
    if rate < RATE * _FLOOR:
        yield f"{rate:,.0f} answers a second; the goal is {RATE:,.0f}"
    if wrong := sum(ours_.errors.values()) + sum(n for status, n in ours_.statuses.items() if status != 200):  # noqa: PLR2004 - HTTP's
        yield f"{wrong} requests were not answered with 200; the goal is 0"
    if late:
        yield f"{late:g} looks were missed; the goal is 0"
