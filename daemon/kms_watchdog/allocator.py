"""glibc's allocator as a process of many threads for years wants it: few arenas, and no cache for each thread.

A daemon that watches Parker Flight's estate has over a hundred threads, most of them asleep. With glibc's defaults each
keeps freed memory for itself and takes part in up to eight arenas per core, so resident memory creeps up for days while
not one object more is alive (`benchmarks/README.md` has the measurement, ADR 0015 what else was considered). The two
settings are read once, before a process's first line: so a process that lacks them starts itself anew, in place.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from typing import Final

VARIABLE: Final = "GLIBC_TUNABLES"
"""Where glibc looks for them; https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html"""
TUNABLES: Final = "glibc.malloc.arena_max=2:glibc.malloc.tcache_count=0"
_OWN_WISHES: Final = (VARIABLE, "MALLOC_ARENA_MAX", "LD_PRELOAD")
"""Whoever sets one of these has decided about the allocator himself, or brings another."""


def wanted(environment: Mapping[str, str], libc: str) -> dict[str, str] | None:
    """Return the environment to start anew with; None: this process may stay as it is."""
    if libc != "glibc" or any(environment.get(name) for name in _OWN_WISHES):
        return None
    return {**environment, VARIABLE: TUNABLES}


def settle(
    environment: Mapping[str, str] = os.environ,
    *,
    libc: str | None = None,
    start_anew: Callable[[str, list[str], Mapping[str, str]], object] = os.execve,
) -> None:
    """Have this process run with the settings: replace it by itself when it does not, same id, same arguments.

    To be called before anything is imported or opened that the new one would have to repeat. Where the system refuses,
    it goes on as it is: the settings save memory, and nothing else rests on them.
    """
    anew = wanted(environment, platform.libc_ver()[0] if libc is None else libc)
    if anew is None or not sys.executable:
        return
    try:
        start_anew(sys.executable, [sys.executable, *sys.orig_argv[1:]], anew)
    except OSError:
        return
