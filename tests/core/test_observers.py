"""The ready-made observers give the setup guide's two metrics, and nobody's failure is the caller's."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import logging
import logging.handlers
import os
import queue
import threading
import tracemalloc
import typing
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from waiting import wait_until

from kms_core.clock import SystemClock
from kms_core.events import (
    AccountNotVerified,
    Attempt,
    BreakerMoved,
    CacheLookup,
    CacheRefreshed,
    Event,
    FailedOver,
    Hedged,
    KeyQuarantined,
    OverridesChanged,
    OverridesUnreadable,
    StaleKeyUsed,
)
from kms_core.observers import FanOut, cloudwatch
from kms_core.observers.cloudwatch import CloudWatchObserver
from kms_core.observers.logging import LoggingObserver
from kms_core.observers.otel import OtelObserver
from kms_core.observers.prometheus import PrometheusObserver
from kms_core.testing import FakeEstate, ManualClock, core_over

EAST, WEST = "us-east-1", "us-west-2"
GOOD = Attempt(
    region=EAST, operation="Decrypt", purpose="pii", seconds=0.05, error_code="", request_id="r", pinned=False
)
BAD = Attempt(
    region=EAST, operation="Decrypt", purpose="pii", seconds=2.0, error_code="ReadTimeout", request_id="", pinned=False
)
OPENED = BreakerMoved(region=EAST, old="closed", new="open", cause="failures")
CLOSED = BreakerMoved(region=EAST, old="half_open", new="closed", cause="probe_succeeded")
EVENTS: tuple[Event, ...] = (
    GOOD,
    BAD,
    FailedOver(from_region=EAST, to_region=WEST, operation="Decrypt", purpose="pii"),
    OPENED,
    CacheLookup(purpose="pii", operation="encrypt", hit=True),
    CacheRefreshed(purpose="pii", operation="encrypt", error_code=""),
    StaleKeyUsed(purpose="pii", operation="encrypt", age_seconds=400.0),
    Hedged(region=EAST, other=WEST, operation="Decrypt", purpose="pii", won=True),
    OverridesChanged(source="file", overrides=()),
    OverridesUnreadable(source="file", reason="gone"),
    AccountNotVerified(account_id="123456789012", reason="Deadline"),
    KeyQuarantined(region=EAST, purpose="pii", error_code="DisabledException", seconds=30.0),
)


OTEL_COUNTERS = (
    "kms.failovers",
    "kms.cache.lookups",
    "kms.cache.refreshes",
    "kms.stale_key_uses",
    "kms.hedges",
    "kms.key_quarantines",
)
PERIOD = 60.0
FOREVER = 3600.0
CLOCK = SystemClock()


class CloudWatch:
    """A CloudWatch client in memory, that can be made to fail or to hang, and says when it was asked."""

    def __init__(self) -> None:
        self.requests: list[list[dict[str, Any]]] = []
        self.taken: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self.fails_after = 0
        """How many requests are taken before `failure` is felt."""
        self.answers = threading.Event()
        """Cleared: a request hangs until it is set."""
        self.answers.set()
        self.asked = threading.Semaphore(0)

    def put_metric_data(self, *, Namespace: str, MetricData: list[dict[str, Any]]) -> None:  # noqa: N803 - boto3's names
        try:
            if self.failure is not None and len(self.requests) >= self.fails_after:
                raise self.failure
            self.requests.append(MetricData)
            self.taken += [{**datum, "Namespace": Namespace} for datum in MetricData]
        finally:
            self.asked.release()
        CLOCK.wait(self.answers, 60)

    def of(self, name: str, **dimensions: str) -> list[dict[str, Any]]:
        wanted = [{"Name": key, "Value": value} for key, value in dimensions.items()]
        return [datum for datum in self.taken if datum["MetricName"] == name and datum["Dimensions"] == wanted]

    def durations(self, success: str) -> Counter[float]:
        """Return how often each duration of a Decrypt in the east was taken."""
        found: Counter[float] = Counter()
        for datum in self.of("KMSOperationDuration", Region=EAST, Operation="Decrypt", Success=success):
            found.update(dict(zip(datum["Values"], datum["Counts"], strict=True)))
        return found


def refusal(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutMetricData")


def after(seconds: float, *, region: str = EAST) -> Attempt:
    return dataclasses.replace(GOOD, region=region, seconds=seconds)


def end_period(clock: ManualClock, clients: Mapping[str, CloudWatch]) -> None:
    """End a period, and return when every region has been asked to take it."""
    wait_until(lambda: clock.waiting == len(clients) + 1, says="every thread waits for the end of the period")
    clock.advance(PERIOD)
    for client in clients.values():
        assert client.asked.acquire(timeout=20)


@pytest.fixture
def still() -> ManualClock:
    """A clock for threads: it moves when the test says so."""
    return ManualClock()


@pytest.fixture
def warnings_told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "kms_core.observers")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "kms_core.observers"]


def test_prometheus_shows_durations_and_breakers() -> None:
    """Also of a region of which nothing was heard yet."""
    registry = CollectorRegistry()
    observer = PrometheusObserver([EAST, WEST], registry=registry)

    for event in EVENTS:
        observer.on_event(event)

    value = registry.get_sample_value
    where = {"region": EAST, "operation": "Decrypt"}
    assert value("kms_core_operation_duration_seconds_sum", where | {"success": "true"}) == pytest.approx(0.05)
    assert value("kms_core_operation_duration_seconds_count", where | {"success": "false"}) == 1
    assert value("kms_core_request_failures_total", where | {"error_code": "ReadTimeout"}) == 1
    assert value("kms_core_circuit_breaker_state", {"region": EAST}) == 2
    assert value("kms_core_circuit_breaker_state", {"region": WEST}) == 0
    assert value("kms_core_failovers_total", {"from_region": EAST, "to_region": WEST}) == 1
    looked = {"purpose": "pii", "operation": "encrypt"}
    assert value("kms_core_cache_lookups_total", looked | {"hit": "true"}) == 1
    assert value("kms_core_cache_refreshes_total", looked | {"error_code": ""}) == 1
    assert value("kms_core_stale_key_uses_total", looked) == 1
    assert value("kms_core_hedges_total", {"region": EAST, "other": WEST, "won": "true"}) == 1
    assert value("kms_core_overrides_unreadable_total", {"source": "file"}) == 1
    assert value("kms_core_key_quarantines_total", {"region": EAST, "purpose": "pii"}) == 1


def test_opentelemetry_records_milliseconds_and_breakers() -> None:
    """Through the application's own SDK."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observer = OtelObserver(provider.get_meter("test"))

    for event in EVENTS:
        observer.on_event(event)

    found = recorded(reader)
    provider.shutdown()
    durations = {point.attributes["success"]: point.sum for point in found["kms.operation.duration"]}
    assert durations == {True: pytest.approx(50.0), False: pytest.approx(2000.0)}
    assert [point.value for point in found["kms.circuit_breaker.state"]] == [2]
    looked = {"purpose": "pii", "operation": "encrypt"}
    counted = {name: [(dict(point.attributes), point.value) for point in found[name]] for name in OTEL_COUNTERS}
    assert counted == {
        "kms.failovers": [({"from_region": EAST, "to_region": WEST}, 1)],
        "kms.cache.lookups": [(looked | {"hit": True}, 1)],
        "kms.cache.refreshes": [(looked | {"error_code": ""}, 1)],
        "kms.stale_key_uses": [(looked, 1)],
        "kms.hedges": [({"region": EAST, "other": WEST, "won": True}, 1)],
        "kms.key_quarantines": [({"region": EAST, "purpose": "pii"}, 1)],
    }


