"""What a run did, on disk before its next step: `STATE/preflight/RUN.json`; and the lock that keeps others out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from kms_watchdog.preflight.answers import Answer, Seen
from kms_watchdog.readiness.kept_file import KeptFile, make_folder, open_lock
from kms_watchdog.state_folder import StateError

SCHEMA = 1
_LOCK = "running.lock"


def folder(state_dir: Path) -> Path:
    """Return where result files are."""
    return state_dir / "preflight"


def run_id(now_utc: datetime, entropy: bytes) -> str:
    """Return a run's name: when it began, and what tells it from another of that second."""
    return f"{now_utc:%Y%m%dT%H%M%SZ}-{entropy.hex()}"


class ResultFile:
    """One run's file; each change is on disk before the method returns.

    Every method raises StateError if it cannot be.
    """

    def __init__(self, state_dir: Path, run: str) -> None:
        self.path = folder(state_dir) / f"{run}.json"
        self._file = KeptFile(self.path, schema=SCHEMA)
        self.document: dict[str, Any] = {}

    def begin(self, *, account_id: str, regions: Sequence[str], **facts: Any) -> None:
        """Write the first version, before anything is made in any of these regions of this account."""
        facts = {**facts, "account_id": account_id, "regions": list(regions)}
        self._put({"answers": [], "changes": [], "ended_at_utc": None, "torn_down": False, "left": [], **facts})

    def answered(self, answer: Answer) -> None:
        """Add an answer."""
        self._put({"answers": [*self.document["answers"], answer.to_json()]})

    def changed(self, seen: Seen) -> None:
        """Add a request that changed something, or should have."""
        self._put({"changes": [*self.document["changes"], seen.to_json()]})

    def end(self, now_utc: datetime, *, left: Sequence[str], requests: int) -> None:
        """Write how it ended: what could not be torn down, if anything."""
        self._put(
            {
                "ended_at_utc": now_utc.isoformat(),
                "torn_down": not left,
                "left": list(left),
                "requests": self.document.get("requests", 0) + requests,
            }
        )

    def within(self, account_id: str, regions: Collection[str]) -> bool:
        """Say whether whoever looks at these regions of this account sees all that the run can have made."""
        ours = self.document.get("regions")
        return (
            self.document.get("account_id") == account_id
            and isinstance(ours, list)
            and all(region in regions for region in ours)
        )

    def _put(self, more: Mapping[str, Any]) -> None:
        self.document = {**self.document, **more}
        self._file.change(lambda _: self.document)


def unfinished(state_dir: Path) -> dict[str, ResultFile]:
    """Return the runs whose keys may still be there: broken off, or not wholly torn down; of whatever account.

    Raises:
        StateError: a file cannot be read.
    """
    found: dict[str, ResultFile] = {}
    for path in sorted(folder(state_dir).glob("*.json")):
        file = ResultFile(state_dir, path.stem)
        file.document = KeptFile(path, schema=SCHEMA).read() or {}
        if not file.document.get("torn_down") and isinstance(file.document.get("changes"), list):
            found[path.stem] = file
    return found


@contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """Hold the lock; the kernel lets go of it when the process dies.

    Raises:
        BlockingIOError: another run holds it.
        StateError: it cannot be taken.
    """
    try:
        make_folder(folder(state_dir))
        handle = open_lock(folder(state_dir) / _LOCK, mode=0o640)
    except OSError as e:
        raise StateError(f"{folder(state_dir)}: cannot be written: {e.strerror}") from e
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
