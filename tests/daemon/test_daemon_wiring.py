"""Parts that join parts: the standing health, the way to CloudWatch, the daemon's own lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner
from daemon_kit import START, result

from kms_alarms.cli import cli as alarms
from kms_core.events import BreakerMoved
from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.canaries.canary import canary_id
from kms_watchdog.canaries.roster import Ports, live_canaries
from kms_watchdog.cli import command as watchdog
from kms_watchdog.config import ConfigError, Settings
from kms_watchdog.health import Board, Status, Subject
from kms_watchdog.installed_series import subject_of
from kms_watchdog.results import Kind, Mode, Outcome
from kms_watchdog.scheduler import Job
from kms_watchdog.sinks.cloudwatch_path import CloudWatchPath
from kms_watchdog.sinks.health import HealthSink
from kms_watchdog.sinks.prometheus import Exposition
from kms_watchdog.sinks.queue import MetricQueue
from kms_watchdog.sinks.sink import DrillChange, LiveEvents, Seen, tell_drill

EXAMPLE = Path(__file__).parents[2] / "daemon" / "watchdog.example.toml"
SUBJECTS = [Subject("round_trip", region, "general") for region in ("us-east-1", "us-west-2")]


class Boards:
    """Keeps the boards it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[Board, Mode]] = []

    def on_board(self, board: Board, mode: Mode) -> None:
        self.seen.append((board, mode))


@pytest.fixture
def boards() -> Boards:
    return Boards()


@pytest.fixture
def breakers() -> dict[str, str]:
    return {"us-east-1": "closed", "us-west-2": "closed"}


@pytest.fixture
def health(clock: ManualClock, boards: Boards, breakers: dict[str, str]) -> HealthSink:
    return HealthSink(
        SUBJECTS, clock, stale_after_seconds={"round_trip": 90.0}, breakers=lambda: breakers, boards=[boards]
    )


def all_ok(health: HealthSink) -> None:
    for subject in SUBJECTS:
        health.write(result(region=subject.region))


def test_a_status_has_a_since(health: HealthSink, clock: ManualClock, breakers: dict[str, str]) -> None:
    """Since when it has been what it is, not since the last look."""
    all_ok(health)
    first = health.standing()
    clock.advance(10)
    later = health.standing()
    breakers["us-east-1"] = "open"
    changed = health.standing()

    assert (first.health.status, later.since_utc) == (Status.HEALTHY, first.since_utc)
    assert (changed.health.status, changed.since_utc) == (Status.DEGRADED, clock.now_utc())


def test_silence_turns_stale_by_itself(health: HealthSink, clock: ManualClock) -> None:
    """Nobody has to write anything for it."""
    all_ok(health)
    clock.advance(91)

    assert health.standing().health.status is Status.UNHEALTHY


def test_a_clock_set_back_makes_nothing_fresh(health: HealthSink, clock: ManualClock) -> None:
    """Ages are counted on the monotonic clock: what a result says of its own date does not matter."""
    for subject in SUBJECTS:
        health.write(result(region=subject.region, at=86_400))
    clock.advance(91)

    assert health.standing().health.status is Status.UNHEALTHY


def test_a_drill_has_a_board_of_its_own(health: HealthSink, boards: Boards) -> None:
    """The live one never sees its failures; it begins empty with each drill."""
    all_ok(health)
    for _ in range(3):
        health.write(result(Outcome.FAILED, mode=Mode.DRILL))
    drilling = health.board(Mode.DRILL)
    health.on_drill(change(active=False))

    assert health.standing().health.status is Status.HEALTHY
    assert drilling.canaries[SUBJECTS[0]].failures == 3
    assert health.board(Mode.DRILL).canaries[SUBJECTS[0]].failures == 0
    assert boards.seen[-1][1] is Mode.DRILL


def change(*, active: bool) -> DrillChange:
    return DrillChange(run_id="r", drill="d", region="us-east-1", active=active, verdict=None, at_utc=START)


class Fails:
    """A sink that always fails."""

    def on_event(self, seen: Seen) -> None:
        raise ValueError

    def on_drill(self, change: DrillChange) -> None:
        raise ValueError


class Keeps:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def on_event(self, seen: Seen) -> None:
        self.seen.append(seen)

    def on_drill(self, change: DrillChange) -> None:
        self.seen.append(change)


