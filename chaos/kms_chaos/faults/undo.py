"""Undo what an undo record says, in the order that no Toxiproxy hangs on: disable, delete toxics, enable, read back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import ProxyState
from kms_watchdog.drills.undo import ProxyUndo, UndoRecord


class Server(Protocol):
    """What undoing needs of a Toxiproxy."""

    def proxies(self) -> dict[str, ProxyState]:
        """Return all proxies by name."""

    def proxy(self, name: str) -> ProxyState | None:
        """Return one proxy."""

    def disable(self, name: str) -> None:
        """Stop it from listening."""

    def enable(self, name: str) -> None:
        """Let it listen again."""

    def remove_toxic(self, name: str, toxic: str) -> None:
        """Remove a toxic of a disabled proxy."""

    def delete(self, name: str) -> None:
        """Delete the proxy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What was found and done for one proxy."""

    proxy: str
    region: str
    found: bool
    toxics_found: tuple[str, ...]
    deleted: bool


def lift(server: Server, proxy: ProxyUndo, toxics: Collection[str] | None = None) -> ProxyState:
    """Take the drill's toxics off `proxy`, give it back the `enabled` it had, and return it as read back.

    `toxics` names those of one fault of several; None: all of the drill's.

    Raises:
        ToxiproxyError: it is not as it was.
    """
    gone = proxy.toxics if toxics is None else toxics
    server.disable(proxy.name)  # first: to delete a toxic of a live proxy can wedge the real server's whole API
    for toxic in gone:
        server.remove_toxic(proxy.name, toxic)
    if proxy.enabled:
        server.enable(proxy.name)
    state = server.proxy(proxy.name)
    left = sorted(set(gone) & set(state.toxic_names)) if state else []
    if state is None or left or state.enabled is not proxy.enabled:
        raise ToxiproxyError(f"{proxy.name} is not as it was: {state}")
    return state


def undo(server: Server, record: UndoRecord) -> tuple[Undone, ...]:
    """Undo all that `record` names; what is undone already is left alone, so twice is harmless.

    Every proxy is tried, also when one before it fails.

    Raises:
        ToxiproxyError: something could not be undone; the message names each.
    """
    there = server.proxies()
    done, failures = [], []
    for proxy in record.proxies:
        try:
            done.append(_undo_one(server, proxy, there.get(proxy.name)))
        except ToxiproxyError as e:
            failures.append(f"{proxy.name}: {e}")
    if failures:
        raise ToxiproxyError("; ".join(failures))
    return tuple(done)


def _undo_one(server: Server, proxy: ProxyUndo, found: ProxyState | None) -> Undone:
    toxics = found.toxic_names if found else ()
    if found is not None and proxy.made_by_drill:
        server.disable(proxy.name)
        server.delete(proxy.name)
    elif found is not None and (set(toxics) & set(proxy.toxics) or found.enabled is not proxy.enabled):
        lift(server, proxy)
    return Undone(
        proxy=proxy.name,
        region=proxy.region,
        found=found is not None,
        toxics_found=toxics,
        deleted=found is not None and proxy.made_by_drill,
    )


def left(server: Server, record: UndoRecord) -> tuple[str, ...]:
    """Return the names of proxies that still show something of the drill: its own, or others with its toxics."""
    there = server.proxies()
    return tuple(
        proxy.name
        for proxy in record.proxies
        if (state := there.get(proxy.name)) and (proxy.made_by_drill or set(state.toxic_names) & set(proxy.toxics))
    )
