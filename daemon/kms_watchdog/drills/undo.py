"""The undo record: what a drill breaks, where, until when, and how to undo it (DESIGN §5)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

SCHEMA = 1


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
                raise UndoRecordError(f"undo record of schema {values['schema']}, this version reads {SCHEMA}")
            return cls(
                run_id=values["run_id"],
                drill=values["drill"],
                toxiproxy_url=values["toxiproxy_url"],
                created_at_utc=datetime.fromisoformat(values["created_at_utc"]),
                expires_at_utc=datetime.fromisoformat(values["expires_at_utc"]),
                proxies=tuple(ProxyUndo(**{**p, "toxics": tuple(p["toxics"])}) for p in values["proxies"]),
            )
        except (KeyError, TypeError, ValueError) as e:
            raise UndoRecordError(f"not an undo record: {e}") from e


def read(path: Path) -> UndoRecord:
    """Return the undo record in `path`.

    Raises:
        FileNotFoundError: there is none.
        UndoRecordError: the file is not one.
    """
    try:
        return UndoRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as e:
        raise UndoRecordError(f"{path}: {e}") from e
