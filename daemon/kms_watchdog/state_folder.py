"""The folder that holds all that outlives the process, and the lock that keeps a second daemon out of it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kms_watchdog.durable import make_folders

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "efs", "9p", "ceph", "fuse.sshfs"})


class StateError(RuntimeError):
    """The state folder cannot be used; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """`[state] dir`."""

    path: Path

    @property
    def history(self) -> Path:
        """Results of canaries."""
        return self.path / "history.db"

    @property
    def metric_queue(self) -> Path:
        """Metrics on their way to CloudWatch."""
        return self.path / "cloudwatch.db"

    @property
    def slots(self) -> Path:
        """Which scheduled drill ran when."""
        return self.path / "slots.db"

    @property
    def drill_log(self) -> Path:
        """What the last drill that the daemon started said."""
        return self.path / "drill.log"

    @property
    def http(self) -> Path:
        """Where the running daemon answers."""
        return self.path / "http.json"

    def prepare(self) -> None:
        """Make the folder, and see that it is fit for SQLite's WAL and for locks.

        Raises:
            StateError: it cannot be made or written, or lies on a network file system.
        """
        try:
            make_folders(self.path, mode=0o750)
        except OSError as e:
            raise StateError(f"{self.path}: state.dir cannot be made: {e.strerror}") from e
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise StateError(f"{self.path}: state.dir cannot be written by this user")
        kind = file_system(self.path, mounts())
        if kind in NETWORK_FILE_SYSTEMS:
            raise StateError(f"{self.path}: state.dir lies on {kind}; SQLite and locks need a local disk")

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the daemon's lock; the kernel lets go of it when this process dies, however it dies.

        Raises:
            StateError: another daemon holds it, or it cannot be taken.
        """
        lock = self.path / "daemon.lock"
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as e:
            raise StateError(f"{lock}: cannot be opened: {e.strerror}") from e
        try:
            self._take(handle)
            yield
            os.ftruncate(handle, 0)  # who sends a signal to the pid in it shall not hit a stranger
        finally:
            os.close(handle)

    def _take(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        except BlockingIOError as e:
            pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StateError(f"{self.path}: another daemon (pid {pid}) uses this state.dir") from e
        except OSError as e:  # a full disk
            raise StateError(f"{self.path / 'daemon.lock'}: cannot be written: {e.strerror}") from e

    def tell_url(self, url: str) -> None:
        """Write where the daemon answers, for whoever cannot know the port.

        Raises:
            StateError: it cannot be written, as on a full disk.
        """
        draft = self.http.with_suffix(".tmp")
        try:
            draft.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n", encoding="utf-8")
            draft.replace(self.http)
        except OSError as e:
            raise StateError(f"{self.http}: cannot be written: {e.strerror}") from e

    def forget_url(self) -> None:
        """Take the address away: nobody answers there any more."""
        self.http.unlink(missing_ok=True)


def file_system(path: Path, mounted: str) -> str:
    """Return the kind of file system that `path` is on, from the text of `mounts`; empty if it does not say."""
    best, kind = "", ""
    for line in mounted.splitlines():
        _, point, name, *_ = [*line.split(" "), "", "", ""]
        point = point.replace("\\040", " ")
        if path.is_relative_to(point or "/nowhere") and len(point) >= len(best):
            best, kind = point, name
    return kind


def mounts() -> str:
    """Return what this process sees mounted, as Linux writes it; empty where it does not."""
    try:
        # /proc/mounts leads here too, but is not there under systemd's `ProcSubset=pid`.
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not Linux: nothing to go by
