"""Queue and publisher: an outage loses nothing, a bad datum goes alone, what is dropped is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ParamValidationError
from daemon_kit import START

from kms_core.testing import ManualClock
from kms_watchdog.aws import Trouble, trouble
from kms_watchdog.sinks.datum import MAX_AGE_SECONDS, Datum
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.publisher import Publisher, requests
from kms_watchdog.sinks.queue import MetricQueue, Waiting

REGION = "us-east-1"
NOW = int(START.timestamp())


def datum(number: int, *, at: int = NOW, namespace: str = "N", name: str = "M") -> Datum:
    return Datum(
        namespace=namespace,
        name=name,
        unit="Count",
        dimensions=(("Region", "r"),),
        period_start=at,
        resolution=60,
        values=(float(number),),
        counts=(1.0,),
    )


def client_error(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "PutMetricData",
    )


class FakeCloudWatch:
    """Takes what PutMetricData takes, and refuses a whole request for one bad datum, as CloudWatch does."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []
        self.requests = 0
        self.fault: Exception | None = None
        self.poison: float | None = None

    def put_metric_data(self, *, Namespace: str, MetricData: list[dict[str, Any]]) -> None:  # noqa: N803 - AWS's names
        self.requests += 1
        if self.fault is not None:
            raise self.fault
        values = [entry["Values"][0] for entry in MetricData]
        if self.poison in values:
            raise client_error("InvalidParameterValue")
        self.taken += [(Namespace, value) for value in values]


@pytest.fixture
def queue_file(tmp_path: Path) -> Path:
    return tmp_path / "cloudwatch.db"


@pytest.fixture
def queue(queue_file: Path, clock: ManualClock) -> Iterator[MetricQueue]:
    made = MetricQueue(queue_file, clock)
    yield made
    made.close()


@pytest.fixture
def cloudwatch() -> FakeCloudWatch:
    return FakeCloudWatch()


@pytest.fixture
def exposition() -> Exposition:
    return Exposition()


@pytest.fixture
def publisher(
    cloudwatch: FakeCloudWatch, queue: MetricQueue, exposition: Exposition, clock: ManualClock
) -> Iterator[Publisher]:
    with structlog.testing.capture_logs():
        yield Publisher(REGION, cloudwatch, queue, exposition, clock)


