"""Which canaries this place looks at, where several watchdogs share one estate: rendezvous hashing. Pure.

Every place computes the same answer from the configuration alone, so nothing has to be asked, and canaries go on while
whatever coordinates drills is down (scale.md §4.1, ADR 0025).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from kms_watchdog.health import USE_KINDS, Subject
from kms_watchdog.results import Kind

_DIGEST_BYTES = 8
EVERYWHERE = frozenset({Kind.FAILOVER_PATH, Kind.MUST_FAIL_CORE, Kind.CLOCK_OFFSET, Kind.HEADROOM})
"""Kinds that every place looks at for itself: its own way from its own home region, its machine's clock, its traffic.

What one place finds of these says nothing about another, and the first two carry the home region in their names."""


class Shared(Protocol):
    """Who shares the canaries; `[replicas]` is one."""

    @property
    def members(self) -> Sequence[str]:
        """The names of all places; none: there is one watchdog, which looks at everything."""

    @property
    def place(self) -> str | None:
        """This one's."""

    @property
    def watchers(self) -> int:
        """How many places look at each canary, as far as there are so many."""


def weight(member: str, canary: str) -> int:
    """Return how strongly `member` is drawn to the canary of that id: the same in every process, 0 to 2**64 - 1.

    Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998): highest random weight.
    """
    return int.from_bytes(hashlib.blake2b(f"{member}|{canary}".encode(), digest_size=_DIGEST_BYTES).digest(), "big")


def watchers_of(canary: str, members: Iterable[str], watchers: int) -> tuple[str, ...]:
    """Return the `watchers` members that look at the canary of that id, the strongest first; all if there are fewer."""
    return tuple(sorted(members, key=lambda member: (weight(member, canary), member), reverse=True)[:watchers])


def is_ours(kind: str, canary: str, shared: Shared) -> bool:
    """Return whether this place looks at the canary of that kind and id."""
    if not shared.members or kind in EVERYWHERE:
        return True
    return shared.place in watchers_of(canary, shared.members, shared.watchers)


def times_looked_at(kind: str, shared: Shared) -> int:
    """Return how many places look at one canary of `kind`; of those that every place has for itself, how many do."""
    if not shared.members:
        return 1
    return len(shared.members) if kind in EVERYWHERE else min(shared.watchers, len(shared.members))


def seen_in_part(subjects: Iterable[Subject], keys: Iterable[str], regions: Collection[str]) -> frozenset[str]:
    """Return the keys that `subjects` do not use in every region: whether those are usable nowhere others must say."""
    seen = {(subject.key, subject.region) for subject in subjects if subject.canary in USE_KINDS}
    return frozenset(key for key in keys if any((key, region) not in seen for region in regions))
