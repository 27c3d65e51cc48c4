"""Ports where nobody listens: taken for as long as the process lives, so that no other test's server comes there."""

from __future__ import annotations

import socket

_taken: list[socket.socket] = []


def nobody() -> int:
    """Return a port of 127.0.0.1 that refuses connections: it is bound, and nobody listens."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    _taken.append(taken)
    return int(taken.getsockname()[1])
