"""Seal a closed run: sign what its journal and the files beside it are, and list them all in a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kms_chaos import durable
from kms_chaos.evidence.signing import Signer, SigningError, signature_file
from kms_core.clock import Clock
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import DrillFolder

STATEMENT_SCHEMA = MANIFEST_SCHEMA = 1
PURPOSE = "kms-watchdog drill evidence"
"""What a signature is for, inside what is signed: it can stand for nothing else."""
SIGNATURE, MANIFEST, STORED = "signature.json", "manifest.json", "stored.json"
LOCAL_ONLY = frozenset({STORED})
"""Files of the state folder that are no evidence."""


class NotClosedError(RuntimeError):
    """The run's journal is open or its chain does not hold: there is nothing to vouch for."""


def seal(where: DrillFolder, signer: Signer | None, clock: Clock) -> None:
    """Write `signature.json` (where the run was to be signed) and `manifest.json`; what is there already stays.

    A run whose own journal does not say that it would be signed is not signed later: nobody knows what became of it
    meanwhile.

    Raises:
        NotClosedError: the run is not finished, or its journal was edited.
        SigningError: the key cannot be had now; a later call does the rest.
    """
    found = _closed(where)
    promised = found.records[0].fields.get("evidence", {}).get("signing") is not None
    if promised and signer is None and not where.signature.exists():
        raise SigningError("its journal says that it would be signed, and no key is configured now")
    if signer is not None and promised and not where.signature.exists():
        durable.write(where.signature, signature_file(statement(where, found, clock), signer))
    if not where.manifest.exists():
        durable.write(where.manifest, manifest(where, found))


def _closed(where: DrillFolder) -> journal.Journal:
    try:
        found = journal.read(where.journal)
    except journal.JournalError as e:
        raise NotClosedError(f"{where.run_id}: {e}") from e
    if not found.closed or found.torn:
        raise NotClosedError(f"{where.run_id}: its journal is not closed")
    return found


def statement(where: DrillFolder, found: journal.Journal, clock: Clock) -> dict[str, Any]:
    """Return what is signed: the identity of the run, the head of its chain, and a hash of each file beside it."""
    first, last = found.records[0], found.records[-1]
    return {
        "schema": STATEMENT_SCHEMA,
        "purpose": PURPOSE,
        "run_id": where.run_id,
        "drill": first.fields.get("drill"),
        "region": first.fields.get("region"),
        "started_at_utc": first.at_utc.isoformat(),
        "closed_at_utc": last.at_utc.isoformat(),
        "closed_by": last.fields.get("by"),
        "verdict": last.fields.get("verdict"),
        "records": len(found.records),
        "journal_head": found.head,
        "previous": first.fields.get("previous"),
        "files": {name: each["sha256"] for name, each in _listed(where, but=SIGNATURE).items()},
        "signed_at_utc": clock.now_utc().isoformat(),
    }


def manifest(where: DrillFolder, found: journal.Journal) -> bytes:
    """Return the content of `manifest.json`."""
    content = {
        "schema": MANIFEST_SCHEMA,
        "run_id": where.run_id,
        "started_at_utc": found.records[0].at_utc.isoformat(),
        "journal_head": found.head,
        "records": len(found.records),
        "files": _listed(where),
    }
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def evidence_files(where: DrillFolder) -> Iterator[Path]:
    """Yield the run's files, in order of name, the manifest apart: whatever a drill leaves there is evidence."""
    for path in sorted(where.path.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name not in {MANIFEST, *LOCAL_ONLY}:
            yield path


def _listed(where: DrillFolder, but: str = "") -> Mapping[str, Mapping[str, Any]]:
    listed = {}
    for path in evidence_files(where):
        if path.name != but:
            content = path.read_bytes()
            listed[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return listed
