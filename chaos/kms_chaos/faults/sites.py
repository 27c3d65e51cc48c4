"""Where a fault in one region acts, its proxy and its line, and how both get back what they had."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from kms_chaos.faults import undo
from kms_chaos.faults.bounded_http import ToxiproxyError, ToxiproxyUnreachableError
from kms_chaos.faults.line import Line
from kms_chaos.faults.ordering import Ordered
from kms_chaos.faults.orders import Orders
from kms_chaos.faults.preamble import bytes_before_answer
from kms_chaos.faults.toxics import ProxyState, Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_core.clock import Clock
from kms_watchdog.drills.undo import ProxyUndo

Shown = Mapping[str, Any]
"""What server and line show, as the journal notes it: JSON's own types alone."""
Lifted = Callable[[Shown], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a fault in one region acts on; all of it the drill's own."""

    server: Toxiproxy
    proxy: ProxyUndo
    line: Line
    clock: Clock
    rng: random.Random
    stop: threading.Event
    """Set when the drill is to end: whatever a fault does in time ends then."""
    orders: Orders | None = None
    """A person's orders to the drill's core; None: there is no core to give any."""


def add_toxics(toxics: tuple[Toxic, ...], site: Site) -> None:
    """Put toxics on the region's proxy, which must be enabled.

    Raises:
        ToxiproxyError: they are not on it, or it is not enabled.
    """
    for toxic in toxics:
        site.server.add(site.proxy.name, toxic)
    state = site.server.proxy(site.proxy.name)
    if state is None or not state.enabled:
        raise ToxiproxyError(f"{site.proxy.name} is not enabled: a toxic on it would do nothing")


def cut_answers(after_bytes: int, order: Ordered, site: Site) -> None:
    """Put on toxics that count from a connection's first byte, so while there is no connection.

    A connection that was open before would be cut elsewhere, and be closed, not reset.

    Raises:
        ToxiproxyError: they are not on it. RouteError: what comes before an answer could not be measured.
    """
    name = site.proxy.name
    limit = bytes_before_answer(site.line.address, site.line.far) + after_bytes
    site.server.disable(name)
    for toxic in order.toxics:
        counted = replace(toxic, attributes={"bytes": limit}) if toxic.type == "limit_data" else toxic
        site.server.add(name, counted)
    site.server.enable(name)


@contextmanager
def on_proxy(
    order: Ordered, site: Site, lifted: Lifted, put_on: Callable[[], None], *changes: AbstractContextManager[None]
) -> Iterator[Shown]:
    """Do `put_on` to the region's proxy, and `changes` to its line; undo both, also when the former fails halfway."""
    after: dict[str, Any] = {}
    was_on = False
    try:
        with ExitStack() as stack:
            stack.callback(lambda: after.update(_lift(order, site)))
            with site.line.proxy_lock:
                put_on()
            shown = _proxy_shown(site)
            if changes:
                shown.update(stack.enter_context(on_line(site.line, after.update, *changes)))
            was_on = True
            yield shown
    finally:
        if was_on and "proxy" in after:  # else it was not taken off, which is what is being raised
            lifted(after)


def _proxy_shown(site: Site) -> dict[str, Any]:
    state = site.server.proxy(site.proxy.name)
    if state is None:
        raise ToxiproxyError(f"{site.proxy.name} is gone")
    return {"proxy": state.name, "toxics": [dict(toxic) for toxic in state.toxics], "enabled": state.enabled}


def _lift(order: Ordered, site: Site) -> Shown:
    """Take the fault off the proxy, and return what is read back; a proxy that is gone has no fault any more."""
    name = site.proxy.name
    try:
        left = cleared(order, site)
    except ToxiproxyUnreachableError as e:
        if not e.refused:
            raise
    except ToxiproxyError:
        if site.server.proxy(name) is not None:
            raise
    else:
        return {"proxy": left.name, "enabled": left.enabled, "toxics_left": list(left.toxic_names)}
    return {"proxy": name, "enabled": False, "toxics_left": []}


def cleared(order: Ordered, site: Site) -> ProxyState:
    """Take the fault's toxics off the region's proxy, let it listen, and return it as read back.

    The drill's own proxy is replaced by a fresh one. The real server (2.12.0) can hang for good when a bandwidth toxic
    is deleted that holds data, though its proxy is disabled; and it ends, with an index out of range in link.go, when a
    toxic is added after a connection was cut by limit_data with a slow_close waiting behind.

    Raises:
        ToxiproxyError: it is not as it was.
    """
    with site.line.proxy_lock:
        if site.proxy.made_by_drill:
            return _renewed(order, site)
        return undo.lift(site.server, site.proxy, [toxic.name for toxic in order.toxics])


def _renewed(order: Ordered, site: Site) -> ProxyState:
    """Replace the proxy by a fresh one, with the toxics that other faults have on it, and return what is read back."""
    server, name = site.server, site.proxy.name
    before = server.proxy(name)
    if before is None:
        raise ToxiproxyError(f"{name} is gone")
    ours = {toxic.name for toxic in order.toxics}
    server.disable(name)
    server.delete(name)
    state = server.create(name, upstream=before.upstream, listen=before.listen)
    for toxic in before.toxics:
        if toxic["name"] not in ours:
            server.add(name, Toxic(**toxic))
            state = server.proxy(name) or state
    return state


@contextmanager
def on_line(line: Line, lifted: Lifted, *changes: AbstractContextManager[None]) -> Iterator[Shown]:
    """Make `changes` to the line for the block."""
    was_on = False
    try:
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(change)
            was_on = True
            yield {"line": line.shown()}
    finally:
        if was_on:
            lifted({"line": line.shown()})
