"""Ports of 127.0.0.1 for tests: those where nobody listens, and those where somebody is about to."""

from __future__ import annotations

import random
import socket

_BELOW_THE_SYSTEMS_OWN = range(10_000, 32_000)
"""None that Linux hands out to whoever connects: it may be taken by the time that a program listens on it."""
_CHANCE = random.SystemRandom()
"""Not the tests' seed, which other processes share."""
_taken: list[socket.socket] = []


def free() -> int:
    """Return a port that was free a moment ago, for a program that must be told one."""
    while True:
        port = _CHANCE.choice(_BELOW_THE_SYSTEMS_OWN)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


def nobody() -> int:
    """Return a port that refuses connections: it is bound for as long as the process lives, and nobody listens."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    _taken.append(taken)
    return int(taken.getsockname()[1])
