"""Drills of other machines, as the store tells of them in which all keep their evidence.

A machine has the runs of its own state folder. Where others drill too (a service in each region, a task that a trigger
starts), the daemon reads the rest of them from the store: when each drill held last, and which slots were filled. What
it read stays in the state folder, so that commands and the next start need not ask. Only what a run said of itself is
taken over; that it was not tampered with is for `kms-chaos verify`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills import folder as folders
from kms_watchdog.drills.journal import JournalError, parse_all
from kms_watchdog.drills.runs import RunView, view_after
from kms_watchdog.durable import make_folders
from kms_watchdog.evidence.store import RUNS, Store, StoreError
from kms_watchdog.json_text import read_json

log = structlog.get_logger("drills")

LOOK_SECONDS = 300.0
"""How often the store is asked: one request, where there is nothing new and at most a thousand runs."""
FOLLOWED = timedelta(days=100)
"""How far back: past the longest interval of a plan, a month, and the window after it."""
UNSEEN_SECONDS = 60.0
"""A run that has begun is in the store by then: its lines go there while it runs, ten seconds old at the most."""
OPEN_AT_MOST = timedelta(hours=2)
"""A run without a manifest that began longer ago died, and nobody sealed it yet: no slot waits for it."""
LATE_SECONDS = 3600.0
"""How often it is asked after such a run, as often as its own machine tries to seal it."""
PATIENCE_SECONDS = 900.0
"""How long a store that does not answer is waited for before a slot is called missed without it."""
LARGEST_JOURNAL_BYTES = 64 * 1024 * 1024
"""Of a drill of an hour; a larger one is not read into memory."""

_JOURNAL, _MANIFEST = "journal.ndjson", "manifest.json"
_VIEW: TypeAdapter[RunView] = TypeAdapter(RunView)


def elsewhere_dir(state_dir: Path) -> Path:
    """Return the folder that holds what is known of others' runs, a file each."""
    return state_dir / "drills-elsewhere"


def kept_views(state_dir: Path, known: Mapping[str, object]) -> Iterator[RunView]:
    """Yield what is kept of others' runs that are not `known`, in order of name; a file that is no view is left out.

    A run that this machine has itself is not told twice.
    """
    try:
        found = sorted(elsewhere_dir(state_dir).glob("*.json"))
    except OSError:
        return
    for path in found:
        if path.stem in known or not folders.RUN_ID.fullmatch(path.stem):
            continue
        with suppress(OSError, ValidationError):  # the next look of the daemon writes it again
            view = _VIEW.validate_json(path.read_bytes())
            if view.run_id == path.stem and not folders.folder(state_dir, view.run_id).path.is_dir():
                yield view


