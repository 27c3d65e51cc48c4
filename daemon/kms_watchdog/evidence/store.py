"""Where evidence is kept: a folder, or an S3 bucket with Object Lock. What is there is never written over."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

from kms_watchdog.durable import make_folders, sync_folder

RUNS, GOLDEN = "runs", "golden"
"""The two folders of a store."""


class StoreError(RuntimeError):
    """The store cannot be used now; what was to be kept stays on disk and is sent later."""


class StoreRefusedError(StoreError):
    """The store is not fit for evidence, or says no: trying again changes nothing, a person has to."""


class ConflictError(StoreRefusedError):
    """Something else is there under that name, and evidence is never written over."""


class Store(Protocol):
    """A place for evidence; names are relative, with `/` between their parts. For any thread."""

    @property
    def place(self) -> str:
        """What the configuration calls it."""

    def check(self) -> None:
        """See that what is kept here cannot be lost or changed by accident.

        Raises:
            StoreRefusedError: it can.
            StoreError: nobody could tell.
        """

    def put(self, name: str, content: bytes) -> None:
        """Keep `content` as `name`; the same once more is no error.

        Raises:
            ConflictError: something else is there.
            StoreError: it could not be kept.
        """

    def get(self, name: str) -> bytes:
        """Return what was kept first as `name`.

        Raises:
            StoreError: it cannot be read, or was never there.
        """

    def sizes(self, prefix: str = "") -> Mapping[str, int]:
        """Return all names that begin with `prefix` and the size of each in bytes, in order of name.

        Raises:
            StoreError: they cannot be listed.
        """

    def remarks(self, prefix: str = "") -> Mapping[str, str]:
        """Return, by name, what somebody did to what was kept: an object written over, or hidden by a delete marker."""

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the folders right below the folder `prefix`, in order.

        Raises:
            StoreError: they cannot be listed.
        """


class DirStore:
    """A folder, which an operator keeps safe: a mounted volume, a backup's source, a WORM file system."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def place(self) -> str:
        """As `Store.place`."""
        return f"dir:{self._root}"

    def check(self) -> None:
        """As `Store.check`: the folder is there, or can be made, and can be written."""
        try:
            make_folders(self._root, mode=0o750)
        except OSError as e:
            raise StoreRefusedError(f"{self.place}: cannot be made: {e.strerror}") from e
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise StoreRefusedError(f"{self.place}: cannot be written by this user")

    def put(self, name: str, content: bytes) -> None:
        """As `Store.put`; the file is on disk, whole and read-only, when this returns."""
        path = self._path(name)
        try:
            make_folders(path.parent, mode=0o750)
            self._write_once(path, content)
        except OSError as e:
            raise StoreError(f"{self.place}: {name}: {e.strerror or e}") from e

    def _write_once(self, path: Path, content: bytes) -> None:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.chmod(0o440)
            os.link(draft, path)  # unlike a rename it never replaces what is there
        except FileExistsError as e:
            if path.read_bytes() != content:
                raise ConflictError(f"{self.place}: {path.relative_to(self._root)}: something else is there") from e
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)

    def get(self, name: str) -> bytes:
        """As `Store.get`."""
        try:
            return self._path(name).read_bytes()
        except OSError as e:
            raise StoreError(f"{self.place}: {name}: {e.strerror or e}") from e

    def sizes(self, prefix: str = "") -> Mapping[str, int]:
        """As `Store.sizes`."""
        folder = self._root if "/" not in prefix else self._path(prefix.rpartition("/")[0])
        try:
            found = {str(p.relative_to(self._root)): p.stat().st_size for p in folder.rglob("*") if _is_kept(p)}
        except OSError as e:
            raise StoreError(f"{self.place}: {e.strerror or e}") from e
        return {name: found[name] for name in sorted(found) if name.startswith(prefix)}

    def remarks(self, prefix: str = "") -> Mapping[str, str]:  # noqa: ARG002 - a port's signature
        """As `Store.remarks`: a folder has no memory."""
        return {}

    def folders(self, prefix: str) -> tuple[str, ...]:
        """As `Store.folders`."""
        try:
            return tuple(sorted(path.name for path in self._path(prefix).iterdir() if path.is_dir()))
        except FileNotFoundError:
            return ()
        except OSError as e:
            raise StoreError(f"{self.place}: {e.strerror or e}") from e

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise StoreRefusedError(f"{self.place}: not a name: {name!r}")
        return self._root / parts


def _is_kept(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")
