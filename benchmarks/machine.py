"""What a figure was measured on, as far as it matters to the figure: no names, no places."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from kms_core.clock import SystemClock

_PACKAGES = ("kms-watchdog", "boto3", "cryptography", "aws-encryption-sdk", "moto", "prometheus-client")
_SAMPLE_SECONDS = 1.0
_GIB = 2**20  # of KiB
_CLOCK = SystemClock()


def machine() -> dict[str, Any]:
    """Return processor, cores that this process may use, memory, kernel, Python and what the figures depend on."""
    memory = _field(Path("/proc/meminfo"), "MemTotal")
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory.split()[0]) / _GIB, 1) if memory else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


@dataclass(slots=True)
class Load:
    """The load average over a minute: before, and the most that was seen meanwhile, our own included."""

    before: float
    most: float = field(init=False)

    def __post_init__(self) -> None:
        self.most = self.before

    def as_json(self) -> dict[str, float]:
        """Return it as plain values."""
        return {"before": round(self.before, 2), "most": round(self.most, 2)}


@contextlib.contextmanager
def watched_load() -> Iterator[Load]:
    """Watch the load for the block."""
    load, ending = Load(os.getloadavg()[0]), threading.Event()

    def watch() -> None:
        while not _CLOCK.wait(ending, _SAMPLE_SECONDS):
            load.most = max(load.most, os.getloadavg()[0])

    watcher = threading.Thread(target=watch, name="load", daemon=True)
    watcher.start()
    try:
        yield load
    finally:
        ending.set()
        watcher.join()


def _field(path: Path, name: str) -> str:
    """Return the first value of `name` in a file of `name: value` lines; empty where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((value.strip() for key, _, value in (li.partition(":") for li in lines) if key.strip() == name), "")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
