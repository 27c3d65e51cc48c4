"""PutMetricData: all or nothing, within the documented limits.

Source: Amazon CloudWatch API Reference, PutMetricData, and User Guide, "CloudWatch service quotas".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kms_local.cloudwatch.fields import bad_combination, bad_value, dimensions, required_text, timestamp
from kms_local.cloudwatch.store import MetricKey, MetricStore
from kms_local.wire.params import JsonObject, Params

_MAX_DATUMS = 1000
_MAX_VALUES = 150
_MAX_MAGNITUDE = 2.0**360
_PAST_SECONDS = 14 * 86_400
_FUTURE_SECONDS = 2 * 3600
_PREFIXES = ("Kilo", "Mega", "Giga", "Tera")
_SIZES = ("Bytes", "Bits", *(prefix + size for prefix in _PREFIXES for size in ("bytes", "bits")))
UNITS = frozenset(
    {"Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None"}
    | set(_SIZES)
    | {f"{size}/Second" for size in _SIZES}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StatisticSet:
    count: float
    total: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Datum:
    """One checked datum: values with their counts, or a statistic set."""

    key: MetricKey
    unit: str
    at: float
    high_resolution: bool
    values: tuple[tuple[float, float], ...]
    statistics: _StatisticSet | None


def put_metric_data(store: MetricStore, params: Params, now: float) -> JsonObject:
    """Take in every datum of a request, or none if one is refused."""
    namespace = _namespace(params)
    given = params.objects("MetricData")
    for entity in params.objects("EntityMetricData"):
        given += entity.objects("MetricData")
    if not given:
        raise bad_value("The parameter MetricData must not be empty.")
    if len(given) > _MAX_DATUMS:
        raise bad_value(f"The collection MetricData must not have a size greater than {_MAX_DATUMS}.")
    datums = [_datum(item, namespace, f"MetricData.member.{number}.", now) for number, item in enumerate(given, 1)]
    for datum in datums:
        _keep(store, datum)
    return {}


def _namespace(params: Params) -> str:
    namespace = required_text(params, "Namespace")
    if namespace.startswith("AWS/"):
        raise bad_value("The value AWS/ for parameter Namespace is invalid.")
    if namespace.startswith(":"):
        raise bad_value("The parameter Namespace must not begin with a colon.")
    return namespace


def _keep(store: MetricStore, datum: _Datum) -> None:
    for bucket in store.buckets_for(datum.key, datum.unit, datum.at, high_resolution=datum.high_resolution):
        for value, count in datum.values:
            bucket.add(value, count)
        if datum.statistics is not None:
            one = datum.statistics
            bucket.add_set(count=one.count, total=one.total, low=one.low, high=one.high)


def _datum(item: Params, namespace: str, where: str, now: float) -> _Datum:
    unit = item.optional_text("Unit") or "None"
    if unit not in UNITS:
        raise bad_value(f"The parameter {where}Unit must be a value in the set of units, not {unit}.")
    forms = [name for name in ("Value", "Values", "StatisticValues") if item.given(name)]
    if len(forms) != 1:
        raise bad_combination(f"Exactly one of {where}Value, {where}Values and {where}StatisticValues is required.")
    statistics = item.object("StatisticValues")
    return _Datum(
        key=MetricKey(namespace, required_text(item, "MetricName", where), dimensions(item, where)),
        unit=unit,
        at=_time(item, where, now),
        high_resolution=_resolution(item, where) == 1,
        values=_values(item, where),
        statistics=None if statistics is None else _statistic_set(statistics, where),
    )


def _time(item: Params, where: str, now: float) -> float:
    at = timestamp(item, "Timestamp")
    if at is None:
        return now
    if at < now - _PAST_SECONDS:
        raise bad_value(f"The parameter {where}Timestamp must specify a time no more than two weeks in the past.")
    if at > now + _FUTURE_SECONDS:
        raise bad_value(f"The parameter {where}Timestamp must specify a time no more than two hours in the future.")
    return at


def _resolution(item: Params, where: str) -> int:
    resolution = item.integer("StorageResolution", low=-(2**31), high=2**31, default=60)
    if resolution not in {1, 60}:
        raise bad_value(f"The parameter {where}StorageResolution must be 1 or 60.")
    return resolution or 60


def _values(item: Params, where: str) -> tuple[tuple[float, float], ...]:
    single = item.number("Value")
    if single is not None:
        return ((_checked(single, f"{where}Value"), 1.0),)
    values, counts = item.numbers("Values"), item.numbers("Counts")
    if values is None:
        return ()
    if counts is None:
        counts = [1.0] * len(values)
    if len(values) > _MAX_VALUES:
        raise bad_value(f"The collection {where}Values must not have a size greater than {_MAX_VALUES}.")
    if not values or len(values) != len(counts):
        raise bad_value(f"The parameters {where}Values and {where}Counts must be of the same size, at least 1.")
    return tuple(
        (_checked(value, f"{where}Values"), _count(count, f"{where}Counts"))
        for value, count in zip(values, counts, strict=True)
    )


def _statistic_set(given: Params, where: str) -> _StatisticSet:
    numbers: dict[str, float] = {}
    for name in ("SampleCount", "Sum", "Minimum", "Maximum"):
        value = given.number(name)
        if value is None:
            raise bad_value(f"The parameter {where}StatisticValues.{name} is required.")
        numbers[name] = _checked(value, f"{where}StatisticValues.{name}")
    if numbers["Minimum"] > numbers["Maximum"]:
        raise bad_value(f"The parameter {where}StatisticValues.Maximum must not be less than Minimum.")
    return _StatisticSet(
        count=_count(numbers["SampleCount"], f"{where}StatisticValues.SampleCount"),
        total=numbers["Sum"],
        low=numbers["Minimum"],
        high=numbers["Maximum"],
    )


def _checked(value: float, where: str) -> float:
    if not math.isfinite(value) or abs(value) > _MAX_MAGNITUDE:
        raise bad_value(f"The value {value} for parameter {where} is invalid.")
    return float(value)


def _count(value: float, where: str) -> float:
    if _checked(value, where) <= 0:
        raise bad_value(f"The value {value} for parameter {where} must be more than 0.")
    return float(value)
