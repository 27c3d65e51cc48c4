"""The reviews that were made, one file each in the state folder: `audits/20261231T120000.250000Z-quarterly.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kms_watchdog.auditing.audit import SCHEMA, Audit, Kind, to_document
from kms_watchdog.readiness.kept_file import KeptFile
from kms_watchdog.state_folder import StateError

FOLDER = "audits"


def last(state: Path, kind: Kind, estate: str) -> Mapping[str, Any] | None:
    """Return the newest whole review of that kind, or, if there is none, of any; None: there is none at all.

    One that could not read something is no measure: what it did not see would be called new the next time.

    Raises:
        kms_watchdog.state_folder.StateError: it cannot be read.
    """
    names = sorted((path.name for path in (state / FOLDER).glob("*Z-*.json")), reverse=True)
    of_kind = [name for name in names if name.endswith(f"-{kind}.json")]
    for name in (*of_kind, *names):
        document = KeptFile(state / FOLDER / name, schema=SCHEMA).read()
        if document is None:
            continue
        if missing := _MEMBERS - document.keys():
            raise StateError(f"{state / FOLDER / name}: no review of ours: it has no {min(missing)}; move it away")
        if document["estate"] == estate and not document["not_told"]:
            return document
    return None


_MEMBERS = frozenset({"estate", "findings", "made_at_utc", "not_told"})


def keep(state: Path, audit: Audit) -> Path:
    """Write a review down, on disk before this returns; return where.

    Raises:
        kms_watchdog.state_folder.StateError: it cannot be written.
    """
    # To the microsecond: two reviews of one second are two files.
    path = state / FOLDER / f"{audit.made_at_utc:%Y%m%dT%H%M%S.%fZ}-{audit.kind}.json"
    KeptFile(path, schema=SCHEMA).change(lambda _: to_document(audit))
    return path
