"""What each toxic does to the data of one link: pure plans of which piece leaves when.

A plan is a list of pieces with the time they are due; waiting, handing on and being interrupted happen in `links.py`.
Times are seconds of the event loop's clock. `None` stands for the end of the stream.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

NEVER = math.inf
NOW = -math.inf
_OVERSHOOT = 0.01  # seconds by which a timer may be late


class Chunk(NamedTuple):
    """Data that was read at one moment."""

    data: bytes
    arrival: float


Item = Chunk | None
Plan = list[tuple[float, Item]]


@dataclass(slots=True)
class Memory:
    """What a toxic remembers on one link from its adding to its removal, across updates."""

    passed: int = 0  # limit_data: bytes that went through


@dataclass(slots=True)
class Behaviour:
    """One run of a toxic on one link; an update or a throw of the dice starts another. This one changes nothing."""

    attributes: Mapping[str, int]
    memory: Memory
    rng: random.Random
    closes_at: float = NEVER  # when the stream ends by itself
    gap: float = 0.0  # seconds of pause after each piece

    def begin(self, now: float) -> None:
        """Start the run."""

    def plan(self, item: Item, now: float) -> Plan:
        """Say what becomes of `item`."""
        del now
        return [(NOW, item)]


@dataclass(slots=True)
class Latency(Behaviour):
    """Every chunk leaves `latency` ± `jitter` ms after its arrival; the end of the stream waits only its turn."""

    def plan(self, item: Item, now: float) -> Plan:
        """See the class."""
        del now
        if item is None:
            return [(NOW, None)]
        delay, jitter = self.attributes["latency"], self.attributes["jitter"]
        if jitter > 0:
            delay += self.rng.randrange(2 * jitter) - jitter
        due = item.arrival + delay / 1000
        return [(due, Chunk(item.data, due))]  # stamped anew, so that two latencies add up


@dataclass(slots=True)
class Bandwidth(Behaviour):
    """At most `rate` KB/s, in slices of 100 ms; a rate of 0 stops all data."""

    free_at: float = NOW  # when the line is next idle

    def plan(self, item: Item, now: float) -> Plan:
        """See the class."""
        rate = self.attributes["rate"]
        if item is None:
            return [(NOW, None)]
        if rate <= 0:
            return [(NEVER, item)]
        if now - self.free_at > _OVERSHOOT:  # otherwise what one timer overshot the next slice makes up
            self.free_at = now
        slice_bytes = rate * 100
        plan: Plan = []
        for start in range(0, len(item.data), slice_bytes):
            piece = item.data[start : start + slice_bytes]
            self.free_at += len(piece) / (rate * 1000)
            plan.append((self.free_at, Chunk(piece, item.arrival)))
        return plan


@dataclass(slots=True)
class SlowClose(Behaviour):
    """The end of the stream is passed on `delay` ms late."""

    def plan(self, item: Item, now: float) -> Plan:
        """See the class."""
        return [(now + self.attributes["delay"] / 1000 if item is None else NOW, item)]


@dataclass(slots=True)
class Timeout(Behaviour):
    """Drops all data, and closes after `timeout` ms without any; 0 or less means never."""

    def begin(self, now: float) -> None:
        """Start the clock."""
        timeout = self.attributes["timeout"]
        self.closes_at = now + timeout / 1000 if timeout > 0 else NEVER

    def plan(self, item: Item, now: float) -> Plan:
        """See the class: each dropped chunk starts the clock again."""
        self.begin(now)
        return [(NOW, None)] if item is None else []


@dataclass(slots=True)
class ResetPeer(Behaviour):
    """The first chunk, or the end of the stream, is dropped, and `timeout` ms later the connection closes."""

    def plan(self, item: Item, now: float) -> Plan:
        """See the class."""
        del item
        return [(now + self.attributes["timeout"] / 1000, None)]


@dataclass(slots=True)
class Slicer(Behaviour):
    """Cuts chunks into pieces of about `average_size` bytes, `delay` µs between them."""

    def plan(self, item: Item, now: float) -> Plan:
        """See the class."""
        del now
        if item is None:
            return [(NOW, None)]
        self.gap = max(0, self.attributes["delay"]) / 1e6
        plan: Plan = [(NOW, Chunk(item.data[start:end], item.arrival)) for start, end in self._cuts(0, len(item.data))]
        return [*plan, (NOW, Chunk(b"", item.arrival))]  # the pause follows the last piece as well

    def _cuts(self, start: int, end: int) -> list[tuple[int, int]]:
        """Halve, with some variation, until a piece is small enough; single bytes where the real server dies."""
        variation = self.attributes["size_variation"]
        if end - start - self.attributes["average_size"] <= variation or end - start <= 1:
            return [(start, end)]
        middle = start + (end - start) // 2
        if variation > 0:
            middle += self.rng.randrange(2 * variation) - variation
        middle = min(max(middle, start + 1), end - 1)
        return self._cuts(start, middle) + self._cuts(middle, end)


@dataclass(slots=True)
class LimitData(Behaviour):
    """Passes exactly `bytes` bytes, then closes."""

    def plan(self, item: Item, now: float) -> Plan:
        """See the class."""
        del now
        if item is None:
            return [(NOW, None)]
        head = item.data[: max(0, self.attributes["bytes"] - self.memory.passed)]
        self.memory.passed += len(head)
        plan: Plan = [(NOW, Chunk(head, item.arrival))] if head else []
        return plan if self.memory.passed < self.attributes["bytes"] else [*plan, (NOW, None)]


BEHAVIOURS: dict[str, type[Behaviour]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slow_close": SlowClose,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
    "slicer": Slicer,
    "limit_data": LimitData,
    "noop": Behaviour,
}
