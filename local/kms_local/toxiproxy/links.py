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
from kms_local.toxiproxy.traffic import Counters

_READ_AHEAD = 2  # chunks: the real server's reader holds one, and the hidden toxic behind it another
_EARLY = 0.0005  # seconds; timers are rounded up to a millisecond, and pauses would add that up
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

    def write(self, data: bytes) -> bool:
        """Write, or forget the data if the socket is gone; say whether all is in the kernel now."""

    def finish(self) -> None:
        """Close the socket after what was written."""


class Stage:
    """One toxic on one link.

    `_inbox` holds what has not been looked at, `_outgoing` what is planned and has not left. A stage that can do
    something is put on its link's agenda: stages do not call each other, so a chain may be as long as somebody likes.
    """

    def __init__(self, link: Link, toxic: Toxic) -> None:
        self.toxic = toxic
        self.closed = False  # the end of the stream has left this stage
        self.previous: Stage | None = None
        self.next: Stage | None = None
        self.on_agenda = False
        self._link = link
        self._inbox: deque[Item] = deque()
        self._outgoing: deque[tuple[float, Item]] = deque()
        self._queue = _LATENCY_QUEUE if toxic.kind == "latency" else 0
        self._memory = Memory()
        self._behaviour = Behaviour(toxic.attributes, self._memory, link.rng)
        self._timer: asyncio.TimerHandle | None = None
        self._paused_until = NOW

    def run(self) -> None:
        """Start a run: throw the dice, then look at what is waiting."""
        kind = self.toxic.kind if self._link.rng.random() < self.toxic.toxicity else "noop"
        self._behaviour = BEHAVIOURS[kind](self.toxic.attributes, self._memory, self._link.rng)
        self._paused_until = NOW
        self._behaviour.begin(self._link.loop.time())
        self._link.put_on_agenda(self)

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
        """Take `item` if there is room: the end of the stream always has room, data in a closed stage never."""
        if item is not None and (self.closed or not self._has_room()):
            return False
        self.force(item)
        return True

    def force(self, item: Item) -> None:
        """Take `item`, room or not."""
        self._inbox.append(item)
        self._link.put_on_agenda(self)

    def advance(self) -> None:
        """Do whatever can be done now."""
        while self._step():
            pass

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
        due = max(due, self._paused_until - _EARLY)
        if due > self._link.loop.time():
            self._wake_at(due)
            return False
        if not self._link.hand_on(self, item):
            return False
        self._outgoing.popleft()
        if self._behaviour.gap:
            self._paused_until = self._link.loop.time() + self._behaviour.gap
        if item is None:
            self._cancel_timer()
            self.closed = True
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
            self._timer = self._link.loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._link.put_on_agenda(self)
        self._link.work()

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
        self._working = False
        self._agenda: deque[Stage] = deque()
        self._first: Stage | None = None
        self._last: Stage | None = None
        self._stages: dict[int, Stage] = {}  # by the identity of their toxic: a search would take long in a long chain
        for toxic in toxics:
            self._append(Stage(self, toxic)).run()

    def receive(self, data: bytes) -> bool:
        """Take data from the source, and say whether they went on at once, so that nothing is left to do."""
        self._counters.received += len(data)
        if self._first is not None or self._held or self._sink.full:
            self._held.append(Chunk(data, self.loop.time()))
            self.work()
            return False
        self._counters.sent += len(data)
        return self._sink.write(data)  # the short way: most connections have no toxic

    def end(self) -> None:
        """Take the end of the stream from the source."""
        if not self._ended:
            self._ended = True
            self._held.append(None)
            self.work()

    def put_on_agenda(self, stage: Stage) -> None:
        """Let `stage` have its turn."""
        if not stage.on_agenda:
            stage.on_agenda = True
            self._agenda.append(stage)

    def work(self) -> None:
        """Pass on what can be passed on, and read only while there is room."""
        if self._working:  # whoever is in the loop below will see what has changed
            return
        self._working = True
        self._feed()
        while self._agenda:
            stage = self._agenda.popleft()
            stage.on_agenda = False
            stage.advance()
            if not self._agenda:
                self._feed()
        self._working = False
        if len(self._held) >= _READ_AHEAD:
            self._source.pause()
        else:
            self._source.resume()

    def sink_has_room(self) -> None:
        """Go on after the sink was full."""
        if self._last is not None:
            self.put_on_agenda(self._last)
        self.work()

    def hand_on(self, stage: Stage, item: Item) -> bool:
        """Offer what leaves `stage` to whatever follows it now."""
        return self._offer(stage.next, item)

    def room_before(self, stage: Stage) -> None:
        """Let whatever stands before `stage` know that it has room; the source is looked at in any case."""
        if stage.previous is not None:
            self.put_on_agenda(stage.previous)

    def add(self, toxic: Toxic) -> None:
        """Put a toxic at the end of the chain; the one before it throws its dice again, as in the real server."""
        previous = self._last
        stage = self._append(Stage(self, toxic))
        stage.closed = self._finished or (previous is not None and previous.closed)
        stage.run()
        if previous is not None:
            previous.interrupt()
        self.work()

    def update(self, toxic: Toxic) -> None:
        """Let a changed toxic take effect."""
        self._stages[id(toxic)].interrupt()
        self.work()

    def remove(self, toxic: Toxic) -> None:
        """Take a toxic from the chain: what it held goes on at once, except that `timeout` closes the connection."""
        stage = self._stages.pop(id(toxic))
        self._unlink(stage)
        left = stage.dismantle()
        if not stage.closed:
            stage.closed = True  # it may be on the agenda still
            self._force(stage.next, [None] if toxic.kind == "timeout" else left)
        if stage.previous is not None:
            stage.previous.interrupt()
        self.work()

    def dispose(self) -> None:
        """Forget everything: both sockets are gone."""
        self._held.clear()
        for stage in self._stages.values():
            stage.dispose()

    def _append(self, stage: Stage) -> Stage:
        stage.previous = self._last
        if self._last is None:
            self._first = stage
        else:
            self._last.next = stage
        self._last = self._stages[id(stage.toxic)] = stage
        return stage

    def _unlink(self, stage: Stage) -> None:
        if stage.previous is None:
            self._first = stage.next
        else:
            stage.previous.next = stage.next
        if stage.next is None:
            self._last = stage.previous
        else:
            stage.next.previous = stage.previous

    def _feed(self) -> None:
        while self._held and self._offer(self._first, self._held[0]):
            self._held.popleft()

    def _offer(self, stage: Stage | None, item: Item) -> bool:
        if item is not None and not item.data:
            return True
        if stage is not None:
            return stage.offer(item)
        if item is not None and self._sink.full:
            return False
        self._write(item)
        return True

    def _force(self, stage: Stage | None, items: list[Item]) -> None:
        for item in items:
            if stage is not None:
                stage.force(item)
            else:
                self._write(item)

    def _write(self, item: Item) -> None:
        if item is None:
            self._finished = True
            self._sink.finish()
        else:
            self._sink.write(item.data)
            self._counters.sent += len(item.data)
