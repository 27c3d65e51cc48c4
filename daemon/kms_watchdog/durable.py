"""Names that are on disk before the next step is taken: a file's `fsync` keeps its content, its folder's its name."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on disk.

    Raises:
        OSError: they are not.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(folder: Path, *, mode: int = 0o777) -> None:
    """Make `folder` and those above it that are not there, and return when the names of those it made are on disk.

    Args:
        folder: may be there already.
        mode: of `folder`; those above it get the usual one, as with `Path.mkdir`.

    Raises:
        OSError: it cannot be made, or another thing is there.
    """
    if not folder.is_dir():
        make_folders(folder.parent)
        folder.mkdir(mode=mode, exist_ok=True)
        sync_folder(folder.parent)
