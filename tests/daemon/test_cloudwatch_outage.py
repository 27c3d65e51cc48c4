"""From counting to CloudWatch through trouble: outages of hours, a full disk, an end in the middle of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from botocore.exceptions import EndpointConnectionError
from daemon_kit import START, result

from kms_core.events import BreakerMoved
from kms_core.testing import ManualClock
from kms_watchdog.config import Settings, load
from kms_watchdog.health import Subject
from kms_watchdog.results import Mode, Outcome
from kms_watchdog.sinks import cloudwatch_path
from kms_watchdog.sinks.cloudwatch_path import CloudWatchPath
from kms_watchdog.sinks.datum import Datum
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.publisher import Publisher
from kms_watchdog.sinks.queue import MetricQueue, QueueUnavailableError
from kms_watchdog.sinks.sink import DrillChange, Seen

REGIONS = ("us-east-1", "us-west-2")
SUBJECTS = [Subject("round_trip", region, "general") for region in REGIONS]
PERIOD = 60


class FakeCloudWatch:
    """Keeps what it takes; away while `away`."""

    def __init__(self) -> None:
        self.away = False
        self.taken: Counter[tuple[str, str, float, str]] = Counter()

    def put_metric_data(self, *, Namespace: str, MetricData: list[dict[str, Any]]) -> None:  # noqa: N803 - AWS's names
        if self.away:
            raise EndpointConnectionError(endpoint_url="https://monitoring")
        for entry in MetricData:
            dimensions = ",".join(d["Value"] for d in entry["Dimensions"])
            self.taken[Namespace, entry["MetricName"], entry["Timestamp"].timestamp(), dimensions] += 1

    def periods_of(self, name: str, dimensions: str) -> list[float]:
        """Return the periods told, oldest first, in seconds after the start; one told twice comes twice."""
        found = ((at, count) for (_, n, at, d), count in self.taken.items() if (n, d) == (name, dimensions))
        return sorted(at - START.timestamp() for at, count in found for _ in range(count))


class BrittleQueue(MetricQueue):
    """The real queue, whose file cannot be written while `broken`: a disk that fails in the middle of things."""

    broken = False
    forgets = True

    def put(self, datums: Iterable[Datum], regions: Sequence[str]) -> dict[str, int]:
        self._check()
        return super().put(datums, regions)

    def _delete(self, ids: Iterable[int]) -> None:
        self._check(forgets=self.forgets)
        super()._delete(ids)

    def _check(self, *, forgets: bool = True) -> None:
        if self.broken or not forgets:
            raise QueueUnavailableError("database or disk is full")


@pytest.fixture
def queue(tmp_path: Path, clock: ManualClock) -> Iterator[BrittleQueue]:
    made = BrittleQueue(tmp_path / "cloudwatch.db", clock)
    yield made
    made.close()


@pytest.fixture
def exposition() -> Exposition:
    return Exposition()


@pytest.fixture
def services() -> dict[str, FakeCloudWatch]:
    return {region: FakeCloudWatch() for region in REGIONS}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(
    settings: Settings,
    queue: BrittleQueue,
    exposition: Exposition,
    clock: ManualClock,
    services: dict[str, FakeCloudWatch],
) -> CloudWatchPath:
    """The whole way, with the real queue; only who is called at its end is a fake."""
    return CloudWatchPath(
        settings, SUBJECTS, queue, exposition, clock, connect=lambda _, __, region: services[region], max_unsaved=1000
    )


def minute(path: CloudWatchPath, clock: ManualClock) -> None:
    """One minute of a daemon's life: both canaries look, the period is closed, each region is sent to six times."""
    at = clock.now_utc().timestamp() - START.timestamp()
    for region in REGIONS:
        path.sink.write(result(region=region, at=at))
    clock.advance(PERIOD)
    path.close_periods()
    for job in path.jobs("housekeeping"):
        if job.kind == cloudwatch_path.SEND_KIND:
            job.action()


def counted(exposition: Exposition, series: str) -> float:
    lines = exposition.render("")[0].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"kms_watchdog_{series} "))


def fill(queue: MetricQueue) -> None:
    """Let the queue's file grow no further, as on a full disk: SQLite's own words are the same."""
    (pages,) = queue._file.call(lambda db: db.execute("PRAGMA page_count").fetchone())
    queue._file.call(lambda db: db.execute(f"PRAGMA max_page_count={pages:d}").fetchone())


def make_room(queue: MetricQueue) -> None:
    queue._file.call(lambda db: db.execute("PRAGMA max_page_count=1000000").fetchone())


