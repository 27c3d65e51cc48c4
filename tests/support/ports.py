"""Ports of 127.0.0.1 for tests: those where nobody listens, and those where somebody is about to."""

from __future__ import annotations

import socket

_taken: list[socket.socket] = []


def free() -> int:
    """Return a port that was free a moment ago, for a program that must be told one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def nobody() -> int:
    """Return a port that refuses connections: it is bound for as long as the process lives, and nobody listens."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    _taken.append(taken)
    return int(taken.getsockname()[1])
