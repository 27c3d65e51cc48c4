"""The border to the observer: what goes wrong beyond it stays there."""

from __future__ import annotations

from collections.abc import Callable

from kms_core.events import Event, Observer

Emit = Callable[[Event], None]


def emitter(observer: Observer | None) -> Emit | None:
    """Return a function that hands events to `observer` and never raises; None when nobody observes.

    None, and not a function that does nothing, so that no event is built for nobody on the fast path.
    """
    if observer is None:
        return None

    tell = observer.on_event

    def emit(event: Event) -> None:
        # An observer that raises never hurts the caller. Written out: `suppress` would cost a microsecond a message.
        try:  # noqa: SIM105 - see above
            tell(event)
        except Exception:  # noqa: BLE001, S110 - see above
            pass

    return emit
