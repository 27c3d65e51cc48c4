"""Statistics of a bucket: Sum, Average, Minimum, Maximum, SampleCount and percentiles."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from kms_local.cloudwatch.store import Bucket

SIMPLE: dict[str, Callable[[Bucket], float]] = {
    "SampleCount": lambda bucket: bucket.count,
    "Average": lambda bucket: bucket.total / bucket.count,
    "Sum": lambda bucket: bucket.total,
    "Minimum": lambda bucket: bucket.low,
    "Maximum": lambda bucket: bucket.high,
}
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)")


def is_percentile(name: str) -> bool:
    """Say whether `name` is `p0` to `p100`, decimals allowed."""
    return _PERCENTILE.fullmatch(name) is not None


def is_statistic(name: str) -> bool:
    """Say whether `name` is a statistic that is computed here."""
    return name in SIMPLE or is_percentile(name)


def statistic(bucket: Bucket, name: str) -> float | None:
    """Return one statistic, or None where there is none: no samples, or a percentile of unknown or negative values."""
    if not bucket.count:
        return None
    if name in SIMPLE:
        return SIMPLE[name](bucket)
    if bucket.values is None or bucket.low < 0:
        return None
    return _percentile(bucket.values, float(name.removeprefix("p")) / 100)


def series_of(buckets: Mapping[float, Bucket], name: str) -> dict[float, float]:
    """Return one statistic of every period that has it."""
    found = {at: statistic(bucket, name) for at, bucket in buckets.items()}
    return {at: value for at, value in found.items() if value is not None}


def _percentile(values: Mapping[float, float], share: float) -> float:
    """Return the smallest value that at least `share` of the samples do not exceed."""
    wanted, passed = share * sum(values.values()), 0.0
    ordered = sorted(values)
    for value in ordered:
        passed += values[value]
        if passed >= wanted:
            return value
    return ordered[-1]
