"""What a fault does over time, in a thread of its own that ends with the fault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kms_core.clock import Clock

_LOOK_SECONDS = 0.1
"""How soon a halt is seen."""

Pause = Callable[[float], bool]
"""Wait so many seconds, and return whether it is time to end."""


@contextmanager
def running(work: Callable[[Pause], None], *, clock: Clock, stop: threading.Event) -> Iterator[None]:
    """Run `work` in a thread while the block runs; it ends soon after the block does, or `stop` is set.

    `work` gets what it must wait by, and returns when that says so. What it raises is raised when the block is left;
    noted on what the block raises itself, if it does.
    """
    over = threading.Event()
    failures: list[Exception] = []

    def pause(seconds: float) -> bool:
        until = clock.monotonic() + seconds
        while not stop.is_set() and (left := until - clock.monotonic()) > 0:
            if clock.wait(over, min(left, _LOOK_SECONDS)):
                break
        return over.is_set() or stop.is_set()

    def run() -> None:
        try:
            work(pause)
        except Exception as e:  # noqa: BLE001 - raised when the block is left
            failures.append(e)

    thread = threading.Thread(target=run, name="fault", daemon=True)
    thread.start()
    try:
        yield
    except BaseException as e:
        over.set()
        thread.join()
        for failure in failures:
            e.add_note(f"the fault itself failed: {type(failure).__name__}: {failure}")
        raise
    over.set()
    thread.join()
    if failures:
        raise failures[0]
