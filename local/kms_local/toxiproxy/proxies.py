"""A proxy: its listener, its toxics, and the connections that run through it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Awaitable

from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.addresses import Address, AddressError, resolve, resolve_all
from kms_local.toxiproxy.connections import Connection, Endpoint
from kms_local.toxiproxy.errors import ApiError
from kms_local.toxiproxy.toxics import DIRECTIONS, Toxic
from kms_local.toxiproxy.traffic import Labels, Traffic

_BACKLOG = 4096  # a thousand clients at once must not wait for repeated SYNs


class Proxy:
    """One proxy; toxics survive its being disabled and enabled."""

    def __init__(self, name: str, listen: str, upstream: str, rng: random.Random, traffic: Traffic) -> None:
        self.name = name
        self.listen = listen  # resolved once it has been started
        self.upstream = upstream
        self.enabled = False
        self.changing = asyncio.Lock()  # held by whoever starts it or changes its address
        self._chains: dict[str, list[Toxic]] = {direction: [] for direction in DIRECTIONS}
        self._rng = rng
        self._traffic = traffic
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._dials: dict[asyncio.Task[None], Endpoint] = {}
        self._retired = False
        self._leases: dict[str, asyncio.TimerHandle] = {}

    @property
    def connections(self) -> int:
        """How many clients are connected, those whose upstream is being dialled included."""
        return len(self._connections) + len(self._dials)

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; harmless when listening already.

        Raises:
            ApiError: 500: the address is none, or cannot be bound.
        """
        if self.enabled:
            return
        bound = await self._bind()
        if self._retired:  # while its address was being looked up
            bound.close()
            raise ApiError(404, "proxy not found")
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: Endpoint(self._accept), sock=bound, backlog=_BACKLOG
        )
        self.listen = str(Address(*bound.getsockname()[:2]))
        self.enabled = True

    def stop(self) -> None:
        """Stop listening and close every connection, at once."""
        if self._listener is None:
            return
        self.enabled = False
        self._listener.close()
        self._listener = None
        for task, client in self._dials.items():
            task.cancel()
            client.abort()
        for connection in self._connections:
            connection.abort()

    def retire(self) -> None:
        """Stop for good: it was deleted or replaced."""
        self._retired = True
        self.stop()
        for name in list(self._leases):
            self._leases.pop(name).cancel()

    async def update(self, *, listen: str, upstream: str, enabled: bool) -> None:
        """Change address, upstream or whether it runs; another address or upstream drops its connections.

        Raises:
            ApiError: 500: it cannot listen there; the proxy is disabled then, with the new address.
        """
        if await self.differs(listen, upstream):
            self.stop()
            self.listen, self.upstream = listen, upstream
        if enabled:
            await self.start()
        else:
            self.stop()

    async def differs(self, listen: str, upstream: str) -> bool:
        """Say whether these are another address or another upstream.

        Raises:
            ApiError: 500: `listen` is not an address.
        """
        try:
            return str(await resolve(listen)) != self.listen or upstream != self.upstream
        except AddressError as e:
            raise ApiError(500, str(e)) from e

    async def _bind(self) -> socket.socket:
        try:
            address = await resolve(self.listen)
        except AddressError as e:
            raise ApiError(500, f"listen tcp: {e}") from e
        try:
            return _listening_socket(address)
        except OSError as e:
            reason = os.strerror(e.errno or 0).lower()
            raise ApiError(500, f"listen tcp {address}: bind: {reason}") from e

    # -- toxics ---------------------------------------------------------------------------------------------------

    def toxics(self) -> list[Toxic]:
        """Return all upstream toxics, then all downstream ones, each in order of adding."""
        return [toxic for direction in DIRECTIONS for toxic in self._chains[direction]]

    def toxic(self, name: str) -> Toxic:
        """Return one toxic.

        Raises:
            ApiError: 404.
        """
        for toxic in self.toxics():
            if toxic.name == name:
                return toxic
        raise ApiError(404, "toxic not found")

    def add(self, toxic: Toxic) -> None:
        """Add a toxic, on open connections too."""
        self._chains[toxic.direction].append(toxic)
        self.lease(toxic)
        for connection in list(self._connections):
            connection.links[toxic.direction].add(toxic)

    def changed(self, toxic: Toxic) -> None:
        """Let a changed toxic take effect on open connections."""
        for connection in list(self._connections):
            connection.links[toxic.direction].update(toxic)

    def remove(self, toxic: Toxic) -> None:
        """Remove a toxic, from open connections too."""
        self._end_lease(toxic)
        self._chains[toxic.direction].remove(toxic)
        for connection in list(self._connections):
            connection.links[toxic.direction].remove(toxic)

    def lease(self, toxic: Toxic) -> None:
        """Start the lease of a toxic that has one: at its end the toxic is removed."""
        self._end_lease(toxic)
        if toxic.ttl is not None:
            after = toxic.ttl / 1000
            self._leases[toxic.name] = asyncio.get_running_loop().call_later(after, self.remove, toxic)

    def _end_lease(self, toxic: Toxic) -> None:
        lease = self._leases.pop(toxic.name, None)
        if lease is not None:
            lease.cancel()

    def text(self) -> str:
        """Return the proxy as the API writes it."""
        name, listen, upstream, enabled = map(go_json.encode, (self.name, self.listen, self.upstream, self.enabled))
        toxics = ",".join(toxic.text() for toxic in self.toxics())
        return (
            f'{{"name":{name},"listen":{listen},"upstream":{upstream},"enabled":{enabled},"Logger":{{}},'
            f'"toxics":[{toxics}]}}'
        )

    # -- connections ----------------------------------------------------------------------------------------------

    def _accept(self, client: Endpoint) -> None:
        task = asyncio.get_running_loop().create_task(self._dial(client))
        self._dials[task] = client
        task.add_done_callback(self._dials.pop)

    async def _dial(self, client: Endpoint) -> None:
        try:
            upstream = await self._open_upstream()
        except (OSError, AddressError):
            client.finish()
            return
        if client.gone:
            upstream.abort()
            return
        connection = Connection(
            client=client,
            upstream=upstream,
            chains=self._chains,
            counters={
                direction: self._traffic.counters(Labels(direction, self.listen, self.name, self.upstream))
                for direction in DIRECTIONS
            },
            rng=self._rng,
            on_end=self._connections.discard,
        )
        self._connections.add(connection)

    async def _open_upstream(self) -> Endpoint:
        """Dial one address after the other.

        Raises:
            OSError: the last of them could not be reached.
            AddressError: there is none.
        """
        addresses = await resolve_all(self.upstream)
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return await _dial(address)
        return await _dial(addresses[-1])


async def _dial(address: Address) -> Endpoint:
    opening: Awaitable[tuple[asyncio.Transport, Endpoint]] = asyncio.get_running_loop().create_connection(
        Endpoint, address.host, address.port
    )
    _, upstream = await opening
    return upstream


def _listening_socket(address: Address) -> socket.socket:
    """Return a bound socket; an empty host is every address of both families, as far as there are both."""
    if address.host:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", address.port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    return socket.create_server(("", address.port), backlog=_BACKLOG)
