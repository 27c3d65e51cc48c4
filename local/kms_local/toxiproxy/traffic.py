"""Byte counters by direction, proxy, listener and upstream: as in the real server they outlive the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_MOST = 10_000  # sets of labels; whoever makes proxies for ever may not fill the memory with their counters


class Counters:
    """Bytes of one direction of one proxy."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


class Labels(NamedTuple):
    """What counters belong to, in the order in which pages sort them."""

    direction: str
    listener: str
    proxy: str
    upstream: str


class Traffic:
    """All counters of a server."""

    def __init__(self) -> None:
        self._counters: dict[Labels, Counters] = {}

    def counters(self, labels: Labels) -> Counters:
        """Return the counters of `labels`, new ones where there were none."""
        found = self._counters.get(labels)
        if found is None:
            if len(self._counters) >= _MOST:
                del self._counters[next(iter(self._counters))]
            found = self._counters[labels] = Counters()
        return found

    def all(self) -> Iterator[tuple[Labels, Counters]]:
        """Yield the counters in the order of their labels."""
        for labels in sorted(self._counters):
            yield labels, self._counters[labels]
