"""PutMetricData: all or nothing, within the documented limits.

Source: Amazon CloudWatch API Reference, PutMetricData, and User Guide, "CloudWatch service quotas". The limit of 1 MB a
request is kept where the body is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kms_local.cloudwatch.fields import bad_combination, bad_value, dimensions, missing, required_text, timestamp
from kms_local.cloudwatch.fields import namespace as namespace_of
from kms_local.cloudwatch.store import Bucket, MetricKey, MetricStore
from kms_local.wire.params import JsonObject, Params

_MAX_DATUMS = 1000
_MAX_VALUES = 150
_MAX_MAGNITUDE = 2.0**360
_PAST_SECONDS = 14 * 86_400
_FUTURE_SECONDS = 2 * 3600
_MAX_ENTITIES = 2
_KEY_ATTRIBUTES = frozenset({"Type", "ResourceType", "Identifier", "Name", "Environment"})
_KEY_ATTRIBUTE_COUNT = range(2, 5)
_MAX_ATTRIBUTES = 10
_PREFIXES = ("Kilo", "Mega", "Giga", "Tera")
_SIZES = ("Bytes", "Bits", *(prefix + size for prefix in _PREFIXES for size in ("bytes", "bits")))
UNITS = frozenset(
    {"Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None"}
    | set(_SIZES)
    | {f"{size}/Second" for size in _SIZES}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Datum:
    """One checked datum."""

    key: MetricKey
    unit: str
    at: float
    high_resolution: bool
    samples: Bucket


def put_metric_data(store: MetricStore, params: Params, now: float) -> JsonObject:
    """Take in every datum of a request, or none if one is refused."""
    namespace = namespace_of(params)
    if namespace.startswith("AWS/"):
        raise bad_value("The value AWS/ for parameter Namespace is invalid.")
    given = [(f"MetricData.member.{number}.", item) for number, item in enumerate(params.objects("MetricData"), 1)]
    for outer, entity in enumerate(params.objects("EntityMetricData"), 1):
        inner = enumerate(entity.objects("MetricData"), 1)
        given += [(f"EntityMetricData.member.{outer}.MetricData.member.{number}.", item) for number, item in inner]
    if not given:
        raise missing("MetricData")
    if len(given) > _MAX_DATUMS:
        raise bad_value(f"The collection MetricData must not have a size greater than {_MAX_DATUMS}.")
    complaint = entity_complaint(params)
    if complaint is not None and params.flag("StrictEntityValidation"):
        raise bad_value(f"The parameter EntityMetricData is invalid: {complaint}.")
    for datum in [_datum(item, namespace, where, now) for where, item in given]:
        store.add(datum.key, datum.unit, datum.at, datum.samples, high_resolution=datum.high_resolution)
    store.forget(now)
    return {}


def entity_complaint(params: Params) -> str | None:
    """Return what is wrong with the entities of a request, in the words of `X-Amzn-Failure-Message`, or None.

    Raises:
        ServiceError: MissingParameter: entities come without `StrictEntityValidation`.
    """
    given = params.objects("EntityMetricData")
    if given and not params.given("StrictEntityValidation"):
        raise missing("StrictEntityValidation")
    if len(given) > _MAX_ENTITIES:
        return "EntitySizeTooLarge"
    return next((found for item in given if (found := _wrong_with(item)) is not None), None)


def _wrong_with(item: Params) -> str | None:
    entity = item.object("Entity")
    if entity is None:
        return "InvalidEntity"
    keys = entity.string_map("KeyAttributes")
    if len(keys) not in _KEY_ATTRIBUTE_COUNT or not keys.keys() <= _KEY_ATTRIBUTES:
        return "InvalidKeyAttributes"
    if not keys.get("Type"):
        return "MissingRequiredFields"
    return "InvalidAttributes" if len(entity.string_map("Attributes")) > _MAX_ATTRIBUTES else None


def _datum(item: Params, namespace: str, where: str, now: float) -> _Datum:
    unit = item.optional_text("Unit") or "None"
    if unit not in UNITS:
        raise bad_value(f"The parameter {where}Unit must be a value in the set of units, not {unit}.")
    forms = [name for name in ("Value", "Values", "StatisticValues") if item.given(name)]
    if not forms:
        raise bad_combination(f"One of {where}Value, {where}Values and {where}StatisticValues is required.")
    if forms[0] == "Value" and len(forms) > 1:  # Values beside StatisticValues are accepted, strange as it is
        raise bad_combination(
            f"The parameters {where}Value and {where}{forms[1]} are mutually exclusive and you have specified both."
        )
    samples = Bucket()
    for value, count in _values(item, where):
        samples.add(value, count)
    statistics = item.object("StatisticValues")
    if statistics is not None:
        _add_set(samples, statistics, f"{where}StatisticValues.")
    return _Datum(
        key=MetricKey(namespace, required_text(item, "MetricName", where), dimensions(item, where)),
        unit=unit,
        at=_time(item, where, now),
        high_resolution=_resolution(item, where) == 1,
        samples=samples,
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
    if not values:
        raise bad_value(f"The parameter {where}Values must not be empty.")
    if len(values) != len(counts):
        raise bad_value(f"The parameters {where}Values and {where}Counts must be of the same size.")
    return tuple(
        (_checked(value, f"{where}Values"), _count(count, f"{where}Counts"))
        for value, count in zip(values, counts, strict=True)
    )


def _add_set(samples: Bucket, given: Params, where: str) -> None:
    numbers: dict[str, float] = {}
    for name in ("SampleCount", "Sum", "Minimum", "Maximum"):
        value = given.number(name)
        if value is None:
            raise missing(where + name)
        numbers[name] = _checked(value, where + name)
    if numbers["Minimum"] > numbers["Maximum"]:
        raise bad_value(f"The parameter {where}Maximum must not be less than Minimum.")
    samples.add_set(
        count=_count(numbers["SampleCount"], f"{where}SampleCount"),
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
