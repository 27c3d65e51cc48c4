"""Results and events as CloudWatch metrics: counted per aligned period, zeros said out loud.

CloudWatch never sums a custom metric over dimensions, and takes silence for "no data": so every series of `metrics.py`
is published in every period with its exact dimensions, also when nothing happened. A drill's numbers go under the same
names to a namespace of their own, from its beginning until some periods after its end (the alarms there must clear).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kms_core.events import Attempt, BreakerMoved
from kms_watchdog import metrics
from kms_watchdog.health import Subject
from kms_watchdog.metrics import CloudWatchMetric
from kms_watchdog.results import CanaryResult, Mode, Outcome
from kms_watchdog.sinks.datum import Datum, datums
from kms_watchdog.sinks.sink import DrillChange, Seen

DRILL_TAIL_PERIODS = 5
"""How long a drill's zeros go on after it: alarms look at up to five periods, and must find calm ones."""

_Series = tuple[CloudWatchMetric, tuple[str, ...]]
_COUNTS = (metrics.CW_CANARY_RUNS, metrics.CW_CANARY_FAILURES, metrics.CW_CANARY_BLIND)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """Where numbers go, and how finely."""

    namespaces: Mapping[Mode, str]
    period_seconds: int
    regions: Sequence[str]
    monitor: str
    """Which watchdog speaks: the heartbeat's own dimension, so that one dead of two is seen."""

    @property
    def resolution(self) -> Literal[1, 60]:
        """CloudWatch's storage resolution: below a minute only 1 s exists."""
        return 60 if self.period_seconds >= 60 else 1  # noqa: PLR2004 - CloudWatch's standard resolution

    def period_of(self, at: float) -> int:
        """Return the start of the period that Unix time `at` is in."""
        return int(at // self.period_seconds) * self.period_seconds


@dataclass(slots=True)
class _Period:
    """Sums and tallies of one period in one mode."""

    sums: Counter[_Series] = field(default_factory=Counter)
    tallies: dict[_Series, Counter[float]] = field(default_factory=dict)

    def tally(self, series: _Series, value: float) -> None:
        self.tallies.setdefault(series, Counter())[value] += 1


class CloudWatchSink:
    """Counts until `close` takes the periods that are over; any thread may call any method."""

    def __init__(self, publishing: Publishing, *, subjects: Iterable[Subject], now: float) -> None:
        """`now` is Unix time: the sink speaks for no period that was over before it was there."""
        self._first_period = publishing.period_of(now)
        self._publishing = publishing
        self._subjects = frozenset(subjects)
        self._cycle = set(self._subjects)
        self._lock = threading.Lock()
        self._periods: dict[tuple[Mode, int], _Period] = {}
        self._breakers: dict[Mode, dict[str, int]] = {mode: dict.fromkeys(publishing.regions, 0) for mode in Mode}
        self._drills: set[str] = set()
        self._drill_until = 0

    def write(self, result: CanaryResult) -> None:
        """Count one look, in the period in which it ended."""
        ended_at = result.started_at_utc.timestamp() + result.duration_seconds
        with self._lock:
            period = self._period(result.mode, ended_at)
            where = (result.region,)
            if result.outcome is Outcome.BLIND:
                period.sums[metrics.CW_CANARY_BLIND, where] += 1
            else:
                period.sums[metrics.CW_CANARY_RUNS, where] += 1
                period.sums[metrics.CW_CANARY_FAILURES, where] += result.outcome is Outcome.FAILED
                period.tally((metrics.CW_CANARY_DURATION, where), _milliseconds(result.duration_seconds))
            if result.mode is Mode.LIVE:
                self._count_cycle(Subject(result.canary, result.region, result.key), period)

    def on_event(self, seen: Seen) -> None:
        """Count an event, in the period in which it happened."""
        with self._lock:
            period = self._period(seen.mode, seen.at_utc.timestamp())
            match seen.event:
                case Attempt(region=region, operation=operation) as attempt if seen.mode is Mode.LIVE:
                    success = "false" if attempt.error_code else "true"
                    series = (metrics.CW_OPERATION_DURATION, (region, operation, success))
                    period.tally(series, _milliseconds(attempt.seconds))
                case BreakerMoved(region=region, new=new):
                    state = metrics.BREAKER_VALUES[new]
                    self._breakers[seen.mode][region] = state
                    period.tally((metrics.CW_BREAKER_STATE, (region,)), state)
                case _:
                    pass

    def on_drill(self, change: DrillChange) -> None:
        """Begin or end publishing a drill's numbers."""
        with self._lock:
            if change.active:
                self._drills.add(change.run_id)
                return
            self._drills.discard(change.run_id)
            self._breakers[Mode.DRILL] = dict.fromkeys(self._publishing.regions, 0)
            seconds = self._publishing.period_seconds
            self._drill_until = self._publishing.period_of(change.at_utc.timestamp()) + DRILL_TAIL_PERIODS * seconds

    def close(self, now: float, *, unfinished_too: bool = False) -> tuple[Datum, ...]:
        """Return what was counted in periods that are over at Unix time `now`, and forget it.

        The newest finished period is always spoken for, zeros and all; `unfinished_too` also takes the running one, as
        at exit. What comes late for a period already closed is returned next time, without zeros.
        """
        with self._lock:
            current = self._publishing.period_of(now)
            newest = current if unfinished_too else current - self._publishing.period_seconds
            self._speak_for(newest)
            over = sorted(key for key in self._periods if key[1] <= newest)
            return tuple(d for mode, start in over for d in self._datums(mode, start, self._periods.pop((mode, start))))

    def _period(self, mode: Mode, at: float) -> _Period:
        return self._periods.setdefault((mode, self._publishing.period_of(at)), _Period())

    def _count_cycle(self, subject: Subject, period: _Period) -> None:
        self._cycle.discard(subject)
        if not self._cycle:
            period.sums[metrics.CW_HEARTBEAT, (self._publishing.monitor,)] += 1
            self._cycle = set(self._subjects)

    def _speak_for(self, start: int) -> None:
        """Put zeros and standing states where nothing was counted in the period that began at `start`."""
        if start < self._first_period:
            return
        for mode in self._modes(start):
            period = self._period(mode, start)
            for region in self._publishing.regions:
                for metric in _COUNTS:
                    period.sums[metric, (region,)] += 0
                period.tally((metrics.CW_BREAKER_STATE, (region,)), self._breakers[mode][region])
            if mode is Mode.LIVE:
                period.sums[metrics.CW_HEARTBEAT, (self._publishing.monitor,)] += 0

    def _modes(self, start: int) -> tuple[Mode, ...]:
        drilling = bool(self._drills) or start <= self._drill_until
        return (Mode.LIVE, Mode.DRILL) if drilling else (Mode.LIVE,)

    def _datums(self, mode: Mode, start: int, period: _Period) -> Iterable[Datum]:
        sums: dict[_Series, Mapping[float, int]] = {series: {total: 1} for series, total in period.sums.items()}
        for (metric, dimensions), tally in (sums | period.tallies).items():
            yield from datums(
                metric,
                namespace=self._publishing.namespaces[mode],
                dimensions=dimensions,
                period_start=start,
                resolution=self._publishing.resolution,
                tally=tally,
            )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)  # equal values share one entry of `Values`