def test_events_and_drills_reach_every_sink(clock: ManualClock) -> None:
    """One that fails is logged, and hurts no other."""
    keeps = Keeps()
    moved = BreakerMoved(region="us-east-1", old="closed", new="open", cause="failures")

    with structlog.testing.capture_logs() as logs:
        LiveEvents((Fails(), keeps), clock).on_event(moved)
        tell_drill([Fails(), keeps], change(active=True))

    assert keeps.seen == [Seen(event=moved, mode=Mode.LIVE, at_utc=clock.now_utc()), change(active=True)]
    assert [entry["event"] for entry in logs] == ["sink.failed", "sink.failed"]


@pytest.fixture
def path(
    settings: Settings, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CloudWatchPath]:
    """The way to a CloudWatch that nobody runs: clients without credentials ask nobody."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    aws._session.cache_clear()
    subjects = [subject_of(canary) for canary in live_canaries(Ports(settings, ManualClock()))]
    made = CloudWatchPath(settings, subjects, MetricQueue(tmp_path / "cloudwatch.db", clock), Exposition(), clock)
    yield made
    made._queue.close()
    aws._session.cache_clear()


def test_a_profile_that_is_not_there_is_a_wrong_configuration(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told in one line by every command that asks AWS; botocore's own error would be a traceback."""
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-it")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    aws._session.cache_clear()

    with pytest.raises(ConfigError, match="nobody-has-it"):
        aws.client(settings, "sns", "us-east-1")
    for command, arguments in ((watchdog, ["provision", "plan"]), (alarms, ["plan"])):
        told = CliRunner().invoke(command, [*arguments, "--config", str(EXAMPLE)])
        assert told.exit_code == 2
        assert "nobody-has-it" in told.stderr
        assert told.stderr.count("\n") == 1


def jobs(path: CloudWatchPath) -> dict[str, Job]:
    return {job.id: job for job in path.jobs("housekeeping")}


def test_a_period_is_closed_and_sent_within_a_second(path: CloudWatchPath) -> None:
    """On the grid of periods: closed half a second after, sent before the second is over; retried between."""
    found = jobs(path)

    assert set(found) == {"cloudwatch.close", "cloudwatch.send:us-east-1", "cloudwatch.send:us-west-2"}
    close, send = found["cloudwatch.close"], found["cloudwatch.send:us-east-1"]
    assert (close.interval_seconds, close.offset_seconds) == (60, 0.5)
    assert (send.interval_seconds, send.offset_seconds) == (10, 0.9)
    assert close.first_run(START).timestamp() - START.timestamp() == 0.5


def test_what_cannot_be_sent_at_exit_waits_on_disk(path: CloudWatchPath, clock: ManualClock) -> None:
    """The running period too; the flush has a deadline and raises nothing."""
    path.sink.write(result(at=1))

    with structlog.testing.capture_logs() as logs:
        path.flush(5.0)

    assert path._queue.length("us-east-1") == path._queue.length("us-west-2") > 0
    assert {entry["event"] for entry in logs} == {"cloudwatch.failed"}


def test_a_finished_period_goes_to_the_queue(path: CloudWatchPath, clock: ManualClock) -> None:
    """Once."""
    path.sink.write(result(at=1))
    clock.advance(61)

    path.close_periods()
    once = path._queue.length("us-east-1")
    path.close_periods()

    assert once > 0
    assert path._queue.length("us-east-1") >= once


def test_there_is_a_canary_for_each_region_and_key(settings: Settings) -> None:
    """Kind by kind, in the order of the configuration, each with a name of its own."""
    canaries = live_canaries(Ports(settings, ManualClock()))
    counts = Counter(canary.kind for canary in canaries)

    assert len({canary_id(canary) for canary in canaries}) == len(canaries)
    assert list(counts) == list(Kind)
    pairs_and_keys, regions_and_keys, regions, keys, published = 6 * 2, 3 * 2, 3, 2, 2
    assert counts == {
        Kind.ROUND_TRIP: regions_and_keys,
        Kind.CROSS_REGION: pairs_and_keys,
        Kind.FAILOVER_PATH: keys,
        Kind.GOLDEN: regions_and_keys,
        Kind.MUST_FAIL_CORE: keys,
        Kind.MUST_FAIL_KMS: regions_and_keys,
        Kind.APPLICATION_ACCESS: regions_and_keys,
        Kind.COLD_CONNECTION: regions,
        Kind.CLOCK_OFFSET: regions,
        Kind.ALARM_PATH: published,
        Kind.KEY_STATE: regions_and_keys,
        Kind.REPLICA_DRIFT: regions_and_keys,
        Kind.HEADROOM: regions,
    }
    assert {canary.deadline_seconds for canary in canaries} == {10.0}
