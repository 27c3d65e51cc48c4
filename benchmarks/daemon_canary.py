"""What a round-trip canary costs beside the two KMS calls that it makes, made with bare boto3: processor time.

One process, one thread, one local server; the two take turns in blocks, and the least of each counts. The canary runs
as the daemon runs it: through the runner, with its Prometheus, health, log and history sinks.
"""

from __future__ import annotations

import contextlib
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.aws_servers import REGIONS, AwsServer, let_in, ours
from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.daemon_estate import configuration, provision
from benchmarks.table import Table
from kms_core.clock import SystemClock
from kms_watchdog import config, runner
from kms_watchdog.canaries.canary import Canary
from kms_watchdog.canaries.round_trip import RoundTrip
from kms_watchdog.daemon import Daemon
from kms_watchdog.state_folder import StateFolder

GOAL = 1.3
"""A canary's processor time, to that of the two calls, at most."""
PURPOSE = "general"


BENCHMARK = Benchmark(
    title="What a round-trip canary costs",
    section=Section.DAEMON,
    goals=(f"at most {GOAL} times the processor time of its two calls, made with bare boto3",),
    bars=(Bars(table=0, labels=(0,), value=1, title="processor time, ms", ours="round_trip"),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure both, in turns."""
    blocks, calls = size.pick(quick=(3, 30), normal=(5, 60), full=(15, 200))
    with ours() as server, tempfile.TemporaryDirectory() as folder, let_in(server.credentials):
        path = configuration(server, Path(folder))
        provision(path)
        with _daemon(path) as daemon:
            look = _look(daemon)
            bare = _bare(server, daemon)
            for each in (look, bare):
                _block(each, 20)
            found = [(_block(bare, calls), _block(look, calls)) for _ in range(blocks)]
    bare_ms, look_ms = (min(pair[at] for pair in found) * 1000 for at in (0, 1))
    ratio = look_ms / bare_ms
    missed = (f"a canary takes {ratio:.2f} times the two calls' processor time; the goal is {GOAL}",)
    return (
        Table(
            title="Processor time of a round-trip canary",
            columns=("what", "ms each, least", "to the bare calls"),
            rows=(
                ("GenerateDataKey and Decrypt, bare boto3", bare_ms, 1.0),
                ("round_trip, all sinks", look_ms, ratio),
            ),
            notes=(f"{blocks} blocks of {calls} each, in turns; this process alone, the server is another.",),
            missed=missed if ratio > GOAL else (),
        ),
    )


@contextlib.contextmanager
def _daemon(path: Path) -> Iterator[Daemon]:
    settings = config.load(path)
    folder = StateFolder(settings.state.dir)
    folder.prepare()
    daemon = Daemon(settings, path, folder, SystemClock())
    try:
        yield daemon
    finally:
        daemon.stop()


def _look(daemon: Daemon) -> Callable[[], object]:
    canary: Canary = RoundTrip(REGIONS[0], PURPOSE)
    return lambda: runner.run(canary, daemon.core, daemon.clock, sinks=daemon.results)


def _bare(server: AwsServer, daemon: Daemon) -> Callable[[], object]:
    client: Any = server.client(REGIONS[0])
    alias = daemon.settings.keys[PURPOSE].alias
    context = {"canary": "true", "purpose": PURPOSE, "region": REGIONS[0]}

    def call() -> object:
        made = client.generate_data_key(KeyId=alias, NumberOfBytes=32, EncryptionContext=context)
        return client.decrypt(KeyId=alias, CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)

    return call


def _block(each: Callable[[], object], times: int) -> float:
    """Return the processor seconds of one call."""
    before = _cpu_seconds()
    for _ in range(times):
        each()
    return (_cpu_seconds() - before) / times


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