def test_opentelemetry_shows_every_breaker_from_the_start() -> None:
    """Closed, in every collection, of regions of which nothing was heard; then as they are told."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observer = OtelObserver(provider.get_meter("test"), regions=[EAST, WEST])

    seen = [breakers(reader)]
    seen.append(breakers(reader))
    observer.on_event(OPENED)
    seen.append(breakers(reader))

    provider.shutdown()
    assert seen == [{EAST: 0, WEST: 0}, {EAST: 0, WEST: 0}, {EAST: 2, WEST: 0}]


def recorded(reader: InMemoryMetricReader) -> dict[str, Any]:
    data: Any = reader.get_metrics_data()
    return {m.name: list(m.data.data_points) for m in data.resource_metrics[0].scope_metrics[0].metrics}


def breakers(reader: InMemoryMetricReader) -> dict[str, int]:
    return {point.attributes["region"]: point.value for point in recorded(reader)["kms.circuit_breaker.state"]}


def test_logs_are_events_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    """A good attempt is for debugging, a failed one a warning."""
    caplog.set_level(logging.DEBUG, "kms_core")

    for event in EVENTS:
        LoggingObserver().on_event(event)

    levels = {record.getMessage().split()[0]: record.levelname for record in caplog.records}
    assert levels["kms_core.BreakerMoved"] == "WARNING"
    assert levels["kms_core.CacheLookup"] == "DEBUG"
    assert [record.levelname for record in caplog.records[:2]] == ["DEBUG", "WARNING"]
    fields: Any = caplog.records[1]
    assert fields.kms_core["error_code"] == "ReadTimeout"


def test_a_slow_log_handler_behind_a_queue_holds_no_call_up() -> None:
    """As the docstring says to set it up; the record comes when the handler can."""
    unblocked, written = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            unblocked.wait(60)
            written.set()

    records: queue.Queue[logging.LogRecord] = queue.Queue(10_000)
    logger, handler = logging.getLogger("behind a queue"), logging.handlers.QueueHandler(records)
    logger.addHandler(handler)
    listener = logging.handlers.QueueListener(records, Slow())
    listener.start()

    LoggingObserver(logger).on_event(BAD)
    early = written.is_set()
    unblocked.set()
    listener.stop()
    logger.removeHandler(handler)

    assert (early, written.is_set()) == (False, True)


def test_cloudwatch_gets_the_guides_metrics_in_every_region() -> None:
    """With exactly the guide's dimensions, namespace and unit; the last period too when it is closed."""
    clients = {EAST: CloudWatch(), WEST: CloudWatch()}

    with CloudWatchObserver(clients, [EAST, WEST], period_seconds=FOREVER) as observer:
        for event in (*EVENTS, CLOSED):
            observer.on_event(event)

    for client in clients.values():
        (good,) = client.of("KMSOperationDuration", Region=EAST, Operation="Decrypt", Success="true")
        (bad,) = client.of("KMSOperationDuration", Region=EAST, Operation="Decrypt", Success="false")
        (state,) = client.of("CircuitBreakerState", Region=EAST)
        (calm,) = client.of("CircuitBreakerState", Region=WEST)
        assert (good["Values"], good["Counts"], good["Unit"]) == ([50.0], [1.0], "Milliseconds")
        assert bad["Values"] == [2000.0]
        assert state["Values"] == [2.0], "the worst state of the period, though it is closed again"
        assert calm["Values"] == [0.0]
        assert good["Namespace"] == "ParkerFlight/KMS"
    assert observer.dropped == 0


