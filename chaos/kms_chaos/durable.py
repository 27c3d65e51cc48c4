"""Files that are on disk before the next step is taken."""

from __future__ import annotations

import os
from pathlib import Path

from kms_watchdog.durable import make_folders, sync_folder


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all, and return when file and folder are on disk."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def move(draft: Path, path: Path) -> None:
    """Put the file `draft` at `path`, in the same folder, and return when file and folder are on disk."""
    handle = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.replace(path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make `folder`, which must not exist, with its parents, and return when its name is on disk.

    Raises:
        FileExistsError: it is there already.
    """
    make_folders(folder.parent)
    folder.mkdir()
    sync_folder(folder.parent)