def test_an_hour_without_one_region_costs_no_datum_anywhere(
    path: CloudWatchPath, clock: ManualClock, services: dict[str, FakeCloudWatch], exposition: Exposition
) -> None:
    """The other region is told on time, the one that was away all of it later, each period once, under its own time."""
    with structlog.testing.capture_logs() as logs:
        for number in range(80):
            services["us-east-1"].away = 10 <= number < 70
            minute(path, clock)
            if number == 69:
                during = len(services["us-west-2"].periods_of("CanaryRuns", "us-east-1"))
                waiting = counted(exposition, 'cloudwatch_queue_length{region="us-east-1"}')

    expected = [float(PERIOD * number) for number in range(80)]
    assert during == 70
    assert waiting > 60
    for service in services.values():
        for region in REGIONS:
            assert service.periods_of("CanaryRuns", region) == expected
        assert service.periods_of("CanaryHeartbeat", "test-us-east-1") == expected
    assert [entry["event"] for entry in logs] == ["cloudwatch.failed", "cloudwatch.recovered"]
    assert counted(exposition, 'cloudwatch_queue_length{region="us-east-1"}') == 0


def test_a_full_disk_costs_no_datum_and_is_said(
    path: CloudWatchPath,
    queue: BrittleQueue,
    clock: ManualClock,
    services: dict[str, FakeCloudWatch],
    exposition: Exposition,
) -> None:
    """What the file cannot take waits in memory, and the daemon goes on; all of it comes once there is room."""
    for service in services.values():
        service.away = True
    minute(path, clock)
    fill(queue)
    with structlog.testing.capture_logs() as logs:
        for _ in range(30):
            minute(path, clock)
    make_room(queue)
    for service in services.values():
        service.away = False
    for _ in range(8):
        minute(path, clock)

    events = [entry for entry in logs if entry["event"] == "cloudwatch.queue_unavailable"]
    assert counted(exposition, 'state_write_failures_total{file="cloudwatch"}') == len(events) > 0
    assert "full" in events[0]["error"]
    for service in services.values():
        assert service.periods_of("CanaryRuns", "us-east-1") == [float(PERIOD * number) for number in range(39)]


def test_what_was_sent_is_not_sent_again_when_the_queue_cannot_forget_it(
    path: CloudWatchPath,
    queue: BrittleQueue,
    clock: ManualClock,
    services: dict[str, FakeCloudWatch],
) -> None:
    """CloudWatch would add the same numbers twice; it waits until the file can be written, and loses nothing."""
    minute(path, clock)

    queue.forgets = False
    with structlog.testing.capture_logs():
        for _ in range(3):
            minute(path, clock)
    queue.forgets = True
    minute(path, clock)

    for service in services.values():
        assert service.periods_of("CanaryRuns", "us-east-1") == [float(PERIOD * number) for number in range(5)]


@pytest.fixture
def connect(
    settings: Settings,
    queue: BrittleQueue,
    exposition: Exposition,
    clock: ManualClock,
    services: dict[str, FakeCloudWatch],
) -> Callable[[], CloudWatchPath]:
    """The way that comes after a reload."""
    return lambda: CloudWatchPath(
        settings, SUBJECTS, queue, exposition, clock, connect=lambda _, __, region: services[region]
    )


def test_what_was_sent_is_not_sent_again_after_a_reload_either(
    path: CloudWatchPath,
    connect: Callable[[], CloudWatchPath],
    queue: BrittleQueue,
    clock: ManualClock,
    services: dict[str, FakeCloudWatch],
) -> None:
    """What the file could not let go of was remembered by who sent it, and forgotten with him."""
    queue.forgets = False
    with structlog.testing.capture_logs():
        minute(path, clock)
    queue.forgets = True

    after = connect()
    after.take_over(path)
    minute(after, clock)

    assert services["us-east-1"].periods_of("CanaryRuns", "us-east-1") == [0.0, float(PERIOD)]


def test_a_reload_on_a_full_disk_costs_no_datum(
    path: CloudWatchPath,
    connect: Callable[[], CloudWatchPath],
    queue: BrittleQueue,
    clock: ManualClock,
    services: dict[str, FakeCloudWatch],
) -> None:
    """What waits in memory is handed on, not dropped with the way that it waits in."""
    queue.broken = True
    with structlog.testing.capture_logs():
        minute(path, clock)
        path.put_unfinished()
    queue.broken = False

    after = connect()
    after.take_over(path)
    minute(after, clock)

    assert services["us-east-1"].periods_of("CanaryRuns", "us-east-1")[0] == 0.0


