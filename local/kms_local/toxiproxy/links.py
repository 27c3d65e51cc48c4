"""One direction of one connection: reader, toxics in order of adding, writer; toxics change while data flow.

Everything happens in callbacks of the event loop and nothing waits, so a change of the chain is one uninterrupted step:
it can neither lose nor repeat a byte, and no API call can ever be held up by a peer that does not read.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Protocol

from kms_local.toxiproxy.behaviours import BEHAVIOURS, NEVER, NOW, Behaviour, Chunk, Item, Memory, ResetPeer
from kms_local.toxiproxy.toxics import Toxic

_LATENCY_QUEUE = 1024  # chunks; the real server's too: latency alone does not limit the bandwidth


class Source(Protocol):
    """The socket that a link reads from."""

    def pause(self) -> None:
        """Stop reading; harmless when stopped already."""

    def resume(self) -> None:
        """Read again; harmless when reading already."""


class Sink(Protocol):
    """The socket that a link writes to."""

    full: bool  # the kernel takes no more for now

    def write(self, data: bytes) -> None:
        """Write, or forget the data if the socket is gone."""

    def finish(self) -> None:
        """Close the socket after what was written."""


class Stage:
    """One toxic on one link.

    `_inbox` holds what has not been looked at, `_outgoing` what is planned and has not left.
    """

    def __init__(self, link: Link, toxic: Toxic) -> None:
        self.toxic = toxic
        self.closed = False  # the end of the stream has left this stage
        self._link = link
        self._inbox: deque[Item] = deque()
        self._outgoing: deque[tuple[float, Item]] = deque()
        self._queue = _LATENCY_QUEUE if toxic.kind == "latency" else 0
        self._memory = Memory()
        self._behaviour = Behaviour(toxic.attributes, self._memory, link.rng)
        self._timer: asyncio.TimerHandle | None = None
        self._advancing = False

    def run(self) -> None:
        """Start a run: throw the dice, then look at what is waiting."""
        kind = self.toxic.kind if self._link.rng.random() < self.toxic.toxicity else "noop"
        self._behaviour = BEHAVIOURS[kind](self.toxic.attributes, self._memory, self._link.rng)
        self._behaviour.begin(self._link.loop.time())
        self.advance()

    def interrupt(self) -> None:
        """End this run and start another: data that waited leaves now, an end of stream waits anew.

        A `reset_peer` that has begun to wait is not to be interrupted, as in the real server.
        """
        if self.closed or self._resetting():
            return
        waiting = [item for _, item in self._outgoing]
        self._outgoing = deque((NOW, item) for item in waiting if item is not None)
        if None in waiting:
            self._inbox.appendleft(None)
        self.run()

    def offer(self, item: Item) -> bool:
        """Take `item` if there is room; the end of the stream always has room, and a closed stage forgets all."""
        if self.closed:
            return True
        if item is not None and not self._has_room():
            return False
        self.force(item)
        return True

    def force(self, item: Item) -> None:
        """Take `item`, room or not."""
        self._inbox.append(item)
        self.advance()

    def advance(self) -> None:
        """Do whatever can be done now; called again when time has passed or room was made."""
        if self._advancing:  # whoever is in the loop below will see what has changed
            return
        self._advancing = True
        while self._step():
            pass
        self._advancing = False

    def dismantle(self) -> list[Item]:
        """End the stage, and return what it still held, in order."""
        self._cancel_timer()
        return [*(item for _, item in self._outgoing), *self._inbox]

    def dispose(self) -> None:
        """End the stage and forget what it holds: the connection is gone."""
        self._cancel_timer()
        self.closed = True
        self._inbox.clear()
        self._outgoing.clear()

    def _has_room(self) -> bool:
        if self._queue:
            return len(self._inbox) < self._queue
        return not self._inbox and not self._outgoing

    def _resetting(self) -> bool:
        return isinstance(self._behaviour, ResetPeer) and bool(self._outgoing)

    def _step(self) -> bool:
        """Make one step, and say whether another may be possible."""
        if self.closed:
            return False
        if self._outgoing:
            return self._send_next()
        if self._inbox:
            item = self._inbox.popleft()
            self._outgoing.extend(self._behaviour.plan(item, self._link.loop.time()))
            self._link.room_before(self)
            return True
        return self._end_by_itself()

    def _send_next(self) -> bool:
        due, item = self._outgoing[0]
        if due > self._link.loop.time():
            self._wake_at(due)
            return False
        if not self._link.hand_on(self, item):
            return False
        self._outgoing.popleft()
        if item is None:
            self._cancel_timer()
            self.closed = True
            self._link.stop_reading()
        elif not self._outgoing:
            self._link.room_before(self)
        return True

    def _end_by_itself(self) -> bool:
        closes_at = self._behaviour.closes_at
        if closes_at <= self._link.loop.time():
            self._outgoing.append((NOW, None))
            return True
        self._wake_at(closes_at)
        return False

    def _wake_at(self, when: float) -> None:
        self._cancel_timer()
        if when != NEVER:
            self._timer = self._link.loop.call_at(when, self.advance)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Link:
    """One direction of one connection."""

    def __init__(
        self, *, source: Source, sink: Sink, toxics: list[Toxic], rng: random.Random, counters: Counters
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.rng = rng
        self._source = source
        self._sink = sink
        self._counters = counters
        self._held: deque[Item] = deque()  # read, and not yet taken by the first stage or the sink
        self._ended = False  # the source has no more
        self._finished = False  # the sink was told to close
        self._deaf = False  # a stage has ended the stream: nothing more is read
        self._advancing = False
        self._stages = [Stage(self, toxic) for toxic in toxics]
        for stage in self._stages:
            stage.run()

    def receive(self, data: bytes) -> None:
        """Take data from the source."""
        self._counters.received += len(data)
        if self._stages or self._held:
            self._held.append(Chunk(data, self.loop.time()))
            self.advance()
            return
        self._sink.write(data)  # the short way: most connections have no toxic
        self._counters.sent += len(data)
        if self._sink.full:
            self._source.pause()

    def end(self) -> None:
        """Take the end of the stream from the source."""
        if not self._ended:
            self._ended = True
            self._held.append(None)
            self.advance()

    def advance(self) -> None:
        """Pass on what was read, and read only while there is room."""
        if self._advancing:
            return
        self._advancing = True
        while self._held and self._offer(0, self._held[0]):
            self._held.popleft()
        self._advancing = False
        if self._held or self._deaf or self._sink.full:
            self._source.pause()
        else:
            self._source.resume()

    def sink_has_room(self) -> None:
        """Go on after the sink was full."""
        if self._stages:
            self._stages[-1].advance()
        self.advance()

    def hand_on(self, stage: Stage, item: Item) -> bool:
        """Offer what leaves `stage` to whatever follows it now."""
        return self._offer(self._stages.index(stage) + 1, item)

    def room_before(self, stage: Stage) -> None:
        """Let whatever stands before `stage` know that it has room."""
        position = self._stages.index(stage)
        if position:
            self._stages[position - 1].advance()
        else:
            self.advance()

    def stop_reading(self) -> None:
        """Read nothing more: a stage has ended the stream."""
        self._deaf = True
        self._source.pause()

    def add(self, toxic: Toxic) -> None:
        """Put a toxic at the end of the chain; the one before it throws its dice again, as in the real server."""
        previous = self._stages[-1] if self._stages else None
        stage = Stage(self, toxic)
        stage.closed = self._finished or (previous is not None and previous.closed)
        self._stages.append(stage)
        stage.run()
        if previous is not None:
            previous.interrupt()

    def update(self, toxic: Toxic) -> None:
        """Let a changed toxic take effect."""
        self._stages[self._position(toxic)].interrupt()

    def remove(self, toxic: Toxic) -> None:
        """Take a toxic from the chain: what it held goes on at once, except that `timeout` closes the connection."""
        position = self._position(toxic)
        stage = self._stages.pop(position)
        left = stage.dismantle()
        if not stage.closed:
            self._force(position, [None] if toxic.kind == "timeout" else left)
        if position:
            self._stages[position - 1].interrupt()
        self.advance()

    def dispose(self) -> None:
        """Forget everything: both sockets are gone."""
        self._held.clear()
        for stage in self._stages:
            stage.dispose()

    def _position(self, toxic: Toxic) -> int:
        return next(position for position, stage in enumerate(self._stages) if stage.toxic is toxic)

    def _offer(self, position: int, item: Item) -> bool:
        if item is not None and not item.data:
            return True
        if position < len(self._stages):
            return self._stages[position].offer(item)
        if item is not None and self._sink.full:
            return False
        self._write(item)
        return True

    def _force(self, position: int, items: list[Item]) -> None:
        for item in items:
            if position < len(self._stages):
                self._stages[position].force(item)
            else:
                self._write(item)

    def _write(self, item: Item) -> None:
        if item is None:
            self._finished = True
            self._sink.finish()
        else:
            self._sink.write(item.data)
            self._counters.sent += len(item.data)


class Counters:
    """Bytes of one direction of one proxy."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
