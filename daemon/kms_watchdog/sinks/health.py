"""The standing answer to "is it healthy": folds results as they come, asks nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from kms_core.clock import Clock
from kms_watchdog.health import Board, CanaryHealth, Health, Status, Subject, assess, board, fold
from kms_watchdog.results import CanaryResult, Mode
from kms_watchdog.sinks.sink import DrillChange


class HealthObserver(Protocol):
    """Is shown the health when it was looked at."""

    def on_health(self, health: Health) -> None:
        """Take the live health."""


class BoardObserver(Protocol):
    """Is shown a drill's board after each of its results; the live one, which changes all the time, is asked for."""

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
        stale_after_seconds: Mapping[str, float],
        breakers: Callable[[], Mapping[str, str]],
        boards: Iterable[BoardObserver] = (),
        seen_in_part: Collection[str] = (),
    ) -> None:
        """`stale_after_seconds` is by kind of canary; `breakers` returns each region's breaker state, from memory.

        `seen_in_part`: keys that other watchdogs look at in regions in which this one does not.
        """
        self._empty = board(subjects).canaries
        self._clock, self._breakers = clock, breakers
        self._stale_after_seconds, self._seen_in_part = stale_after_seconds, frozenset(seen_in_part)
        self._observers = tuple(boards)
        self._lock = threading.Lock()
        # Changed in place: a copy at each look, of a thousand canaries, would cost more than all else here.
        self._canaries = {mode: dict(self._empty) for mode in Mode}
        self._status: Status | None = None
        self._since_utc = clock.now_utc()

    def write(self, result: CanaryResult) -> None:
        """Fold one result."""
        subject = Subject(result.canary, result.region, result.key)
        with self._lock:
            canaries = self._canaries[result.mode]
            before = canaries.get(subject, CanaryHealth())
            canaries[subject] = fold(before, result, now=self._clock.monotonic())
        if result.mode is Mode.DRILL:
            self._show_drill()

    def take_over(self, before: HealthSink) -> None:
        """Go on from another's standing, as after a reload: canaries that both know stay what they are."""
        with before._lock:
            old = {mode: dict(canaries) for mode, canaries in before._canaries.items()}
            status, since_utc = before._status, before._since_utc
        with self._lock:
            self._canaries = {mode: {s: old[mode].get(s, new) for s, new in self._empty.items()} for mode in Mode}
            self._status, self._since_utc = status, since_utc

    def on_drill(self, change: DrillChange) -> None:
        """Begin a drill's board anew at its beginning and its end."""
        if change.orphaned or change.elsewhere:
            return
        with self._lock:
            self._canaries[Mode.DRILL] = dict(self._empty)
        self._show_drill()

    def board(self, mode: Mode = Mode.LIVE) -> Board:
        """Return every canary's standing."""
        with self._lock:
            return Board(canaries=MappingProxyType(self._canaries[mode].copy()))

    def health(self) -> Health:
        """Return the live health now."""
        return self.standing().health

    def standing(self) -> Standing:
        """Return the live health now, and since when its status is what it is."""
        health = assess(
            self.board(),
            self._breakers(),
            now=self._clock.monotonic(),
            stale_after_seconds=self._stale_after_seconds,
            seen_in_part=self._seen_in_part,
        )
        with self._lock:
            if health.status is not self._status:
                self._status, self._since_utc = health.status, self._clock.now_utc()
            return Standing(health, self._since_utc)

    def _show_drill(self) -> None:
        for observer in self._observers:
            observer.on_board(self.board(Mode.DRILL), Mode.DRILL)
