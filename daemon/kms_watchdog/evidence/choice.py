"""Which store a configuration, or who types one, means."""

from __future__ import annotations

from pathlib import Path

from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.evidence.bucket import Bucket, S3Store
from kms_watchdog.evidence.store import DirStore, Store, StoreRefusedError


def open_store(settings: Settings, clock: Clock, place: str | None = None) -> Store | None:
    """Return the store that `place` names (None: the configured one), unchecked; None: none is configured.

    Call it in the main thread, where AWS's clients are made.

    Raises:
        StoreRefusedError: `place` is none.
    """
    place = place or settings.drills.evidence.store
    if place is None:
        return None
    kind, _, rest = place.partition(":")
    if kind == "dir":
        return DirStore(Path(rest))
    if kind == "s3":
        return S3Store(Bucket.of(settings, rest.removeprefix("//")), clock)
    raise StoreRefusedError(f"dir:/PATH or s3://BUCKET/PREFIX, not {place}")
