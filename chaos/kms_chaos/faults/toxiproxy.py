"""The one door to Toxiproxy: toxiproxy-python, made safe at the one point through which it speaks HTTP.

The library's own client has no deadline, follows HTTP_PROXY, and lets a 403, a 405 or a 5xx pass for success. Here it
gets a client of ours in that place, values are checked before they are sent (the real server takes any, and dies of
some), and every change is read back before it is believed.

The library keeps the server's address, and its HTTP, in globals of its module: each call sets both under one lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
import toxiproxy.api
from toxiproxy import Toxiproxy as Library
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists
from toxiproxy.proxy import Proxy as LibraryProxy

from kms_chaos.faults.bounded_http import BoundedHttp, ToxiproxyError, first_words
from kms_chaos.faults.toxics import PROXY_NAME, ProxyState, Toxic
from kms_watchdog.json_text import read_json

_LIBRARY = threading.RLock()
"""Held while the library's globals are ours; every call through it is bounded, so this is too."""


class Toxiproxy:
    """One Toxiproxy server. Every method ends within seconds, and raises `ToxiproxyError` when it did not succeed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise ValueError(f"Toxiproxy's address is http://HOST:PORT, not {url!r}")
        self.url = url
        self._address = (parts.hostname, parts.port)
        self._library = Library()
        self._http = BoundedHttp()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def version(self) -> str:
        """Return what the server says it is."""
        reply = self._call("/version", lambda: toxiproxy.api.APIConsumer.get("/version"))
        return first_words(reply.content)

    def proxies(self) -> dict[str, ProxyState]:
        """Return all proxies by name."""
        reply = self._call("/proxies", lambda: toxiproxy.api.APIConsumer.get("/proxies"))
        values = _json(reply, dict)
        return {name: _state(proxy) for name, proxy in values.items()}

    def proxy(self, name: str) -> ProxyState | None:
        """Return the proxy called `name`, or None."""
        path = f"/proxies/{_checked(name)}"
        reply = self._call(name, lambda: toxiproxy.api.APIConsumer.get(path), absent_is_fine=True)
        return None if reply is None else _state(_json(reply, dict))

    def create(self, name: str, *, upstream: str, listen: str = "127.0.0.1:0") -> ProxyState:
        """Create a proxy, and return it as the server then shows it.

        Raises:
            ToxiproxyError: there is one of that name, or it cannot listen, or it is not what was asked for.
        """
        self._call(name, lambda: self._library.create(upstream=upstream, name=_checked(name), listen=listen))
        state = self.proxy(name)
        if state is None or not state.enabled or state.upstream != upstream or state.toxics:
            raise ToxiproxyError(f"{self.url}: {name} was created, and is not what was asked for: {state}")
        return state

    def add(self, name: str, toxic: Toxic) -> None:
        """Add `toxic` to the proxy `name`, and see that it is there."""
        self._call(name, lambda: self._proxy(name).add_toxic(**toxic.to_json()))
        if toxic.to_json() not in self._known_toxics(name):
            raise ToxiproxyError(f"{self.url}: {name} does not show the toxic {toxic.name} that was added")

    def update(self, name: str, toxic: Toxic) -> None:
        """Give the toxic of that name on the proxy `name` these attributes, and see that it has them.

        What is open stays open; type and stream cannot be changed. The library has no call for it.
        """
        body = toxic.to_json()
        path = f"/proxies/{_checked(name)}/toxics/{_checked(toxic.name)}"
        self._call(name, lambda: toxiproxy.api.APIConsumer.post(path, json=body))
        if body not in self._known_toxics(name):
            raise ToxiproxyError(f"{self.url}: {name} does not show the toxic {toxic.name} as it was changed")

    def _known_toxics(self, name: str) -> list[dict[str, Any]]:
        state = self.proxy(name)
        keys = ("name", "type", "stream", "attributes", "toxicity")
        return [{key: t.get(key) for key in keys} for t in state.toxics] if state else []

    def remove_toxic(self, name: str, toxic: str) -> None:
        """Remove a toxic by name from a proxy that is *disabled*: the real server can hang otherwise for good.

        One that is not there is removed already.
        """
        proxy = self._proxy(name)
        self._call(name, lambda: proxy.destroy_toxic(_checked(toxic)), absent_is_fine=True)

    def disable(self, name: str) -> None:
        """Stop the proxy from listening, cut its connections, and see that it is so."""
        self._switch(name, enabled=False)

    def enable(self, name: str) -> None:
        """Let the proxy listen again, and see that it does."""
        self._switch(name, enabled=True)

    def _switch(self, name: str, *, enabled: bool) -> None:
        proxy = self._proxy(name)
        self._call(name, proxy.enable if enabled else proxy.disable)
        state = self.proxy(name)
        if state is None or state.enabled is not enabled:
            raise ToxiproxyError(f"{self.url}: {name} is not {'enabled' if enabled else 'disabled'} after the call")

    def delete(self, name: str) -> None:
        """Delete the proxy, and see that it is gone; one that is not there is deleted already."""
        self._call(name, self._proxy(name).destroy, absent_is_fine=True)
        if self.proxy(name) is not None:
            raise ToxiproxyError(f"{self.url}: {name} is still there after it was deleted")

    def _proxy(self, name: str) -> LibraryProxy:
        return LibraryProxy(name=_checked(name), upstream="", enabled=True, listen="")  # addresses it, asks nothing

    def _call(self, what: str, call: Callable[[], Any], *, absent_is_fine: bool = False) -> Any:
        """Make one call of the library; None when what it names is not there and that is fine.

        The library's exceptions are misnamed, so the server's own words are what counts.
        """
        try:
            with _LIBRARY:
                toxiproxy.api.requests = self._http
                self._library.update_api_consumer(*self._address)
                return call()
        except (InvalidToxic, NotFound, ProxyExists) as e:
            if absent_is_fine and isinstance(e, NotFound):
                return None
            words = first_words(e.args[0]) if e.args and isinstance(e.args[0], bytes) else str(e)
            raise ToxiproxyError(f"{self.url}: {what}: {words}") from e
        except (ValueError, KeyError, TypeError) as e:
            raise ToxiproxyError(f"{self.url}: {what}: an answer that is not Toxiproxy's") from e


def _checked(name: str) -> str:
    if not PROXY_NAME.fullmatch(name):
        raise ValueError(f"not a name that Toxiproxy could address: {name!r}")
    return name


def _json(reply: requests.Response, kind: type[dict[str, Any]]) -> dict[str, Any]:
    try:
        values = read_json(reply.content)
    except ValueError as e:
        raise ToxiproxyError(f"{reply.url}: an answer that is not JSON: {first_words(reply.content)}") from e
    if not isinstance(values, kind):
        raise ToxiproxyError(f"{reply.url}: an answer that is not Toxiproxy's: {first_words(reply.content)}")
    return values


def _state(values: Any) -> ProxyState:
    try:
        return ProxyState(
            name=values["name"],
            listen=values["listen"],
            upstream=values["upstream"],
            enabled=values["enabled"],
            toxics=tuple(values["toxics"]),
        )
    except (KeyError, TypeError) as e:
        raise ToxiproxyError(f"a proxy that lacks {e}: not Toxiproxy's answer") from e
