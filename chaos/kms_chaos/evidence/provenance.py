"""What a drill's first record says of where it comes from: the drill before it, the code, the clock."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kms_chaos
from kms_chaos.evidence.sealing import MANIFEST
from kms_chaos.evidence.segments import folder
from kms_core.clock import Clock
from kms_watchdog.canaries.clock_offset import date_of, offset
from kms_watchdog.canaries.steps import Steps
from kms_watchdog.config import Settings
from kms_watchdog.doors import Doors
from kms_watchdog.drills import journal
from kms_watchdog.drills.folder import folders
from kms_watchdog.evidence.store import RUNS, Store, StoreError
from kms_watchdog.json_text import read_json
from kms_watchdog.new_connection import Budget, ConnectionFault, ask_head

REVISION_VARIABLE = "KMS_WATCHDOG_REVISION"
_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_OFFSET_SECONDS = 3.0
_LOOKED_AT = 5
"""How many runs of the store, the last by name, are looked at: names begin with the start time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The drill before this one, as it was found."""

    run_id: str
    started_at_utc: str
    head: str
    """Hash of the last line that its chain holds up to."""
    state: str
    """`closed`, `open` (nobody has finished it) or `broken` (its chain does not hold)."""

    def to_json(self) -> dict[str, str]:
        """Return what the next drill's first record holds."""
        return {"run_id": self.run_id, "head": self.head, "state": self.state}


def previous(state_dir: Path, store: Store | None, *, but: str) -> tuple[Previous | None, tuple[str, ...]]:
    """Return the drill that started last, besides `but`, and where it was sought: not in a store out of reach."""
    found = {one.run_id: one for one in _in_state(state_dir)}
    sought = ["state"]
    if store is not None:
        try:
            found = {one.run_id: one for one in _in_store(store, known=frozenset(found))} | found
            sought.append(store.place)
        except (StoreError, journal.JournalError):
            pass  # the journal says that it was not sought there
    found.pop(but, None)
    latest = max(found.values(), key=lambda one: (one.started_at_utc, one.run_id), default=None)
    return latest, tuple(sought)


def _in_state(state_dir: Path) -> Iterator[Previous]:
    for where in folders(state_dir):
        try:
            raw = where.journal.read_bytes()
        except OSError:
            continue  # a folder without a journal: its drill never began
        if raw:
            yield read(where.run_id, raw)


def _in_store(store: Store, *, known: frozenset[str]) -> Iterator[Previous]:
    for run_id in store.folders(RUNS)[-_LOOKED_AT:]:
        if run_id not in known and (found := _stored(store, run_id)) is not None:
            yield found


def _stored(store: Store, run_id: str) -> Previous | None:
    """Return what the store has of a run: two small objects at the most, for a drill is waiting."""
    there = store.sizes(f"{RUNS}/{run_id}/")
    if (sealed := f"{RUNS}/{run_id}/{MANIFEST}") in there:
        return _sealed(run_id, store.get(sealed))
    segments = [name for name in there if name.startswith(folder(run_id))]
    if not segments:
        return None
    first, last = read(run_id, store.get(segments[0])), store.get(segments[-1])
    head = journal.hash_of(last.rstrip(b"\n").rpartition(b"\n")[2])
    return Previous(run_id=run_id, started_at_utc=first.started_at_utc, head=head, state="open")


def _sealed(run_id: str, manifest: bytes) -> Previous:
    try:
        values = read_json(manifest)
        started, head = str(values["started_at_utc"]), str(values["journal_head"])
    except (ValueError, KeyError, TypeError):
        return Previous(run_id=run_id, started_at_utc="", head=journal.GENESIS, state="broken")
    return Previous(run_id=run_id, started_at_utc=started, head=head, state="closed")


def read(run_id: str, raw: bytes) -> Previous:
    """Return what the next drill says of the run whose journal is `raw`."""
    prev, started, last_event, broken = journal.GENESIS, "", "", False
    for seq, text in enumerate(raw.split(b"\n")[:-1]):
        try:
            record = journal.parse(text, prev=prev, seq=seq)
        except journal.JournalError:
            broken = True
            break
        prev, last_event = record.hash, record.event
        started = started or record.at_utc.isoformat()
    state = "broken" if broken else "closed" if last_event == "closed" else "open"
    return Previous(run_id=run_id, started_at_utc=started, head=prev, state=state)


def revision(environ: Mapping[str, str] = os.environ, code: Path = Path(kms_chaos.__file__)) -> str | None:
    """Return the git revision of the running code: what the package's builder says, else the checkout's; else None."""
    said = environ.get(REVISION_VARIABLE, "").strip().lower()
    if said:
        return said if _REVISION.fullmatch(said) else None
    git = next((folder / ".git" for folder in code.parents if (folder / ".git").exists()), None)
    try:
        return _head(git) if git is not None else None
    except OSError:
        return None


def _head(git: Path) -> str | None:
    if git.is_file():  # a worktree's: `gitdir: PATH`
        git = git.parent / git.read_text(encoding="utf-8").partition(":")[2].strip()
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if head.startswith("ref:"):
        head = _ref(git, head.removeprefix("ref:").strip())
    return head if _REVISION.fullmatch(head) else None


def _ref(git: Path, name: str) -> str:
    common = git / "commondir"  # in a worktree, branches are the main checkout's
    shared = git / common.read_text(encoding="utf-8").strip() if common.exists() else git
    if (shared / name).exists():
        return (shared / name).read_text(encoding="utf-8").strip()
    packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.split(" ")[0] for line in packed if line.endswith(f" {name}")), "")


def clock_source(settings: Settings, clock: Clock) -> dict[str, Any]:
    """Return which clock the journal's times are of, and how far it is from that of the home region's KMS."""
    return {
        "source": "the host's real-time clock (at_utc) and monotonic clock (t)",
        "kms_offset": kms_offset(settings, settings.home_region, clock),
    }


def kms_offset(settings: Settings, region: str, clock: Clock) -> dict[str, Any] | None:
    """Return how far our clock is ahead of the `Date` of `region`'s KMS, unsigned; None: it does not answer in time."""
    budget = Budget(Steps(clock), _OFFSET_SECONDS)
    try:
        connector = Doors(settings).to_kms(region)
        with connector.open(budget) as opened:
            sent_utc, sent = clock.now_utc(), clock.monotonic()
            date_utc = date_of(ask_head(opened, connector.server, budget))
            seconds = clock.monotonic() - sent
    except ConnectionFault:
        return None
    if date_utc is None:
        return None
    found = offset(sent_utc=sent_utc, round_trip_seconds=seconds, date_utc=date_utc)
    return {
        "region": region,
        "seconds": round(found.seconds, 3),
        "uncertainty_seconds": round(found.uncertainty_seconds, 3),
    }
