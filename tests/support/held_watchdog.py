"""`kms-watchdog`, with somebody inside who holds or breaks its scheduler as files beside the configuration say.

`hold`: its thread stands still, as if a lock were never given back. `fail`: each of its cycles ends in an error.
Nothing from outside can do that to a process; all else in it is as it is shipped.
"""

from __future__ import annotations

import gc
import sys
import threading
from datetime import datetime
from pathlib import Path

from kms_core import SystemClock
from kms_watchdog.__main__ import main
from kms_watchdog.scheduler import SafeScheduler

CLOCK = SystemClock()
LOOK_SECONDS = 0.2


class Broken(SystemClock):
    """A clock that cannot tell the time of day."""

    def now_utc(self) -> datetime:
        raise OSError("the clock cannot be read")


def schedulers() -> list[SafeScheduler]:
    """Return those of this process that run: a reload makes another one."""
    return [found for found in gc.get_objects() if isinstance(found, SafeScheduler) and found.running]


def obey(folder: Path) -> None:
    """Do what the files say, until the process ends."""
    never = threading.Event()
    while True:
        CLOCK.wait(never, LOOK_SECONDS)
        if (folder / "hold").exists():
            for scheduler in schedulers()[:1]:
                with scheduler._jobstores_lock:
                    while (folder / "hold").exists():
                        CLOCK.wait(never, LOOK_SECONDS)
        if (folder / "fail").exists():
            for scheduler in schedulers():
                scheduler._clock = Broken()
            while (folder / "fail").exists():
                CLOCK.wait(never, LOOK_SECONDS)
            for scheduler in schedulers():
                scheduler._clock = CLOCK


if __name__ == "__main__":
    config = Path(sys.argv[sys.argv.index("--config") + 1])
    threading.Thread(target=obey, args=(config.parent,), daemon=True).start()
    sys.exit(main())
