"""One CloudWatch datum, and the limits of PutMetricData. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

from kms_watchdog.metrics import CloudWatchMetric

MAX_VALUES = 150  # of one datum
MAX_DATUMS = 1000  # of one request
MAX_BODY_BYTES = 900_000  # of one request; the limit is 1 MB
MAX_AGE_SECONDS = 14 * 86_400 - 600  # CloudWatch takes two weeks; some minutes for the way


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """What was measured of one series in one period: distinct values and how often each came."""

    namespace: str
    name: str
    unit: str
    dimensions: tuple[tuple[str, str], ...]
    period_start: int
    """Unix seconds, UTC, aligned to the period."""
    resolution: Literal[1, 60]
    values: tuple[float, ...]
    counts: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.values) <= MAX_VALUES or len(self.values) != len(self.counts):
            raise ValueError(f"1 to {MAX_VALUES} values, and a count for each")
        if not all(math.isfinite(number) for number in (*self.values, *self.counts)):
            raise ValueError("NaN and infinity: CloudWatch refuses the whole request for one of them")
        if any(not name.strip() or not value.strip() for name, value in self.dimensions):
            raise ValueError("a dimension may not be blank")

    def to_json(self) -> str:
        """Return the datum as it lies in the queue."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the datum that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        fields["dimensions"] = tuple((name, value) for name, value in fields["dimensions"])
        fields["values"], fields["counts"] = tuple(fields["values"]), tuple(fields["counts"])
        return cls(**fields)

    def to_api(self) -> dict[str, Any]:
        """Return the datum as PutMetricData wants it."""
        return {
            "MetricName": self.name,
            "Dimensions": [{"Name": name, "Value": value} for name, value in self.dimensions],
            "Timestamp": datetime.fromtimestamp(self.period_start, UTC),
            "Values": list(self.values),
            "Counts": list(self.counts),
            "Unit": self.unit,
            "StorageResolution": self.resolution,
        }


def datums(
    metric: CloudWatchMetric,
    *,
    namespace: str,
    dimensions: Sequence[str],
    period_start: int,
    resolution: Literal[1, 60],
    tally: Mapping[float, int],
) -> Iterator[Datum]:
    """Yield the datums of one series in one period, each within CloudWatch's limit of values.

    `tally` counts how often each value came; values that are no numbers are left out.
    """
    pairs = sorted((value, count) for value, count in tally.items() if math.isfinite(value))
    for at in range(0, len(pairs), MAX_VALUES):
        part = pairs[at : at + MAX_VALUES]
        yield Datum(
            namespace=namespace,
            name=metric.name,
            unit=metric.unit,
            dimensions=tuple(zip(metric.dimensions, dimensions, strict=True)),
            period_start=period_start,
            resolution=resolution,
            values=tuple(float(value) for value, _ in part),
            counts=tuple(float(count) for _, count in part),
        )
