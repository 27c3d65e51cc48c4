"""Ready-made observers, and one that tells several.

`logging` and `cloudwatch` need nothing more than the core; `prometheus` needs the extra `prometheus`, `otel` the extra
`otel`. `cloudwatch`, `prometheus` and `otel` give the setup guide's two metrics, `KMSOperationDuration` and
`CircuitBreakerState`; `logging` gives every event.
"""

from __future__ import annotations

import contextlib

from kms_core.events import BreakerState, Event, Observer

BREAKER_VALUES: dict[BreakerState, int] = {"closed": 0, "half_open": 1, "open": 2}
"""What `CircuitBreakerState` says."""


class FanOut:
    """Tells several observers, one after the other; one that raises keeps none of the others from being told."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_event(self, event: Event) -> None:
        """Tell everybody of `event`."""
        for observer in self._observers:
            with contextlib.suppress(Exception):  # as at the core's own border: nobody's failure is another's
                observer.on_event(event)
