"""Whole processes, started as a person starts them; found again by a mark in their environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from kms_core.clock import SystemClock
from kms_local.demo.configuration import DemoFolder
from kms_local.demo.stage import Stage
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder, folders
from kms_watchdog.drills.journal import Journal, Record

MARK = "KMS_WATCHDOG_TEST_RUN"
ROOT = Path(__file__).parents[2]
CLOCK = SystemClock()


def marked(mark: str) -> list[int]:
    """Return the ids of all living processes that inherited `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


@dataclass(frozen=True, slots=True)
class DemoProcess:
    """A demo on its way."""

    process: subprocess.Popen[str]
    mark: str
    parent: Path

    @property
    def folder(self) -> DemoFolder:
        """The run's folder; it must have begun."""
        return DemoFolder(next(iter(sorted(self.parent.iterdir()))))

    def exists(self, *parts: str) -> bool:
        """Whether a file of the run is there already."""
        return self.parent.is_dir() and any(self.parent.glob("/".join(("*", *parts))))

    def alive(self) -> list[int]:
        """Return who is left of it."""
        return marked(self.mark)

    def drill(self) -> DrillFolder:
        """Return the folder of the run's drill."""
        return folders(self.folder.state)[0]

    def events(self) -> list[str]:
        """Return the names of the drill's journal events so far."""
        begun = self.exists("state", "drills", "*", "journal.ndjson")  # the lease is there before any run is
        return [record.event for record in read_journal(self.drill()).records] if begun else []


def read_journal(drill: DrillFolder) -> Journal:
    return journal.read(drill.journal)


def records(drill: DrillFolder, event: str) -> list[Record]:
    return [record for record in read_journal(drill).records if record.event == event]


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[..., DemoProcess]]:
    """Start `kms-local demo`, or a command that starts it; whatever is left of it at the end is killed."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("finding what is left needs /proc")
    started: list[DemoProcess] = []

    def start(*argv: str) -> DemoProcess:
        mark, parent = uuid.uuid4().hex, tmp_path / "demo"
        command = [part.replace("{dir}", str(parent)) for part in argv]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, MARK: mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(DemoProcess(process, mark, parent))
        return started[-1]

    yield start
    for demo in started:
        for pid in demo.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        demo.process.communicate()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedDemo:
    """A demo that has ended, and all that it left."""

    exit_code: int
    output: str
    folder: DemoFolder
    drill: DrillFolder
    left: list[int]


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> FinishedDemo:
    """`kms-local demo --once`, run to its end once for all tests that look at what it left."""
    parent, mark = tmp_path_factory.mktemp("demo"), uuid.uuid4().hex
    done = subprocess.run(
        [sys.executable, "-m", "kms_local", "demo", "--once", "--dir", str(parent)],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    print(done.stdout)
    folder = DemoFolder(next(iter(parent.iterdir())))
    return FinishedDemo(
        exit_code=done.returncode, output=done.stdout, folder=folder, drill=folders(folder.state)[0], left=marked(mark)
    )


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A local AWS with keys, aliases, roles and alarms; the test starts daemon and drill as it needs them."""
    folder = DemoFolder.create(tmp_path / "stage", CLOCK.now_utc())
    with Stage(folder, CLOCK) as made:
        made.start_aws()
        made.command("kms_watchdog", "provision", "apply", "--yes", "--steps", "keys,aliases,rotation")
        made.hand_over_roles()
        made.command("kms_alarms", "apply", "--yes")
        made.command("kms_alarms", "render", "--into", str(folder.alarms))
        yield made
