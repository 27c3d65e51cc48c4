"""What was measured: series by namespace, name, exact set of dimensions and unit, in seconds, minutes and hours.

Memory is bounded, however long the server runs: each resolution is kept for so long and no longer, whether or not new
data come in, and a metric without data is forgotten. CloudWatch keeps minutes for 15 days; here they are kept for the
longest that an alarm with short periods looks back, and hours for the longest that data may be late.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kms_local.wire.errors import ServiceError

SECOND, MINUTE, HOUR = 1, 60, 3600
_KEPT_SECONDS = {
    SECOND: 3 * HOUR,
    MINUTE: 26 * HOUR,  # an alarm on periods below an hour looks back a day, and late data need room
    HOUR: 15 * 24 * HOUR,  # a datum may be two weeks old, and an alarm on hours looks back a week
}
_SWEEP_SECONDS = 60
_MAX_METRICS = 10_000
_KEPT_VALUES = 500  # of one row; more are rounded
_MERGED_VALUES = 5000  # of a bucket that lives for one answer
_FINEST_BITS = 12  # of a rounded value: one in 4096
_ABSENT: array[float] = array("d")


class MetricKey(NamedTuple):
    """A metric's identity: other dimensions are another metric."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]


class Bucket:
    """Samples of one metric and unit: how many, their sum and extremes, and as far as known the values themselves.

    Up to `limit` values are kept exactly. More of them are rounded to ever fewer binary digits, so that percentiles
    stay right to a per cent or two instead of speaking of the first values only.
    """

    __slots__ = ("_limit", "bits", "count", "high", "low", "total", "values")

    def __init__(self, limit: int = _MERGED_VALUES) -> None:
        self.count = 0.0
        self.total = 0.0
        self.low = math.inf
        self.high = -math.inf
        self.values: dict[float, float] | None = {}  # value to count; None: unknown, a statistic set came in
        self._limit = limit
        self.bits = _FINEST_BITS + 1  # binary digits of the values; more than the finest: not rounded yet

    def add(self, value: float, count: float) -> None:
        """Add `value`, measured `count` times."""
        self._widen(count, value * count, value, value)
        if self.values is not None:
            self._count({value: count})

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
        else:
            self._count(other.values)

    def _count(self, more: dict[float, float]) -> None:
        values = self.values or {}
        for value, count in more.items():
            key = value if self.bits > _FINEST_BITS else _rounded(value, self.bits)
            values[key] = values.get(key, 0.0) + count
        while len(values) > self._limit and self.bits > 1:
            self.bits -= 1
            coarser: dict[float, float] = {}
            for value, count in values.items():
                key = _rounded(value, self.bits)
                coarser[key] = coarser.get(key, 0.0) + count
            values = coarser
        self.values = values

    def _widen(self, count: float, total: float, low: float, high: float) -> None:
        self.count += count
        self.total += total
        self.low = min(self.low, low)
        self.high = max(self.high, high)


def _rounded(value: float, bits: int) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)


@dataclass(slots=True)
class _Track:
    """One series at one resolution: rows in order of time, in columns, as they are many and hardly ever read."""

    resolution: int
    starts: array[int] = field(default_factory=lambda: array("q"))
    _counts: array[float] = field(default_factory=lambda: array("d"))
    _totals: array[float] = field(default_factory=lambda: array("d"))
    _lows: array[float] = field(default_factory=lambda: array("d"))
    _highs: array[float] = field(default_factory=lambda: array("d"))
    _values: dict[int, array[float] | None] = field(default_factory=dict)
    """By start: bits, value, count, value, count, ...; absent where all samples have one value, None where unknown."""

    def add(self, at: float, sample: Bucket) -> None:
        """Add a sample to the row that POSIX time `at` falls into, making it if need be."""
        start = math.floor(at / self.resolution) * self.resolution
        row = bisect_left(self.starts, start)
        if row == len(self.starts) or self.starts[row] != start:
            self.starts.insert(row, start)
            for column in self._columns:
                column.insert(row, 0.0)
            whole = Bucket(_KEPT_VALUES)
        else:
            whole = self._read(row)
        whole.merge(sample)
        self._write(row, whole)

    def between(self, start: float, end: float) -> Iterator[tuple[int, Bucket]]:
        """Return the rows that begin in `start`..`end` (exclusive)."""
        for row in range(bisect_left(self.starts, start), bisect_left(self.starts, end)):
            yield self.starts[row], self._read(row)

    def forget(self, now: float) -> None:
        """Drop the rows that are too old at POSIX time `now`."""
        gone = bisect_left(self.starts, now - _KEPT_SECONDS[self.resolution])
        if not gone:
            return
        for start in self.starts[:gone]:
            self._values.pop(start, None)
        del self.starts[:gone]
        for column in self._columns:
            del column[:gone]

    @property
    def _columns(self) -> tuple[array[float], ...]:
        return self._counts, self._totals, self._lows, self._highs

    def _read(self, row: int) -> Bucket:
        bucket = Bucket(_KEPT_VALUES)
        bucket.count, bucket.total = self._counts[row], self._totals[row]
        bucket.low, bucket.high = self._lows[row], self._highs[row]
        kept = self._values.get(self.starts[row], _ABSENT)
        if kept is None:
            bucket.values = None
        elif kept:
            bucket.bits = int(kept[0])
            bucket.values = dict(zip(kept[1::2], kept[2::2], strict=True))
        else:
            bucket.values = {bucket.low: bucket.count}
        return bucket

    def _write(self, row: int, bucket: Bucket) -> None:
        for column, number in zip(self._columns, (bucket.count, bucket.total, bucket.low, bucket.high), strict=True):
            column[row] = number
        start = self.starts[row]
        if bucket.values is None:
            self._values[start] = None
        elif bucket.low != bucket.high:
            numbers = [float(bucket.bits), *(number for pair in bucket.values.items() for number in pair)]
            self._values[start] = array("d", numbers)


