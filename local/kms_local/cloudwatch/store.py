"""What was measured: series by namespace, name, exact set of dimensions and unit, in buckets of a second or a minute.

Memory is bounded: seconds are kept for three hours as in CloudWatch, minutes for a day (CloudWatch: 15 days), and the
values of one bucket up to a number beyond which its percentiles are those of the values seen first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kms_local.wire.errors import ServiceError

SECOND, MINUTE = 1, 60
_KEPT_SECONDS = {
    SECOND: 3 * 3600,
    MINUTE: 26 * 3600,
}  # a day is the longest window of an alarm, and late data need room
_MAX_SERIES = 10_000
_MAX_VALUES = 500


class MetricKey(NamedTuple):
    """A metric's identity: other dimensions are another metric."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]


class Bucket:
    """The data of one metric and unit in one second or minute, or merged from several of them."""

    __slots__ = ("count", "high", "low", "total", "values")

    def __init__(self) -> None:
        self.count = 0.0
        self.total = 0.0
        self.low = float("inf")
        self.high = float("-inf")
        self.values: dict[float, float] | None = {}  # value to count; None: unknown, a statistic set came in

    def add(self, value: float, count: float) -> None:
        """Add `value`, measured `count` times."""
        self._widen(count, value * count, value, value)
        if self.values is not None and (value in self.values or len(self.values) < _MAX_VALUES):
            self.values[value] = self.values.get(value, 0.0) + count

    def add_set(self, *, count: float, total: float, low: float, high: float) -> None:
        """Add a statistic set; it has no percentiles, unless all of its values are one."""
        if low == high:
            self.add(low, count)
            return
        self._widen(count, total, low, high)
        self.values = None

    def merge(self, other: Bucket) -> None:
        """Add what `other` holds."""
        self._widen(other.count, other.total, other.low, other.high)
        if other.values is None or self.values is None:
            self.values = None
            return
        for value, count in other.values.items():
            self.values[value] = self.values.get(value, 0.0) + count

    def _widen(self, count: float, total: float, low: float, high: float) -> None:
        self.count += count
        self.total += total
        self.low = min(self.low, low)
        self.high = max(self.high, high)


@dataclass(slots=True)
class _Track:
    """One series at one resolution, its buckets in order of time."""

    resolution: int
    starts: list[int] = field(default_factory=list)
    buckets: dict[int, Bucket] = field(default_factory=dict)

    def bucket(self, at: float) -> Bucket:
        """Return the bucket that POSIX time `at` falls into, making it if need be."""
        start = int(at // self.resolution) * self.resolution
        found = self.buckets.get(start)
        if found is None:
            found = self.buckets[start] = Bucket()
            insort(self.starts, start)
            self._forget(self.starts[-1] - _KEPT_SECONDS[self.resolution])
        return found

    def between(self, start: float, end: float) -> Iterator[tuple[int, Bucket]]:
        """Return the buckets that begin in `start`..`end` (exclusive)."""
        for at in self.starts[bisect_left(self.starts, start) : bisect_left(self.starts, end)]:
            yield at, self.buckets[at]

    def _forget(self, before: float) -> None:
        gone = bisect_left(self.starts, before)
        for start in self.starts[:gone]:
            del self.buckets[start]
        del self.starts[:gone]


@dataclass(slots=True)
class _Series:
    """One metric in one unit."""

    fine: _Track = field(default_factory=lambda: _Track(SECOND))  # StorageResolution 1 only
    coarse: _Track = field(default_factory=lambda: _Track(MINUTE))
    newest_at: float = 0.0


class MetricStore:
    """All series of one region."""

    def __init__(self) -> None:
        self._metrics: dict[MetricKey, dict[str, _Series]] = {}

    def buckets_for(self, key: MetricKey, unit: str, at: float, *, high_resolution: bool) -> list[Bucket]:
        """Return the buckets that a datum of POSIX time `at` belongs to.

        Raises:
            ServiceError: LimitExceeded: far more metrics than any use of this server has.
        """
        series = self._series(key, unit)
        series.newest_at = max(series.newest_at, at)
        found = [series.coarse.bucket(at)]
        return [*found, series.fine.bucket(at)] if high_resolution else found

    def merged(
        self, key: MetricKey, *, unit: str | None, start: float, end: float, period_seconds: int
    ) -> dict[float, Bucket]:
        """Return the data of `start`..`end` (exclusive) by start of period; periods without data are absent."""
        found: dict[float, Bucket] = {}
        for name, series in self._metrics.get(key, {}).items():
            if unit in {None, name}:
                track = series.fine if period_seconds < MINUTE else series.coarse
                for at, bucket in track.between(start, end):
                    found.setdefault(at // period_seconds * period_seconds, Bucket()).merge(bucket)
        return found

    def units(self, key: MetricKey) -> list[str]:
        """Return the units in which a metric has been measured."""
        return list(self._metrics.get(key, {}))

    def metrics(self, *, active_since: float = 0.0) -> list[MetricKey]:
        """Return every metric that has data at or after POSIX time `active_since`, in order of appearance."""
        return [
            key
            for key, units in self._metrics.items()
            if any(series.newest_at >= active_since for series in units.values())
        ]

    def _series(self, key: MetricKey, unit: str) -> _Series:
        units = self._metrics.get(key)
        if units is None:
            if len(self._metrics) >= _MAX_SERIES:
                raise ServiceError("LimitExceeded", f"this server keeps {_MAX_SERIES} metrics a region")
            units = self._metrics[key] = {}
        return units.setdefault(unit, _Series())
