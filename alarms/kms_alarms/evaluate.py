"""When a CloudWatch metric alarm is OK, in ALARM, or without enough data: pure functions of definition, points, time.

An alarm looks at complete periods only, aligned to the epoch; data that come late are simply there at the next look. It
looks back a few periods further than it needs (the *evaluation range*), and only where real data are still too few does
the treatment of missing data decide.

Source: Amazon CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing data" (the tables there are the
tests of this module). Standard library only.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from kms_alarms.metric_math import Expression, MetricMathError, Scope, Series, Value, one_series, parse

__all__ = [
    "COMPARISON_OPERATORS",
    "AlarmDefinition",
    "AlarmState",
    "Evaluation",
    "Expression",
    "MetricMathError",
    "MetricStat",
    "Missing",
    "Point",
    "Series",
    "Window",
    "evaluate",
    "evaluation_window",
    "parse",
    "resolve",
    "window",
]

EXTRA_PERIODS = 2
"""How much further back than its evaluation periods an alarm looks: the documentation's example is 5 for 3."""


class AlarmState(StrEnum):
    """An alarm's state."""

    OK = "OK"
    ALARM = "ALARM"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


class Missing(StrEnum):
    """How a period without data counts."""

    MISSING = "missing"
    NOT_BREACHING = "notBreaching"
    BREACHING = "breaching"
    IGNORE = "ignore"


_COMPARISONS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
COMPARISON_OPERATORS = frozenset(_COMPARISONS)
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d+)?)")
_MEDIAN = 0.5
_SHOWN_POINTS = 10  # of those that a reason counts: a reason has 1023 characters at most
_A_SAMPLE = 1e-6  # counts are floats


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricStat:
    """One metric, by namespace, name and its exact set of dimensions, and one statistic of it."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]
    statistic: str  # Sum, Average, Minimum, Maximum, SampleCount or p0 to p100
    unit: str | None = None  # None: data of any unit


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmDefinition:
    """What an alarm watches, and when it fires."""

    name: str
    queries: Mapping[str, MetricStat | Expression]  # by id, in the order given
    result: str  # the id of the query that is compared
    period_seconds: int
    evaluation_periods: int
    datapoints_to_alarm: int
    comparison: str
    threshold: float
    missing: Missing = Missing.MISSING
    ignores_low_samples: bool = False
    """Whether a percentile of too few samples leaves the state as it is (`EvaluateLowSampleCountPercentile=ignore`)."""

    def __post_init__(self) -> None:
        if self.comparison not in _COMPARISONS:
            raise ValueError(f"unknown comparison {self.comparison!r}")
        if self.period_seconds < 1:
            raise ValueError(f"period_seconds must be at least 1, not {self.period_seconds}")
        if not 1 <= self.datapoints_to_alarm <= self.evaluation_periods:
            raise ValueError("datapoints_to_alarm must be in 1..evaluation_periods")
        if self.result not in self.queries:
            raise ValueError(f"no query has the id {self.result!r}")
        for query in self.queries.values():
            if isinstance(query, Expression) and not query.ids <= self.queries.keys():
                raise ValueError(f"{query.text!r} reads an unknown id")

    def breaches(self, value: float) -> bool:
        """Say whether `value` is on the wrong side of the threshold."""
        return _COMPARISONS[self.comparison][0](value, self.threshold)

    @property
    def samples_needed(self) -> float:
        """How many samples within the evaluation periods a state is decided on; 0 where any number will do.

        Source: CloudWatch User Guide, "Percentile-based alarms and low data samples".
        """
        watched = self.queries[self.result]
        percentile = _PERCENTILE.fullmatch(watched.statistic) if isinstance(watched, MetricStat) else None
        share = float(percentile[1]) / 100 if percentile else 0.0
        if not self.ignores_low_samples or not 0 < share < 1:
            return 0
        return 10 / (share if share < _MEDIAN else 1 - share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Consecutive periods: from `start` (inclusive) to `end` (exclusive), both aligned, in POSIX seconds."""

    start: float
    end: float
    period_seconds: int

    @property
    def times(self) -> list[float]:
        """The start of every period, ascending."""
        count = round((self.end - self.start) / self.period_seconds)
        return [self.start + position * self.period_seconds for position in range(count)]


@dataclass(frozen=True, slots=True)
class Point:
    """One period as an alarm saw it; no value: no data."""

    at: float
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an alarm's look at its metrics came to."""

    state: AlarmState
    reason: str
    points: tuple[Point, ...]  # the whole evaluation range, oldest first


def window(*, now: float, period_seconds: int, periods: int) -> Window:
    """Return the `periods` newest periods that are over at `now`."""
    end = math.floor(now / period_seconds) * period_seconds
    return Window(start=end - periods * period_seconds, end=end, period_seconds=period_seconds)


def evaluation_window(alarm: AlarmDefinition, now: float) -> Window:
    """Return the evaluation range of `alarm` at POSIX time `now`."""
    return window(now=now, period_seconds=alarm.period_seconds, periods=alarm.evaluation_periods + EXTRA_PERIODS)


def evaluate(
    alarm: AlarmDefinition,
    statistics: Mapping[str, Series],
    *,
    now: float,
    previous: AlarmState,
    samples: float = math.inf,
) -> Evaluation:
    """Decide an alarm's state at POSIX time `now`.

    Args:
        alarm: its definition.
        statistics: for the id of each `MetricStat` its statistic by start of period, over `evaluation_window` at least.
        now: the time of the look; a period that is not over yet does not count.
        previous: the state before, which is kept where the data leave it open.
        samples: how many samples the watched metric has within the evaluation periods; looked at only where
            `samples_needed` says so. None at all are missing data, not few.

    Raises:
        MetricMathError: an expression does not give one series.
    """
    looked_at = evaluation_window(alarm, now)
    series = resolve(alarm.queries, statistics, looked_at, alarm.result)
    points = tuple(Point(at, series.get(at)) for at in looked_at.times)
    if series and samples + _A_SAMPLE < alarm.samples_needed:
        few = f"Ignored: {samples:g} samples are too few for this percentile."
        return Evaluation(state=previous, reason=few, points=points)
    state = _decide(alarm, points, previous)
    return Evaluation(state=state, reason=_reason(alarm, points, state), points=points)


