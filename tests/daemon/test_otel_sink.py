"""OTLP: what `/metrics` shows arrives unchanged; one that fails is counted, said, and waited for by none."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from metrics_story import START, told
from otlp_collector import Collector, collecting
from ports import nobody

from kms_core.errors import ConfigurationError
from kms_core.testing import ManualClock
from kms_watchdog import metrics
from kms_watchdog.config import ConfigError, Settings, load
from kms_watchdog.sinks.otel import OtlpExporter, otel_name
from kms_watchdog.sinks.otel_path import OtelPath, open_otel
from kms_watchdog.sinks.prometheus import Exposition, Family

NOW = START.timestamp() + 600


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


@pytest.fixture
def configured(write_config: Callable[..., Path]) -> Callable[..., Settings]:
    """Load a configuration that exports to `url`."""
    return lambda url, *rows: load(
        write_config("\n".join(["[otel]", "enabled = true", f'endpoint = "{url}"', *rows, ""]))
    )


@pytest.fixture
def exporter_to() -> Iterator[Callable[[Settings], OtlpExporter]]:
    made: list[OtlpExporter] = []

    def make(settings: Settings) -> OtlpExporter:
        made.append(
            OtlpExporter(settings.otel, instance=settings.monitor, version="1.2.3", started_at=START.timestamp())
        )
        return made[-1]

    yield make
    for exporter in made:
        exporter.close()


def labels_of(point: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in point.attributes}


def point(points: RepeatedCompositeFieldContainer[Any], **labels: str) -> Any:
    (found,) = [p for p in points if labels.items() <= labels_of(p).items()]
    return found


def test_all_that_is_shown_arrives(
    collector: Collector, configured: Callable[..., Settings], exporter_to: Callable[[Settings], OtlpExporter]
) -> None:
    """Counters, gauges and histograms, with their labels; who tells it, since when, and at what time."""
    exporter = exporter_to(configured(collector.url, 'headers = { x-api-key = "secret-1" }'))

    error = exporter.export(told().families(), NOW)

    found = collector.metrics()
    runs = found["kms_watchdog.canary_runs"].sum
    success = point(runs.data_points, canary="round_trip", region="us-east-1", mode="live", result="success")
    assert (error, collector.headers[0]["x-api-key"]) == ("", "secret-1")
    assert (runs.is_monotonic, runs.aggregation_temporality, success.as_double) == (True, 2, 1)
    assert success.start_time_unix_nano == int(START.timestamp()) * 10**9
    assert success.time_unix_nano == int(NOW) * 10**9
    assert found["kms_watchdog.clock_offset"].unit == "s"
    assert point(found["kms_watchdog.clock_offset"].gauge.data_points, region="us-east-1").as_double == -0.5
    resource = {
        pair.key: pair.value.string_value for pair in collector.taken[0].resource_metrics[0].resource.attributes
    }
    assert {"service.name": "kms-watchdog", "service.instance.id": "test-us-east-1"}.items() <= resource.items()


def test_a_histogram_counts_between_its_bounds(
    collector: Collector, configured: Callable[..., Settings], exporter_to: Callable[[Settings], OtlpExporter]
) -> None:
    """Prometheus counts up to each; both tell the same runs."""
    exporter_to(configured(collector.url)).export(told().families(), NOW)

    durations = collector.metrics()["kms_watchdog.canary_duration"].histogram
    looked = point(durations.data_points, canary="round_trip", region="us-east-1", mode="live")
    assert list(looked.explicit_bounds) == list(metrics.LATENCY_BUCKETS)
    assert (looked.count, round(looked.sum, 6), sum(looked.bucket_counts)) == (2, 0.08, 2)
    assert looked.bucket_counts[metrics.LATENCY_BUCKETS.index(0.05)] == 2
    assert len(looked.bucket_counts) == len(looked.explicit_bounds) + 1
    assert not looked.HasField("min")


@pytest.mark.parametrize("metric", metrics.PROMETHEUS, ids=lambda metric: metric.name)
def test_a_collector_turns_the_names_back_into_ours(metric: metrics.Metric) -> None:
    """By OpenTelemetry's rules for Prometheus: dots to underscores, the unit's word, `_total` on counters."""
    back = otel_name(metric).replace(".", "_")
    back += f"_{metric.unit}" if metric.unit else ""
    back += "_total" if metric.kind == "counter" else ""

    assert back == metric.full_name


def test_a_metric_that_nobody_has_seen_yet_is_left_out(
    collector: Collector, configured: Callable[..., Settings], exporter_to: Callable[[Settings], OtlpExporter]
) -> None:
    """The protocol has no help text without a value."""
    exporter_to(configured(collector.url)).export(Exposition().families(), NOW)

    assert "kms_watchdog.drill_runs" not in collector.metrics()


@pytest.mark.parametrize(
    ("status", "says"),
    [pytest.param(401, "401", id="denied"), pytest.param(503, "timeout", id="tried-again-until-its-time-is-up")],
)
def test_why_an_export_failed_is_told_and_nothing_else_is_logged(
    collector: Collector,
    configured: Callable[..., Settings],
    exporter_to: Callable[[Settings], OtlpExporter],
    caplog: pytest.LogCaptureFixture,
    status: int,
    says: str,
) -> None:
    """The exporter's own lines come at each failure; ours at the first one."""
    collector.status = status
    exporter = exporter_to(configured(collector.url, "timeout_seconds = 0.5"))

    error = exporter.export(told().families(), NOW)

    assert says in error
    assert caplog.records == []


