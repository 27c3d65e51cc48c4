"""Rendering `/metrics` beside prometheus_client alone: the same series in a bare registry."""

from __future__ import annotations

import statistics
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.table import Cell, Table
from kms_core.clock import SystemClock
from kms_watchdog import metrics
from kms_watchdog.health import Subject
from kms_watchdog.results import Kind
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.series import Cardinality, Series, all_series

GOAL = 1.2
"""Our rendering's time, to that of `generate_latest` on a bare registry, at most."""
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
_CLOCK = SystemClock()


BENCHMARK = Benchmark(
    title="Rendering `/metrics`",
    section=Section.DAEMON,
    goals=(f"at most {GOAL} times `generate_latest` on a bare registry of the same series",),
    bars=(Bars(table=0, labels=(0,), value=2, title="rendering, ms, by round-trip canaries", log=True),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure 9 canaries and 1,002 (300 in the quick size), in turns."""
    rounds = size.pick(quick=2, normal=8, full=30)
    rows = [_row(purposes, rounds) for purposes in size.pick(quick=(3, 100), normal=(3, 334), full=(3, 334))]
    missed = [f"{row[0]}: {row[4]:.2f} times the bare registry; the goal is {GOAL}" for row in rows if row[4] > GOAL]
    return (
        Table(
            title="Rendering /metrics",
            columns=("round-trip canaries", "lines", "ms, ours", "ms, bare registry", "to the bare registry"),
            rows=tuple(rows),
            notes=(f"median of {rounds} each, in turns; text format, without HTTP",),
            missed=tuple(missed),
        ),
    )


def _row(purposes: int, rounds: int) -> Any:
    series = list(all_series(_installation(purposes)))
    ours = Exposition()
    ours.create(series)
    bare = _bare(series)
    found: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        began = _CLOCK.monotonic()
        body, _ = ours.render("")
        between = _CLOCK.monotonic()
        generate_latest(bare)
        found.append((between - began, _CLOCK.monotonic() - between))
    ours_ms, bare_ms = (statistics.median(pair[at] for pair in found[1:]) * 1000 for at in (0, 1))
    cells: tuple[Cell, ...] = (purposes * len(REGIONS), body.count(b"\n"), ours_ms, bare_ms, ours_ms / bare_ms)
    return cells


def _installation(purposes: int) -> Cardinality:
    names = [f"k{number}" for number in range(purposes)]
    subjects = [Subject(Kind.ROUND_TRIP, region, name) for region in REGIONS for name in names]
    return Cardinality(
        subjects=subjects, regions=REGIONS, publish_regions=REGIONS[:2], job_kinds=[f"canary.{Kind.ROUND_TRIP}"]
    )


def _bare(series: list[Series]) -> CollectorRegistry:
    registry = CollectorRegistry()
    made: dict[str, Any] = {}
    for metric in metrics.PROMETHEUS:
        kind = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}[metric.kind]
        more = {"buckets": metric.buckets} if metric.kind == "histogram" else {}
        made[metric.name] = kind(metric.full_name, metric.help, metric.labels, registry=registry, **more)
    for metric, labels in series:
        if labels:
            made[metric.name].labels(*labels)
    return registry