def test_boto3_takes_what_cloudwatch_is_sent() -> None:
    """Every field has the name and the type of AWS's own model."""
    client = CloudWatch()
    with CloudWatchObserver({EAST: client}, [EAST], period_seconds=FOREVER) as observer:
        observer.on_event(GOOD)
    real = boto3.client(
        "cloudwatch", region_name=EAST, aws_access_key_id="AKIAMADEUP0000000000", aws_secret_access_key="made up"
    )

    shape = real.meta.service_model.operation_model("PutMetricData").input_shape
    sent = [{name: value for name, value in datum.items() if name != "Namespace"} for datum in client.taken]
    report = ParamValidator().validate({"Namespace": "ParkerFlight/KMS", "MetricData": sent}, shape)
    real.close()

    assert not report.has_errors(), report.generate_report()


def test_what_cloudwatch_could_not_take_comes_later_with_its_own_time(still: ManualClock) -> None:
    """A region that is lost keeps nothing from the other."""
    clients = {EAST: CloudWatch(), WEST: CloudWatch()}
    clients[EAST].failure = ConnectionError("nobody is there")

    with CloudWatchObserver(clients, [EAST], period_seconds=PERIOD, clock=still) as observer:
        observer.on_event(GOOD)
        end_period(still, clients)
        ended = still.now_utc()
        clients[EAST].failure = None
        still.advance(1.0)  # the last period has a time of its own

    series = {"Region": EAST, "Operation": "Decrypt", "Success": "true"}
    for client in clients.values():
        (datum,) = client.of("KMSOperationDuration", **series)
        assert datum["Timestamp"] == ended


