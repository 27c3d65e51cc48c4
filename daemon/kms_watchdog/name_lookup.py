"""Names to addresses as the machine's own resolver sees them, for as long as one likes to wait."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

SocketAddress = tuple[int, tuple[Any, ...]]
"""Address family, and what `socket.connect` takes."""
Lookup = Callable[[str, int], Sequence[SocketAddress]]


def system_lookup(host: str, port: int) -> tuple[SocketAddress, ...]:
    """Return all addresses of `host`, in the order in which to try them; asks for as long as the resolver does.

    Raises:
        OSError: there are none (`socket.gaierror`), or this machine cannot ask.
        UnicodeError: `host` is no name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple((int(family), address) for family, _, _, _, address in found)


class Resolver:
    """Looks names up in threads of its own: `getaddrinfo` has no time limit, and nothing can end one under way.

    At most one look-up of a name is under way: whoever asks meanwhile waits for that one, so that a resolver which
    hangs for ever holds one thread a name, not one a look. The threads are daemons and outlive nobody.
    """

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int], Future[Sequence[SocketAddress]]] = {}

    def addresses(self, host: str, port: int, timeout_seconds: float) -> Sequence[SocketAddress]:
        """Return the addresses of `host`; any thread may ask.

        Raises:
            TimeoutError: no answer in time; the look-up goes on, and answers whoever asks next.
            OSError, UnicodeError: as from the look-up.
            RuntimeError: this machine has no thread left.
        """
        return self._answer(host, port).result(timeout_seconds)

    def _answer(self, host: str, port: int) -> Future[Sequence[SocketAddress]]:
        with self._lock:
            under_way = self._under_way.get((host, port))
            if under_way is None:
                under_way = Future()
                ask = threading.Thread(
                    target=self._ask, args=(under_way, host, port), name=f"name-lookup {host}", daemon=True
                )
                ask.start()
                self._under_way[host, port] = under_way
            return under_way

    def _ask(self, answer: Future[Sequence[SocketAddress]], host: str, port: int) -> None:
        try:
            found = self._lookup(host, port)
        except Exception as e:  # noqa: BLE001  whatever it is, it belongs to who asked
            self._end(host, port)
            answer.set_exception(e)
        else:
            self._end(host, port)
            answer.set_result(found)

    def _end(self, host: str, port: int) -> None:
        """Forget the look-up before it answers: the next one asks anew."""
        with self._lock:
            del self._under_way[host, port]
