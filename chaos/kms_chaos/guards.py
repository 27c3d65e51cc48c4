"""What must be true before a drill may touch anything. Guards fail closed: one that cannot be checked does not hold."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kms_chaos.alarms import UNREADABLE, AlarmBoard
from kms_chaos.durable import sync_folder
from kms_watchdog.config import Settings
from kms_watchdog.drills import folder as folders
from kms_watchdog.drills import journal

_DAEMON_SECONDS = 2.0
_HTTP_OK = 200


class RefusedError(RuntimeError):
    """The drill may not start; the message says why. Nothing was touched."""


class NotHeldError(Exception):
    """A guard looked, and what must be true is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardResult:
    """What one guard found."""

    guard: str
    held: bool
    detail: str


def check(guards: Mapping[str, Callable[[], str]]) -> tuple[GuardResult, ...]:
    """Ask every guard; each returns what it saw, or raises."""
    return tuple(_ask(name, guard) for name, guard in guards.items())


def _ask(name: str, guard: Callable[[], str]) -> GuardResult:
    try:
        return GuardResult(guard=name, held=True, detail=guard())
    except NotHeldError as e:
        return GuardResult(guard=name, held=False, detail=str(e))
    except Exception as e:  # noqa: BLE001 - a guard that crashed has not held: guards fail closed
        return GuardResult(guard=name, held=False, detail=f"could not be checked: {type(e).__name__}: {e}")


def daemon_watches(settings: Settings) -> str:
    """See that the daemon is alive: without it nobody would publish the drill's numbers, and no twin could fire."""
    path = settings.state.dir / "http.json"
    try:
        url = str(json.loads(path.read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise NotHeldError(f"no kms-watchdog daemon runs on {settings.state.dir} (no readable http.json)") from e
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_DAEMON_SECONDS)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except OSError as e:
        raise NotHeldError(f"the kms-watchdog daemon does not answer at {url}") from e
    finally:
        connection.close()
    if status != _HTTP_OK:
        raise NotHeldError(f"the kms-watchdog daemon at {url} says {status} on /livez")
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


@contextmanager
def only_drill(state_dir: Path) -> Iterator[None]:
    """Hold the lock that allows one drill at a time on this state folder.

    Raises:
        RefusedError: another process holds it.
    """
    parent = folders.drills_dir(state_dir)
    parent.mkdir(parents=True, exist_ok=True)
    sync_folder(state_dir)
    handle = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise RefusedError(f"another drill runs on {state_dir}") from e
        yield
    finally:
        os.close(handle)
