"""What a drill does while its fault is on, beside the fault itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from kms_chaos.drill_parts import ColdStart
from kms_chaos.tape import Tape
from kms_core import Core
from kms_core.clock import Clock
from kms_core.errors import KmsCoreError
from kms_watchdog.config import CANARY_CONTEXT

_PLAINTEXT = b"synthetic: sealed by a core that was started in the dark"


class Actions:
    """Each once, at its time."""

    def __init__(
        self,
        actions: tuple[ColdStart, ...],
        new_core: Callable[[], AbstractContextManager[Core]],
        tape: Tape,
        clock: Clock,
        *,
        purposes: tuple[str, ...],
    ) -> None:
        """`new_core` makes a core over the drill's own lines, with nothing in its cache."""
        self._waiting = sorted(actions, key=lambda action: action.after_seconds)
        self._new_core, self._tape, self._clock, self._purposes = new_core, tape, clock, purposes

    def turn(self, elapsed_seconds: float) -> None:
        """Do what is due so long after the first fault."""
        while self._waiting and self._waiting[0].after_seconds <= elapsed_seconds:
            self._cold_start(self._waiting.pop(0))

    def _cold_start(self, action: ColdStart) -> None:
        served: list[str] = []
        began, error = self._clock.monotonic(), ""
        try:
            with self._new_core() as core:
                served.extend(_served(core, self._purposes))  # keeps those before one that fails
                seconds = self._clock.monotonic() - began
        except KmsCoreError as e:
            error, seconds = e.error_code or type(e).__name__, self._clock.monotonic() - began
        fields: dict[str, Any] = {"what": "core", "ok": not error, "error": error, "purposes": served}
        self._tape.record_now("cold-start", seconds=round(seconds, 6), within_seconds=action.within_seconds, **fields)


def _served(core: Core, purposes: tuple[str, ...]) -> Iterator[str]:
    """Yield each purpose under which `core` sealed a message and opened it again."""
    for purpose in purposes:
        context = {**CANARY_CONTEXT, "purpose": purpose}
        message = core.encrypt(_PLAINTEXT, purpose=purpose, context=context)
        if core.decrypt(message, purpose=purpose, context=context) == _PLAINTEXT:
            yield purpose
