"""Whole runs of other machines, copied from the store in which all keep their evidence.

A machine has the runs of its own state folder, and a task that a trigger starts has none. Whoever asks what was proven
(score, archive, checklist, the guard of `payment`) means the estate, not a disk: what is in the store and not here is
copied beside it first. A run that is sealed there never changes, so it is copied once; one that is not, because it runs
or its machine died, is put together from the lines that were streamed, anew each time. Copies may be deleted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills import folder as folders
from kms_watchdog.drills.elsewhere import LARGEST_JOURNAL_BYTES
from kms_watchdog.drills.folder import RUN_ID, DrillFolder
from kms_watchdog.durable import make_folders
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.evidence.store import RUNS, Store, StoreError
from kms_watchdog.json_text import read_json

AT_A_TIME = 8
"""Runs that are copied at once: fewer than a client of botocore has connections (ten)."""
_JOURNAL, _MANIFEST, _SEGMENTS = "journal.ndjson", "manifest.json", "segments/"


def copies_dir(state_dir: Path) -> Path:
    """Return the folder that holds the copies, one folder a run; an empty one is a run of another account."""
    return state_dir / "drills-copied"


def all_folders(state_dir: Path) -> tuple[DrillFolder, ...]:
    """Return the folders of all runs that are known here: this machine's own, and copies; in order of time.

    Of a run that is here itself the copy does not count.
    """
    found = {where.run_id: where for where in (*_copied(state_dir), *folders.folders(state_dir))}
    return tuple(found[run_id] for run_id in sorted(found))


def _copied(state_dir: Path) -> Iterator[DrillFolder]:
    with suppress(FileNotFoundError):
        for path in copies_dir(state_dir).iterdir():
            if path.is_dir() and RUN_ID.fullmatch(path.name):
                yield DrillFolder(path)


def copy_configured(
    settings: Settings, clock: Clock, since_utc: datetime, say: Callable[[str], None] = lambda _: None
) -> None:
    """Do as `copy_new` with the configured store, or nothing where none is. Main thread, where AWS's clients are made.

    Raises:
        StoreError: as `copy_new`.
    """
    store = open_store(settings, clock)
    if store is not None:
        copy_new(settings, store, since_utc, say)


def copy_new(settings: Settings, store: Store, since_utc: datetime, say: Callable[[str], None]) -> None:
    """Copy the runs in `store` that began since then and are not here, sealed.

    Args:
        settings: where the state folder is, and of which account runs are.
        store: asked with one request where there is nothing new; else with some two for each file of a new run.
        since_utc: a run whose name does not tell when it began is copied too.
        say: is told how many there are, if any.

    Raises:
        StoreError: not all could be copied.
    """
    state_dir = settings.state.dir
    try:
        new = [run_id for run_id in store.folders(RUNS) if _is_wanted(run_id, since_utc, state_dir)]
        if not new:
            return
        say(f"copying {len(new)} run{'' if len(new) == 1 else 's'} of other machines from {store.place}")
        make_folders(copies_dir(state_dir), mode=0o750)
        copier = _Copier(store, copies_dir(state_dir), settings.estate.account_id)
        with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="copy-run") as pool:
            list(pool.map(copier.copy, new))
    except OSError as e:
        raise StoreError(f"what is in {store.place} cannot be copied: {e}") from e


def _is_wanted(run_id: str, since_utc: datetime, state_dir: Path) -> bool:
    began = folders.began(run_id)
    if began is not None and began < since_utc:
        return False
    if not folders.may_be_anothers(state_dir, run_id):
        return False
    copy = DrillFolder(copies_dir(state_dir) / run_id)
    return not (copy.manifest.is_file() or (copy.path.is_dir() and not any(copy.path.iterdir())))


@dataclass(frozen=True, slots=True)
class _Copier:
    """Copies one run after another. For any thread."""

    store: Store
    into: Path
    account_id: str

    def copy(self, run_id: str) -> None:
        """Copy what the store has of a run, whole or not at all; one without a line yet is left for the next time.

        Raises:
            StoreError: it cannot be read.
            OSError: it cannot be written.
        """
        files = self._files(run_id)
        if files is None:
            return
        draft = self.into / f".{run_id}.{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o750)
        try:
            for name, content in files.items():
                (draft / name).write_bytes(content)
            shutil.rmtree(self.into / run_id, ignore_errors=True)
            draft.rename(self.into / run_id)
        except OSError:
            if not (self.into / run_id).is_dir():  # else another process copied it meanwhile
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _files(self, run_id: str) -> Mapping[str, bytes] | None:
        """Return the files of a run by name, none of one of another account; None: it has no line yet."""
        prefix = f"{RUNS}/{run_id}/"
        sizes = {name.removeprefix(prefix): size for name, size in self.store.sizes(prefix).items()}
        for name, size in sizes.items():
            if size > LARGEST_JOURNAL_BYTES:
                raise StoreError(f"{self.store.place}: {prefix}{name} has {size} bytes: no drill's file is so large")
        get = partial(_get, self.store, prefix)
        files = {name: get(name) for name in sizes if "/" not in name and not name.startswith(".")}
        raw = files.get(_JOURNAL) or b"".join(get(name) for name in sizes if name.startswith(_SEGMENTS))
        if not raw and _MANIFEST not in files:
            return None
        return {**files, _JOURNAL: raw} if _account_of(raw) in {None, self.account_id} else {}


def _get(store: Store, prefix: str, name: str) -> bytes:
    return store.get(prefix + name)


def _account_of(raw: bytes) -> Any:
    """Return which account the run is of that a journal tells of; None: its first line does not tell."""
    try:
        return read_json(raw.partition(b"\n")[0])["config"]["estate"]["account_id"]
    except (ValueError, KeyError, TypeError):
        return None
