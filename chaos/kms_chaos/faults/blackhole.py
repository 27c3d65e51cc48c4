"""The black hole: everything that goes in, in either direction, is dropped, on open and on new connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kms_chaos.faults import undo
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import ProxyState, Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_chaos.undo_record import toxic_names
from kms_watchdog.drills.undo import ProxyUndo

KIND = "blackhole"
_FOR_EVER = 0  # Toxiproxy's `timeout` of 0: drop data, never close


def toxics() -> tuple[Toxic, ...]:
    """Return the toxics that make a black hole: `timeout` 0 on both streams."""
    streams = ("upstream", "downstream")
    return tuple(
        Toxic(name=name, type="timeout", stream=stream, attributes={"timeout": _FOR_EVER})
        for name, stream in zip(toxic_names(KIND), streams, strict=True)
    )


@contextmanager
def blackhole(server: Toxiproxy, proxy: ProxyUndo, *, lifted: Callable[[ProxyState], None]) -> Iterator[ProxyState]:
    """Swallow everything that passes `proxy` until the block ends, however it ends.

    Yields the proxy as the server shows it with the fault on; `lifted` is called with it as it is read back after the
    fault was taken off.

    Raises:
        ToxiproxyError: the fault could not be put on, or could not be taken off.
    """
    try:
        for toxic in toxics():
            server.add(proxy.name, toxic)
        state = server.proxy(proxy.name)
        if state is None or not state.enabled:
            raise ToxiproxyError(f"{proxy.name} is not enabled: a toxic on it would do nothing")
        yield state
    finally:
        lifted(undo.lift(server, proxy))
