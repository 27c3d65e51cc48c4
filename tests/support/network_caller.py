"""A process that uses the core without a pause, in whichever namespace it is started, and writes down what it sees.

`python network_caller.py CONFIGURATION FILE`: a line of JSON for each call and each event of the core's, until SIGTERM.
Each call asks KMS: a data key lives for a millisecond.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from kms_core import Core, CoreConfig, KmsCoreError, SystemClock
from kms_core.events import Attempt, BreakerMoved, Event

THREADS = 4
PAUSE_SECONDS = 0.1
"""Between two calls of one thread."""
CONTEXT = {"service": "network"}


class Diary:
    """The file, for any thread."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._clock, self._lock = file, SystemClock(), threading.Lock()

    def on_event(self, event: Event) -> None:
        if isinstance(event, BreakerMoved | Attempt):
            self.note(type(event).__name__, **dataclasses.asdict(event))

    def note(self, what: str, **fields: Any) -> None:
        line = json.dumps({"at": self._clock.now_utc().timestamp(), "what": what, **fields})
        with self._lock:
            self._file.write(f"{line}\n")
            self._file.flush()


def call(core: Core, diary: Diary, purpose: str, stop: threading.Event) -> None:
    """Seal and open, compare, and note how long it took and what it ended with."""
    clock, number = SystemClock(), 0
    while not clock.wait(stop, PAUSE_SECONDS):
        number += 1
        began, plaintext = clock.monotonic(), f"{purpose} {number}".encode()
        try:
            sealed = core.encrypt(plaintext, purpose=purpose, context=CONTEXT)
            seconds = [clock.monotonic() - began]
            opened = core.decrypt(sealed, purpose=purpose, context=CONTEXT)
            seconds.append(clock.monotonic() - began - seconds[0])
        except KmsCoreError as e:
            diary.note("call", ok=False, error=f"{type(e).__name__}: {e}", seconds=[clock.monotonic() - began])
        else:
            diary.note("call", ok=opened == plaintext, error="", seconds=seconds)


def main(configuration: str, path: str) -> None:
    """Call until told to end."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    config = dataclasses.replace(CoreConfig.from_toml(configuration), data_key_ttl_seconds=0.001)
    with Path(path).open("w", encoding="utf-8") as file:
        diary = Diary(file)
        with Core(config, diary) as core:
            purposes = [list(config.keys)[number % len(config.keys)] for number in range(THREADS)]
            threads = [threading.Thread(target=call, args=(core, diary, purpose, stop)) for purpose in purposes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
