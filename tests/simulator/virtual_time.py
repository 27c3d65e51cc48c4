"""Virtual time: processes of threads of which one runs at a time, by a clock that moves when all of them wait.

Real threads run real code, but only whoever holds the baton runs, and it is handed on at waits alone, in an order that
the seed decides: the same seed, the same run. A process can be killed (whatever it asks for from then on raises
`Killed`, so its `finally` blocks reach nothing), and it can be frozen, as by SIGSTOP.

Threads that the code under test starts are of the process that starts them, and take turns like all others
(`threading.Thread.start` and `join` are replaced while a world runs). Threads that wait for a disk, not for time, stay
what they are: they are in nobody's way.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from kms_core.testing import ManualClock

BEGAN_UTC = datetime(2026, 3, 1, tzinfo=UTC)
_FREE = ("journal", "sqlite-", "QueueFeederThread")
"""Threads that wait for a disk, by the beginning of their names."""
_PATIENCE_SECONDS = 60.0
"""Real ones: whoever holds the baton so long without waiting is stuck, and the world says where."""
_SWITCHES = 3_000_000


def taken_lock() -> threading.Lock:
    """Return a lock that somebody else has to release."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Killed(BaseException):
    """This process is dead."""


class StuckError(AssertionError):
    """Somebody holds the baton and does not let go, or nobody can go on."""


@dataclass(eq=False)
class Process:
    """Threads that die together."""

    name: str
    world: World
    host: Host
    alive: bool = True
    """Not killed yet; it may have ended."""
    frozen_until: float = 0.0
    exit_code: int | None = None
    threads: list[Turn] = field(default_factory=list)

    def kill(self) -> None:
        """Kill it: all its threads unwind before time goes on."""
        if self.alive and self.running:
            self.alive, self.exit_code, self.frozen_until = False, -9, 0.0
            for turn in self.threads:
                turn.wake_at = min(turn.wake_at, self.world.now)

    def freeze(self, seconds: float) -> None:
        """Let none of its threads go on for so long."""
        self.frozen_until = max(self.frozen_until, self.world.now + seconds)

    @property
    def running(self) -> bool:
        """Whether a thread of it has not ended."""
        return any(not turn.ended for turn in self.threads)


@dataclass(eq=False)
class Host:
    """A machine: its wall clock may be off."""

    name: str
    offset: timedelta = timedelta()


@dataclass(eq=False)
class Turn:
    """A thread that waits for its turn."""

    number: int
    process: Process
    name: str
    wake_at: float = 0.0
    event: threading.Event | None = None
    """What it waits for besides time."""
    ended: bool = False
    go: threading.Lock = field(default_factory=taken_lock)
    """Taken until it is its turn."""
    thread: threading.Thread | None = None