def test_cloudwatch_gets_every_call_of_a_busy_period() -> None:
    """The bug it keeps out: what was beyond 150 distinct values of a series was dropped, and the error rate was wrong.

    Past `DETAILED_VALUES` distinct ones they are at most 5 % off, and few, so that memory is bounded.
    """
    client = CloudWatch()
    sent = [number / 10_000 for number in range(1, 20_001)]

    with CloudWatchObserver({EAST: client}, [EAST], period_seconds=FOREVER) as observer:
        for seconds in sent:
            observer.on_event(after(seconds))
        observer.on_event(BAD)

    good = client.durations("true")
    exact = {round(seconds * 1000, 1) for seconds in sent[: cloudwatch.DETAILED_VALUES]}
    assert (good.total(), client.durations("false").total(), observer.dropped) == (20_000, 1, 0)
    assert exact <= good.keys()
    assert len(good) <= cloudwatch.DETAILED_VALUES + 90 * 2
    assert max(good) == pytest.approx(2000, rel=0.05)
    assert sum(value * count for value, count in good.items()) == pytest.approx(sum(sent) * 1000, rel=0.01)


def test_requests_are_within_cloudwatchs_limits() -> None:
    """150 values a datum, 1000 datums and 1 MB a request, in every form that boto3 may send it."""
    client = CloudWatch()
    regions = [f"ap-southeast-{number:04}" for number in range(2500)]
    with CloudWatchObserver({EAST: client}, regions, period_seconds=FOREVER) as observer:
        for region in regions[:20]:
            for number in range(cloudwatch.DETAILED_VALUES):
                observer.on_event(after(100 + number / 10_000, region=region))

    sizes = [len(body) for request in client.requests for body in bodies(request)]

    assert max(len(datum["Values"]) for datum in client.taken) == cloudwatch.MAX_VALUES == 150
    assert max(len(request) for request in client.requests) == 1000
    assert 500_000 < max(sizes) < 1_000_000
    assert len(client.taken) == 2500 + 20 * 10


def bodies(request: list[dict[str, Any]]) -> Iterator[str | bytes]:
    """Yield the body of PutMetricData in each protocol of AWS's own model, not compressed."""
    client = boto3.client(
        "cloudwatch", region_name=EAST, aws_access_key_id="AKIAMADEUP0000000000", aws_secret_access_key="made up"
    )
    model = client.meta.service_model
    for protocol in model.metadata["protocols"]:
        made = create_serializer(protocol).serialize_to_request(
            {"Namespace": cloudwatch.NAMESPACE, "MetricData": request}, model.operation_model("PutMetricData")
        )
        yield urllib.parse.urlencode(made["body"]) if isinstance(made["body"], dict) else made["body"]
    client.close()


