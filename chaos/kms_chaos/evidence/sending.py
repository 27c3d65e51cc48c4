"""Send a run's files to the store, and remember on disk which runs are there whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kms_chaos import durable
from kms_chaos.evidence.sealing import STORED, NotClosedError, evidence_files, seal
from kms_chaos.evidence.segments import Cut, Segments
from kms_chaos.evidence.signing import Signer, SigningError
from kms_core.clock import Clock
from kms_watchdog.drills.folder import DrillFolder, folders
from kms_watchdog.drills.journal import JournalError
from kms_watchdog.evidence.store import RUNS, ConflictError, Store, StoreError
from kms_watchdog.json_text import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of one run's evidence; `error` is empty when all of it is where it belongs."""

    run_id: str
    error: str = ""
    finished: bool = True
    """Whether the run is over: of one that is open, only its lines are sent."""
    store_failed: bool = False
    """Whether the store would fail for every other run too."""


def finish(
    where: DrillFolder,
    store: Store | None,
    signer: Signer | None,
    clock: Clock,
    cut: Cut,
    segments: Segments | None = None,
) -> Sent:
    """Seal the run and send all of it; what does not work is told and stays to be done later. Raises nothing for that.

    Args:
        where: the run.
        store: where to; None: it is only sealed.
        signer: what signs; None: nothing does.
        clock: tells the time of the signature.
        cut: how segments are cut.
        segments: those that were streamed; None: the store is asked where they end.
    """
    finished, trouble = True, ""
    try:
        seal(where, signer, clock)
    except NotClosedError:
        finished = False
    except SigningError as e:
        trouble = f"not signed: {e}"
    except OSError as e:
        trouble = f"not sealed: {e}"
    if store is None:
        return Sent(run_id=where.run_id, error=trouble, finished=finished)
    try:
        _send_lines(where, segments or Segments.resumed(store, where.run_id, where.journal, cut))
        if finished and not trouble:
            _send_files(where, store)
            durable.write(where.path / STORED, (json.dumps({"schema": 1, "store": store.place}) + "\n").encode())
    except (ConflictError, OSError, JournalError) as e:
        trouble = f"not stored: {e}"
    except StoreError as e:
        return Sent(run_id=where.run_id, error=f"not stored: {e}", finished=finished, store_failed=True)
    return Sent(run_id=where.run_id, error=trouble, finished=finished)


def _send_lines(where: DrillFolder, segments: Segments) -> None:
    if where.journal.exists():
        raw = where.journal.read_bytes()
        segments.send(raw.rfind(b"\n") + 1, all_of_it=True)


def _send_files(where: DrillFolder, store: Store) -> None:
    """Send every file and the manifest last: where it is, the rest is too."""
    for path in (*evidence_files(where), where.manifest):
        if path.is_file():  # of a run that nobody could seal there is no manifest
            store.put(f"{RUNS}/{where.run_id}/{path.name}", path.read_bytes())


def send_waiting(state_dir: Path, store: Store | None, signer: Signer | None, clock: Clock, cut: Cut) -> Iterator[Sent]:
    """Seal and send what earlier runs could not; a store that fails is not asked again for the next run."""
    for where in waiting(state_dir, store):
        yield (sent := finish(where, store, signer, clock, cut))
        if sent.store_failed:
            return


def waiting(state_dir: Path, store: Store | None) -> Iterator[DrillFolder]:
    """Yield the runs without a living owner that are not sealed, or not whole in `store`, the oldest first."""
    for where in folders(state_dir):
        done = where.manifest.exists() if store is None else _stored_in(where) == store.place
        if not done and where.journal.exists() and not where.has_owner():
            yield where


def _stored_in(where: DrillFolder) -> str:
    try:
        return str(read_json((where.path / STORED).read_text(encoding="utf-8"))["store"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
