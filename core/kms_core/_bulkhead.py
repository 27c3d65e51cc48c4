"""A region's own few threads, so that a region that hangs holds up nothing but itself.

An attempt is given up by whoever waits for it; its thread stays with it until the socket dies. The threads are
daemons: what still hangs when the process ends must not hold up its end.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from kms_core._deadline import Deadline
from kms_core.clock import Clock
from kms_core.errors import ClosedError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

WORKERS = 16
CLOSE_SECONDS = 0.2
"""How long `close` waits for threads that still make a call."""


class GivenUpError(Exception):
    """The attempt did not end within its time."""

    def __init__(self, *, started: bool, run_seconds: float = 0.0, thread: int | None = None) -> None:
        super().__init__()
        self.thread = thread
        """Which thread is at it (`threading.get_ident`); None where none is."""
        self.started = started
        """False: it waited for a worker all the time, so nothing was sent."""
        self.run_seconds = run_seconds
        """How long a worker has been at it."""


class Pending(Protocol[T_co]):
    """An attempt that is on its way."""

    @property
    def seconds(self) -> float:
        """How long the attempt took, its wait for a worker included; known once it has ended."""
        ...

    @property
    def run_seconds(self) -> float:
        """How long a worker was at it: what it says of the region. Known once it has ended."""
        ...

    def cancel(self) -> bool:
        """Have it never begin, and return whether that was still possible."""
        ...

    def ready(self, seconds: float) -> bool:
        """Return whether it has ended, waiting for that at most `seconds`."""
        ...

    def then(self, call: Callable[[], None]) -> None:
        """Have `call` made when it has ended, in the thread that made it; at once when it has. It must not raise."""
        ...

    def result(self, seconds: float) -> T_co:
        """Return what the attempt returned, or raise what it raised, waiting for it at most `seconds` from now.

        Raises:
            GivenUpError: it took longer.
        """
        ...


class Lane(Protocol):
    """How attempts at one region run: `Bulkhead`, or in a test of one thread `kms_core.testing.InlineLane`."""

    def submit(self, call: Callable[[], T]) -> Pending[T]:
        """Start `call`; it must end by itself some day."""
        ...

    def close(self) -> None:
        """Begin nothing more, and refuse what has not begun."""
        ...

    def join(self, seconds: float) -> None:
        """Wait for the threads to end, at most so long; those that still hang are let go of."""
        ...


class Ticket(Generic[T]):
    """One call: waiting, running or done."""

    def __init__(self, call: Callable[[], T], clock: Clock) -> None:
        self._call = call
        self._clock = clock
        self._lock = threading.Lock()
        self._started = False
        self._thread: int | None = None
        self._cancelled = False
        self._done = threading.Event()
        self._after: list[Callable[[], None]] = []
        self._value: T | None = None
        self._error: BaseException | None = None
        self._submitted_at = self._started_at = clock.monotonic()
        self.seconds = self.run_seconds = 0.0

    def run(self) -> None:
        """Make the call, unless it was given up before."""
        with self._lock:
            if self._cancelled:
                return
            self._started = True
            self._thread = threading.get_ident()
            self._started_at = self._clock.monotonic()
        try:
            self._value = self._call()
        except BaseException as e:  # noqa: BLE001 - handed to who waits, in `result`; a worker survives its calls
            self._error = e
        now = self._clock.monotonic()
        self.seconds, self.run_seconds = now - self._submitted_at, now - self._started_at
        self._end()

    def cancel(self) -> bool:
        """Have the call never be made, and return whether that was still possible."""
        with self._lock:
            if self._started or self._done.is_set():
                return False
            self._cancelled = True
        return True

    def refuse(self, error: BaseException) -> None:
        """End a call that was never made with `error`."""
        self._error = error
        self._end()

    def ready(self, seconds: float) -> bool:
        """Return whether the call has ended, waiting for that at most `seconds`."""
        return self._clock.wait(self._done, seconds)

    def then(self, call: Callable[[], None]) -> None:
        """Have `call` made when this one has ended, in the thread that made it; at once when it has."""
        with self._lock:
            if not self._done.is_set():
                self._after.append(call)
                return
        call()

    def _end(self) -> None:
        with self._lock:
            self._done.set()
            after, self._after = self._after, []
        for call in after:
            call()

    def result(self, seconds: float) -> T:
        """Return what the call returned, or raise what it raised, waiting for it at most `seconds` from now.

        Raises:
            GivenUpError: it took longer. An answer that is there already is used, however late one asks for it.
        """
        if not self._clock.wait(self._done, seconds):
            self._give_up()
        return self._outcome()

    def _give_up(self) -> NoReturn:
        with self._lock:
            self._cancelled = True
            run_seconds = self._clock.monotonic() - self._started_at if self._started else 0.0
            raise GivenUpError(started=self._started, run_seconds=run_seconds, thread=self._thread)

    def _outcome(self) -> T:
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # else the error holds its own frame, and with it the answer, in a cycle
        return self._value  # type: ignore[return-value] # no error, so it is the call's own value


class Bulkhead:
    """At most `workers` calls at a time; the others queue. Threads begin when needed and end with `close`."""

    def __init__(self, name: str, clock: Clock, *, workers: int = WORKERS) -> None:
        self._name = name
        self._clock = clock
        self._workers = workers
        self._changed = threading.Condition()
        self._queue: collections.deque[Ticket[Any]] = collections.deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def submit(self, call: Callable[[], T]) -> Ticket[T]:
        """Queue `call`, and start a thread when none is idle and there may be one more.

        Where no thread can be had at all, it ends as one that no worker had time for.

        Raises:
            ClosedError: the core was closed.
        """
        ticket = Ticket(call, self._clock)
        with self._changed:
            if self._closed:
                raise ClosedError("the core is closed")
            self._queue.append(ticket)
            wanted = len(self._queue) > self._idle and len(self._threads) < self._workers
            if wanted and not self._start_worker() and not self._threads:
                self._queue.remove(ticket)
                ticket.refuse(GivenUpError(started=False))
            self._changed.notify()
        return ticket

    def close(self) -> None:
        """End all threads: the idle ones now, the others when the call they make ends."""
        with self._changed:
            self._closed = True
            while self._queue:
                self._queue.popleft().refuse(ClosedError("the core was closed"))
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the threads to end, at most `seconds` for all of them together."""
        deadline = Deadline(self._clock, seconds)
        for thread in self._threads:
            if thread is not threading.current_thread():  # an observer may close the core from one of them
                thread.join(deadline.left())

    def _start_worker(self) -> bool:
        """Start one more thread, and return whether the operating system gave one."""
        name = f"kms-core-{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # "can't start new thread": those that live go on, and the next call tries again
            return False
        self._threads.append(thread)
        return True

    def _work(self) -> None:
        while (ticket := self._next()) is not None:
            ticket.run()
            del ticket  # an idle worker keeps no answer alive

    def _next(self) -> Ticket[Any] | None:
        with self._changed:
            self._idle += 1
            try:
                self._changed.wait_for(lambda: self._queue or self._closed)
            finally:
                self._idle -= 1
            return self._queue.popleft() if self._queue else None
