"""The undo record: what a drill breaks, where, until when, and how to undo it (DESIGN §5).

Whoever heals acts on what it says, with requests to the server that it names: so it is read as anything else that
comes from a file, and what no drill would write is refused.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from kms_watchdog.json_text import read_json

SCHEMA = 1
OWN_PROXIES = "kmswd."
"""How the name of every proxy that a drill makes begins: nothing else is deleted."""
_TOXIPROXY = re.compile(r"http://([A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")
_MOST_PORT = 65_535
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,200}")
"""What can be a part of an address of Toxiproxy's API, and leads nowhere else."""


class UndoRecordError(ValueError):
    """The file is not an undo record that this version understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyUndo:
    """One proxy, and what it must be again.

    A proxy of the drill's own making (`made_by_drill`) is undone by deleting it; another one loses the drill's toxics
    by name and gets back `enabled`, as it was found.
    """

    name: str
    region: str
    listen: str
    upstream: str
    made_by_drill: bool
    enabled: bool = True
    toxics: tuple[str, ...] = ()

    def problem(self) -> str:
        """Return why no drill can have written this; empty if one can."""
        for name in (self.name, *self.toxics):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                return f"{name!r} is no name of a proxy or a toxic"
        if self.made_by_drill and not self.name.startswith(OWN_PROXIES):
            return f"{self.name!r} is no proxy that a drill makes: their names begin with {OWN_PROXIES}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoRecord:
    """What one run may have changed in one Toxiproxy."""

    run_id: str
    drill: str
    toxiproxy_url: str
    created_at_utc: datetime
    expires_at_utc: datetime
    """When the fault must be gone even if its owner lives."""
    proxies: tuple[ProxyUndo, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "drill": self.drill,
            "toxiproxy_url": self.toxiproxy_url,
            "created_at_utc": self.created_at_utc.isoformat(),
            "expires_at_utc": self.expires_at_utc.isoformat(),
            "proxies": [asdict(proxy) for proxy in self.proxies],
        }

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Return the record that `to_json` wrote.

        Raises:
            UndoRecordError: something is missing, misspelt, or of another schema.
        """
        try:
            if values["schema"] != SCHEMA:
                raise UndoRecordError(f"undo record of schema {values['schema']!r}, this version reads {SCHEMA}")
            record = cls(
                run_id=values["run_id"],
                drill=values["drill"],
                toxiproxy_url=values["toxiproxy_url"],
                created_at_utc=datetime.fromisoformat(values["created_at_utc"]),
                expires_at_utc=datetime.fromisoformat(values["expires_at_utc"]),
                proxies=tuple(ProxyUndo(**{**p, "toxics": tuple(p["toxics"])}) for p in values["proxies"]),
            )
            address = _TOXIPROXY.fullmatch(record.toxiproxy_url)
            if not address or int(address[2]) > _MOST_PORT:
                raise UndoRecordError(f"{record.toxiproxy_url!r} is no Toxiproxy's address, http://HOST:PORT")
            if problem := next(filter(None, (proxy.problem() for proxy in record.proxies)), ""):
                raise UndoRecordError(problem)
        except (KeyError, TypeError, ValueError) as e:
            raise UndoRecordError(f"not an undo record: {e}") from e
        else:
            return record


def read(path: Path) -> UndoRecord:
    """Return the undo record in `path`.

    Raises:
        FileNotFoundError: there is none.
        UndoRecordError: the file is not one.
    """
    try:
        return UndoRecord.from_json(read_json(path.read_text(encoding="utf-8")))
    except ValueError as e:  # as are UndoRecordError, and bytes that are no text
        raise UndoRecordError(f"{path}: {e}") from e
