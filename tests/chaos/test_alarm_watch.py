"""Alarm states as the drill reads them: from CloudWatch, as they change, and never guessed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kms_alarms.cloudwatch import alarm_name
from kms_chaos.alarms import UNREADABLE, AlarmBoard, AlarmWatch, all_keys, reading_region
from kms_chaos.testing import REGIONS, TARGET, drill
from kms_core import SystemClock
from kms_watchdog import aws, config
from kms_watchdog.config import Settings
from kms_watchdog.results import Mode

KEY = ("HighErrorRate", TARGET, "drill")
Wait = Callable[[Callable[[], bool], float, str], None]


class ChangesTape:
    """Keeps the states it is told."""

    def __init__(self) -> None:
        self.states: list[tuple[str, bool]] = []

    def record(self, event: str, **fields: Any) -> None:
        assert event == "alarm-state"
        self.states.append((fields["state"], fields["last"]))

    record_now = record


@pytest.fixture
def settings(local_aws: Any, make_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in local_aws.environment.items():
        monkeypatch.setenv(name, value)
    return config.load(make_config())


@pytest.fixture
def cloudwatch(settings: Settings) -> Iterator[Any]:
    client = aws.client(settings, "cloudwatch", "us-west-2")
    yield client
    client.delete_alarms(AlarmNames=[alarm_name(settings, *KEY[:2], Mode.DRILL)])
    client.close()


@pytest.fixture
def board(settings: Settings) -> Iterator[AlarmBoard]:
    made = AlarmBoard(settings, "us-west-2", frozenset({KEY}))
    yield made
    made.close()


def put(cloudwatch: Any, settings: Settings) -> str:
    name = alarm_name(settings, *KEY[:2], Mode.DRILL)
    cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace="Test", MetricName="Nothing", Statistic="Sum", Period=60, EvaluationPeriods=1,
        Threshold=1, ComparisonOperator="GreaterThanThreshold", TreatMissingData="ignore",
    )  # fmt: skip
    return name


def test_an_alarm_that_is_not_there_is_unreadable(board: AlarmBoard) -> None:
    """Not OK, not ALARM: nobody has made it."""
    reading = board.read()[KEY]

    assert reading.state == UNREADABLE
    assert "knows no alarm ParkerFlight-KMS-Drill-HighErrorRate-us-east-1" in reading.reason


def test_a_cloudwatch_that_does_not_answer_is_unreadable(settings: Settings, free_port: int) -> None:
    """With the reason; never an exception in the middle of a drill."""
    deaf = settings.endpoints["us-west-2"].model_copy(update={"cloudwatch": f"https://127.0.0.1:{free_port}"})
    endpoints: Mapping[str, Any] = {**settings.endpoints, "us-west-2": deaf}
    board = AlarmBoard(settings.model_copy(update={"endpoints": endpoints}), "us-west-2", frozenset({KEY}))

    reading = board.read()[KEY]
    board.close()

    assert (reading.state, reading.reason) == (UNREADABLE, "CloudWatch in us-west-2: EndpointConnectionError")


def test_changes_are_told_once_and_the_last_state_again(
    settings: Settings, cloudwatch: Any, board: AlarmBoard, wait_until: Wait
) -> None:
    """The first reading before anything else, each change as it comes, and the end marked as such."""
    name, tape = put(cloudwatch, settings), ChangesTape()
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="test")
    watch = AlarmWatch(board, tape, SystemClock())

    watch.start()
    assert tape.states == [("OK", False)]
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")
    wait_until(lambda: len(tape.states) > 1, 10.0, "the change on the tape")
    watch.stop()
    watch.stop()

    assert tape.states == [("OK", False), ("ALARM", False), ("ALARM", True)]
    assert not any(thread.name == "alarms" for thread in threading.enumerate())


def test_alarms_are_read_where_the_fault_does_not_reach(settings: Settings) -> None:
    """A drill on us-east-1 asks another publish region, if there is one."""
    assert settings.publish_regions == ("us-east-1", "us-west-2")
    assert reading_region(settings, ("us-east-1",)) == "us-west-2"
    assert reading_region(settings, ("eu-west-1",)) == "us-east-1"
    alone = settings.model_copy(update={"cloudwatch": settings.cloudwatch.model_copy(update={"regions": (TARGET,)})})
    assert reading_region(alone, (TARGET,)) == TARGET


def test_a_drill_reads_every_alarm_it_speaks_of() -> None:
    """The twin that must fire, its neighbours' twins, and all live ones."""
    keys = all_keys(drill(), (TARGET,), REGIONS)

    assert keys == {("HighErrorRate", region, mode) for region in REGIONS for mode in ("drill", "live")}


def test_a_drill_without_alarms_asks_nobody(settings: Settings) -> None:
    """There is nothing to read, and nothing to fail."""
    board = AlarmBoard(settings, "us-west-2", frozenset())

    assert board.read() == {}
    board.close()
