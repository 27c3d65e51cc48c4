"""Statistics of a bucket: Sum, Average, Minimum, Maximum, SampleCount and percentiles.

A percentile is the smallest value that at least that share of the samples do not exceed. As in CloudWatch there is none
where statistic sets have hidden the values, or where a value is negative. Trimmed statistics (tm99, IQM, PR and the
like) are not computed here: they are refused by name.
"""

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
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100(?:\.0{1,10})?)")
_TRIMMED = re.compile(r"(?:tm|tc|ts|wm)\d{1,2}(?:\.\d{1,10})?|IQM|(?:PR|TM|TC|TS|WM)\([^()]*\)")
_ROUNDING = 1e-9  # of the number of samples: shares and counts are floats


def is_percentile(name: str) -> bool:
    """Say whether `name` is `p0` to `p100`, decimals allowed."""
    return _PERCENTILE.fullmatch(name) is not None


def is_statistic(name: str) -> bool:
    """Say whether `name` is a statistic that is computed here."""
    return name in SIMPLE or is_percentile(name)


def why_not(name: str, parameter: str) -> str:
    """Say why `name` is refused as the statistic of `parameter`: CloudWatch alone has it, or nobody."""
    if _TRIMMED.fullmatch(name):
        return f"The value {name} for parameter {parameter} is a statistic that this server does not compute."
    return f"The value {name} for parameter {parameter} is not supported."


def statistic(bucket: Bucket, name: str) -> float | None:
    """Return one statistic, or None where there is none: no samples, or a percentile of unknown or negative values."""
    if not bucket.count:
        return None
    if name in SIMPLE:
        return SIMPLE[name](bucket)
    if bucket.values is None or bucket.low < 0:
        return None
    value = _percentile(bucket.values, float(name.removeprefix("p")) / 100)
    return min(max(value, bucket.low), bucket.high)  # rounded values may lie outside


def series_of(buckets: Mapping[float, Bucket], name: str) -> dict[float, float]:
    """Return one statistic of every period that has it."""
    found = {at: statistic(bucket, name) for at, bucket in buckets.items()}
    return {at: value for at, value in found.items() if value is not None}


def _percentile(values: Mapping[float, float], share: float) -> float:
    samples, passed = sum(values.values()), 0.0
    wanted = (share - _ROUNDING) * samples
    ordered = sorted(values)
    for value in ordered:
        passed += values[value]
        if passed >= wanted:
            return value
    return ordered[-1]
