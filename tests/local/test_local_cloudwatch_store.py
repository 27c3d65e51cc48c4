"""What CloudWatch keeps, on made-up times: memory over days, late data, percentiles, retention of alarms' histories."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from alarm_desk import NOON, Desk
from hypothesis import given
from hypothesis import strategies as st

from kms_local.cloudwatch.history import AlarmHistory
from kms_local.cloudwatch.ingest import put_metric_data
from kms_local.cloudwatch.readings import get_metric_statistics, list_metrics
from kms_local.cloudwatch.statistics import statistic
from kms_local.cloudwatch.store import Bucket, MetricKey, MetricStore
from kms_local.wire.errors import ServiceError
from kms_local.wire.params import Params

MINUTE, HOUR, DAY = 60, 3600, 86_400
KEY = MetricKey("N", "M", frozenset())


def one(value: float, count: float = 1.0) -> Bucket:
    bucket = Bucket()
    bucket.add(value, count)
    return bucket


def test_memory_is_bounded_over_days() -> None:
    """Hundreds of metrics fed for days: rows stop growing once the retention is full, and all go when data stop."""
    store, keys = MetricStore(), [MetricKey("N", f"M{number}", frozenset()) for number in range(100)]
    rows = []
    for day in range(4):
        for step in range(0, DAY, 1200):
            now = NOON + day * DAY + step
            for key in keys:
                store.add(key, "None", now, one(float(step)), high_resolution=key is keys[0])
            store.forget(now)
        rows.append(store.rows)

    minutes, hours_a_day = 26 * 3, 24
    growth = [after - before for before, after in pairwise(rows)]
    assert rows[-1] <= len(keys) * (minutes + 4 * hours_a_day + 1) + 3 * 3 + 1
    assert growth[1:] == [len(keys) * hours_a_day] * 2, "a day more is 24 hours a metric more, and no minutes"
    end = NOON + 4 * DAY
    store.forget(end + 27 * HOUR)
    assert store.rows <= len(keys) * (5 * hours_a_day + 1), "minutes of metrics that have stopped are gone"
    store.forget(end + 16 * DAY)
    assert (store.rows, store.metrics(active_since=0.0)) == (0, [])


def test_hours_are_bounded_too() -> None:
    """Two months at an hour a datum leave fifteen days."""
    store = MetricStore()
    for hour in range(60 * 24):
        store.add(KEY, "None", NOON + hour * HOUR, one(1.0), high_resolution=True)
        store.forget(NOON + hour * HOUR)

    assert store.rows == (15 * 24 + 1) + (26 + 1) + (3 + 1)


def test_a_metric_that_stopped_makes_room_for_others() -> None:
    """The limit is on metrics that have data; names that come and go do not use it up."""
    store = MetricStore()
    for number in range(10_000):
        store.add(MetricKey("N", str(number), frozenset()), "None", NOON, one(1.0), high_resolution=False)
    with pytest.raises(ServiceError, match="LimitExceeded"):
        store.add(KEY, "None", NOON, one(1.0), high_resolution=False)

    store.forget(NOON + 16 * DAY)

    store.add(KEY, "None", NOON + 16 * DAY, one(1.0), high_resolution=False)
    assert store.metrics(active_since=0.0) == [KEY]


def test_values_are_bounded_and_percentiles_stay_right() -> None:
    """A minute of three thousand different values is kept in 500, to a per cent or two, extremes exactly."""
    store = MetricStore()
    values = [math.exp(number / 300) for number in range(3000)]
    for value in values:
        store.add(KEY, "None", NOON, one(value), high_resolution=False)
    kept = store.merged(KEY, unit=None, start=NOON, end=NOON + MINUTE, period_seconds=MINUTE)[NOON]

    assert kept.values is not None
    assert len(kept.values) <= 500
    assert sum(kept.values.values()) == kept.count == len(values)
    for share in (1, 25, 50, 90, 99):
        assert statistic(kept, f"p{share}") == pytest.approx(values[len(values) * share // 100 - 1], rel=0.03)
    assert (statistic(kept, "p100"), statistic(kept, "p0")) == (values[-1], values[0])


@given(
    values=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    percentile=st.decimals(0, 100, places=1).map(float),
)
def test_percentiles_are_exact_while_values_are_few(values: list[int], percentile: float) -> None:
    """The smallest value that at least that share of the samples do not exceed, in exact arithmetic."""
    bucket = Bucket()
    for value in values:
        bucket.add(float(value), 1.0)
    wanted = Fraction(str(percentile)) / 100 * len(values)

    expected = next(v for v in sorted(values) if sum(other <= v for other in values) >= wanted)

    assert statistic(bucket, f"p{percentile:g}") == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(0, 299)), min_size=1, max_size=30))
def test_the_order_of_arrival_is_of_no_account(data: list[tuple[int, int, int]]) -> None:
    """Late data, mixed up and repeated: sums, counts and values are those of all of them together."""
    store = MetricStore()
    for value, count, offset in data:
        store.add(KEY, "None", NOON + offset, one(float(value), float(count)), high_resolution=True)
    found = store.merged(KEY, unit=None, start=NOON, end=NOON + 300, period_seconds=10)

    assert sum(bucket.total for bucket in found.values()) == sum(value * count for value, count, _ in data)
    for at, bucket in found.items():
        inside = [(value, count) for value, count, offset in data if at <= NOON + offset < at + 10]
        assert bucket.count == sum(count for _, count in inside)
        assert bucket.values is not None
        assert set(bucket.values) == {float(value) for value, _ in inside}


@pytest.mark.parametrize("size", [20, 100])
def test_percentiles_at_whole_shares_are_exact(size: int) -> None:
    """Where the share of samples is a whole number, floating point does not push it to the next value."""
    bucket = Bucket()
    for value in range(1, size + 1):
        bucket.add(float(value), 1.0)

    found = [statistic(bucket, f"p{percent}") for percent in range(100 // size, 101, 100 // size)]

    assert found == [float(value) for value in range(1, size + 1)]


def test_old_data_are_there_by_the_hour() -> None:
    """A datum of last week is read at periods of an hour and no shorter; hours and minutes are not counted twice."""
    desk = Desk()
    now = NOON + 10 * DAY + HOUR / 2
    desk.book.evaluate_all(now)
    for at in (NOON + 5 * DAY, now - 25.75 * HOUR, now - 60):  # an hour alone, an hour and a minute, a minute
        desk.datum(at, now=now, Value=2.0)
    desk.book.evaluate_all(now + 60)

    def total(period: int) -> list[float]:
        asked = {
            "Namespace": "N",
            "MetricName": "M",
            "StartTime": NOON + 4 * DAY,
            "EndTime": now + 120,
            "Period": period,
            "Statistics": ["Sum"],
        }
        return [one["Sum"] for one in get_metric_statistics(desk.store, Params(asked), now + 60)["Datapoints"]]

    assert total(HOUR) == [2.0, 2.0, 2.0]
    assert total(6 * MINUTE * 10) == [2.0, 2.0, 2.0]
    assert total(DAY) == [2.0, 2.0, 2.0]
    assert total(15 * MINUTE) == [2.0, 2.0]


def test_metrics_are_listed_while_they_have_data() -> None:
    """For two weeks, or three hours if only active ones are wanted."""
    desk = Desk()
    desk.datum(NOON, Value=1.0)

    def listed(now: float, **members: str) -> int:
        return len(list_metrics(desk.store, Params(members), now)["Metrics"])

    assert [listed(NOON + 13 * DAY), listed(NOON + 15 * DAY)] == [1, 0]
    assert [listed(NOON + 2 * HOUR, RecentlyActive="PT3H"), listed(NOON + 4 * HOUR, RecentlyActive="PT3H")] == [1, 0]


def test_the_evaluator_looks_no_longer_with_time() -> None:
    """An alarm reads its own window alone, and nothing at all while neither data nor periods are new."""
    desk = Desk()
    desk.metric_alarm("a", EvaluationPeriods=3)
    reads: list[tuple[float, float]] = []
    merged = desk.store.merged

    def counted(key: MetricKey, *, unit: str | None, start: float, end: float, period_seconds: int) -> object:
        reads.append((start, end))
        return merged(key, unit=unit, start=start, end=end, period_seconds=period_seconds)

    desk.store.merged = counted  # type: ignore[method-assign,assignment]
    for step in range(0, 2 * HOUR, 10):
        desk.datum(NOON + step, Value=1.0) if step % 60 == 0 else None
        desk.book.evaluate_all(NOON + step)

    assert len(reads) <= 2 * 120 + 1, "720 looks, 120 data and 120 periods"
    assert {end - start for start, end in reads} == {5 * 60}


def test_histories_are_bounded() -> None:
    """500 lines an alarm, 10,000 alarms, 30 days."""
    history = AlarmHistory()
    for number in range(700):
        history.note("flutters", "MetricAlarm", NOON + number, "StateUpdate", str(number))
    assert history.items("flutters", NOON + 700)[0].summary == "200"

    for number in range(10_100):
        history.note(f"a{number}", "MetricAlarm", NOON + 1000, "StateUpdate", "x")
    assert len(history) == 10_000

    history.note("late", "MetricAlarm", NOON + 31 * DAY, "StateUpdate", "x")
    assert len(history) == 1


@pytest.mark.parametrize(
    ("entity", "complaint"),
    [
        pytest.param({"KeyAttributes": {"Type": "Service", "Name": "kms"}}, "", id="valid"),
        pytest.param(None, "InvalidEntity", id="none"),
        pytest.param({"KeyAttributes": {"Type": "Service"}}, "InvalidKeyAttributes", id="one-key"),
        pytest.param({"KeyAttributes": {"Type": "Service", "Colour": "red"}}, "InvalidKeyAttributes", id="unknown-key"),
        pytest.param({"KeyAttributes": {"Name": "x", "Environment": "y"}}, "MissingRequiredFields", id="no-type"),
        pytest.param(
            {
                "KeyAttributes": {"Type": "Service", "Name": "x"},
                "Attributes": {f"a{number}": "x" for number in range(11)},
            },
            "InvalidAttributes",
            id="eleven-attributes",
        ),
    ],
)
def test_entities_are_checked(entity: dict[str, object] | None, complaint: str) -> None:
    """A wrong entity refuses the request where that is asked for, and not otherwise; metric data go in all the same."""
    with_entity = {"MetricData": [{"MetricName": "M", "Value": 1.0}], **({"Entity": entity} if entity else {})}
    members = {"Namespace": "N", "EntityMetricData": [with_entity], "StrictEntityValidation": False}
    store = MetricStore()

    put_metric_data(store, Params(members), NOON)
    assert store.metrics(active_since=0.0) == [KEY]
    strict = Params({**members, "StrictEntityValidation": True})
    if complaint:
        with pytest.raises(ServiceError, match=complaint):
            put_metric_data(store, strict, NOON)
    else:
        put_metric_data(store, strict, NOON)
    with pytest.raises(ServiceError, match="StrictEntityValidation is required"):
        put_metric_data(store, Params({"Namespace": "N", "EntityMetricData": [with_entity]}), NOON)