def test_a_reload_while_a_drill_runs_goes_on_with_it(
    path: CloudWatchPath, connect: Callable[[], CloudWatchPath], clock: ManualClock
) -> None:
    """Its numbers end with it and no sooner, and its open breaker stays open: its alarms read both."""
    drill = DrillChange(run_id="r", drill="d", region="us-east-1", active=True, verdict=None, at_utc=clock.now_utc())
    moved = BreakerMoved(region="us-east-1", old="closed", new="open", cause="failures")
    path.sink.on_drill(drill)
    path.sink.on_event(Seen(event=moved, mode=Mode.DRILL, at_utc=clock.now_utc()))

    after = connect()
    after.take_over(path)
    clock.advance(2 * PERIOD)
    found = after.sink.close(clock.now_utc().timestamp())

    values = {(d.namespace, d.name, d.dimensions): d.values for d in found}
    assert values["ParkerFlight/KMS", "DrillActive", ()] == (1,)
    assert values["ParkerFlight/KMS/Drill", "CircuitBreakerState", (("Region", "us-east-1"),)] == (2,)


class SlowCloudWatch(FakeCloudWatch):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_answer = threading.Event(), threading.Event()

    def put_metric_data(self, **request: Any) -> None:
        self.asked.set()
        assert self.may_answer.wait(10)
        super().put_metric_data(**request)


def test_two_publishers_of_a_region_send_nothing_twice(
    queue: BrittleQueue, exposition: Exposition, clock: ManualClock
) -> None:
    """As after a reload, or at exit, while a slow CloudWatch still has a request of the one before."""
    slow = SlowCloudWatch()
    at = int(START.timestamp())
    datum = Datum(
        namespace="N", name="M", unit="Count", dimensions=(), period_start=at, resolution=60, values=(1.0,), counts=(1,)
    )
    queue.put([datum], ["us-east-1"])
    before = threading.Thread(target=Publisher("us-east-1", slow, queue, exposition, clock).send)
    before.start()
    assert slow.asked.wait(10)

    Publisher("us-east-1", slow, queue, exposition, clock).send(at_once=True)
    slow.may_answer.set()
    before.join(10)

    assert list(slow.taken.values()) == [1]
    assert queue.length("us-east-1") == 0


def test_memory_is_bounded_too(
    path: CloudWatchPath, queue: BrittleQueue, exposition: Exposition, clock: ManualClock
) -> None:
    """Beyond the bound the oldest go, and are counted as dropped in every region."""
    queue.broken = True
    with structlog.testing.capture_logs():
        for _ in range(60):
            minute(path, clock)

    dropped = [
        counted(exposition, f'cloudwatch_datums_dropped_total{{reason="queue_full",region="{region}"}}')
        for region in REGIONS
    ]
    assert len(path._unsaved) == 1000
    assert dropped[0] == dropped[1] > 0


def test_the_end_sends_what_has_been_counted(
    path: CloudWatchPath, clock: ManualClock, services: dict[str, FakeCloudWatch]
) -> None:
    """The running period too: half of it is all there is."""
    path.sink.write(result(Outcome.FAILED, at=1))

    path.flush(5.0)

    for service in services.values():
        assert service.periods_of("CanaryFailures", "us-east-1") == [0.0]


def test_the_end_in_an_outage_leaves_it_for_the_next_start(
    path: CloudWatchPath,
    queue: BrittleQueue,
    clock: ManualClock,
    services: dict[str, FakeCloudWatch],
    exposition: Exposition,
) -> None:
    """On disk; another process sends it."""
    services["us-east-1"].away = True
    with structlog.testing.capture_logs():
        minute(path, clock)
        path.flush(5.0)
    services["us-east-1"].away = False

    Publisher("us-east-1", services["us-east-1"], queue, exposition, clock).send()

    assert services["us-east-1"].periods_of("CanaryRuns", "us-east-1") == [0.0, 60.0]


@pytest.mark.parametrize(
    ("regions", "warned"),
    [pytest.param('["us-east-1"]', True, id="one"), pytest.param('["us-east-1", "eu-west-1"]', False, id="two")],
)
def test_one_region_for_metrics_is_warned_of(
    write_config: Callable[..., Path], queue: BrittleQueue, clock: ManualClock, regions: str, *, warned: bool
) -> None:
    """Where the estate has more: its outage would take the metrics and the alarms along."""
    settings = load(write_config(f"[cloudwatch]\nregions = {regions}\n"))

    with structlog.testing.capture_logs() as logs:
        CloudWatchPath(settings, SUBJECTS, queue, Exposition(), clock, connect=lambda *_: FakeCloudWatch())

    assert [entry["event"] for entry in logs] == (["cloudwatch.one_region"] if warned else [])
