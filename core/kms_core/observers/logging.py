"""Events as records of the standard library's logging: the name of the event, and its fields as `extra`."""

from __future__ import annotations

import dataclasses
import logging

from kms_core.events import (
    AccountNotVerified,
    Attempt,
    BreakerMoved,
    CacheLookup,
    Event,
    FailedOver,
    KeyQuarantined,
    OverridesUnreadable,
    StaleKeyUsed,
)

_LEVELS: dict[type, int] = {
    CacheLookup: logging.DEBUG,
    AccountNotVerified: logging.WARNING,
    FailedOver: logging.WARNING,
    BreakerMoved: logging.WARNING,
    KeyQuarantined: logging.ERROR,
    OverridesUnreadable: logging.ERROR,
    StaleKeyUsed: logging.ERROR,
}


class LoggingObserver:
    """Writes each event to `logger`, named `kms_core.<event>`; fields are in `record.kms_core`, a dict.

    A failed attempt is a warning, a good one and a cache lookup are for debugging.

    A handler works in the thread of the call, and one that blocks (a full pipe, a socket) holds the call up. Put the
    standard library's queue before slow ones, and let nothing reach them past it:

        logging.raiseExceptions = False  # else each lost record is told on stderr, which may be what blocks
        records: queue.Queue[logging.LogRecord] = queue.Queue(10_000)  # when it is full, records are lost, not time
        listener = logging.handlers.QueueListener(records, slow_handler)
        listener.start()  # its thread does not survive a fork: start one in the child
        logger = logging.getLogger("kms_core")
        logger.addHandler(logging.handlers.QueueHandler(records))
        logger.propagate = False  # else the root logger's handlers are called too, in the thread of the call
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("kms_core")

    def on_event(self, event: Event) -> None:
        """Write `event`, when its level is wanted."""
        level = _level(event)
        if not self._logger.isEnabledFor(level):
            return
        fields = dataclasses.asdict(event)
        text = " ".join(f"{name}={value}" for name, value in fields.items())
        self._logger.log(level, "kms_core.%s %s", type(event).__name__, text, extra={"kms_core": fields})


def _level(event: Event) -> int:
    if isinstance(event, Attempt):
        return logging.WARNING if event.error_code else logging.DEBUG
    return _LEVELS.get(type(event), logging.INFO)
