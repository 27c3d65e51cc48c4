"""Guards that look at this machine and at the alarms: leftovers, halts, windows, the daemon."""

from __future__ import annotations

import fcntl
import http.client
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from kms_chaos.alarms import UNREADABLE, AlarmBoard
from kms_chaos.guards.checking import CannotTellError, NotHeldError, RefusedError
from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills import folder as folders
from kms_watchdog.drills import halt_order, journal
from kms_watchdog.drills.windows import Calendar
from kms_watchdog.durable import make_folders, sync_folder
from kms_watchdog.results import Mode
from kms_watchdog.status_client import running_url

TWIN_CLEARS_PERIODS = 8
"""How long after a drill its twins may fire: the daemon publishes for them for five periods more, alarms look at five,
and CloudWatch evaluates once a period."""
_DAEMON_SECONDS = 2.0
_HTTP_OK = 200


def daemon_watches(settings: Settings) -> str:
    """See that the daemon is alive: without it nobody would publish the drill's numbers, and no twin could fire."""
    url = running_url(settings.state.dir / "http.json")
    if url is None:
        raise CannotTellError(f"no kms-watchdog daemon runs on {settings.state.dir} (no readable http.json)")
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_DAEMON_SECONDS)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except OSError as e:
        raise CannotTellError(f"the kms-watchdog daemon does not answer at {url}") from e
    finally:
        connection.close()
    if status != _HTTP_OK:
        raise CannotTellError(f"the kms-watchdog daemon at {url} says {status} on /livez")
    return f"{url}/livez says {status}"


def alarms_are_quiet(board: AlarmBoard) -> str:
    """See that every alarm the drill speaks of can be read, and that none is firing already."""
    readings = board.read()
    for (alarm, region, mode), reading in sorted(readings.items()):
        if reading.state == UNREADABLE:
            raise NotHeldError(reading.reason)
        if reading.state == "ALARM":
            raise NotHeldError(f"{mode} alarm {alarm} of {region} is in ALARM already: {reading.reason}")
    return f"{len(readings)} alarms read in {board.region}, none in ALARM"


def let_twins_clear(
    board: AlarmBoard, clock: Clock, stop: threading.Event, *, period_seconds: int, say: Callable[[str], None]
) -> None:
    """Wait until the twins that an earlier drill made fire have cleared, or `stop`; at most as long as they may take.

    Drills alone publish what a twin reads, and none runs now: only time is needed. A live alarm is never waited for.
    """
    until = clock.monotonic() + TWIN_CLEARS_PERIODS * period_seconds
    told = False
    while firing := _twins_alone(board):
        left = until - clock.monotonic()
        if left <= 0:
            return
        if not told:
            say(f"waiting, at most {left:.0f} s, for what an earlier drill made fire to clear: {', '.join(firing)}")
            told = True
        if clock.wait(stop, min(period_seconds / 5, left)):
            return


def _twins_alone(board: AlarmBoard) -> list[str]:
    """Return the twins in ALARM, as people name them; none if something is wrong with any other alarm."""
    bad = {key: one.state for key, one in board.read().items() if one.state in {UNREADABLE, "ALARM"}}
    if any(mode != Mode.DRILL or state == UNREADABLE for (_, _, mode), state in bad.items()):
        return []
    return [f"{alarm} of {region}" for alarm, region, _ in sorted(bad)]


def nothing_is_left_over(state_dir: Path) -> str:
    """See that no earlier drill is open: one that runs, or one whose fault nobody has undone yet."""
    for found in folders.folders(state_dir):
        if found.undo.exists() and not _closed(found):
            raise NotHeldError(f"drill {found.run_id} is not closed: `kms-chaos heal --run {found.run_id}` ends it")
    return "no drill is open"


def _closed(found: folders.DrillFolder) -> bool:
    try:
        return journal.read(found.journal).closed
    except journal.JournalError:
        return True  # nothing can be appended to a broken chain; that it is broken is the reader's alarm


def nobody_halts(state_dir: Path) -> str:
    """See that no halt is engaged; one that cannot be read is."""
    try:
        order = halt_order.read(state_dir)
    except halt_order.HaltOrderError as e:
        raise NotHeldError(f"a halt is engaged: {e}") from e
    if order is not None:
        raise NotHeldError(f"{order}; `kms-chaos resume` ends it")
    return "no halt is engaged"


def window_is_open(calendar: Calendar, clock: Clock, *, for_seconds: float = 0.0) -> str:
    """See that drills are allowed now, and still will be when a fault that may last `for_seconds` must be over."""
    now = clock.now_utc()
    if why := calendar.why_not(now):
        raise NotHeldError(f"no drill now: {why}")
    if why := calendar.why_not(now + timedelta(seconds=for_seconds)):
        raise NotHeldError(f"the drill may last {for_seconds:.0f} s, and then: {why}")
    return f"{now:%Y-%m-%d %H:%M} UTC is not blocked and in a window" if calendar.windows else "no windows are set"


@contextmanager
def only_drill(state_dir: Path) -> Iterator[None]:
    """Hold the lock that allows one drill at a time on this state folder.

    Raises:
        RefusedError: another process holds it.
    """
    parent = folders.drills_dir(state_dir)
    make_folders(parent)
    sync_folder(state_dir)  # whoever made it may have died before it was on disk
    handle = os.open(parent, os.O_RDONLY)  # no child inherits it, and the lock with it: PEP 446
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise RefusedError(f"another drill runs on {state_dir}") from e
        yield
    finally:
        os.close(handle)
