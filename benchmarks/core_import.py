"""What importing the core costs, beside boto3 alone and beside the AWS Encryption SDK."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.table import Cell, Table

_CASES = {
    "nothing": "pass",
    "boto3": "import boto3",
    "boto3 and pyca": "import boto3, cryptography.hazmat.primitives.ciphers.aead",
    "kms_core": "import kms_core, kms_core._kms_boto3",
    "aws_encryption_sdk": "import aws_encryption_sdk",
}
_PROBE = """
import time
started = time.perf_counter()
{code}
seconds = time.perf_counter() - started
print(seconds, open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


BENCHMARK = Benchmark(
    title="Import",
    section=Section.CORE,
    bars=(
        Bars(table=0, labels=(0,), value=1, title="import, ms", ours="kms_core"),
        Bars(table=0, labels=(0,), value=4, title="resident, MiB", ours="kms_core"),
    ),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure each in processes of its own."""
    rounds = size.pick(quick=1, normal=5, full=15)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _CASES}
    with tempfile.TemporaryDirectory() as compiled:
        for turn in range(rounds + 1):
            for name, code in _CASES.items():
                probed = _probe(code, compiled)
                found[name] += [probed] if turn else []  # the first turn compiles
    rows: list[tuple[Cell, ...]] = []
    base = statistics.median(seconds for seconds, _ in found["boto3"])
    for name, each in found.items():
        seconds, mib = (statistics.median(pair[at] for pair in each) for at in (0, 1))
        rows.append((name, seconds * 1000, min(seconds for seconds, _ in each) * 1000, seconds / base, mib))
    return (
        Table(
            title="Import",
            columns=("what", "ms, median", "ms, least", "to boto3", "resident, MiB"),
            rows=tuple(rows),
            notes=(f"{rounds} processes each, in turns; resident size is the greatest of the process.",),
        ),
    )


def _probe(code: str, compiled: str) -> tuple[float, float]:
    """Return seconds and MiB of a fresh process; compiled code is kept in the folder `compiled`."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = compiled
    ended = subprocess.run(  # noqa: S603 - the code above
        [sys.executable, "-c", _PROBE.format(code=code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment,
    )
    seconds, kib = ended.stdout.split()
    return float(seconds), int(kib) / 1024
