"""Results and events as CloudWatch metrics: counted per aligned period, zeros said out loud.

CloudWatch never sums a custom metric over dimensions, and takes silence for "no data": so every series of `metrics.py`
is published in every period with its exact dimensions, also when nothing happened. A drill's numbers go under the same
names to a namespace of their own, from its beginning until some periods after its end (the alarms there must clear).
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kms_core.events import Attempt, BreakerMoved
from kms_watchdog import metrics
from kms_watchdog.drills.verdict import Verdict
from kms_watchdog.health import Subject
from kms_watchdog.metrics import CloudWatchMetric
from kms_watchdog.results import PAIR, CanaryResult, Kind, Mode, Outcome, Reason
from kms_watchdog.sinks.datum import Datum, datums
from kms_watchdog.sinks.series import attempt_error, modes_of
from kms_watchdog.sinks.sink import DrillChange, Seen

DRILL_TAIL_PERIODS = 5
"""How long a drill's zeros go on after it: alarms look at up to five periods, and must find calm ones."""

_Series = tuple[CloudWatchMetric, tuple[str, ...]]
_COUNTS = (
    metrics.CW_CANARY_RUNS,
    metrics.CW_CANARY_FAILURES,
    metrics.CW_CANARY_BLIND,
    metrics.CW_INTEGRITY_FAILURES,
)
_NEVER = frozenset({Reason.MISMATCH, Reason.ACCEPTED_MUST_REFUSE})
_ALL_COUNTS = (metrics.CW_ALL_RUNS, metrics.CW_ALL_FAILURES)
_KIND_COUNTS = (metrics.CW_KIND_FAILURES, metrics.CW_KIND_BLIND)


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

    def __init__(
        self,
        publishing: Publishing,
        *,
        subjects: Iterable[Subject],
        now: float,
        faults: Callable[[], int] = lambda: 0,
    ) -> None:
        """`now` is Unix time: the sink speaks for no period that was over before it was there.

        `faults` returns how many faults nobody has undone yet, from memory.
        """
        self._first_period = publishing.period_of(now)
        self._publishing = publishing
        self._subjects = subjects = frozenset(subjects)
        # A round is one of round trips: other kinds look as seldom as they like, and the heartbeat must not wait.
        self._round = frozenset(subject for subject in subjects if subject.canary == Kind.ROUND_TRIP)
        self._missing = set(self._round)
        kinds = sorted({subject.canary for subject in subjects})
        self._kinds = {mode: tuple(kind for kind in kinds if mode in modes_of(kind)) for mode in Mode}
        self._lock = threading.Lock()
        self._periods: dict[tuple[Mode, int], _Period] = {}
        self._breakers: dict[Mode, dict[str, int]] = {mode: dict.fromkeys(publishing.regions, 0) for mode in Mode}
        self._drills: set[str] = set()
        self._drill_names: set[str] = set()
        self._drill_until = 0
        self._usable: dict[tuple[str, str], int] = {}
        self._drifting: dict[tuple[str, str], bool] = {}
        self._faults = faults

    def write(self, result: CanaryResult) -> None:
        """Count one look, in the period in which it ended."""
        ended_at = result.started_at_utc.timestamp() + result.duration_seconds
        with self._lock:
            period = self._period(result.mode, ended_at)
            if result.mode is Mode.LIVE:
                self._count_round(Subject(result.canary, result.region, result.key), period)
                self._note_keys(result, period)
            period.sums[metrics.CW_KIND_FAILURES, (result.canary,)] += result.outcome is Outcome.FAILED
            period.sums[metrics.CW_KIND_BLIND, (result.canary,)] += result.outcome is Outcome.BLIND
            if result.reason in _NEVER:
                for region in result.region.split(PAIR):
                    period.sums[metrics.CW_INTEGRITY_FAILURES, (region,)] += 1
            if result.canary == Kind.ROUND_TRIP:
                _count_round_trip(result, period)

    def on_event(self, seen: Seen) -> None:
        """Count an event, in the period in which it happened."""
        with self._lock:
            period = self._period(seen.mode, seen.at_utc.timestamp())
            match seen.event:
                case Attempt(region=region, operation=operation) as attempt if seen.mode is Mode.LIVE:
                    success = "false" if attempt_error(attempt) else "true"
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
        if change.elsewhere:
            return  # the other machine publishes it
        at = self._publishing.period_of(change.at_utc.timestamp())
        with self._lock:
            self._drill_names.add(change.drill)
            if change.orphaned:
                self._drills.discard(change.run_id)
                return
            if change.active:
                self._drills.add(change.run_id)
                if at >= self._first_period:
                    self._period(Mode.LIVE, at).tally((metrics.CW_DRILL_ACTIVE, ()), 1)
                return
            if change.run_id in self._drills and at >= self._first_period:
                self._period(Mode.LIVE, at).tally((metrics.CW_DRILL_ACTIVE, ()), 1)
            self._drills.discard(change.run_id)
            self._breakers[Mode.DRILL] = dict.fromkeys(self._publishing.regions, 0)
            self._drill_until = at + DRILL_TAIL_PERIODS * self._publishing.period_seconds
            if change.verdict is Verdict.BROKE and at >= self._first_period:
                self._period(Mode.LIVE, at).sums[metrics.CW_DRILL_FAILED, (change.drill,)] += 1

    def take_over(self, before: CloudWatchSink) -> None:
        """Go on from another, as after a reload: with the drills that run, and what was seen last of keys still here.

        The live breakers are those of a new core, and closed.
        """
        with before._lock:
            drills, names, until = set(before._drills), set(before._drill_names), before._drill_until
            breakers = dict(before._breakers[Mode.DRILL])
            usable, drifting = dict(before._usable), dict(before._drifting)
        with self._lock:
            self._drills, self._drill_names, self._drill_until = drills, names, until
            self._breakers[Mode.DRILL] |= {r: state for r, state in breakers.items() if r in self._breakers[Mode.DRILL]}
            self._usable = {where: value for where, value in usable.items() if self._looks_at(Kind.KEY_STATE, where)}
            self._drifting = {w: value for w, value in drifting.items() if self._looks_at(Kind.REPLICA_DRIFT, w)}

    def _looks_at(self, kind: Kind, where: tuple[str, str]) -> bool:
        return Subject(kind, *where) in self._subjects

    def close(self, now: float, *, unfinished_too: bool = False) -> tuple[Datum, ...]:
        """Return what was counted in periods that are over at Unix time `now`, and forget it.

        The newest finished period is always spoken for, zeros and all; `unfinished_too` also takes the running one, as
        at exit. What comes late for a period already closed is returned next time, without zeros.
        """
        with self._lock:
            current = self._publishing.period_of(now)
            self._first_period = min(self._first_period, current)  # a clock set back: else nothing is said until then
            newest = current if unfinished_too else current - self._publishing.period_seconds
            self._speak_for(newest)
            over = sorted(key for key in self._periods if key[1] <= newest)
            return tuple(d for mode, start in over for d in self._datums(mode, start, self._periods.pop((mode, start))))

    def _period(self, mode: Mode, at: float) -> _Period:
        return self._periods.setdefault((mode, self._publishing.period_of(at)), _Period())

    def _count_round(self, subject: Subject, period: _Period) -> None:
        self._missing.discard(subject)
        if not self._missing:
            period.sums[metrics.CW_HEARTBEAT, (self._publishing.monitor,)] += 1
            self._missing = set(self._round)

    def _note_keys(self, result: CanaryResult, period: _Period) -> None:
        """Keep what a look says of a key; after one that could not see, nothing is said, which is not "usable"."""
        where = (result.region, result.key)
        if result.canary == Kind.KEY_STATE:
            self._usable.pop(where, None)
            if result.outcome is not Outcome.BLIND and "usable" in result.facts:
                self._usable[where] = int(bool(result.facts["usable"]))
                period.tally((metrics.CW_KEY_USABLE, where), self._usable[where])
        if result.canary == Kind.REPLICA_DRIFT:
            self._drifting.pop(where, None)
            if result.outcome is not Outcome.BLIND:
                self._drifting[where] = result.reason is Reason.DRIFT

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
            for metric in _ALL_COUNTS:
                period.sums[metric, ()] += 0
            for metric, kind in itertools.product(_KIND_COUNTS, self._kinds[mode]):
                period.sums[metric, (kind,)] += 0
            if mode is Mode.LIVE:
                self._speak_of_the_watchdog(period)

    def _speak_of_the_watchdog(self, period: _Period) -> None:
        """Put what has no twin in a drill's namespace: keys, drills, faults, and that somebody is there."""
        period.sums[metrics.CW_HEARTBEAT, (self._publishing.monitor,)] += 0
        for where, usable in self._usable.items():
            period.tally((metrics.CW_KEY_USABLE, where), usable)
        for key in {key for _, key in self._drifting}:
            drifting = sum(differs for (_, of), differs in self._drifting.items() if of == key)
            period.tally((metrics.CW_REPLICA_DRIFT, (key,)), drifting)
        period.tally((metrics.CW_DRILL_ACTIVE, ()), int(bool(self._drills)))
        for drill in self._drill_names:
            period.sums[metrics.CW_DRILL_FAILED, (drill,)] += 0
        period.tally((metrics.CW_FAULTS_ACTIVE, ()), self._faults())

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


def _count_round_trip(result: CanaryResult, period: _Period) -> None:
    """Count for the objective: round trips alone, blind ones for neither side."""
    where = (result.region,)
    if result.outcome is Outcome.BLIND:
        period.sums[metrics.CW_CANARY_BLIND, where] += 1
        return
    failed = result.outcome is Outcome.FAILED
    period.sums[metrics.CW_CANARY_RUNS, where] += 1
    period.sums[metrics.CW_CANARY_FAILURES, where] += failed
    period.sums[metrics.CW_ALL_RUNS, ()] += 1
    period.sums[metrics.CW_ALL_FAILURES, ()] += failed
    period.tally((metrics.CW_CANARY_DURATION, where), _milliseconds(result.duration_seconds))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)  # equal values share one entry of `Values`
