"""Everything that happens goes onto the tape: into the journal first of all, and into the scene."""

from __future__ import annotations

from typing import Any, Protocol

from kms_chaos.journal_writer import JournalWriter
from kms_chaos.scene import Scene, View


class Tape(Protocol):
    """What the drill's parts tell their news to; for any thread."""

    def record(self, event: str, **fields: Any) -> None:
        """Note `event`; it is on disk a moment later."""

    def record_now(self, event: str, **fields: Any) -> None:
        """Note `event`, and return when it is on disk."""


class JournalTape:
    """The tape of a real run."""

    def __init__(self, journal: JournalWriter, scene: Scene) -> None:
        self._journal = journal
        self._scene = scene

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self._journal.seconds

    def record(self, event: str, **fields: Any) -> None:
        """Note `event`; it is on disk a moment later.

        Raises:
            JournalWriteError: the journal cannot be written.
        """
        self._journal.append(event, **fields)
        self._scene.take(event, self._journal.seconds, fields)

    def record_now(self, event: str, **fields: Any) -> None:
        """Note `event`, and return when it is on disk.

        Raises:
            JournalWriteError: it is not.
        """
        self._journal.append_now(event, **fields)
        self._scene.take(event, self._journal.seconds, fields)

    def view(self) -> View:
        """Return what is the case now."""
        return self._scene.view(self._journal.seconds)
