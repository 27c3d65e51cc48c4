"""When jobs fall due: slots on a fixed UTC grid, spread by name, the same after a restart. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def fraction(name: str) -> float:
    """Return a number in 0 <= x < 1 that `name` alone decides: jobs spread evenly, and each keeps its place."""
    digest = hashlib.blake2b(name.encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / (1 << 48)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Slots at `offset + k * interval` since 1970, in UTC."""

    interval: timedelta
    offset: timedelta = timedelta()

    def __post_init__(self) -> None:
        if self.interval < timedelta(milliseconds=50):
            raise ValueError(f"an interval of at least 50 ms, not {self.interval}")

    def after(self, moment: datetime) -> datetime:
        """Return the first slot later than `moment`."""
        slots = (moment - EPOCH - self.offset) // self.interval
        return EPOCH + self.offset + (slots + 1) * self.interval

    def next_run(self, previous: datetime | None, now: datetime) -> datetime:
        """Return the slot that follows the run due at `previous` (None: no run yet).

        A run off the grid (the first one, or one moved with the clock) is followed by the first slot at least half an
        interval later. Slots overslept, by a suspended machine say, are dropped but for the newest.
        """
        if previous is None:
            return self.after(now)
        return self.after(max(previous + self.interval / 2, now - self.interval))
