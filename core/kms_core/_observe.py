"""The border to the observer: what goes wrong beyond it stays there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kms_core.events import Event, Observer

Emit = Callable[[Event], None]


def emitter(observer: Observer | None) -> Emit | None:
    """Return a function that hands events to `observer` and never raises; None when nobody observes.

    None, and not a function that does nothing, so that no event is built for nobody on the fast path.
    """
    if observer is None:
        return None

    def emit(event: Event) -> None:
        with contextlib.suppress(Exception):  # an observer that raises never hurts the caller
            observer.on_event(event)

    return emit
