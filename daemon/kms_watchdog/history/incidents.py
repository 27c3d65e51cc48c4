"""Failures that belong together: from the first look that was not OK to the one that was again. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kms_watchdog.health import Subject
from kms_watchdog.results import CanaryResult, Mode, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One canary's run of looks that were not OK."""

    subject: Subject
    mode: Mode
    began_at_utc: datetime
    last_at_utc: datetime
    """The last look that was not OK."""
    recovered_at_utc: datetime | None
    """The first that was OK again; None: none was yet."""
    looks: int
    outcome: Outcome
    """FAILED if any look was, else BLIND."""
    reasons: tuple[str, ...]
    """The most frequent first, as the next."""
    error_codes: tuple[str, ...]
    request_id: str
    """The last that KMS gave."""
    detail: str
    """The last that a canary gave."""

    def lasted(self, now_utc: datetime) -> timedelta:
        """Return how long it lasted, or has lasted by `now_utc`."""
        return max((self.recovered_at_utc or now_utc) - self.began_at_utc, timedelta())

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "canary": self.subject.canary,
            "region": self.subject.region,
            "key": self.subject.key,
            "mode": str(self.mode),
            "outcome": str(self.outcome),
            "began_at_utc": self.began_at_utc.isoformat(),
            "last_at_utc": self.last_at_utc.isoformat(),
            "recovered_at_utc": self.recovered_at_utc.isoformat() if self.recovered_at_utc else None,
            "looks": self.looks,
            "reasons": list(self.reasons),
            "error_codes": list(self.error_codes),
            "request_id": self.request_id,
            "detail": self.detail,
        }


def incidents(results: Iterable[CanaryResult]) -> tuple[Incident, ...]:
    """Return the incidents in `results`, which may come in any order, by when they began.

    A drill's run is apart from another's.
    """
    of_one: dict[tuple[Subject, Mode, str], list[CanaryResult]] = {}
    for each in sorted(results, key=lambda result: result.started_at_utc):
        key = (Subject(each.canary, each.region, each.key), each.mode, each.run_id)
        of_one.setdefault(key, []).append(each)
    found = [incident for looks in of_one.values() for incident in _of_one(looks)]
    return tuple(sorted(found, key=lambda incident: (incident.began_at_utc, incident.subject)))


def _of_one(looks: Sequence[CanaryResult]) -> Iterable[Incident]:
    bad: list[CanaryResult] = []
    for look in looks:
        if look.outcome is not Outcome.OK:
            bad.append(look)
        elif bad:
            yield _incident(bad, look.started_at_utc)
            bad = []
    if bad:
        yield _incident(bad, None)


def _incident(bad: Sequence[CanaryResult], recovered_at_utc: datetime | None) -> Incident:
    first, last = bad[0], bad[-1]
    return Incident(
        subject=Subject(first.canary, first.region, first.key),
        mode=first.mode,
        began_at_utc=first.started_at_utc,
        last_at_utc=last.started_at_utc,
        recovered_at_utc=recovered_at_utc,
        looks=len(bad),
        outcome=Outcome.FAILED if any(look.outcome is Outcome.FAILED for look in bad) else Outcome.BLIND,
        reasons=_ranked(str(look.reason) for look in bad),
        error_codes=_ranked(look.error_code for look in bad),
        request_id=next((look.request_id for look in reversed(bad) if look.request_id), ""),
        detail=next((look.detail for look in reversed(bad) if look.detail), ""),
    )


def _ranked(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text for text, _ in Counter(text for text in texts if text).most_common())
