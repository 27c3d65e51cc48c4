"""Evidence of runs that could not see to it themselves, because they were killed: sealed and sent once they are healed.

Best effort: that the fault is gone does not hang on a key or a store. What fails is told, and stays to be done later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from kms_chaos.evidence import sending
from kms_chaos.evidence.segments import Cut
from kms_chaos.evidence.signing import SigningError, signer
from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.drills.folder import FolderBusyError
from kms_watchdog.evidence.choice import open_store
from kms_watchdog.evidence.store import Store, StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of one run's evidence."""

    run_id: str
    place: str = ""
    """The store that has all of it; empty: none is configured, it is sealed in the state folder."""
    error: str = ""
    """Why it is not where it belongs; empty when it is."""


def keep(settings: Settings, clock: Clock, only: str | None = None) -> Iterator[Kept]:
    """Seal and send closed runs that nobody did it for, `only` one of them if given. Main thread; raises nothing.

    A run whose owner lives is its owner's.
    """
    try:
        by = signer(settings)
    except SigningError as e:
        yield from (Kept(run_id=run_id, error=f"not signed: {e}") for run_id in _waiting(settings, only))
        return
    store, trouble = _store(settings, clock)
    for where in sending.waiting(settings.state.dir, store):
        if only not in {None, where.run_id}:
            continue
        with suppress(FolderBusyError, OSError), where.owned():  # nobody else signs it meanwhile, and otherwise
            sent = sending.finish(where, store, by, clock, Cut.of(settings))
            error = sent.error or (f"not stored: {trouble}" if trouble else "")
            if sent.finished:
                yield Kept(run_id=where.run_id, place=store.place if store else "", error=error)
            if sent.store_failed:
                return


def _waiting(settings: Settings, only: str | None) -> Iterator[str]:
    """Yield the closed runs that are not sealed."""
    for where in sending.waiting(settings.state.dir, None):
        if only in {None, where.run_id}:
            yield where.run_id


def _store(settings: Settings, clock: Clock) -> tuple[Store | None, str]:
    """Return the store, or None and why it cannot be used: then runs are sealed all the same, and sent later."""
    try:
        store = open_store(settings, clock)
        if store is not None:
            store.check()
    except StoreError as e:
        return None, str(e)
    return store, ""
