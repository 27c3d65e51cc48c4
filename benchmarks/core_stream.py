"""A long stream in little memory: sealed and opened in a process of its own, whose greatest size is looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.estate import CONTEXT, PURPOSE, core
from benchmarks.table import Table
from kms_core.clock import SystemClock

_GOAL_MIB = 64
_MIB = 2**20


class Zeros:
    """A source of `size` zero bytes."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        given = min(size, self._left)
        self._left -= given
        return bytes(given)


class Count:
    """A sink that keeps nothing."""

    length = 0

    def write(self, piece: bytes | memoryview, /) -> None:
        """Count `piece`."""
        self.length += len(piece)


BENCHMARK = Benchmark(
    title="A long stream in little memory",
    section=Section.CORE,
    goals=(f"less than {_GOAL_MIB} MiB of additional memory for 1 GiB",),
    bars=(Bars(table=0, labels=(0,), value=1, title="additional memory, MiB, by the stream's MiB"),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure 32 MiB, 128 MiB or 1 GiB."""
    length = size.pick(quick=2**25, normal=2**27, full=2**30)
    root = Path(__file__).parents[1]
    ended = subprocess.run(  # noqa: S603 - this very module
        [sys.executable, "-m", "benchmarks.core_stream", str(length)],
        capture_output=True,
        check=True,
        cwd=root,
        timeout=900,
    )
    found = json.loads(ended.stdout)
    added = found["added_mib"]
    return (
        Table(
            title="A stream through encrypt_stream into decrypt_stream",
            columns=("stream, MiB", "additional memory, MiB", "seconds", "MiB/s"),
            rows=((length // _MIB, added, found["seconds"], length / _MIB / found["seconds"]),),
            notes=("Frames of 64 KiB, both directions at the same time, through a pipe; greatest resident size.",),
            missed=() if added < _GOAL_MIB else (f"{added:.0f} MiB; the goal is less than {_GOAL_MIB}",),
        ),
    )


def peak_kib() -> int:
    """Return the greatest resident size of this process so far; getrusage would tell its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


def measure(size: int) -> dict[str, float]:
    """Return what a stream of `size` bytes took, in this process."""
    clock, opened = SystemClock(), Count()
    with core() as ours:
        ours.encrypt(b"x", purpose=PURPOSE, context=CONTEXT)
        before, started_at = peak_kib(), clock.monotonic()
        read_end, write_end = os.pipe()

        def seal() -> None:
            with open(write_end, "wb") as sink:  # noqa: PTH123 - a descriptor, not a path
                ours.encrypt_stream(Zeros(size), sink, purpose=PURPOSE, context=CONTEXT)

        sealing = threading.Thread(target=seal)
        sealing.start()
        with open(read_end, "rb") as source:  # noqa: PTH123 - as above
            ours.decrypt_stream(source, opened, purpose=PURPOSE, context=CONTEXT)
        sealing.join()
    if opened.length != size:
        raise ValueError(f"{opened.length} bytes came out of {size}")
    after = peak_kib()
    return {"added_mib": (after - before) / 1024, "seconds": clock.monotonic() - started_at}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]))))
