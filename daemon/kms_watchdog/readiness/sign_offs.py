"""Who says when that a task was done, or an item of the checklist seen to: some hundred bytes a month, for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kms_core.clock import Clock
from kms_watchdog.readiness.kept_file import Document, KeptFile
from kms_watchdog.state_folder import StateError

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOff:
    """Somebody's word that something was done."""

    subject: str
    """A task's or an item's id."""
    at_utc: datetime
    by: str
    note: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"subject": self.subject, "at_utc": self.at_utc.isoformat(), "by": self.by, "note": self.note}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SignOff:
        """Return what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        texts = {name: str(values[name]) for name in ("subject", "by", "note")}
        return cls(at_utc=moment(values["at_utc"]), **texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """All that is written down."""

    signed: tuple[SignOff, ...] = ()
    """Oldest first."""
    since_utc: Mapping[str, datetime]
    """By subject, when somebody first looked after it."""

    def last(self, subject: str) -> SignOff | None:
        """Return the newest word on a subject."""
        of_it = [one for one in self.signed if one.subject == subject]
        return max(of_it, key=lambda one: one.at_utc, default=None)


class SignOffs:
    """`STATE/sign-offs.json`, for commands and the daemon at the same time."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        self._file, self._clock = KeptFile(state_dir / "sign-offs.json", schema=SCHEMA), clock

    def read(self) -> Book:
        """Return all that is written down.

        Raises:
            StateError: the file cannot be read, or is none of ours.
        """
        return self._parse(self._file.read())

    def look_after(self, subjects: Iterable[str]) -> Book:
        """Write down for each subject that has no such time yet that it is looked after from now on; return all.

        Raises:
            StateError: the file cannot be read or written, or is none of ours.
        """
        book, now = self.read(), self._clock.now_utc()
        missing = {subject: now for subject in subjects if subject not in book.since_utc}
        if missing:
            self._change(lambda book: Book(signed=book.signed, since_utc={**missing, **book.since_utc}))
        return self.read() if missing else book

    def sign(self, subject: str, *, by: str, note: str) -> SignOff:
        """Write down that it was done now, on disk before this returns.

        Raises:
            StateError: the file cannot be read or written, or is none of ours.
        """
        one = SignOff(subject=subject, at_utc=self._clock.now_utc(), by=by, note=note)
        self._change(lambda book: Book(signed=(*book.signed, one), since_utc=book.since_utc))
        return one

    def _change(self, change: Callable[[Book], Book]) -> None:
        self._file.change(lambda found: _document(change(self._parse(found))))

    def _parse(self, found: Document | None) -> Book:
        try:
            signed = tuple(SignOff.from_json(one) for one in (found or {}).get("signed", []))
            since = {str(subject): moment(at) for subject, at in (found or {}).get("since_utc", {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise StateError(f"{self._file.path}: not as it was written; move it away to begin anew") from e
        return Book(signed=signed, since_utc=since)


def moment(text: Any) -> datetime:
    """Return the time that a document states.

    Raises:
        TypeError, ValueError: it states none, or one without a zone.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at


def _document(book: Book) -> Document:
    return {
        "signed": [one.to_json() for one in book.signed],
        "since_utc": {subject: at.isoformat() for subject, at in book.since_utc.items()},
    }