@dataclass(slots=True)
class _Series:
    """One metric in one unit."""

    tracks: dict[int, _Track] = field(
        default_factory=lambda: {resolution: _Track(resolution) for resolution in (SECOND, MINUTE, HOUR)}
    )
    newest_at: float = 0.0

    def forget(self, now: float) -> bool:
        """Drop what is too old, and say whether nothing is left."""
        for track in self.tracks.values():
            track.forget(now)
        return not any(track.starts for track in self.tracks.values())


class MetricStore:
    """All series of one region."""

    def __init__(self) -> None:
        self._metrics: dict[MetricKey, dict[str, _Series]] = {}
        self._versions: dict[MetricKey, int] = {}
        self._writes = 0
        self._swept_at = -math.inf

    @property
    def rows(self) -> int:
        """How many rows are held, of all series at all resolutions: what the memory depends on."""
        return sum(
            len(track.starts)
            for units in self._metrics.values()
            for series in units.values()
            for track in series.tracks.values()
        )

    def add(self, key: MetricKey, unit: str, at: float, sample: Bucket, *, high_resolution: bool) -> None:
        """Add the samples of one datum of POSIX time `at`.

        Raises:
            ServiceError: LimitExceeded: far more metrics than any use of this server has.
        """
        series = self._series(key, unit)
        series.newest_at = max(series.newest_at, at)
        for resolution, track in series.tracks.items():
            if high_resolution or resolution != SECOND:
                track.add(at, sample)
        self._writes += 1
        self._versions[key] = self._writes

    def merged(
        self, key: MetricKey, *, unit: str | None, start: float, end: float, period_seconds: int
    ) -> dict[float, Bucket]:
        """Return the data of `start`..`end` (exclusive) by start of period; periods without data are absent.

        Periods are counted from `start`. What is older than the minutes that are kept is there by the hour.
        """
        found: dict[float, Bucket] = {}
        for name, series in self._metrics.get(key, {}).items():
            if unit in {None, name}:
                for at, bucket in self._rows(series, start, end, period_seconds):
                    found.setdefault(start + (at - start) // period_seconds * period_seconds, Bucket()).merge(bucket)
        return found

    def units(self, key: MetricKey) -> list[str]:
        """Return the units in which a metric has been measured."""
        return list(self._metrics.get(key, {}))

    def metrics(self, *, active_since: float) -> list[MetricKey]:
        """Return every metric that has data at or after POSIX time `active_since`, in order of appearance."""
        return [
            key
            for key, units in self._metrics.items()
            if any(series.newest_at >= active_since for series in units.values())
        ]

    def version(self, key: MetricKey) -> int:
        """Return a number that changes whenever data of a metric come in."""
        return self._versions.get(key, 0)

    def forget(self, now: float) -> None:
        """Drop what is too old at POSIX time `now`, metrics included; looks once a minute at most."""
        if now < self._swept_at + _SWEEP_SECONDS:
            return
        self._swept_at = now
        for key, units in list(self._metrics.items()):
            for unit, series in list(units.items()):
                if series.forget(now):
                    del units[unit]
            if not units:
                del self._metrics[key], self._versions[key]

    def _rows(self, series: _Series, start: float, end: float, period_seconds: int) -> Iterator[tuple[int, Bucket]]:
        if period_seconds < MINUTE:
            yield from series.tracks[SECOND].between(start, end)
            return
        if period_seconds % HOUR == 0:  # before this hour, minutes are no longer complete
            complete = (
                math.ceil((self._swept_at - _KEPT_SECONDS[MINUTE]) / HOUR) * HOUR if self._swept_at > 0 else start
            )
            yield from series.tracks[HOUR].between(start, min(end, complete))
            start = max(start, complete)
        yield from series.tracks[MINUTE].between(start, end)

    def _series(self, key: MetricKey, unit: str) -> _Series:
        units = self._metrics.get(key)
        if units is None:
            if len(self._metrics) >= _MAX_METRICS:
                raise ServiceError("LimitExceeded", f"this server keeps {_MAX_METRICS} metrics a region")
            units = self._metrics[key] = {}
        return units.setdefault(unit, _Series())
