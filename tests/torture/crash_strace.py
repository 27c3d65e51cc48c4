"""Run one of our processes under strace, and coverage, so that all that it does to a folder is known."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from crash_trace import Op, Reader

SECONDS = 300.0
"""More than any protocol takes under strace on a slow machine."""
CALLS = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,"
    "ftruncate,truncate,fallocate,copy_file_range,sendfile,splice,mmap,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,chdir,fchdir,connect,sendto,sendmsg,clone,clone3,fork,vfork"
)
_OURS = "--include=*/kms_chaos/*,*/kms_watchdog/*"


def why_not() -> str:
    """Return why no process can be traced here; empty if it can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run(
        [strace, "-f", "--seccomp-bpf", "-o", os.devnull, "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return f"strace: {tried.stderr.strip()[-200:]}" if tried.returncode else ""


def traced(
    arguments: Sequence[str],
    folder: Path,
    *,
    log: Path,
    ports: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    lines: Path | None = None,
) -> tuple[list[Op], int]:
    """Run Python with `arguments` to its end; return what it did in `folder`, and its exit code.

    Args:
        arguments: of Python, such as `-m kms_chaos heal`.
        folder: whose insides are watched; its own name is not.
        log: where strace writes; the process's stderr goes beside it.
        ports: of 127.0.0.1; requests to them are kept.
        environment: its own; this process's when not given.
        lines: where coverage keeps which lines of ours it came by; nowhere when not given.

    Raises:
        TraceError: it did something that cannot be modelled.
    """
    covered = ["-m", "coverage", "run", f"--rcfile={os.devnull}", f"--data-file={lines}", _OURS] if lines else []
    command = ["strace", "-f", "-yy", "-xx", "-s", "100000000", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(log)]
    with log.with_suffix(".err").open("wb") as err:
        done = subprocess.run(
            [*command, sys.executable, *covered, *arguments],
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
            check=False,
            timeout=SECONDS,
        )
    with log.open(encoding="ascii", errors="replace") as calls:
        return Reader(folder.resolve(), ports=ports).read(calls), done.returncode