class World:
    """Time, and whose turn it is. `run` is called by the test's own thread; all else by the threads of processes."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since it began."""
        self.failed: BaseException | None = None
        """What a thread ended with that nobody expected."""
        self._turns: list[Turn] = []
        self._numbers = itertools.count()
        self._back = taken_lock()
        self._mine = threading.local()

    def utc(self, host: Host | None = None) -> datetime:
        """Return the time, as `host` has it."""
        return BEGAN_UTC + timedelta(seconds=self.now) + (host.offset if host else timedelta())

    def start(self, host: Host, name: str, main: Callable[[Process], int | None]) -> Process:
        """Start a process whose main thread runs `main`, which returns its exit code."""
        process = Process(name=name, world=self, host=host)

        def body() -> None:
            code = main(process)
            if process.alive:
                process.exit_code = code or 0

        self._begin(process, name, body)
        return process

    @property
    def current(self) -> Turn | None:
        """The thread that asks; None: it is none of this world's."""
        found: Turn | None = getattr(self._mine, "turn", None)
        return found

    def sleep(self, seconds: float, event: threading.Event | None = None) -> bool:
        """Let others have their turn for so long, or until `event` is set; return whether it is.

        Raises:
            Killed: the process is dead.
        """
        turn = self.current
        if turn is None:
            raise StuckError(f"thread {threading.current_thread().name} waits, and is of no process")
        self.check()
        turn.wake_at, turn.event = self.now + max(seconds, 0.0), event
        self._back.release()
        turn.go.acquire()
        turn.event = None
        self.check()
        return event is not None and event.is_set()

    def check(self) -> None:
        """Go on only in a process that lives.

        Raises:
            Killed: it does not.
        """
        if self.current is not None and not self.current.process.alive:
            raise Killed(self.current.process.name)

    def run(self, until: float) -> None:
        """Let time go by.

        Raises:
            BaseException: what a thread ended with.
            StuckError: somebody does not let go.
        """
        for _ in range(_SWITCHES):
            turn = self._next()
            if turn is None or self._due(turn) > until:
                self.now = until
                return
            self.now = max(self.now, self._due(turn))
            self._hand_over(turn)
        raise StuckError(f"{_SWITCHES} turns and no end: {[t.name for t in self._turns]}")

    def end(self) -> None:
        """Kill all processes, and let them unwind."""
        for process in {turn.process for turn in self._turns}:
            process.kill()
        self.run(self.now)

    def _next(self) -> Turn | None:
        return min(self._turns, key=lambda turn: (self._due(turn), turn.number), default=None)

    def _due(self, turn: Turn) -> float:
        ready = self.now if turn.event is not None and turn.event.is_set() else turn.wake_at
        return max(min(ready, turn.wake_at), turn.process.frozen_until)

    def _hand_over(self, turn: Turn) -> None:
        turn.go.release()
        if not self._back.acquire(timeout=_PATIENCE_SECONDS):
            raise StuckError(f"{turn.process.name}: {turn.name} does not let go")
        if turn.ended:
            self._turns.remove(turn)
        if self.failed is not None:
            raise self.failed

    def _begin(self, process: Process, name: str, body: Callable[[], object]) -> Turn:
        turn = Turn(number=next(self._numbers), process=process, name=name, wake_at=self.now)

        def live() -> None:
            self._mine.turn = turn
            turn.go.acquire()
            try:
                self.check()
                body()
            except Killed:
                pass
            except BaseException as e:  # noqa: BLE001 - a thread's outermost border: the test is told
                self.failed = self.failed or e
            finally:
                turn.ended = True
                self._back.release()

        process.threads.append(turn)
        self._turns.append(turn)
        turn.thread = threading.Thread(target=live, name=f"{process.name}/{name}", daemon=True)
        _really_start(turn.thread)
        return turn

    # -- threads of the code under test ------------------------------------------------------------------------------

    def adopt(self, thread: threading.Thread) -> bool:
        """Start `thread` as one of the current process; return whether it takes turns at all."""
        turn = self.current
        if turn is None or thread.name.startswith(_FREE):
            return False
        thread.turn_of_world = self._begin(turn.process, thread.name, thread.run)  # type: ignore[attr-defined] # ours
        thread._started.set()  # type: ignore[attr-defined]
        thread._ident = threading.get_ident()  # type: ignore[attr-defined]
        return True

    def join(self, thread: threading.Thread, seconds: float | None) -> bool:
        """Wait in virtual time for a thread that takes turns; return False for one that does not."""
        turn: Turn | None = getattr(thread, "turn_of_world", None)
        if turn is None or self.current is None:
            return False
        until = float("inf") if seconds is None else self.now + seconds
        while not turn.ended and self.now < until:
            self.sleep(min(0.01, until - self.now))
        return True


class TurnLock:
    """A lock that is waited for in virtual time: for what is held while a request is out."""

    def __init__(self, world: World) -> None:
        self._world, self._held = world, False

    def __enter__(self) -> None:
        """Take it."""
        while self._held:
            self._world.sleep(0.001)
        self._held = True

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        self._held = False


_really_start = threading.Thread.start
_really_join = threading.Thread.join


@contextmanager
def threads_take_turns(world: World) -> Iterator[None]:
    """Let threads that processes of `world` start take turns, for the block."""

    def start(thread: threading.Thread) -> None:
        if not world.adopt(thread):
            _really_start(thread)

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if not world.join(thread, timeout):
            _really_join(thread, timeout)

    threading.Thread.start = start  # type: ignore[assignment, method-assign] # given back below
    threading.Thread.join = join  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        threading.Thread.start = _really_start  # type: ignore[method-assign]
        threading.Thread.join = _really_join  # type: ignore[method-assign]


class WorldClock(ManualClock):
    """The clock of a host's processes; of none: of the world itself."""

    def __init__(self, world: World, host: Host | None = None) -> None:
        super().__init__(start_utc=BEGAN_UTC)
        self._world, self._host = world, host

    def monotonic(self) -> float:
        """Return the world's seconds; no step of a wall clock moves it."""
        return 1000.0 + self._world.now

    def now_utc(self) -> datetime:
        """Return the time as the host has it."""
        return self._world.utc(self._host)

    def advance(self, seconds: float) -> None:
        """Let so much time go by, as whoever waits for an answer does."""
        if seconds:
            self._world.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set, at most `seconds`; return whether it is."""
        return event.is_set() or self._world.sleep(seconds, event) or event.is_set()
