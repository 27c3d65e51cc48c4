"""What was asked and what was answered: one frozen value a question, and the notebook they are written into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kms_core import taxonomy

Fact = str | float | bool

NOT_ASKED = "NotAsked"
"""The code of a question that nobody put, since another answer made it idle."""
LATE = taxonomy.DEADLINE
"""That of a region that had no answer in time; the core's word for the same."""
NO_CA_BUNDLE = "CaBundleUnreadable"
"""That of a file with certificates to trust that is not there, or is none."""
MISSING = "missing"
"""The state, in the facts, of a key that is not there."""
WHOLE_REGION = "everything that is asked of the region"


class Subject(StrEnum):
    """What a question is about."""

    NAME = "name"  # facts: addresses, place, host, own_name, from
    CONNECTION = "connection"  # facts: step, ours, expired, detail; or address, tls_version, certificate_*
    CLOCK = "clock"  # facts: offset_seconds, at_least_seconds
    IDENTITY = "identity"  # facts: account_id, role
    ALIAS = "alias"  # facts: target, account_id
    KEY = "key"  # facts: state, key_id, account_id, multi_region_type
    DRY_RUN = "dry_run"  # facts: operation, refused_by, expected
    ACCESS = "access"  # facts: wrong, refused_by; one for each thing that is wrong
    POLICY = "policy"  # the key's policy and grants were read, or not
    ROLES = "roles"  # IAM's answer about the roles
    REGION = "region"  # the region as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One question and its answer, or what came in place of one."""

    subject: Subject
    region: str
    asked: str
    answered: str
    """In words; never plaintext, data keys or credentials, and no message of AWS's, which names sessions."""
    purpose: str = ""
    """Of the key it is about; for one that is not configured, the name by which it was asked for."""
    code: str = ""
    """AWS's own code, or the core's or botocore's name of a fault; empty: there was a good answer."""
    request_id: str = ""
    seconds: float = 0.0
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether there was an answer that is no error."""
        return not self.code

    def fact(self, name: str) -> str:
        """Return a fact in words; empty: it was not seen."""
        return str(self.facts.get(name, ""))

    def number(self, name: str) -> float:
        """Return a fact that is a number; 0: it was not seen."""
        return float(self.facts.get(name, 0.0))

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        return {
            "subject": str(self.subject),
            "region": self.region,
            "key": self.purpose,
            "asked": self.asked,
            "answered": self.answered,
            "code": self.code,
            "request_id": self.request_id,
            "seconds": round(self.seconds, 3),
            "facts": dict(self.facts),
        }


class Notebook:
    """Takes what is seen, from any thread: what one region has said stays, however long another one takes."""

    def __init__(self) -> None:
        self._lines: list[Seen] = []  # to append to it is one step, so it needs no lock

    def note(self, seen: Seen) -> None:
        """Add a line."""
        self._lines.append(seen)

    def lines(self, regions: Sequence[str]) -> tuple[Seen, ...]:
        """Return all lines there are now, region by region in the order of `regions`, each as it came."""
        place = {region: i for i, region in enumerate(regions)}
        return tuple(sorted(self._lines, key=lambda seen: place.get(seen.region, len(place))))