def test_what_was_taken_is_not_sent_again_with_what_was_not(still: ManualClock) -> None:
    """A period of several requests, the second of which fails, counts nothing twice."""
    client = CloudWatch()
    client.failure, client.fails_after = ConnectionError("nobody is there"), 1
    regions = [f"region-{number}" for number in range(1500)]

    with CloudWatchObserver({EAST: client}, regions, period_seconds=PERIOD, clock=still) as observer:
        end_period(still, {EAST: client})
        assert client.asked.acquire(timeout=20)
        client.failure = None
        still.advance(1.0)  # the last period has a time of its own

    times = Counter((datum["Dimensions"][0]["Value"], datum["Timestamp"]) for datum in client.taken)
    assert set(times.values()) == {1}
    assert len(times) == 2 * len(regions)
    assert observer.dropped == 0


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(refusal("InvalidParameterValue", 400), id="bad namespace"),
        pytest.param(refusal("AccessDenied", 403), id="no permission"),
        pytest.param(refusal("RequestEntityTooLarge", 413), id="too large"),
        pytest.param(refusal("", 404), id="no code"),
    ],
)
def test_what_a_region_refuses_for_good_blocks_nothing_behind_it(
    failure: Exception, still: ManualClock, warnings_told: Callable[[], list[str]]
) -> None:
    """The bug it keeps out: one such request kept everything later from that region."""
    clients = {EAST: CloudWatch(), WEST: CloudWatch()}
    clients[EAST].failure = failure

    with CloudWatchObserver(clients, [EAST], period_seconds=PERIOD, clock=still) as observer:
        observer.on_event(GOOD)
        end_period(still, clients)
        clients[EAST].failure = None
        observer.on_event(BAD)

    durations = {region: (client.durations("true"), client.durations("false")) for region, client in clients.items()}
    assert durations == {EAST: ({}, {2000.0: 1}), WEST: ({50.0: 1}, {2000.0: 1})}
    assert observer.dropped == 1
    (told,) = warnings_told()
    assert told.startswith(f"cloudwatch.refused region={EAST} reason=")


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(refusal("Throttling", 400), id="throttled"),
        pytest.param(refusal("TooMany", 429), id="too many"),
        pytest.param(refusal("RequestTimeout", 400), id="too slow"),
        pytest.param(refusal("InternalServiceFault", 500), id="broken"),
        pytest.param(refusal("ServiceUnavailable", 503), id="unavailable"),
        pytest.param(ConnectionError("nobody is there"), id="unreachable"),
        pytest.param(ClientError({}, "PutMetricData"), id="no status"),
    ],
)
def test_what_may_pass_later_waits(
    failure: Exception, still: ManualClock, warnings_told: Callable[[], list[str]]
) -> None:
    """And is not told: it says nothing of what is sent."""
    clients = {EAST: CloudWatch()}
    clients[EAST].failure = failure

    with CloudWatchObserver(clients, [EAST], period_seconds=PERIOD, clock=still) as observer:
        observer.on_event(GOOD)
        end_period(still, clients)
        clients[EAST].failure = None

    assert clients[EAST].durations("true") == {50.0: 1}
    assert (observer.dropped, warnings_told()) == (0, [])


def test_a_refusal_is_told_once_for_each_region_and_reason(
    still: ManualClock, warnings_told: Callable[[], list[str]]
) -> None:
    """Not once a period."""
    clients = {EAST: CloudWatch(), WEST: CloudWatch()}

    with CloudWatchObserver(clients, [EAST], period_seconds=PERIOD, clock=still) as observer:
        for failure in [refusal("AccessDenied", 403)] * 3 + [refusal("InvalidParameterValue", 400)] * 2:
            for client in clients.values():
                client.failure = failure
            end_period(still, clients)
        wait_until(lambda: observer.dropped == 10, says="ten are given up")

    said = sorted(tuple(told.split()[1:3]) for told in warnings_told())
    reasons = ("reason=AccessDenied:", "reason=InvalidParameterValue:")
    assert said == [(f"region={region}", reason) for region in (EAST, WEST) for reason in reasons]


def test_a_region_that_is_lost_for_long_keeps_its_newest_periods() -> None:
    """The oldest are given up and counted, so memory is bounded; so is what is left when the observer closes."""
    clients = {EAST: CloudWatch(), WEST: CloudWatch()}
    for client in clients.values():
        client.failure = ConnectionError("nobody is there")

    with CloudWatchObserver(clients, [EAST], period_seconds=0.001) as observer:
        wait_until(lambda: observer.dropped >= 3, says="three are given up")
        clients[EAST].failure = None
        before = observer.dropped

    wait_until(lambda: observer.dropped >= before + cloudwatch.MAX_WAITING, says="a whole backlog is given up")
    assert len(clients[EAST].of("CircuitBreakerState", Region=EAST)) >= cloudwatch.MAX_WAITING
    assert not clients[WEST].taken


