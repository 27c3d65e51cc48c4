"""The overrides in force: read at intervals in a thread of its own, looked up on calls without any wait."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

from kms_core._bulkhead import CLOSE_SECONDS
from kms_core._observe import Emit
from kms_core.clock import Clock
from kms_core.events import OverridesChanged, OverridesUnreadable
from kms_core.overrides import OverrideSource, OverridesUnreadableError, RegionOverride

MAX_SECONDS = 86_400.0


class OverrideWatch:
    """Remembers what a source said, until it expires. Safe to call from any thread."""

    def __init__(self, source: OverrideSource, *, clock: Clock, emit: Emit | None) -> None:
        self._source = source
        self._clock = clock
        self._emit = emit
        self._until: dict[RegionOverride, float] = {}
        """Override to the monotonic time at which it ends here; replaced as a whole, never changed."""
        self._ends: dict[RegionOverride, float] = {}
        self._unreadable = ""
        self._thread: threading.Thread | None = None

    def start(self, interval_seconds: float, closing: threading.Event) -> None:
        """Read now and then at every interval, in a thread, until `closing` is set."""
        self._thread = threading.Thread(
            target=self._loop, args=(interval_seconds, closing), name="kms-core-overrides", daemon=True
        )
        self._thread.start()

    def join(self) -> None:
        """Wait a moment for the thread to end; one that is reading ends when that does."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(CLOSE_SECONDS)

    def read(self) -> None:
        """Read the source, and keep what it says; when it cannot be read, what it said last stays in force."""
        try:
            found = self._source.read()
        except OverridesUnreadableError as e:
            self._tell_unreadable(str(e))
            if e.readable is None:
                return
            found = e.readable
        except Exception as e:  # noqa: BLE001 - a thread's outermost border: a source's defect must not end the reading
            self._tell_unreadable(f"{type(e).__name__}: {e}")
            return
        else:
            self._unreadable = ""
        before = self._until
        self._ends = self._ends_of(found)
        self._until = {override: self._ends[override] for override in found}
        if before.keys() != self._until.keys() and self._emit is not None:
            self._emit(OverridesChanged(source=self._source.name, overrides=self.current()))

    def unreadable(self) -> str:
        """Return why the last reading failed, wholly or in part; empty if it did not, or there was none."""
        return self._unreadable

    def current(self) -> tuple[RegionOverride, ...]:
        """Return the overrides that have not expired."""
        if not self._until:
            return ()
        now = self._clock.monotonic()
        return tuple(override for override, until in self._until.items() if now < until)

    def regions(self) -> tuple[Collection[str], Collection[str]]:
        """Return the regions that are preferred and those that are avoided now; avoiding one wins."""
        current = self.current()
        avoid = {override.region for override in current if override.kind == "avoid"}
        return {override.region for override in current if override.kind == "prefer"} - avoid, avoid

    def _tell_unreadable(self, reason: str) -> None:
        if not self._unreadable and self._emit is not None:
            self._emit(OverridesUnreadable(source=self._source.name, reason=reason))
        self._unreadable = reason or "for no reason that was given"

    def _ends_of(self, found: Sequence[RegionOverride]) -> dict[RegionOverride, float]:
        """Return when overrides end here: those of `found`, and those before, for a day after they did.

        So that one which was out of sight for a moment does not begin anew.
        """
        now = self._clock.monotonic()
        kept = {override: end for override, end in self._ends.items() if now < end + MAX_SECONDS or override in found}
        new = {override: now + self._seconds_left(override) for override in found if override not in kept}
        return kept | new

    def _seconds_left(self, override: RegionOverride) -> float:
        return min((override.until_utc - self._clock.now_utc()).total_seconds(), MAX_SECONDS)

    def _loop(self, interval_seconds: float, closing: threading.Event) -> None:
        while not closing.is_set():
            self.read()
            self._clock.wait(closing, interval_seconds)