class Elsewhere:
    """Asks the store for others' runs. `look` is called by one thread at a time, `told_until` by any."""

    def __init__(self, settings: Settings, store: Store, clock: Clock) -> None:
        """Runs in `store` of another account than that of `settings` are not this estate's."""
        self._state_dir, self._account_id = settings.state.dir, settings.estate.account_id
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._told_until: datetime | None = None
        self._asked_since = clock.monotonic()
        self._not_taken: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._trouble = ""

    def told_until(self) -> datetime:
        """Return up to when it is known which drills began elsewhere, in UTC.

        With a store that has not answered for long that is now: a slot that nobody knows of is missed.
        """
        now_utc = self._clock.now_utc()
        with self._lock:
            told, asked_since = self._told_until, self._asked_since
        if self._clock.monotonic() - asked_since >= PATIENCE_SECONDS:
            return now_utc
        return told or datetime.min.replace(tzinfo=UTC)

    def look(self) -> None:
        """Ask the store once, and keep what is new. Never raises for a store: it is told, and asked again."""
        now_utc = self._clock.now_utc()
        try:
            told = self._fetch(now_utc)
        except (StoreError, OSError) as e:
            self._tell(f"{type(e).__name__}: {e}")
            return
        self._tell("")
        with self._lock:
            self._told_until, self._asked_since = told, self._clock.monotonic()

    def _fetch(self, now_utc: datetime) -> datetime:
        """Keep the views of runs that are whole in the store; return up to when all that began is known of."""
        since_utc, told_until = now_utc - FOLLOWED, now_utc - timedelta(seconds=UNSEEN_SECONDS)
        kept = self._kept(since_utc)
        for run_id in self._store.folders(RUNS):
            began = folders.began(run_id)
            if began is None or began < since_utc or run_id in kept or not self._may_be_new(run_id):
                continue
            sizes = self._store.sizes(f"{RUNS}/{run_id}/")
            if f"{RUNS}/{run_id}/{_MANIFEST}" in sizes:  # sent last: where it is, the rest is too
                self._take(run_id, sizes)
            elif began > now_utc - OPEN_AT_MOST:
                told_until = min(told_until, began)
            else:
                self._not_before[run_id] = self._clock.monotonic() + LATE_SECONDS
        return told_until

    def _take(self, run_id: str, sizes: Mapping[str, int]) -> None:
        try:
            view = self._view(run_id, sizes)
        except (JournalError, KeyError, ValueError, TypeError, IndexError) as e:
            self._not_taken.add(run_id)
            log.error("drill.elsewhere_unreadable", run_id=run_id, error=f"{type(e).__name__}: {e}")  # noqa: TRY400 - its text says it all
            return
        if view is None:
            self._not_taken.add(run_id)
            return
        path = elsewhere_dir(self._state_dir) / f"{run_id}.json"
        make_folders(path.parent, mode=0o750)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(_VIEW.dump_json(view))
        draft.replace(path)
        log.info("drill.elsewhere", run_id=run_id, drill=view.drill, host=view.host, verdict=view.verdict)

    def _view(self, run_id: str, sizes: Mapping[str, int]) -> RunView | None:
        """Return what a run's journal says, if the manifest has the same one; None: it is another account's."""
        name = f"{RUNS}/{run_id}/{_JOURNAL}"
        if not 0 < sizes.get(name, 0) <= LARGEST_JOURNAL_BYTES:
            raise JournalError(f"a journal of {sizes.get(name, 0)} bytes")
        manifest: Any = read_json(self._store.get(f"{RUNS}/{run_id}/{_MANIFEST}"))
        raw = self._store.get(name)
        if manifest["files"][_JOURNAL]["sha256"] != hashlib.sha256(raw).hexdigest():
            raise JournalError("it is not the journal that the manifest lists")
        found = parse_all(raw)
        if found.records[0].fields["config"]["estate"]["account_id"] != self._account_id:
            return None
        view = reduce(view_after, found.records, RunView(run_id=run_id, elsewhere=True))
        if not view.closed or view.ended_at_utc is None:
            raise JournalError("it is not a closed run's")
        return view

    def _kept(self, since_utc: datetime) -> frozenset[str]:
        """Return the runs that are kept, after those that began before `since_utc` were let go of."""
        kept = set()
        for path in elsewhere_dir(self._state_dir).glob("*.json"):
            began = folders.began(path.stem)
            if began is None or began < since_utc:
                path.unlink(missing_ok=True)
            elif _is_view(path):
                kept.add(path.stem)
        return frozenset(kept)

    def _may_be_new(self, run_id: str) -> bool:
        if run_id in self._not_taken or self._clock.monotonic() < self._not_before.get(run_id, 0.0):
            return False
        return folders.may_be_anothers(self._state_dir, run_id)

    def _tell(self, trouble: str) -> None:
        if trouble and not self._trouble:
            log.warning("drill.store_unreadable", error=trouble, then="drills of other machines are not known")
        elif self._trouble and not trouble:
            log.info("drill.store_readable")
        self._trouble = trouble


def _is_view(path: Path) -> bool:
    try:
        _VIEW.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return False
    return True
