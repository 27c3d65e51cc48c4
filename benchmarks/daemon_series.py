"""A hundred thousand series: refused before there is one, and what they would have cost.

What a configuration would make is counted and either refused or made in a process of its own, whose memory and
rendering are looked at; beside it a bare registry of as many gauges as are refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from benchmarks.benchmark import ONCE, Bars, Benchmark, Section, Size
from benchmarks.table import Cell, Table
from kms_core.clock import SystemClock
from kms_watchdog import config
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.config import Prometheus
from kms_watchdog.installed_series import series_of
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.series import samples

LIMIT = int(Prometheus.model_fields["max_series"].default)
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
_BARE = "bare"
_KIBIBYTE = 1024
_CLOCK = SystemClock()
BENCHMARK = Benchmark(
    title="A hundred thousand series",
    section=Section.DAEMON,
    goals=(f"a configuration of more than {LIMIT:,} series is refused by `check-config`, `run` and a reload",),
    runs=ONCE,
    bars=(
        Bars(table=0, labels=(0,), value=3, title="rendering, ms", ours="targets", log=True),
        Bars(table=0, labels=(0,), value=4, title="memory, MiB", ours="targets"),
    ),
)


def run(size: Size) -> tuple[Table, ...]:
    """Try estates of round-trip canaries, each counted by key and together."""
    cases = [(3, True), (334, True), (700, True), (3334, True), (3334, False)]
    rows: list[tuple[Cell, ...]] = []
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for keys, by_key in size.pick(quick=cases[1:3], normal=cases, full=cases):
            path = _configuration(Path(folder) / f"{keys}-{by_key}", keys, by_key=by_key)
            code, said = _checked(path)
            counted = "by key" if by_key else "together"
            what = f"{keys * len(REGIONS):,} targets, counted {counted}"
            if code:
                rows.append((what, _number(said), "refused", None, None))
                continue
            made = _made(str(path))
            rows.append((what, int(made["series"]), "served", made["ms"], made["mib"]))
            if made["series"] > LIMIT:
                missed.append(f"{what}: {made['series']:,.0f} series were served; the most is {LIMIT:,}")
    bare = _made(_BARE)
    rows.append((f"bare prometheus_client, {LIMIT:,} gauges", int(bare["series"]), "", bare["ms"], bare["mib"]))
    return (
        Table(
            title="Estates of round-trip canaries in three regions",
            columns=("what", "series", "outcome", "rendering, ms", "memory of the series, MiB"),
            rows=tuple(rows),
            notes=(
                "By key, a target has 56 series: 4 gauges, a histogram of 17 and 7 results, live and of drills.",
                "Counted together (`counted_by_key = false`) it has its gauges, and each region the rest once.",
            ),
            missed=tuple(missed),
        ),
    )


def _configuration(folder: Path, keys: int, *, by_key: bool) -> Path:
    folder.mkdir()
    lines = ["[estate]", 'account_id = "123456789012"', f'primary_region = "{REGIONS[0]}"']
    lines += [f"regions = {json.dumps(REGIONS)}", "[canaries]", 'kinds = ["round_trip"]', "[state]", 'dir = "state"']
    lines += ["[prometheus]", f"counted_by_key = {json.dumps(by_key)}"]
    for number in range(keys):
        lines += [f"[keys.k{number}]", f'alias = "alias/k{number}"']
    path = folder / "watchdog.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _checked(path: Path) -> tuple[int, str]:
    """Return what `check-config` answers."""
    command = [sys.executable, "-m", "kms_watchdog", "check-config", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - our own
    return done.returncode, done.stderr


def _number(said: str) -> int:
    """Return how many series the refusal speaks of.

    Raises:
        RuntimeError: it was refused for something else.
    """
    words = said.partition("would make ")[2].split()
    if not words:
        raise RuntimeError(said)
    return int(words[0].replace(",", ""))


def _made(what: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.daemon_series", what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)  # noqa: S603 - this module
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(what: str) -> dict[str, float]:
    """Make the series of a configuration, or bare gauges, in this process, and return what they take."""
    if what == _BARE:
        before = _resident_mib()
        registry = CollectorRegistry()
        gauge = Gauge("canary_up", "As many as are refused.", ("region", "key"), registry=registry)
        for number in range(LIMIT):
            gauge.labels("us-east-1", f"k{number}")
        held = _resident_mib() - before
        began = _CLOCK.monotonic()
        generate_latest(registry)
        return {"series": LIMIT, "mib": held, "ms": (_CLOCK.monotonic() - began) * 1000}
    settings = config.load(Path(what))
    series = series_of(settings, live_canaries(Ports(settings, _CLOCK)))
    before, exposition = _resident_mib(), Exposition()
    exposition.create(series)
    held = _resident_mib() - before
    began = _CLOCK.monotonic()
    exposition.render("")
    return {"series": samples(series), "mib": held, "ms": (_CLOCK.monotonic() - began) * 1000}


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / _KIBIBYTE


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1])))
