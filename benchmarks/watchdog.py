"""A `kms-watchdog run` of one's own, and what it takes: processor time, memory, threads, files, metrics."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from kms_core.clock import SystemClock

CLOCK = SystemClock()
_TICKS = os.sysconf("SC_CLK_TCK")
_KIBIBYTE = 1024
_START_SECONDS = 120.0
_TRY_SECONDS = 0.02
_PREFIX = "kms_watchdog_"
_never = threading.Event()


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process holds."""

    resident_mib: float
    threads: int
    files: int


@dataclass(frozen=True, slots=True)
class Watchdog:
    """A running daemon."""

    process: subprocess.Popen[bytes]
    url: str
    began: float
    """On the monotonic clock."""

    def get(self, path: str) -> bytes:
        """Return what it answers."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:  # noqa: S310 - our own daemon
            body: bytes = answer.read()
        return body

    def samples(self, name: str) -> list[Sample]:
        """Return the samples of one metric, whose name is without prefix."""
        wanted = tuple(f"{_PREFIX}{name}{end}{then}" for end in ("", "_bucket", "_sum", "_count") for then in "{ ")
        lines = [line for line in self.get("/metrics").decode().splitlines() if line.startswith(wanted)]
        families = text_string_to_metric_families("\n".join(lines) + "\n")  # to parse all of a large estate takes long
        return [sample for family in families for sample in family.samples]

    def runs(self) -> float:
        """Return how many looks it has made."""
        return sum(sample.value for sample in self.samples("canary_runs_total"))

    def cpu_seconds(self) -> float:
        """Return the processor time it has taken so far."""
        return cpu_seconds_of(self.process.pid)

    def resources(self) -> Resources:
        """Return what it holds now."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return Resources(
            resident_mib=int(status["VmRSS"].split()[0]) / _KIBIBYTE,
            threads=int(status["Threads"]),
            files=len(list(Path(f"/proc/{self.process.pid}/fd").iterdir())),
        )


@contextlib.contextmanager
def running(config: Path, log: Path | None = None, *, start_seconds: float = _START_SECONDS) -> Iterator[Watchdog]:
    """Run a daemon with the configuration in `config`, whose state folder is `state` beside it.

    Raises:
        RuntimeError: it does not listen after `start_seconds`.
    """
    told = config.parent / "state" / "http.json"
    began = CLOCK.monotonic()
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "kms_watchdog", "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        while not told.exists():
            if process.poll() is not None or CLOCK.monotonic() > began + start_seconds:
                raise RuntimeError("the daemon did not start")
            pause(_TRY_SECONDS)
        yield Watchdog(process, json.loads(told.read_text())["url"], began)


def cpu_seconds_of(pid: int) -> float:
    """Return the processor time that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def pause(seconds: float) -> None:
    """Wait."""
    CLOCK.wait(_never, seconds)


def first_result_seconds(watchdog: Watchdog) -> float:
    """Wait for the first look that is counted, and return how long after the start of the process it was."""
    while watchdog.runs() == 0:
        pause(_TRY_SECONDS)
    return CLOCK.monotonic() - watchdog.began


def await_ready(watchdog: Watchdog, seconds: float = _START_SECONDS) -> None:
    """Wait until it has looked at everything once.

    Raises:
        RuntimeError: it has not, so many seconds later.
    """
    deadline = CLOCK.monotonic() + seconds
    while CLOCK.monotonic() < deadline:
        with contextlib.suppress(OSError):
            watchdog.get("/readyz")
            return
        pause(0.1)
    raise RuntimeError("the daemon did not become ready")