def counted(exposition: Exposition, name: str, **labels: str) -> float:
    inside = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
    for line in exposition.render("")[0].decode().splitlines():
        if line.startswith(f"kms_watchdog_{name}{{{inside}}} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_what_waits_outlives_the_process(queue_file: Path, clock: ManualClock) -> None:
    """Closed and opened again, in the same order, for each region by itself."""
    first = MetricQueue(queue_file, clock)
    first.put([datum(1), datum(2)], [REGION, "us-west-2"])
    first.close()

    second = MetricQueue(queue_file, clock)
    found = [waiting.datum.values[0] for waiting in second.oldest(REGION, 10)]
    second.remove(waiting.id for waiting in second.oldest(REGION, 10))
    left = second.length(REGION), second.length("us-west-2")
    second.close()

    assert found == [1.0, 2.0]
    assert left == (0, 2)


def test_the_bound_drops_the_oldest_and_says_how_many(queue_file: Path, clock: ManualClock) -> None:
    """A full queue keeps the newest."""
    queue = MetricQueue(queue_file, clock, max_rows=3)

    dropped = [queue.put([datum(i), datum(i + 1)], [REGION])[REGION] for i in (1, 3, 5)]
    left = [waiting.datum.values[0] for waiting in queue.oldest(REGION, 10)]
    queue.close()

    assert dropped == [0, 1, 2]
    assert left == [4.0, 5.0, 6.0]


def test_all_is_sent_and_gone(
    publisher: Publisher, queue: MetricQueue, cloudwatch: FakeCloudWatch, exposition: Exposition
) -> None:
    """Namespaces apart, in order, counted."""
    queue.put([datum(1), datum(2, namespace="N/Drill"), datum(3)], [REGION])

    publisher.send()

    assert cloudwatch.taken == [("N", 1.0), ("N", 3.0), ("N/Drill", 2.0)]
    assert queue.length(REGION) == 0
    assert counted(exposition, "cloudwatch_datums_total", region=REGION) == 3
    assert counted(exposition, "cloudwatch_publish_total", region=REGION, result="success") == 2
    assert counted(exposition, "cloudwatch_last_success_timestamp_seconds", region=REGION) == NOW


def test_an_outage_of_hours_loses_nothing(
    publisher: Publisher, queue: MetricQueue, cloudwatch: FakeCloudWatch, clock: ManualClock, exposition: Exposition
) -> None:
    """What could not be sent is sent later, under its own time."""
    cloudwatch.fault = EndpointConnectionError(endpoint_url="https://x")
    for minute in range(180):
        queue.put([datum(minute, at=NOW + 60 * minute)], [REGION])
        publisher.send()
        clock.advance(60)
    cloudwatch.fault = None

    publisher.send(at_once=True)

    assert [value for _, value in cloudwatch.taken] == [float(minute) for minute in range(180)]
    assert counted(exposition, "cloudwatch_queue_length", region=REGION) == 0


def test_after_a_failure_it_waits_longer_each_time(
    publisher: Publisher, queue: MetricQueue, cloudwatch: FakeCloudWatch, clock: ManualClock
) -> None:
    """2, 4, 8 … 60 s: a throttled service is not helped by asking more."""
    cloudwatch.fault = client_error("Throttling")
    queue.put([datum(1)], [REGION])
    asked_at = []
    for second in range(200):
        before = cloudwatch.requests
        publisher.send()
        if cloudwatch.requests > before:
            asked_at.append(second)
        clock.advance(1)

    assert asked_at == [0, 2, 6, 14, 30, 62, 122, 182]


@pytest.mark.parametrize("bad", range(7))
def test_one_bad_datum_takes_no_neighbour_along(
    publisher: Publisher, queue: MetricQueue, cloudwatch: FakeCloudWatch, exposition: Exposition, bad: int
) -> None:
    """The request is halved until the bad one is alone; it is dropped and counted, all others arrive once."""
    cloudwatch.poison = float(bad)
    queue.put([datum(i) for i in range(7)], [REGION])

    publisher.send()

    assert sorted(value for _, value in cloudwatch.taken) == [float(i) for i in range(7) if i != bad]
    assert queue.length(REGION) == 0
    assert counted(exposition, "cloudwatch_datums_dropped_total", region=REGION, reason="refused") == 1


def test_denied_keeps_the_data(publisher: Publisher, queue: MetricQueue, cloudwatch: FakeCloudWatch) -> None:
    """A missing permission is mended by a person, who then gets the numbers of the meantime."""
    cloudwatch.fault = client_error("AccessDenied", 403)
    queue.put([datum(1)], [REGION])

    publisher.send()

    assert queue.length(REGION) == 1


def test_what_is_too_old_for_cloudwatch_is_dropped_and_counted(
    publisher: Publisher, queue: MetricQueue, cloudwatch: FakeCloudWatch, exposition: Exposition
) -> None:
    """Two weeks; one older datum would fail the whole request."""
    queue.put([datum(1, at=NOW - int(MAX_AGE_SECONDS) - 60), datum(2)], [REGION])

    publisher.send()

    assert cloudwatch.taken == [("N", 2.0)]
    assert counted(exposition, "cloudwatch_datums_dropped_total", region=REGION, reason="too_old") == 1


def test_only_changes_are_logged(
    queue: MetricQueue, cloudwatch: FakeCloudWatch, exposition: Exposition, clock: ManualClock
) -> None:
    """An outage of an hour is two lines."""
    publisher = Publisher(REGION, cloudwatch, queue, exposition, clock)
    with structlog.testing.capture_logs() as logs:
        cloudwatch.fault = client_error("InternalFailure", 500)
        for number in range(5):
            queue.put([datum(number)], [REGION])
            publisher.send(at_once=True)
        cloudwatch.fault = None
        publisher.send(at_once=True)

    assert [entry["event"] for entry in logs] == ["cloudwatch.failed", "cloudwatch.recovered"]


def waiting(count: int, size: int) -> tuple[Waiting, ...]:
    return tuple(Waiting(i, datum(i), size) for i in range(count))


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        pytest.param(waiting(0, 1), [], id="nothing"),
        pytest.param(waiting(1000, 10), [1000], id="full"),
        pytest.param(waiting(1001, 10), [1000, 1], id="one-more"),
        pytest.param(waiting(3, 400_000), [2, 1], id="by-size"),
    ],
)
def test_requests_keep_the_limits(batch: tuple[Waiting, ...], sizes: list[int]) -> None:
    """1,000 datums and 1 MB."""
    assert [len(part) for part in requests(batch)] == sizes


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(lambda: client_error("InvalidParameterValue"), "refused", id="bad-data"),
        pytest.param(lambda: client_error("RequestEntityTooLarge", 413), "refused", id="too-large"),
        pytest.param(lambda: ParamValidationError(report="r"), "refused", id="botocore-refuses"),
        pytest.param(lambda: client_error("Throttling"), "throttled", id="throttled"),
        pytest.param(lambda: client_error("AccessDenied", 403), "denied", id="denied"),
        pytest.param(NoCredentialsError, "denied", id="no-credentials"),
        pytest.param(lambda: client_error("InternalFailure", 500), "unreachable", id="5xx"),
        pytest.param(lambda: EndpointConnectionError(endpoint_url="x"), "unreachable", id="connection"),
    ],
)
def test_only_bad_data_are_called_bad(error: Callable[[], Exception], expected: Trouble) -> None:
    """Everything else keeps the batch."""
    assert trouble(error()) == expected


def test_the_age_limit_leaves_time_for_the_way() -> None:
    """A datum that is sent is not refused for its age on arrival."""
    assert timedelta(days=13) < timedelta(seconds=MAX_AGE_SECONDS) < timedelta(days=14)