def test_a_collector_that_is_not_there_is_told(
    configured: Callable[..., Settings], exporter_to: Callable[[Settings], OtlpExporter]
) -> None:
    """Within the time that an export has."""
    exporter = exporter_to(configured(f"http://127.0.0.1:{nobody()}/v1/metrics", "timeout_seconds = 0.5"))

    assert exporter.export(told().families(), NOW)


class FakeExporter:
    """Fails as it is told to, and hangs while `hang` is not set."""

    def __init__(self) -> None:
        self.error = ""
        self.hang = threading.Event()
        self.hang.set()
        self.times: list[float] = []
        self.closed = False

    def export(self, families: Iterable[Family], now: float) -> str:
        self.times.append(now)
        self.hang.wait(20)
        return self.error

    def close(self) -> None:
        self.closed = True
        self.hang.set()


def test_failures_are_counted_and_said_when_they_begin_and_end(clock: ManualClock) -> None:
    """An outage of an hour is two lines."""
    fake, exposition = FakeExporter(), Exposition()
    path = OtelPath(fake, exposition, clock, interval_seconds=60)

    with structlog.testing.capture_logs() as logs:
        for error in ("", "gone", "gone", ""):
            fake.error = error
            path.export()

    text = exposition.render("")[0].decode()
    assert [entry["event"] for entry in logs] == ["otel.failed", "otel.recovered"]
    assert 'kms_watchdog_otel_exports_total{result="failure"} 2.0' in text
    assert 'kms_watchdog_otel_exports_total{result="success"} 2.0' in text


def test_it_has_a_pool_of_its_own(clock: ManualClock) -> None:
    """A collector that hangs holds up the next export, and nothing else."""
    (job,) = OtelPath(FakeExporter(), Exposition(), clock, interval_seconds=30).jobs()

    assert (job.pool, job.kind, job.interval_seconds) == ("otel", "otel.export", 30)


def test_the_last_export_has_its_time_and_no_more(clock: ManualClock) -> None:
    """Then it is given up, so that the daemon ends."""
    fake = FakeExporter()
    fake.hang.clear()

    OtelPath(fake, Exposition(), clock, interval_seconds=30).flush(0.05)

    assert (len(fake.times), fake.closed) == (1, True)


def test_it_is_off_unless_enabled(settings: Settings, clock: ManualClock) -> None:
    """And then it is there."""
    assert open_otel(settings, Exposition(), clock, version="1", started_at=0) is None


def test_nothing_of_it_is_imported_unless_enabled() -> None:
    """The SDK is 90 modules that few want; the core's own adapter has its own door."""
    code = "import sys; import kms_watchdog.daemon; print([m for m in sys.modules if m.startswith('opentelemetry')])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "[]\n"


def test_a_missing_extra_is_one_line(write_config: Callable[..., Path], tmp_path: Path) -> None:
    """Which package, and what to install."""
    write_config("[otel]\nenabled = true\n")
    fake = tmp_path / "without" / "opentelemetry"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("")
    code = (
        "from pathlib import Path; from kms_core.testing import ManualClock; from kms_watchdog.config import load;"
        "from kms_watchdog.sinks.otel_path import open_otel; from kms_watchdog.sinks.prometheus import Exposition;"
        "open_otel(load(Path('watchdog.toml')), Exposition(), ManualClock(), version='1', started_at=0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(fake.parent), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{ConfigurationError.__module__}.ConfigurationError: otel.enabled: opentelemetry")
    assert last.endswith("pip install 'kms-watchdog[otel]'")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        pytest.param('headers = { "x y" = "a" }', "should be a header's name", id="header"),
        pytest.param("interval_seconds = 5", "timeout_seconds must be below interval_seconds", id="times"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(configured: Callable[..., Settings], row: str, says: str) -> None:
    """When it is read."""
    with pytest.raises(ConfigError, match=says):
        configured("http://127.0.0.1:1/v1/metrics", row)


def test_credentials_do_not_go_into_the_address(configured: Callable[..., Settings]) -> None:
    """They would be shown with it."""
    with pytest.raises(ConfigError, match="without credentials"):
        configured("http://user:password@127.0.0.1:1/v1/metrics")
