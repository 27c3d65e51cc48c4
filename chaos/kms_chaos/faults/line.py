"""The drill's own way to one region, shared by all its clients of that region, and changeable while they run.

Where a client's connections are dialled, whether a name can be looked up, how long a connection serves, what is
answered in KMS's place and how far off requests are signed: a line holds all of it, in memory alone, so that it dies
with the drill's process. `route` asks it at each request; faults change it for the length of a block.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from weakref import WeakSet

from kms_chaos.faults.asked import Asked, KeyNames

Address = tuple[str, int]
_MOVE_SECONDS = 1.0


class RouteError(ValueError):
    """The client may not be routed like this, or its line cannot be broken like this; the message says why."""


Send = Callable[[], Any]
"""Sends the request, and returns botocore's response."""


class Rule(Protocol):
    """What is done to requests at the line."""

    def __call__(self, asked: Asked, send: Send) -> Any:
        """Return the answer: what `send` returns, or another. What this raises, the client raises."""

    def shown(self) -> Mapping[str, Any]:
        """Return what it does, in JSON's types."""


@dataclass(frozen=True, slots=True)
class Far:
    """What is at the end of the line, as the clients know it."""

    host: str
    tls: Callable[[], ssl.SSLContext]
    """Makes a context that greets and verifies as they do."""


@dataclass(eq=False, slots=True)
class _Change:
    """One thing that is other than usual; told apart by identity, since two faults may order the same."""

    value: Any


@dataclass(eq=False, slots=True)
class _Move:
    """Open connections that end elsewhere now."""

    address: Address
    to: str
    moved: int = 0


@dataclass(slots=True)
class _Changes:
    dials: list[_Change] = field(default_factory=list)
    lookups: list[_Change] = field(default_factory=list)
    once: list[_Change] = field(default_factory=list)
    rules: list[_Change] = field(default_factory=list)
    skews: list[_Change] = field(default_factory=list)
    moves: list[_Change] = field(default_factory=list)


