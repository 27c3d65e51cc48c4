"""All proxies of one server, and the operations on several at once."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.errors import ApiError
from kms_local.toxiproxy.go_struct import Field, Struct, fill, fill_all
from kms_local.toxiproxy.proxies import Proxy
from kms_local.toxiproxy.traffic import Traffic


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
    """Proxies by name. A name that is being looked up holds up its own proxy and no other."""

    def __init__(self, rng: random.Random) -> None:
        self.traffic = Traffic()
        self._rng = rng
        self._proxies: dict[str, Proxy] = {}

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

    async def create(self, body: bytes, end: str) -> Proxy:
        """Make a proxy; one that cannot listen is not kept.

        Raises:
            ApiError: 400, 409 or 500.
        """
        fields = _decoded(body, end, ProxyFields(name="", listen="", upstream="", enabled=True))
        _require(fields)
        self._refuse_taken(fields.name)
        proxy = await self._started(fields)
        try:
            self._refuse_taken(fields.name)  # somebody may have been faster
        except ApiError:
            proxy.retire()
            raise
        self._proxies[proxy.name] = proxy
        return proxy

    async def update(self, name: str, body: bytes, end: str) -> Proxy:
        """Change a proxy; a name in the body is ignored.

        Raises:
            ApiError: 400, 404 or 500.
        """
        proxy = self.get(name)
        async with proxy.changing:
            current = ProxyFields(name="", listen=proxy.listen, upstream=proxy.upstream, enabled=proxy.enabled)
            fields = _decoded(body, end, current)
            await proxy.update(listen=fields.listen, upstream=fields.upstream, enabled=fields.enabled)
        return proxy

    def delete(self, name: str) -> None:
        """Stop a proxy and forget it.

        Raises:
            ApiError: 404.
        """
        self.get(name).retire()
        del self._proxies[name]

    async def populate(self, body: bytes, end: str = "EOF") -> list[Proxy]:
        """Make several proxies; one that is as described already is left alone, another of that name is replaced.

        Raises:
            PopulateError: nothing was done (400), or the rest was not (500).
        """
        try:
            entries = _entries(body, end)
        except ApiError as e:
            raise PopulateError(e, []) from e
        done: list[Proxy] = []
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
        for proxy in self.all():
            async with proxy.changing:
                await proxy.start()
                for toxic in proxy.toxics():
                    proxy.remove(toxic)

    def stop(self) -> None:
        """Stop every proxy."""
        for proxy in self._proxies.values():
            proxy.retire()

    def _refuse_taken(self, name: str) -> None:
        if name in self._proxies:
            raise ApiError(409, "proxy already exists")

    async def _started(self, fields: ProxyFields) -> Proxy:
        proxy = Proxy(fields.name, fields.listen, fields.upstream, self._rng, self.traffic)
        if fields.enabled:
            await proxy.start()
        return proxy

    async def _add_or_replace(self, fields: ProxyFields) -> Proxy:
        existing = self._proxies.get(fields.name)
        if existing is not None:
            if not await existing.differs(fields.listen, fields.upstream):
                return existing
            existing.stop()
        proxy = await self._started(fields)
        replaced = self._proxies.get(fields.name)
        if replaced is not None:
            replaced.retire()
        self._proxies[proxy.name] = proxy
        return proxy


def _decoded(body: bytes, end: str, defaults: ProxyFields) -> ProxyFields:
    try:
        return _with_defaults(fill(_PROXY, go_json.decode(body, end=end)).checked(), defaults)
    except go_json.DecodeError as e:
        raise ApiError(400, f"bad request body: {e}") from e


def _entries(body: bytes, end: str) -> list[ProxyFields]:
    defaults = ProxyFields(name="", listen="", upstream="", enabled=True)
    try:
        filled = fill_all(_ENTRY, go_json.decode(body, end=end))
        entries = [_with_defaults(entry.checked(), defaults) for entry in filled]
    except go_json.DecodeError as e:
        raise ApiError(400, f"bad request body: {e}") from e
    for position, fields in enumerate(entries, 1):
        _require(fields, f" at proxy {position}")
    return entries


def _with_defaults(given: dict[str, Any], defaults: ProxyFields) -> ProxyFields:
    known = {name: given[name] for name in ("name", "listen", "upstream", "enabled") if given.get(name) is not None}
    return replace(defaults, **known)


def _require(fields: ProxyFields, where: str = "") -> None:
    for name, value in (("name", fields.name), ("upstream", fields.upstream)):
        if not value:
            raise ApiError(400, f"missing required field: {name}{where}")


def _proxy_struct(go_type: str, owner: str, enabled: Field) -> Struct:
    """Return a proxy's struct; its log is a part of it, since the real server exports it."""
    texts = {name: Field("string", f"{owner}.{name}") for name in ("name", "listen", "upstream")}
    logger = Field("zerolog.Logger", f"{owner}.Logger", pointer=True, inner=Struct("zerolog.Logger", {}))
    return Struct(go_type, {**texts, "enabled": enabled, "Logger": logger})


_PROXY = _proxy_struct("toxiproxy.Proxy", "Proxy", Field("bool", "Proxy.enabled"))
_ENTRY = _proxy_struct(
    'struct { toxiproxy.Proxy; Enabled *bool "json:\\"enabled\\"" }', ".Proxy", Field("bool", ".enabled", pointer=True)
)
