"""Toxiproxy servers to measure: ours and, where there is one, the real one. Each is a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_BUILT = Path(__file__).parents[1] / ".state" / "toxiproxy" / "server"
_START_TRIES, _TRY_SECONDS = 200, 0.05


def commands() -> dict[str, list[str]]:
    """Return how each server is started, by its name: `embedded`, and `real` where one was found."""
    found = {"embedded": [sys.executable, "-m", "kms_local", "toxiproxy"]}
    real = os.environ.get("TOXIPROXY_BIN") or shutil.which("toxiproxy-server") or (_BUILT.exists() and str(_BUILT))
    return {**found, "real": [real]} if real else found


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run a Toxiproxy for the block, and give the port of its API and its process.

    Raises:
        RuntimeError: it does not listen.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with started([*command, "-port", str(port)]) as process:
        _wait(port)
        yield port, process


@contextlib.contextmanager
def started(
    command: list[str], ready: Callable[[subprocess.Popen[str]], object] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run `command` for the block; `ready` is called first, and may read what it prints."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        try:
            if ready:
                ready(process)
            assert process.stdout is not None  # noqa: S101 - it was started with a pipe
            threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would stop it
            yield process
        finally:
            process.kill()


def _wait(port: int) -> None:
    pause = threading.Event()
    for _ in range(_START_TRIES):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        pause.wait(_TRY_SECONDS)
    raise RuntimeError("the server does not listen")
