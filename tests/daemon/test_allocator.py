"""The daemon starts itself anew with an allocator for many threads: once, in place, and only where it may."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from running_daemon import Start, config, provisioned, start
from waiting import wait_until

from kms_watchdog import allocator

__all__ = ["config", "provisioned", "start"]  # fixtures


class Starts:
    """What would have been executed."""

    def __init__(self, error: OSError | None = None) -> None:
        self.seen: list[tuple[str, list[str], Mapping[str, str]]] = []
        self._error = error

    def __call__(self, path: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        self.seen.append((path, arguments, environment))
        if self._error:
            raise self._error


def test_it_starts_anew_as_itself_with_the_settings() -> None:
    """Same interpreter, same arguments, same environment, and the two settings."""
    starts = Starts()

    allocator.settle({"HOME": "/h"}, libc="glibc", start_anew=starts)

    (path, arguments, environment) = starts.seen[0]
    assert (path, arguments[0]) == (sys.executable, sys.executable)
    assert arguments[1:] == sys.orig_argv[1:]
    assert environment == {"HOME": "/h", "GLIBC_TUNABLES": "glibc.malloc.arena_max=2:glibc.malloc.tcache_count=0"}


def test_it_starts_anew_once() -> None:
    """What it starts has the settings already: no process may start itself for ever."""
    starts = Starts()
    allocator.settle({}, libc="glibc", start_anew=starts)

    allocator.settle(starts.seen[0][2], libc="glibc", start_anew=starts)

    assert len(starts.seen) == 1


@pytest.mark.parametrize(
    ("environment", "libc"),
    [
        ({"GLIBC_TUNABLES": "glibc.malloc.check=3"}, "glibc"),
        ({"MALLOC_ARENA_MAX": "4"}, "glibc"),
        ({"LD_PRELOAD": "libjemalloc.so.2"}, "glibc"),
        ({}, "musl"),
        ({}, ""),
    ],
    ids=["tuned", "arenas", "another allocator", "musl", "no libc"],
)
def test_it_leaves_alone_what_somebody_else_decides(environment: dict[str, str], libc: str) -> None:
    """An operator's own wish wins, and other C libraries do not know the settings."""
    starts = Starts()

    allocator.settle(environment, libc=libc, start_anew=starts)

    assert starts.seen == []


def test_it_goes_on_where_nothing_may_be_executed() -> None:
    """A sandbox without `execve` costs some memory, not the daemon."""
    allocator.settle({}, libc="glibc", start_anew=Starts(PermissionError("no exec here")))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells the environment of a process on Linux")
def test_the_daemon_runs_with_them(start: Start, config: Path) -> None:
    """In the real process, whose id stays the one that its starter knows."""
    daemon = start(config)
    wait_until(lambda: daemon.get("/readyz")[0] == 200, says="a round is over")

    environment = Path(f"/proc/{daemon.process.pid}/environ").read_bytes()

    for setting in allocator.TUNABLES.split(":"):  # glibc ends each with a NUL of its own while it reads them
        assert setting.encode() in environment
    assert daemon.stop() == 0
