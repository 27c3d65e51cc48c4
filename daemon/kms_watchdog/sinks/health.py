"""The standing answer to "is it healthy": folds results as they come, asks nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kms_core.clock import Clock
from kms_watchdog.health import STALE_AFTER_INTERVALS, Board, Health, Status, Subject, assess, board
from kms_watchdog.results import CanaryResult, Mode
from kms_watchdog.sinks.sink import DrillChange


class HealthObserver(Protocol):
    """Is shown the health when it was looked at."""

    def on_health(self, health: Health) -> None:
        """Take the live health."""


class BoardObserver(Protocol):
    """Is shown every canary's standing."""

    def on_board(self, board: Board, mode: Mode) -> None:
        """Take a board."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The health, and since when the status has been what it is."""

    health: Health
    since_utc: datetime


class HealthSink:
    """Folds live and drill results apart; any thread may call any method."""

    def __init__(
        self,
        subjects: Iterable[Subject],
        clock: Clock,
        *,
        interval_seconds: float,
        breakers: Callable[[], Mapping[str, str]],
        boards: Iterable[BoardObserver] = (),
    ) -> None:
        """`breakers` returns each region's breaker state, from memory."""
        self._empty = board(subjects)
        self._clock, self._breakers = clock, breakers
        self._stale_after_seconds = interval_seconds * STALE_AFTER_INTERVALS
        self._observers = tuple(boards)
        self._lock = threading.Lock()
        self._boards = dict.fromkeys(Mode, self._empty)
        self._status: Status | None = None
        self._since_utc = clock.now_utc()

    def write(self, result: CanaryResult) -> None:
        """Fold one result."""
        with self._lock:
            folded = self._boards[result.mode].fold(result, now=self._clock.monotonic())
            self._boards[result.mode] = folded
        self._show(folded, result.mode)

    def on_drill(self, change: DrillChange) -> None:
        """Begin a drill's board anew at its beginning and its end."""
        del change
        with self._lock:
            self._boards[Mode.DRILL] = self._empty
        self._show(self._empty, Mode.DRILL)

    def board(self, mode: Mode = Mode.LIVE) -> Board:
        """Return every canary's standing."""
        with self._lock:
            return self._boards[mode]

    def standing(self) -> Standing:
        """Return the live health now."""
        health = assess(
            self.board(),
            self._breakers(),
            now=self._clock.monotonic(),
            stale_after_seconds=self._stale_after_seconds,
        )
        with self._lock:
            if health.status is not self._status:
                self._status, self._since_utc = health.status, self._clock.now_utc()
            return Standing(health, self._since_utc)

    def _show(self, folded: Board, mode: Mode) -> None:
        for observer in self._observers:
            observer.on_board(folded, mode)