def test_what_is_given_up_while_it_is_on_its_way_takes_no_other_with_it() -> None:
    """One request hangs until its period is too old; every period that waits behind it is sent, once."""

    class Diary(ManualClock):
        """Remembers the date of each period."""

        dates: tuple[dt.datetime, ...] = ()

        def now_utc(self) -> dt.datetime:
            self.dates += (super().now_utc(),)
            return self.dates[-1]

        def has(self, periods: int) -> bool:
            return len(self.dates) == periods

    diary, client = Diary(), CloudWatch()
    client.answers.clear()

    with CloudWatchObserver({EAST: client}, [EAST], period_seconds=PERIOD, clock=diary) as observer:
        end_period(diary, {EAST: client})
        for periods in range(2, cloudwatch.MAX_WAITING + 4):
            wait_until(lambda: diary.waiting == 1, says="the sender waits")
            diary.advance(PERIOD)
            wait_until(functools.partial(diary.has, periods), says="the diary has them")
        client.answers.set()
        wait_until(lambda: len(client.requests) > cloudwatch.MAX_WAITING, says="the backlog is sent")

    assert observer.dropped == 3
    assert [datum["Timestamp"] for datum in client.taken] == [diary.dates[0], *diary.dates[3:]]


def test_cloudwatch_is_not_asked_about_nothing() -> None:
    """No region and no call: no request."""
    client = CloudWatch()

    with CloudWatchObserver({EAST: client}, [], period_seconds=FOREVER):
        pass

    assert client.requests == []


def test_closing_takes_five_seconds_in_all_however_many_regions_hang(still: ManualClock) -> None:
    """The bug it keeps out: five seconds for each of them."""
    clients = {f"region-{number}": CloudWatch() for number in range(6)}
    for client in clients.values():
        client.answers.clear()
    observer = CloudWatchObserver(clients, [EAST], period_seconds=FOREVER, clock=still)
    closer = threading.Thread(target=observer.close)

    closer.start()
    for client in clients.values():
        assert client.asked.acquire(timeout=20)
    still.advance(5.0)
    closer.join(20)

    closed = not closer.is_alive()
    for client in clients.values():
        client.answers.set()
    assert closed


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # the very case; 3.12 warns
def test_in_a_child_process_cloudwatchs_observer_keeps_nothing_and_says_so_once(
    still: ManualClock, warnings_told: Callable[[], list[str]]
) -> None:
    """Nobody would send it there; closing waits for nobody, and the parent goes on."""
    client = CloudWatch()

    def use() -> bytes:
        observer.on_event(GOOD)
        tracemalloc.start()
        for number in range(10_000):
            observer.on_event(after(float(number)))
        kept, _ = tracemalloc.get_traced_memory()
        observer.close()  # the clock stands still: waiting for anybody would never end
        return repr((kept < 50_000, len(warnings_told()), observer.dropped)).encode()

    with CloudWatchObserver({EAST: client}, [EAST], period_seconds=FOREVER, clock=still) as observer:
        said = in_child(use)
        observer.on_event(GOOD)

    assert said == b"(True, 1, 0)"
    assert client.durations("true") == {50.0: 1}
    assert warnings_told() == []


def in_child(call: Callable[[], bytes]) -> bytes:
    """Return what `call` returns in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, call())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    os.waitpid(pid, 0)
    return answer


def test_an_observer_that_raises_keeps_no_other_from_being_told(estate: FakeEstate, config: Any) -> None:
    """Neither the other observers nor the caller."""

    class Broken:
        def on_event(self, event: Event) -> None:
            raise RuntimeError("broken")

    seen: list[Event] = []

    class Good:
        def on_event(self, event: Event) -> None:
            seen.append(event)

    with core_over(estate, config, observer=FanOut(Broken(), Good())) as core:
        core.encrypt(b"x", purpose="general", context={"tenant": "parker"})

    assert any(isinstance(event, Attempt) for event in seen)


def test_what_ends_the_process_is_no_observers_failure() -> None:
    """Only an `Exception` stays inside; Ctrl-C does not."""

    class Interrupted:
        def on_event(self, event: Event) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FanOut(Interrupted()).on_event(GOOD)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(LoggingObserver, id="logging"),
        pytest.param(lambda: PrometheusObserver(registry=CollectorRegistry()), id="prometheus"),
        pytest.param(OtelObserver, id="otel"),
    ],
)
def test_every_event_is_understood(make: Callable[[], Any]) -> None:
    """None makes an observer raise, and none is forgotten here."""
    assert {type(event) for event in EVENTS} == set(typing.get_args(Event))
    observer = make()
    for event in EVENTS:
        observer.on_event(event)
