"""Peers on loopback that do what no Toxiproxy can: never answer a SYN, reset whoever speaks, or stay silent."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kms_chaos.faults.line import Address, RouteError

_ANSWER_SECONDS = 0.3
"""A SYN on loopback is answered within microseconds, or never."""
_MOST_FILLERS = 8
_BACKLOG = 1024  # connections are moved here faster than one thread takes them
_JOIN_SECONDS = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@contextmanager
def dropping_syns() -> Iterator[Address]:
    """Yield an address whose SYNs nobody answers: a listener that never accepts, its queue full.

    Raises:
        RouteError: this platform answers them nevertheless.
    """
    with ExitStack() as fillers, socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address: Address = listener.getsockname()
        for _ in range(_MOST_FILLERS):
            filler = fillers.enter_context(socket.socket())
            if not _is_answered(filler, address):
                yield address
                return
        raise RouteError("a full queue does not keep this platform from answering SYNs: no connection will time out")


def _is_answered(filler: socket.socket, address: Address) -> bool:
    filler.settimeout(_ANSWER_SECONDS)
    try:
        filler.connect(address)
    except TimeoutError:
        filler.close()
        return False
    except OSError as e:
        raise RouteError(f"this platform refuses connections to a full queue: {e.strerror}") from e
    return True


@contextmanager
def resetting() -> Iterator[Address]:
    """Yield the address of a peer that resets (RST) each connection at its first byte."""
    with _peer(resets=True) as address:
        yield address


@contextmanager
def silent() -> Iterator[Address]:
    """Yield the address of a peer that takes connections and bytes, and says nothing; it hangs up at the end."""
    with _peer(resets=False) as address:
        yield address


@contextmanager
def _peer(*, resets: bool) -> Iterator[Address]:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG))
        inside, outside = (stack.enter_context(end) for end in socket.socketpair())
        thread = threading.Thread(target=_serve, args=(listener, inside), kwargs={"resets": resets}, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            outside.close()  # wakes the thread
            thread.join(_JOIN_SECONDS)


def _serve(listener: socket.socket, inside: socket.socket, *, resets: bool) -> None:
    with ExitStack() as held, selectors.DefaultSelector() as selector:
        for one in (listener, inside):
            selector.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is inside:
                    return
                if key.fileobj is listener:
                    taken = held.enter_context(listener.accept()[0])
                    if resets:
                        selector.register(taken, selectors.EVENT_READ)
                else:
                    _reset(selector, key.fileobj)


def _reset(selector: selectors.BaseSelector, connection: object) -> None:
    if not isinstance(connection, socket.socket):
        raise TypeError(connection)
    selector.unregister(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.close()