class Line:
    """The way to one region. Safe from any thread."""

    def __init__(self, address: Address, *, keys: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Make the usual way: `address` is the drill's own proxy, on loopback.

        `keys` maps each purpose to the names of its key, alias or key id, for faults of one key alone.

        Raises:
            RouteError: the address is not on loopback.
        """
        _refuse_elsewhere(address)
        self.address = address
        self.names = KeyNames(keys or {})
        self.proxy_lock = threading.RLock()
        """Held by whoever changes the proxy: several faults may be on it at once."""
        self._lock = threading.RLock()  # entered again when a collected pool closes its connections inside it
        self._changes = _Changes()
        self._open: WeakSet[Any] = WeakSet()
        self._far: Far | None = None

    def leads_to(self, far: Far) -> None:
        """Note what is at the end, as a client that is routed here has it."""
        self._far = far

    @property
    def far(self) -> Far:
        """What is at the end.

        Raises:
            RouteError: no client goes this way yet.
        """
        if self._far is None:
            raise RouteError("no client goes this way yet, so nobody knows who is at its end")
        return self._far

    def dialled(self, host: str) -> Address:
        """Return where a new connection to `host` is dialled now.

        Raises:
            socket.gaierror: names are not looked up at present.
        """
        with self._lock:
            if self._changes.lookups:
                raise socket.gaierror(socket.EAI_NONAME, f"{host}: Name or service not known")
            return self._changes.dials[-1].value if self._changes.dials else self.address

    @property
    def serves_once(self) -> bool:
        """Whether a connection is let go of after one answer."""
        return bool(self._changes.once)

    @property
    def off_seconds(self) -> float:
        """How far off the clock is by which requests are signed."""
        with self._lock:
            return float(sum(change.value for change in self._changes.skews))

    def exchange(self, asked: Asked, send: Send) -> Any:
        """Return the answer to a request: KMS's, by `send`, or what the rules of the moment make of it."""
        with self._lock:
            rules: list[Rule] = [change.value for change in self._changes.rules]
        for rule in reversed(rules):
            send = partial(rule, asked, send)
        return send()

    @contextmanager
    def dial_to(self, address: Address) -> Iterator[None]:
        """Dial new connections to `address` for the block; open ones stay.

        Raises:
            RouteError: the address is not on loopback.
        """
        _refuse_elsewhere(address)
        with self._changed(self._changes.dials, address):
            yield

    @contextmanager
    def lookup_fails(self) -> Iterator[None]:
        """Have the endpoint's name resolve to nothing for the block; open connections stay."""
        with self._changed(self._changes.lookups, True):  # noqa: FBT003 - a mark
            yield

    @contextmanager
    def short_lived(self) -> Iterator[None]:
        """Make each connection serve one request for the block; one that is open already serves none any more."""
        with self._changed(self._changes.once, True):  # noqa: FBT003 - a mark
            yield

    @contextmanager
    def answers(self, rule: Rule) -> Iterator[None]:
        """Let `rule` answer each request, for the block; the first of several is asked first."""
        with self._changed(self._changes.rules, rule):
            yield

    @contextmanager
    def signs_off_by(self, seconds: float) -> Iterator[None]:
        """Sign requests as if it were `seconds` later, for the block; earlier, when negative."""
        with self._changed(self._changes.skews, seconds):
            yield

    @contextmanager
    def moves(self, address: Address, *, to: str) -> Iterator[None]:
        """Move all open connections to a peer on loopback, which is called `to`.

        Whoever holds such a connection notices nothing until somebody speaks on it. New connections are dialled as
        usual, for the block and after it: `move_again` moves those that were opened since.
        """
        move = _Move(address, to)
        with self._changed(self._changes.moves, move):
            move.moved += self._move(address)
            yield

    def move_again(self) -> None:
        """Move all connections that are open now, as those before."""
        with self._lock:
            for move in (change.value for change in self._changes.moves):
                move.moved += self._move(move.address)

    def _move(self, address: Address) -> int:
        """Put a connection to `address` under each open one: the same file descriptor, and another peer.

        The lock keeps the owner from closing the descriptor meanwhile, which would then be somebody else's.
        """
        _refuse_elsewhere(address)
        moved = 0
        with self._lock:
            for connection in tuple(self._open):
                number = connection.sock.fileno() if connection.sock is not None else -1
                if number < 0:
                    continue
                with socket.create_connection(address, timeout=_MOVE_SECONDS) as end:
                    os.set_blocking(end.fileno(), os.get_blocking(number))
                    os.dup2(end.fileno(), number, inheritable=False)
                moved += 1
        return moved

    def opened(self, connection: Any) -> None:
        """Note a connection whose handshake is over; it is forgotten when nobody else knows it any more."""
        with self._lock:
            self._open.add(connection)

    @contextmanager
    def closing(self, connection: Any) -> Iterator[None]:
        """Keep a connection from being moved while it is closed in the block, and after."""
        with self._lock:
            self._open.discard(connection)
            yield

    def shown(self) -> dict[str, Any]:
        """Return how the line is now, in JSON's types."""
        with self._lock:
            changes = self._changes
            host, port = changes.dials[-1].value if changes.dials else self.address
            return {
                "dials": f"{host}:{port}",
                "elsewhere": bool(changes.dials),
                "lookup": "fails" if changes.lookups else "works",
                "connections": "serve once" if changes.once else "kept",
                "signs_off_by_seconds": self.off_seconds,
                "answers": [dict(change.value.shown()) for change in changes.rules],
                "moves": [{"to": change.value.to, "moved": change.value.moved} for change in changes.moves],
            }

    @contextmanager
    def _changed(self, changes: list[_Change], value: Any) -> Iterator[None]:
        change = _Change(value)
        with self._lock:
            changes.append(change)
        try:
            yield
        finally:
            with self._lock:
                changes.remove(change)


def _refuse_elsewhere(address: Address) -> None:
    if not is_loopback(address[0]):
        raise RouteError(f"a drill's route must stay on loopback, not go to {address[0]}")


def is_loopback(host: str) -> bool:
    """Return whether `host`, an address or `localhost`, is this machine's own; any other name could lead anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
