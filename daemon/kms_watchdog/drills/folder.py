"""A drill's folder: where its files are, and whether its owner lives."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_BEGAN = re.compile(r"(\d{8}T\d{6})Z")
NOT_RUNS = frozenset({"approvals"})
"""Folders beside those of runs; no run is called so."""


class FolderBusyError(RuntimeError):
    """Another process owns the drill's folder."""


@dataclass(frozen=True, slots=True)
class DrillFolder:
    """`STATE/drills/<run_id>`."""

    path: Path

    def __post_init__(self) -> None:
        if not RUN_ID.fullmatch(self.path.name):
            raise ValueError(f"a run id is 1 to 80 of letters, digits, '_', '.', '-', not {self.path.name!r}")

    @property
    def run_id(self) -> str:
        """The run's name, also part of the names of its proxies."""
        return self.path.name

    @property
    def undo(self) -> Path:
        """What was to be broken and how to undo it; on disk before anything is broken."""
        return self.path / "undo.json"

    @property
    def journal(self) -> Path:
        """Everything that happened, append-only."""
        return self.path / "journal.ndjson"

    @property
    def verdict(self) -> Path:
        """What the journal proves."""
        return self.path / "verdict.json"

    @property
    def report(self) -> Path:
        """The same for people."""
        return self.path / "report.html"

    @property
    def signature(self) -> Path:
        """Who vouches for the closed journal and the files beside it."""
        return self.path / "signature.json"

    @property
    def manifest(self) -> Path:
        """All the run's files and their hashes; the last to be written."""
        return self.path / "manifest.json"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder's `flock`; the kernel lets go of it when this process dies, however it dies.

        Raises:
            FolderBusyError: another process holds it.
        """
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                raise FolderBusyError(f"{self.path} is owned by another process") from e
            yield
        finally:
            os.close(handle)

    def has_owner(self) -> bool:
        """Return whether a living process owns the folder. Free = owner dead (DESIGN §2)."""
        try:
            with self.owned():
                return False
        except FolderBusyError:
            return True


def began(run_id: str) -> datetime | None:
    """Return when a run began, by its name, in UTC; None: its name does not tell."""
    found = _BEGAN.match(run_id)
    try:
        return datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) if found else None
    except ValueError:  # the thirteenth month
        return None


def drills_dir(state_dir: Path) -> Path:
    """Return the folder that holds all drills' folders."""
    return state_dir / "drills"


def folder(state_dir: Path, run_id: str) -> DrillFolder:
    """Return the folder of `run_id`, which need not exist.

    Raises:
        ValueError: `run_id` is not fit to be a folder's name.
    """
    if not RUN_ID.fullmatch(run_id) or run_id in NOT_RUNS:
        raise ValueError(f"not a run id: {run_id!r}")
    return DrillFolder(drills_dir(state_dir) / run_id)


def may_be_anothers(state_dir: Path, run_id: str) -> bool:
    """Return whether `run_id`, a name that came from elsewhere, is fit for a run's and no run here bears it."""
    try:
        return not folder(state_dir, run_id).path.is_dir()
    except ValueError:
        return False


def folders(state_dir: Path) -> tuple[DrillFolder, ...]:
    """Return all drills' folders, oldest name first; run ids begin with their start time, so in order of time."""
    parent = drills_dir(state_dir)
    if not parent.is_dir():
        return ()
    found = (p for p in sorted(parent.iterdir()) if p.is_dir() and RUN_ID.fullmatch(p.name))
    return tuple(DrillFolder(p) for p in found if p.name not in NOT_RUNS)
