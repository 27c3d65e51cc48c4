"""What is told of a drill; whom, and how: `kms_watchdog.receivers`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from kms_watchdog.receivers import subject_line

SCHEMA = 1


class Phase(StrEnum):
    """What there is to tell."""

    STARTED = "started"
    ENDED = "ended"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is told, and the members of its JSON."""

    phase: Phase
    estate: str
    drill: str
    run_id: str
    slot: str
    regions: tuple[str, ...]
    """Those that it hurts; none while a trainee has to find out."""
    started_by: str
    """ARN."""
    reason: str
    """Why it was started, where somebody said so."""
    host: str
    """The machine that it runs on, where `report` is."""
    verdict: str | None = None
    """None while there is none, and when nobody judged."""
    interrupted: str = ""
    """What cut it short."""
    report: str = ""
    """The report's path; empty: there is none."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"schema": SCHEMA, **asdict(self), "phase": str(self.phase), "regions": list(self.regions)}

    @property
    def text(self) -> str:
        """The one JSON document that every receiver gets."""
        return json.dumps(self.to_json(), ensure_ascii=False)

    @property
    def subject(self) -> str:
        """It in a line, as SNS takes it."""
        where = f" on {', '.join(self.regions)}" if self.regions else ""
        told = f": {self.verdict}" if self.verdict else ""
        return subject_line(f"Drill {self.phase}{told}: {self.drill}{where} ({self.estate})")
