"""The one door to Toxiproxy: toxiproxy-python, made safe at the one point through which it speaks HTTP.

The library's own client has no deadline, follows HTTP_PROXY, and lets a 403, a 405 or a 5xx pass for success. Here it
gets a client of ours in that place, values are checked before they are sent (the real server takes any, and dies of
some), and every change is read back before it is believed.

The library keeps the server's address, and its HTTP, in globals of its module: each call sets both under one lock.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
import toxiproxy.api
from toxiproxy import Toxiproxy as Library
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists
from toxiproxy.proxy import Proxy as LibraryProxy

CONNECT_SECONDS = 0.5
READ_SECONDS = 2.0
PROXY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")

_LIBRARY = threading.RLock()
"""Held while the library's globals are ours; every call through it is bounded, so this is too."""

_SWALLOWED = frozenset({403, 405})  # besides 5xx: the library raises on 400, 404 and 409 only
_MOST_MS = 600_000
_RANGES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "timeout": {"timeout": (0, _MOST_MS)},
    "latency": {"latency": (0, _MOST_MS), "jitter": (0, _MOST_MS)},
    "bandwidth": {"rate": (1, 10_000_000)},
    "slow_close": {"delay": (0, _MOST_MS)},
    "reset_peer": {"timeout": (0, _MOST_MS)},
    "slicer": {"average_size": (1, 1 << 30), "size_variation": (0, 1 << 30), "delay": (0, _MOST_MS * 1000)},
    "limit_data": {"bytes": (0, 1 << 40)},
}
"""Attributes by toxic, lowest and highest value. The real server checks none, and some values end its process."""


class ToxiproxyError(RuntimeError):
    """Toxiproxy refused, or did what nobody asked for; the message names the server and the call."""


class ToxiproxyUnreachableError(ToxiproxyError):
    """Nobody answers at Toxiproxy's address in time. Its state is in memory only: a dead server has no faults."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused
        """Whether the connection was refused: then there is no server; else one may be there and hang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """One toxic, as Toxiproxy's API knows it; times in milliseconds."""

    name: str
    type: str
    stream: str
    attributes: Mapping[str, int] = field(default_factory=dict)
    toxicity: float = 1.0

    def __post_init__(self) -> None:
        ranges = _RANGES.get(self.type)
        if ranges is None:
            raise ValueError(f"no toxic is of type {self.type!r}")
        if not PROXY_NAME.fullmatch(self.name):
            raise ValueError(f"not a toxic's name: {self.name!r}")
        if self.stream not in {"upstream", "downstream"}:
            raise ValueError(f"a stream is upstream or downstream, not {self.stream!r}")
        if not 0.0 <= self.toxicity <= 1.0:
            raise ValueError(f"toxicity must be from 0 to 1, not {self.toxicity}")
        if unknown := sorted(self.attributes.keys() - ranges.keys()):
            raise ValueError(f"{self.type} has no attribute {unknown[0]!r}")
        for name, (least, most) in ranges.items():
            self._check(name, least, most)
        if self.type == "slicer" and self.attributes.get("size_variation", 0) >= self.attributes["average_size"]:
            raise ValueError("slicer: size_variation must be below average_size")

    def _check(self, name: str, least: int, most: int) -> None:
        value = self.attributes.get(name, 0)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{self.type}: {name} must be a whole number from {least} to {most}, not {value!r}")

    def to_json(self) -> dict[str, Any]:
        """Return the toxic as Toxiproxy's API writes it: every attribute named, and 0 where none was given."""
        return {
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "attributes": {name: self.attributes.get(name, 0) for name in _RANGES[self.type]},
            "toxicity": self.toxicity,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyState:
    """One proxy, read from the server."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[Mapping[str, Any], ...] = ()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which it listens."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def toxic_names(self) -> tuple[str, ...]:
        """Names of all its toxics."""
        return tuple(str(toxic["name"]) for toxic in self.toxics)


class _BoundedHttp:
    """The part of `requests` that the library uses, bounded in time and strict about status codes."""

    def __init__(self) -> None:
        self._http = requests.Session()
        self._http.trust_env = False  # HTTP_PROXY and .netrc are not for an admin port on loopback

    def get(self, url: str, **options: Any) -> requests.Response:
        return self._send("GET", url, options)

    def post(self, url: str, **options: Any) -> requests.Response:
        return self._send("POST", url, options)

    def delete(self, url: str, **options: Any) -> requests.Response:
        return self._send("DELETE", url, options)

    def close(self) -> None:
        self._http.close()

    def _send(self, method: str, url: str, options: dict[str, Any]) -> requests.Response:
        call = f"{method} {url}"
        try:
            reply = self._http.request(
                method, url, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=False, **options
            )
        except requests.ConnectionError as e:
            raise ToxiproxyUnreachableError(_unreachable(call, e), refused=_is_refusal(e)) from e
        except requests.Timeout as e:
            raise ToxiproxyUnreachableError(f"{call}: no answer in {READ_SECONDS:g} s", refused=False) from e
        except requests.RequestException as e:
            raise ToxiproxyError(f"{call}: {type(e).__name__}") from e
        if reply.status_code >= 500 or reply.status_code in _SWALLOWED:  # noqa: PLR2004 - HTTP's own number
            raise ToxiproxyError(f"{call}: HTTP {reply.status_code}: {_first_words(reply.content)}")
        return reply


def _unreachable(call: str, error: requests.ConnectionError) -> str:
    if _is_refusal(error):
        return f"{call}: connection refused"
    return f"{call}: no connection in {CONNECT_SECONDS:g} s"


def _is_refusal(error: BaseException | None) -> bool:
    """Whether a chain of causes, urllib3's and requests' wrappers included, ends in a refused connection."""
    for _ in range(10):
        if error is None or isinstance(error, ConnectionRefusedError):
            return error is not None
        reason = getattr(error, "reason", None)
        inner = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
        error = reason if isinstance(reason, BaseException) else inner or error.__cause__ or error.__context__
    return False


def _first_words(content: bytes) -> str:
    return " ".join(content[:200].decode("utf-8", "replace").split())


class Toxiproxy:
    """One Toxiproxy server. Every method ends within seconds, and raises `ToxiproxyError` when it did not succeed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise ValueError(f"Toxiproxy's address is http://HOST:PORT, not {url!r}")
        self.url = url
        self._address = (parts.hostname, parts.port)
        self._library = Library()
        self._http = _BoundedHttp()

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
        return _first_words(reply.content)

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
            words = _first_words(e.args[0]) if e.args and isinstance(e.args[0], bytes) else str(e)
            raise ToxiproxyError(f"{self.url}: {what}: {words}") from e
        except (ValueError, KeyError, TypeError) as e:
            raise ToxiproxyError(f"{self.url}: {what}: an answer that is not Toxiproxy's") from e


def _checked(name: str) -> str:
    if not PROXY_NAME.fullmatch(name):
        raise ValueError(f"not a name that Toxiproxy could address: {name!r}")
    return name


def _json(reply: requests.Response, kind: type[dict[str, Any]]) -> dict[str, Any]:
    try:
        values = reply.json()
    except ValueError as e:
        raise ToxiproxyError(f"{reply.url}: an answer that is not JSON: {_first_words(reply.content)}") from e
    if not isinstance(values, kind):
        raise ToxiproxyError(f"{reply.url}: an answer that is not Toxiproxy's: {_first_words(reply.content)}")
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
