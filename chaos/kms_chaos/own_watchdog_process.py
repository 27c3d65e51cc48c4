"""The process of a drill's own watchdog: `kms-watchdog run`, whose connections are dialled to the drill's proxies.

Started by a drill alone, as `python -m kms_chaos.own_watchdog_process WAYS LOOKED_UP run --config FILE`. WAYS is JSON:
each `host:port` that a client may ask for, and the address on loopback where it is dialled. It is what a hosts file
does, with ports: the name that is asked for, SNI, certificate check, Host header and SigV4 stay those of the real end
point, since only the answer to "where is that" is another. Each such answer is a line in LOOKED_UP, by which the drill
knows that connections were really opened on its own ways.

The standard input is a pipe that only the drill holds. When it ends, for whatever reason, this process ends.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kms_core.clock import Clock, SystemClock
from kms_watchdog.__main__ import main as watchdog

Address = tuple[str, int]
Lookup = Callable[..., Any]
"""As `socket.getaddrinfo`."""
_GRACE_SECONDS = 5.0
"""How long the watchdog may take to stop once the drill is gone."""


def on_ways(ways: Mapping[str, Address], lookup: Lookup, note: Callable[[str], None]) -> Lookup:
    """Return a look-up that answers each `host:port` of `ways` with its address, and `note`s it; others by `lookup`."""

    def looked_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        name = f"{host.decode() if isinstance(host, bytes) else host}:{port}"
        if name not in ways:
            return lookup(host, port, *rest, **more)
        note(name)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ways[name])]

    return looked_up


def end_with(pipe: int, clock: Clock) -> None:
    """Stop this process when `pipe` ends; with SIGKILL, if it takes too long."""
    while os.read(pipe, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    clock.wait(threading.Event(), _GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Take WAYS and LOOKED_UP off the command line, and be `kms-watchdog` with the rest of it."""
    ways_file, looked_up_file = map(Path, sys.argv[1:3])
    del sys.argv[1:3]
    ways = {name: (host, port) for name, (host, port) in json.loads(ways_file.read_text(encoding="utf-8")).items()}
    lines = os.open(looked_up_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def note(name: str) -> None:
        os.write(lines, f"{name}\n".encode())  # one write a line: threads do not mix theirs

    # In this process nobody may resolve the drill's end points otherwise: clients of every make ask this function.
    socket.getaddrinfo = on_ways(ways, socket.getaddrinfo, note)
    threading.Thread(target=end_with, args=(sys.stdin.fileno(), SystemClock()), name="drill", daemon=True).start()
    watchdog()


if __name__ == "__main__":
    main()
