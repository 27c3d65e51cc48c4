"""The halt: a file that keeps every drill from starting and ends the one that runs, until somebody takes it away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kms_watchdog.drills.folder import drills_dir
from kms_watchdog.json_text import read_json

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltOrder:
    """Who halted all drills, when and why."""

    by: str
    at_utc: datetime
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the order as JSON values."""
        return {"schema": SCHEMA, "by": self.by, "at_utc": self.at_utc.isoformat(), "reason": self.reason}

    def __str__(self) -> str:
        return f"all drills are halted since {self.at_utc:%Y-%m-%d %H:%M} UTC by {self.by}: {self.reason}"


class HaltOrderError(ValueError):
    """There is a halt, and nobody can read whose: it halts all the same."""


def path(state_dir: Path) -> Path:
    """Return where the order is while a halt is engaged."""
    return drills_dir(state_dir) / "halt.json"


def read(state_dir: Path) -> HaltOrder | None:
    """Return the order that is in force; None: there is none.

    Raises:
        HaltOrderError: there is one that cannot be read, which is in force too.
    """
    where = path(state_dir)
    try:
        return _order(read_json(where.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise HaltOrderError(f"{where} is there, and cannot be read: {type(e).__name__}: {e}") from e


def _order(values: Any) -> HaltOrder:
    if values["schema"] != SCHEMA:
        raise ValueError(f"schema {values['schema']}, this version reads {SCHEMA}")
    at_utc = datetime.fromisoformat(values["at_utc"])
    return HaltOrder(by=str(values["by"]), at_utc=at_utc, reason=str(values["reason"]))


def engaged(state_dir: Path) -> bool:
    """Return whether a halt is in force, readable or not."""
    try:
        return read(state_dir) is not None
    except HaltOrderError:
        return True
