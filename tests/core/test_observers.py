"""The ready-made observers give the setup guide's two metrics, and nobody's failure is the caller's."""

from __future__ import annotations

import logging
import threading
import typing
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

from kms_core.clock import SystemClock
from kms_core.events import (
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
from kms_core.testing import FakeEstate, core_over

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
    KeyQuarantined(region=EAST, purpose="pii", error_code="DisabledException", seconds=30.0),
)


class CloudWatch:
    """A CloudWatch client in memory, that can be made to fail, and says when it was asked."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.fails = False
        self.asked = threading.Semaphore(0)

    def put_metric_data(self, *, Namespace: str, MetricData: list[dict[str, Any]]) -> None:  # noqa: N803 - boto3's names
        try:
            if self.fails:
                raise ConnectionError("nobody is there")
            self.taken += [{**datum, "Namespace": Namespace} for datum in MetricData]
        finally:
            self.asked.release()

    def of(self, name: str, **dimensions: str) -> list[dict[str, Any]]:
        wanted = [{"Name": key, "Value": value} for key, value in dimensions.items()]
        return [datum for datum in self.taken if datum["MetricName"] == name and datum["Dimensions"] == wanted]


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

    data: Any = reader.get_metrics_data()
    found = {m.name: list(m.data.data_points) for m in data.resource_metrics[0].scope_metrics[0].metrics}
    provider.shutdown()
    durations = {point.attributes["success"]: point.sum for point in found["kms.operation.duration"]}
    assert durations == {True: pytest.approx(50.0), False: pytest.approx(2000.0)}
    assert [point.value for point in found["kms.circuit_breaker.state"]] == [2]
    assert {"kms.failovers", "kms.cache.lookups", "kms.stale_key_uses"} <= found.keys()


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


def test_cloudwatch_gets_the_guides_metrics_in_every_region() -> None:
    """With exactly the guide's dimensions, namespace and unit; the last period too when it is closed."""
    clients = {EAST: CloudWatch(), WEST: CloudWatch()}

    with CloudWatchObserver(clients, [EAST, WEST], period_seconds=3600) as observer:
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
    with CloudWatchObserver({EAST: client}, [EAST], period_seconds=3600) as observer:
        observer.on_event(GOOD)
    real = boto3.client(
        "cloudwatch", region_name=EAST, aws_access_key_id="AKIAMADEUP0000000000", aws_secret_access_key="made up"
    )

    shape = real.meta.service_model.operation_model("PutMetricData").input_shape
    sent = [{name: value for name, value in datum.items() if name != "Namespace"} for datum in client.taken]
    report = ParamValidator().validate({"Namespace": "ParkerFlight/KMS", "MetricData": sent}, shape)
    real.close()

    assert not report.has_errors(), report.generate_report()


def test_what_cloudwatch_could_not_take_comes_later_with_its_own_time() -> None:
    """A region that is lost keeps nothing from the other."""
    clients = {EAST: CloudWatch(), WEST: CloudWatch()}
    clients[EAST].fails = True

    with CloudWatchObserver(clients, [EAST], period_seconds=0.01) as observer:
        observer.on_event(GOOD)
        for client in clients.values():
            assert client.asked.acquire(timeout=20)
        began = SystemClock().now_utc()
        clients[EAST].fails = False

    series = {"Region": EAST, "Operation": "Decrypt", "Success": "true"}
    for client in clients.values():
        (datum,) = client.of("KMSOperationDuration", **series)
        assert datum["Timestamp"] <= began


def test_cloudwatch_s_memory_is_bounded() -> None:
    """What is too much is counted, not kept."""
    with CloudWatchObserver({}, [EAST], period_seconds=3600) as observer:
        for number in range(cloudwatch.MAX_VALUES + 5):
            observer.on_event(
                Attempt(
                    region=EAST,
                    operation="Decrypt",
                    purpose="pii",
                    seconds=float(number),
                    error_code="",
                    request_id="",
                    pinned=False,
                )
            )
        assert observer.dropped == 5


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