def resolve(
    queries: Mapping[str, MetricStat | Expression], statistics: Mapping[str, Series], looked_at: Window, result: str
) -> dict[float, float]:
    """Return the series of the query `result`, computing the expressions that it rests on.

    Raises:
        MetricMathError: expressions go round in a circle, or the result is not one series.
    """
    known: dict[str, Value] = {name: statistics[name] for name in queries if name in statistics}
    metrics = tuple(known)
    waiting = {name: query for name, query in queries.items() if isinstance(query, Expression)}
    while waiting:
        ready = [name for name, query in waiting.items() if query.ids <= known.keys()]
        if not ready:
            raise MetricMathError(f"the expressions {', '.join(sorted(waiting))} wait for each other")
        for name in ready:
            scope = Scope(known, metrics, looked_at.times, looked_at.period_seconds)
            known[name] = waiting.pop(name).evaluate(scope)
    return one_series(known[result], looked_at.times)


def _decide(alarm: AlarmDefinition, points: Sequence[Point], previous: AlarmState) -> AlarmState:
    """Choose the state; `points` are the evaluation range, oldest first."""
    real = [alarm.breaches(point.value) for point in points if point.value is not None]
    enough = alarm.evaluation_periods
    if len(real) >= enough:  # the newest real points decide, however old they are: missing ones do not matter
        return _alarm_if(sum(real[-enough:]) >= alarm.datapoints_to_alarm)
    if not real:
        return _all_missing(alarm.missing, previous)
    breaching, filled = sum(real), enough - len(real)
    if alarm.missing is Missing.BREACHING:
        return _alarm_if(breaching + filled >= alarm.datapoints_to_alarm)
    if alarm.missing is Missing.NOT_BREACHING or breaching >= alarm.datapoints_to_alarm or not all(real):
        return _alarm_if(breaching >= alarm.datapoints_to_alarm)
    if alarm.missing is Missing.MISSING and _old_enough(alarm, points):
        return AlarmState.ALARM
    return previous


def _alarm_if(breaching: bool) -> AlarmState:  # noqa: FBT001  a private "if"
    return AlarmState.ALARM if breaching else AlarmState.OK


def _all_missing(missing: Missing, previous: AlarmState) -> AlarmState:
    return {
        Missing.MISSING: AlarmState.INSUFFICIENT_DATA,
        Missing.IGNORE: previous,
        Missing.BREACHING: AlarmState.ALARM,
        Missing.NOT_BREACHING: AlarmState.OK,
    }[missing]


def _old_enough(alarm: AlarmDefinition, points: Sequence[Point]) -> bool:
    """Say whether the oldest breaching point is as old as the points to alarm: then the alarm fires before its time."""
    ages = [age for age, point in enumerate(reversed(points), 1) if point.value is not None]
    return max(ages) >= alarm.datapoints_to_alarm


def _reason(alarm: AlarmDefinition, points: Sequence[Point], state: AlarmState) -> str:
    """Say why, in the words of CloudWatch."""
    real = [point for point in points if point.value is not None][-alarm.evaluation_periods :]
    if not real:
        return _reason_without_data(alarm, state)
    wanted = state is AlarmState.ALARM
    matching = [point for point in real if point.value is not None and alarm.breaches(point.value) is wanted]
    verb = f"{'was' if len(matching) == 1 else 'were'}{'' if wanted else ' not'}"
    listed = ", ".join(f"{point.value} ({_moment(point.at)})" for point in reversed(matching[-_SHOWN_POINTS:]))
    if alarm.datapoints_to_alarm == alarm.evaluation_periods:
        noun = "datapoint" if len(matching) == 1 else "datapoints"
        return (
            f"Threshold Crossed: {len(matching)} {noun} [{listed}] {verb} "
            f"{_COMPARISONS[alarm.comparison][1]} the threshold ({alarm.threshold})."
        )
    minimum = alarm.datapoints_to_alarm if wanted else alarm.evaluation_periods - alarm.datapoints_to_alarm + 1
    transition = "OK -> ALARM" if wanted else "ALARM -> OK"
    return (
        f"Threshold Crossed: {len(matching)} out of the last {len(real)} datapoints [{listed}] {verb} "
        f"{_COMPARISONS[alarm.comparison][1]} the threshold ({alarm.threshold}) "
        f"(minimum {minimum} {'datapoint' if minimum == 1 else 'datapoints'} for {transition} transition)."
    )


def _reason_without_data(alarm: AlarmDefinition, state: AlarmState) -> str:
    periods = alarm.evaluation_periods
    plural = "period" if periods == 1 else "periods"
    if state is AlarmState.INSUFFICIENT_DATA:
        return f"Insufficient Data: {periods} {'datapoint was' if periods == 1 else 'datapoints were'} unknown."
    treated = {Missing.BREACHING: "Breaching", Missing.NOT_BREACHING: "NonBreaching"}.get(alarm.missing, "Ignored")
    return (
        f"Threshold Crossed: no datapoints were received for {periods} {plural} and {periods} missing "
        f"{'datapoint was' if periods == 1 else 'datapoints were'} treated as [{treated}]."
    )


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%d/%m/%y %H:%M:%S")
