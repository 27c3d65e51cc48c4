"""One JSON document in the state folder that commands and the daemon share: durable, and safe for several processes."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kms_watchdog.durable import sync_folder
from kms_watchdog.json_text import read_json
from kms_watchdog.state_folder import StateError

Document = dict[str, Any]


class KeptFile:
    """Writers take turns by a lock beside it; readers see the old document or the new one, never half.

    What cannot be read is never written over: somebody has to look at it first.
    """

    def __init__(self, path: Path, *, schema: int) -> None:
        self.path, self._schema = path, schema

    def read(self) -> Document | None:
        """Return what is there; None: there is no file yet.

        Raises:
            StateError: it cannot be read, is no such document, or one that a newer version wrote.
        """
        try:
            found = read_json(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StateError(f"{self.path}: cannot be read: {e.strerror}") from e
        except ValueError as e:
            raise StateError(f"{self.path}: not JSON; move it away to begin anew") from e
        schema = found.get("schema") if isinstance(found, dict) else None
        if type(schema) is not int:
            raise StateError(f"{self.path}: no document of ours; move it away to begin anew")
        if schema != self._schema:
            raise StateError(f"{self.path}: schema {schema}, this version reads {self._schema}")
        return dict(found)

    def change(self, change: Callable[[Document | None], Document]) -> None:
        """Put what `change` makes of the document in its place, on disk before this returns.

        Raises:
            StateError: it cannot be read, as in `read`, or not written.
            Exception: whatever `change` raises; nothing is written then.
        """
        try:
            make_folder(self.path.parent)
            with self._locked():
                self._replace({"schema": self._schema, **change(self.read())})
        except OSError as e:
            raise StateError(f"{self.path}: cannot be written: {e.strerror or e}") from e

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = open_lock(self.path.with_name(self.path.name + ".lock"), mode=0o660)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _replace(self, document: Document) -> None:
        draft = self.path.with_name(self.path.name + ".tmp")
        draft.unlink(missing_ok=True)  # a killed writer's, which may be another user's, so that it cannot be written
        with draft.open("x", encoding="utf-8") as file:
            if self.path.exists():
                os.fchmod(file.fileno(), self.path.stat().st_mode & 0o666)
            _hand_over(file.fileno(), self.path.parent)
            file.write(json.dumps(document, indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        sync_folder(self.path.parent)  # else a power cut may bring the old document back


def make_folder(folder: Path) -> None:
    """Make a folder of the state folder, and those above it; root's are the owner's of what they are made in.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o750, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _hand_over(handle, folder.parent)
    finally:
        os.close(handle)
    sync_folder(folder.parent)


def open_lock(path: Path, *, mode: int) -> int:
    """Open a lock file, made if it is not there; whoever owns the folder can take it too, though root made it.

    Raises:
        OSError: it cannot be opened.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        _hand_over(handle, path.parent)
    except OSError:
        os.close(handle)
        raise
    return handle


def _hand_over(handle: int, folder: Path) -> None:
    """Give what root has opened to the folder's owner: the daemon, which must go on reading and locking it.

    A file with a second name is left alone: whoever may write in the folder could have put somebody else's there.
    """
    owner, found = folder.stat(), os.fstat(handle)
    if os.geteuid() != 0 or (found.st_uid, found.st_gid) == (owner.st_uid, owner.st_gid):
        return
    if stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
        os.fchown(handle, owner.st_uid, owner.st_gid)
