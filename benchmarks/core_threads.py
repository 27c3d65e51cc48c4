"""Many threads over one core: one request on a cold cache, and what the machine gives when it is warm."""

from __future__ import annotations

import threading
from collections.abc import Callable

from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.estate import CONTEXT, PURPOSE, core, estate
from benchmarks.table import Cell, Table
from kms_core import Core
from kms_core.clock import SystemClock
from kms_core.kms import GENERATE_DATA_KEY

_CLOCK = SystemClock()
_SIZES = {"100 B": 100, "4 KiB": 4096, "1 MiB": 2**20}
_COLD_THREADS = 20


BENCHMARK = Benchmark(
    title="Many threads",
    section=Section.CORE,
    goals=("20 threads on a cold cache make one request to KMS",),
    bars=(Bars(table=1, labels=(0,), value=1, title="round trips a second with one thread", log=True),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure both."""
    return cold(), warm(seconds=size.pick(quick=0.1, normal=0.3, full=1.0))


def cold(threads: int = _COLD_THREADS) -> Table:
    """Let `threads` seal at the same instant on a cold cache, and count what KMS was asked."""
    made = estate()
    with core(made) as ours:
        in_threads(threads, lambda: ours.encrypt(b"x", purpose=PURPOSE, context=CONTEXT))
    asked = len(made.asked(GENERATE_DATA_KEY))
    return Table(
        title=f"{threads} threads on a cold cache",
        columns=("threads", "messages", "GenerateDataKey calls"),
        rows=((threads, threads, asked),),
        missed=() if asked == 1 else (f"{asked} GenerateDataKey calls; the goal is 1",),
    )


def warm(*, seconds: float) -> Table:
    """Count the round trips of 1, 2, 4 and 8 threads in `seconds`."""
    rows: list[tuple[Cell, ...]] = []
    with core() as ours:
        for label, size in _SIZES.items():
            rates = [throughput(ours, size, threads, seconds) for threads in (1, 2, 4, 8)]
            rows.append((label, *(int(rate) for rate in rates), rates[-1] * size / 2**20))
    return Table(
        title="Throughput with cached data keys",
        columns=("size", "1 thread, 1/s", "2 threads, 1/s", "4 threads, 1/s", "8 threads, 1/s", "MiB/s with 8"),
        rows=tuple(rows),
        notes=(
            (
                "Round trips (encrypt and decrypt) of all threads together. Python runs one thread at a time, and the"
                " cipher releases that lock only for long pieces."
            ),
        ),
    )


def throughput(ours: Core, size: int, threads: int, seconds: float) -> float:
    """Return the round trips a second that `threads` make together."""
    plaintext, counts = bytes(size), [0] * threads
    numbers = iter(range(threads))
    ends_at = _CLOCK.monotonic() + seconds

    def work() -> None:
        mine = next(numbers)
        while _CLOCK.monotonic() < ends_at:
            message = ours.encrypt(plaintext, purpose=PURPOSE, context=CONTEXT)
            ours.decrypt(message, purpose=PURPOSE, context=CONTEXT)
            counts[mine] += 1

    started_at = _CLOCK.monotonic()
    in_threads(threads, work)
    return sum(counts) / (_CLOCK.monotonic() - started_at)


def in_threads(threads: int, work: Callable[[], object]) -> None:
    """Let `threads` begin `work` at the same instant, and wait for all of them."""
    start = threading.Barrier(threads)

    def begin() -> None:
        start.wait(30)
        work()

    each = [threading.Thread(target=begin) for _ in range(threads)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
