"""An approval: somebody's leave for one drill, as it is written now, in one region, until a moment."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from kms_watchdog.drills.folder import drills_dir
from kms_watchdog.json_text import read_json

SCHEMA = 1
_SESSION = re.compile(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.+")


class ApprovalError(ValueError):
    """The file is not an approval that this version understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Somebody's leave."""

    drill: str
    drill_hash: str
    """`hash_of` the drill that was approved: an edited one has no leave."""
    regions: tuple[str, ...]
    """All that may be hurt, in the estate's order."""
    estate: str
    approved_by: str
    """ARN, as STS tells it of the one who approved."""
    approved_at_utc: datetime
    until_utc: datetime
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        times = {"approved_at_utc": self.approved_at_utc.isoformat(), "until_utc": self.until_utc.isoformat()}
        return {"schema": SCHEMA, **asdict(self), "regions": list(self.regions), **times}

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Return the approval that `to_json` wrote.

        Raises:
            ApprovalError: something is missing, of the wrong kind, or of another schema.
        """
        try:
            if values["schema"] != SCHEMA:
                raise ApprovalError(f"an approval of schema {values['schema']}, this version reads {SCHEMA}")
            texts = ("drill", "drill_hash", "estate", "approved_by", "reason")
            if wrong := [name for name in texts if not isinstance(values[name], str) or not values[name]]:
                raise ApprovalError(f"not an approval: {wrong[0]} is no text")
            approved_at, until = (datetime.fromisoformat(values[name]) for name in ("approved_at_utc", "until_utc"))
            if approved_at.tzinfo is None or until.tzinfo is None:
                raise ApprovalError("not an approval: a time without a zone")
            return cls(
                **{name: values[name] for name in texts},
                regions=tuple(str(region) for region in values["regions"]),
                approved_at_utc=approved_at,
                until_utc=until,
            )
        except (KeyError, TypeError, AttributeError) as e:
            raise ApprovalError(f"not an approval: {e}") from e


def hash_of(drill: Any) -> str:
    """Return the SHA-256 over a drill's canonical JSON: keys sorted, no spaces, UTF-8. `drill`: JSON values."""
    text = json.dumps(drill, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def folder(state_dir: Path) -> Path:
    """Return where approvals are kept."""
    return drills_dir(state_dir) / "approvals"


def read(path: Path) -> Approval:
    """Return the approval in `path`.

    Raises:
        ApprovalError: it cannot be read, or is none.
    """
    try:
        return Approval.from_json(read_json(path.read_text(encoding="utf-8")))
    except OSError as e:
        raise ApprovalError(f"{path}: {e.strerror or e}") from e
    except ValueError as e:  # as is ApprovalError
        raise ApprovalError(f"{path}: {e}") from e


def latest(state_dir: Path, drill: str) -> Path | None:
    """Return the newest approval of `drill` by name, which begins with its time; None: none can be read."""
    for path in sorted(folder(state_dir).glob("*.json"), reverse=True):
        try:
            if read(path).drill == drill:
                return path
        except ApprovalError:
            continue
    return None


def person(arn: str) -> str:
    """Return who an ARN stands for, whatever the session is called: a user, or the role that was assumed.

    Session names are chosen by whoever assumes the role, so they tell nobody apart: two sessions of one role are one
    person, even where they are two people. Paths of a role are in its IAM ARN and not in its sessions' ARNs, so they
    are left out too: names of roles are unique in an account (IAM User Guide, "IAM identifiers").
    """
    if found := _SESSION.fullmatch(arn):
        partition, account, role = found.groups()
        return f"arn:{partition}:iam::{account}:role/{role}"
    head, separator, path = arn.partition(":role/")
    return f"{head}{separator}{path.rpartition('/')[2]}" if separator else arn
