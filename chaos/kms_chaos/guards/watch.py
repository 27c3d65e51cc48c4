"""Guards that go on while a drill runs: the first that no longer holds ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from kms_chaos.guards.checking import CannotTellError, Guard, GuardResult, NotHeldError, crashed
from kms_chaos.halt import Halt
from kms_core.clock import Clock

EVERY_SECONDS = 2.0
UNREADABLE_IN_A_ROW = 3
"""So many looks in a row that told nothing count as not held: once may be a lost packet, silence is never health."""


class GuardWatch:
    """Looks at guards again and again, and calls a halt when one does not hold; `look` from one thread at a time."""

    def __init__(
        self,
        guards: Mapping[str, Guard],
        halt: Halt,
        clock: Clock,
        *,
        note: Callable[[GuardResult], None],
        every_seconds: float = EVERY_SECONDS,
        unreadable_in_a_row: int = UNREADABLE_IN_A_ROW,
    ) -> None:
        """`note` is told of the guard that ended the drill, before the halt is called."""
        self._guards, self._halt, self._clock, self._note = guards, halt, clock, note
        self._every_seconds, self._limit = every_seconds, unreadable_in_a_row
        self._unreadable = dict.fromkeys(guards, 0)

    def look(self) -> GuardResult | None:
        """Look at every guard once; return the one that does not hold, after which a halt has been called."""
        for name, guard in self._guards.items():
            if failed := self._ask(name, guard):
                try:
                    self._note(failed)
                finally:
                    self._halt.call(f"guard {failed.guard}: {failed.detail}")
                return failed
        return None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look in a thread while the block runs, until something does not hold."""
        stop = threading.Event()

        def go_round() -> None:
            while not self._clock.wait(stop, self._every_seconds):
                if self.look():
                    return

        thread = threading.Thread(target=go_round, name="guards", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _ask(self, name: str, guard: Guard) -> GuardResult | None:
        try:
            guard()
        except CannotTellError as e:
            return self._not_told(name, str(e))
        except NotHeldError as e:
            return GuardResult(guard=name, held=False, detail=str(e))
        except Exception as e:  # noqa: BLE001 - a guard that crashed has told nothing
            return self._not_told(name, crashed(e))
        self._unreadable[name] = 0
        return None

    def _not_told(self, name: str, why: str) -> GuardResult | None:
        self._unreadable[name] += 1
        if self._unreadable[name] < self._limit:
            return None
        return GuardResult(guard=name, held=False, detail=f"{why} ({self._limit} looks in a row)")
