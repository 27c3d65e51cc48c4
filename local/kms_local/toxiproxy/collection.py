"""All proxies of one server, and the operations on several at once."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.errors import ApiError
from kms_local.toxiproxy.proxies import Proxy

_POPULATE_TYPE = 'struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }'


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyFields:
    """What a body says about a proxy."""

    name: str
    listen: str
    upstream: str
    enabled: bool


class PopulateError(Exception):
    """A populate that stopped half way; those done before stay."""

    def __init__(self, error: ApiError, done: list[Proxy]) -> None:
        super().__init__(error.message)
        self.error = error
        self.done = done


class ProxyCollection:
    """Proxies by name. Changes are made one after the other, because binding an address takes a turn of the loop."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._proxies: dict[str, Proxy] = {}
        self._changing = asyncio.Lock()

    def all(self) -> list[Proxy]:
        """Return every proxy, sorted by name."""
        return [self._proxies[name] for name in sorted(self._proxies)]

    def get(self, name: str) -> Proxy:
        """Return one proxy.

        Raises:
            ApiError: 404.
        """
        if name not in self._proxies:
            raise ApiError(404, "proxy not found")
        return self._proxies[name]

    async def create(self, body: bytes) -> Proxy:
        """Make a proxy; one that cannot listen is not kept.

        Raises:
            ApiError: 400, 409 or 500.
        """
        fields = _decoded(body, ProxyFields(name="", listen="", upstream="", enabled=True))
        _require(fields)
        async with self._changing:
            if fields.name in self._proxies:
                raise ApiError(409, "proxy already exists")
            return await self._add(fields)

    async def update(self, name: str, body: bytes) -> Proxy:
        """Change a proxy; a name in the body is ignored.

        Raises:
            ApiError: 400, 404 or 500.
        """
        async with self._changing:
            proxy = self.get(name)
            current = ProxyFields(name="", listen=proxy.listen, upstream=proxy.upstream, enabled=proxy.enabled)
            fields = _decoded(body, current)
            await proxy.update(listen=fields.listen, upstream=fields.upstream, enabled=fields.enabled)
            return proxy

    async def delete(self, name: str) -> None:
        """Stop a proxy and forget it.

        Raises:
            ApiError: 404.
        """
        async with self._changing:
            self.get(name).stop()
            del self._proxies[name]

    async def populate(self, body: bytes) -> list[Proxy]:
        """Make several proxies; one that is as described already is left alone, another of that name is replaced.

        Raises:
            PopulateError: nothing was done (400), or the rest was not (500).
        """
        try:
            entries = _entries(body)
        except ApiError as e:
            raise PopulateError(e, []) from e
        done: list[Proxy] = []
        async with self._changing:
            for fields in entries:
                try:
                    done.append(await self._add_or_replace(fields))
                except ApiError as e:
                    raise PopulateError(e, done) from e
        return done

    async def reset(self) -> None:
        """Enable every proxy and remove every toxic.

        Raises:
            ApiError: 500 at the first proxy that cannot listen; later ones stay as they are, as in the real server.
        """
        async with self._changing:
            for proxy in self.all():
                await proxy.start()
                for toxic in proxy.toxics():
                    proxy.remove(toxic)

    def stop(self) -> None:
        """Stop every proxy."""
        for proxy in self._proxies.values():
            proxy.stop()

    async def _add(self, fields: ProxyFields) -> Proxy:
        proxy = Proxy(fields.name, fields.listen, fields.upstream, self._rng)
        if fields.enabled:
            await proxy.start()
        self._proxies[proxy.name] = proxy
        return proxy

    async def _add_or_replace(self, fields: ProxyFields) -> Proxy:
        existing = self._proxies.get(fields.name)
        if existing is not None:
            if not await existing.differs(fields.listen, fields.upstream):
                return existing
            existing.stop()
        return await self._add(fields)


def _decoded(body: bytes, defaults: ProxyFields) -> ProxyFields:
    try:
        given = go_json.members(go_json.decode(body), "toxiproxy.Proxy")
        return _fields(given, defaults, owner="Proxy", enabled_owner="Proxy")
    except go_json.DecodeError as e:
        raise ApiError(400, f"bad request body: {e}") from e


def _entries(body: bytes) -> list[ProxyFields]:
    defaults = ProxyFields(name="", listen="", upstream="", enabled=True)
    try:
        value = go_json.elements(go_json.decode(body), f"[]{_POPULATE_TYPE}")
        entries = [
            _fields(go_json.members(entry, _POPULATE_TYPE), defaults, owner=".Proxy", enabled_owner="")
            for entry in value
        ]
    except go_json.DecodeError as e:
        raise ApiError(400, f"bad request body: {e}") from e
    for position, fields in enumerate(entries, 1):
        _require(fields, f" at proxy {position}")
    return entries


def _fields(given: dict[str, Any], defaults: ProxyFields, *, owner: str, enabled_owner: str) -> ProxyFields:
    return ProxyFields(
        name=go_json.text_field(given, "name", owner, defaults.name),
        listen=go_json.text_field(given, "listen", owner, defaults.listen),
        upstream=go_json.text_field(given, "upstream", owner, defaults.upstream),
        enabled=go_json.bool_field(given, "enabled", enabled_owner, default=defaults.enabled),
    )


def _require(fields: ProxyFields, where: str = "") -> None:
    for name, value in (("name", fields.name), ("upstream", fields.upstream)):
        if not value:
            raise ApiError(400, f"missing required field: {name}{where}")
