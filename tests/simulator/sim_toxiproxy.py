"""A Toxiproxy in memory for each host, behind the drill engine's own class; it dies, hangs, notes what was on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, TypeVar

from kms_chaos.faults.bounded_http import ToxiproxyError, ToxiproxyUnreachableError
from kms_chaos.faults.toxics import ProxyState, Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy

T = TypeVar("T")
HANGS_SECONDS = 3.0
"""After so long the engine gives a server up that does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpan:
    """For how long a toxic was on."""

    proxy: str
    began: float
    ended: float | None
    """None: it still is."""


@dataclass
class Server:
    """One host's Toxiproxy."""

    host: str
    now: Callable[[], float]
    up: bool = True
    hangs: bool = False
    there: dict[str, ProxyState] = field(default_factory=dict)
    spans: list[FaultSpan] = field(default_factory=list)

    def die(self) -> None:
        """Lose everything: its state is in memory."""
        self.up = False
        for name in list(self.there):
            self.put(name, None)

    def put(self, name: str, state: ProxyState | None) -> None:
        """Have a proxy be like this from now on; None: it is gone."""
        was = bool(self.there[name].toxics) if name in self.there else False
        if state is None:
            self.there.pop(name, None)
        else:
            self.there[name] = state
        now_on = state is not None and bool(state.toxics)
        if now_on and not was:
            self.spans.append(FaultSpan(proxy=name, began=self.now(), ended=None))
        if was and not now_on:
            found = next(i for i, one in enumerate(self.spans) if one.proxy == name and one.ended is None)
            self.spans[found] = replace(self.spans[found], ended=self.now())


class SimToxiproxy(Toxiproxy):
    """The engine's own class, over a `Server` instead of HTTP; every request is a step of whoever asks."""

    def __init__(self, url: str, server: Server, step: Callable[[str], None]) -> None:
        self.url = url
        self._server, self._step = server, step

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Do nothing: there is no connection."""

    def version(self) -> str:
        """Return its version."""
        return self._ask("version", lambda: "2.12.0")

    def proxies(self) -> dict[str, ProxyState]:
        """Return all proxies by name."""
        return self._ask("proxies", lambda: dict(self._server.there))

    def proxy(self, name: str) -> ProxyState | None:
        """Return one proxy."""
        return self._ask("proxy", lambda: self._server.there.get(name))

    def create(self, name: str, *, upstream: str, listen: str = "127.0.0.1:0") -> ProxyState:
        """Create a proxy."""

        def effect() -> ProxyState:
            if name in self._server.there:
                raise ToxiproxyError(f"{name}: proxy already exists")
            made = ProxyState(name=name, listen=listen, upstream=upstream, enabled=True, toxics=())
            self._server.put(name, made)
            return made

        return self._ask("create", effect)

    def add(self, name: str, toxic: Toxic) -> None:
        """Add a toxic."""
        self._change(name, lambda state: replace(state, toxics=(*state.toxics, toxic.to_json())))

    def update(self, name: str, toxic: Toxic) -> None:
        """Change a toxic."""
        self._change(
            name,
            lambda state: replace(
                state, toxics=tuple(toxic.to_json() if one["name"] == toxic.name else one for one in state.toxics)
            ),
        )

    def remove_toxic(self, name: str, toxic: str) -> None:
        """Remove a toxic; one that is not there is removed already."""
        self._ask("remove_toxic", lambda: self._without(name, toxic))

    def _without(self, name: str, toxic: str) -> None:
        if state := self._server.there.get(name):
            self._server.put(name, replace(state, toxics=tuple(t for t in state.toxics if t["name"] != toxic)))

    def _switch(self, name: str, *, enabled: bool) -> None:
        self._change(name, lambda state: replace(state, enabled=enabled))

    def delete(self, name: str) -> None:
        """Delete a proxy; one that is not there is deleted already."""
        self._ask("delete", lambda: self._server.put(name, None) if name in self._server.there else None)

    def _change(self, name: str, change: Callable[[ProxyState], ProxyState]) -> None:
        def effect() -> None:
            if name not in self._server.there:
                raise ToxiproxyError(f"{name}: proxy not found")
            self._server.put(name, change(self._server.there[name]))

        self._ask("change", effect)

    def _ask(self, what: str, effect: Callable[[], T]) -> T:
        self._step(f"toxiproxy {what} goes out")
        self._available()
        answer = effect()
        self._step(f"toxiproxy {what} was answered")
        self._available()  # it did what was asked, and nobody is told
        return answer

    def _available(self) -> None:
        if not self._server.up:
            raise ToxiproxyUnreachableError(f"{self.url}: refused", refused=True)
        if self._server.hangs:
            self._step("toxiproxy hangs")
            raise ToxiproxyUnreachableError(f"{self.url}: does not answer", refused=False)
