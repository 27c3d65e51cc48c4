"""Guards that go on: the first that does not hold ends the drill, and so does one that stays silent."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError
from guard_kit import moto_aws, settings_of
from waiting import wait_until

from kms_chaos import halting
from kms_chaos.guards import CannotTellError, GuardResult, GuardWatch, NotHeldError, nobody_halts
from kms_chaos.guards.live_alarms import LiveAlarms
from kms_chaos.halt import Halt
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog import aws
from kms_watchdog.config import Settings

__all__ = ["moto_aws"]


class Moody:
    """A guard that answers as it is told, in order; the last answer stays."""

    def __init__(self, *answers: str | Exception) -> None:
        self._answers = list(answers)

    def __call__(self) -> str:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def watch(halt: Halt, notes: list[GuardResult], **guards: Moody) -> GuardWatch:
    return GuardWatch(guards, halt, ManualClock(auto_advance=True), note=notes.append)


def test_what_no_longer_holds_ends_the_drill_at_once() -> None:
    """The journal is told first, then everybody who waits."""
    halt, notes = Halt(), list[GuardResult]()
    looking = watch(halt, notes, window=Moody("seen", NotHeldError("it has closed")), other=Moody("seen"))

    assert looking.look() is None
    assert not halt.event.is_set()
    failed = looking.look()

    assert notes == [failed] == [GuardResult(guard="window", held=False, detail="it has closed")]
    assert halt.reason == "guard window: it has closed"


def test_the_journal_that_cannot_be_written_does_not_keep_the_halt_away() -> None:
    """The fault must go whatever else is broken."""
    halt = Halt()

    def cannot(_: GuardResult) -> None:
        raise OSError("the disk is full")

    looking = GuardWatch({"g": Moody(NotHeldError("no"))}, halt, ManualClock(), note=cannot)
    with pytest.raises(OSError, match="full"):
        looking.look()

    assert halt.event.is_set()


@pytest.mark.parametrize(
    "silence",
    [pytest.param(CannotTellError("no answer"), id="no-answer"), pytest.param(ValueError("oops"), id="crash")],
)
def test_three_looks_in_a_row_that_tell_nothing_end_the_drill(silence: Exception) -> None:
    """Guards fail closed; one lost packet ends nothing."""
    halt, notes = Halt(), list[GuardResult]()
    looking = watch(halt, notes, daemon=Moody(silence))

    assert looking.look() is None
    assert looking.look() is None
    assert not halt.event.is_set()
    looking.look()

    assert "3 looks in a row" in halt.reason
    assert str(silence) in notes[0].detail


def test_an_answer_in_between_begins_the_count_anew() -> None:
    """Only silence in a row counts, and each guard's own."""
    halt, silence = Halt(), CannotTellError("no answer")
    looking = watch(
        halt, [], one=Moody(silence, silence, "seen", silence, silence, "seen"), two=Moody("seen", silence, "seen")
    )

    for _ in range(6):
        looking.look()

    assert not halt.event.is_set()


def test_a_thread_looks_while_the_drill_runs_and_no_longer(tmp_path: Path) -> None:
    """A halt that somebody engages in the middle is seen; afterwards nobody looks any more."""
    halt, clock = Halt(), SystemClock()
    looking = GuardWatch(
        {"not-halted": lambda: nobody_halts(tmp_path)}, halt, clock, note=lambda _: None, every_seconds=0.01
    )

    with looking.watching():
        halting.engage(tmp_path, clock, by="me", reason="an outage")
        wait_until(halt.event.is_set, says="the halt is seen")
    later = Moody(NotHeldError("late"))
    with GuardWatch({"g": later}, other := Halt(), clock, note=lambda _: None, every_seconds=3600).watching():
        pass

    assert "an outage" in halt.reason
    assert not other.event.is_set()


@pytest.fixture
def settings(tmp_path: Path, moto_aws: None) -> Settings:
    return settings_of(tmp_path)


def put_alarm(settings: Settings, name: str, state: str) -> None:
    cloudwatch = aws.client(settings, "cloudwatch", "us-west-2")
    cloudwatch.put_metric_alarm(
        AlarmName=name, MetricName="CanaryFailures", Namespace="ParkerFlight/KMS", Statistic="Sum", Period=60,
        EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="made up")


@pytest.mark.parametrize(
    ("name", "state", "quiet"),
    [
        pytest.param("ParkerFlight-KMS-HighErrorRate-eu-west-1", "ALARM", False, id="fires"),
        pytest.param("ParkerFlight-KMS-HighErrorRate-eu-west-1", "OK", True, id="ok"),
        pytest.param("ParkerFlight-KMS-HighErrorRate-eu-west-1", "INSUFFICIENT_DATA", True, id="no-data"),
        pytest.param("ParkerFlight-KMS-HighErrorRate-us-east-1", "ALARM", True, id="the-hurt-region"),
        pytest.param("ParkerFlight-KMS-Drill-HighErrorRate-eu-west-1", "ALARM", True, id="twin"),
        pytest.param("Somebody-elses", "ALARM", True, id="not-ours"),
    ],
)
def test_a_live_alarm_of_a_survivor_ends_the_drill(settings: Settings, name: str, state: str, *, quiet: bool) -> None:
    """The drill's own twins fire, as they must; a live one of a survivor means a second, real outage."""
    put_alarm(settings, name, state)
    alarms = LiveAlarms(settings, read_in="us-west-2", about=("us-west-2", "eu-west-1"))

    if quiet:
        assert alarms.quiet() == "none of 16 live alarms fires"  # of both regions, those of their keys too
    else:
        with pytest.raises(NotHeldError, match="HighErrorRate-eu-west-1 is in ALARM"):
            alarms.quiet()
    alarms.close()


class Client:
    """A client of which only the end is of interest."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_connections_for_live_alarms_are_let_go_of(settings: Settings) -> None:
    """Who made them closes them: a catalogue of drills in one process would else keep those of each."""
    alarms, client = LiveAlarms(settings, read_in="us-west-2", about=("us-west-2",)), Client()
    alarms.close()
    alarms._client = client

    alarms.close()

    assert client.closed


def test_alarms_that_cannot_be_read_tell_nothing(settings: Settings) -> None:
    """Silence of CloudWatch is not the silence of alarms."""
    alarms = LiveAlarms(settings, read_in="us-west-2", about=("us-west-2",))
    alarms._client.meta.events.register("before-send.cloudwatch", _unreachable)

    with pytest.raises(CannotTellError, match="EndpointConnectionError"):
        alarms.quiet()


def _unreachable(**_: object) -> None:
    raise EndpointConnectionError(endpoint_url="https://monitoring.us-west-2.amazonaws.com")


def test_silence_after_an_answer_ends_the_drill_as_soon_as_silence_from_the_start(tmp_path: Path) -> None:
    """Three looks; what it says is that the guard did not hold."""
    halt, notes, silence = Halt(), list[GuardResult](), CannotTellError("no answer")
    looking = watch(halt, notes, daemon=Moody("seen", silence))

    assert [looking.look() for _ in range(3)] == [None, None, None]
    failed = looking.look()

    assert notes == [failed] == [GuardResult(guard="daemon", held=False, detail="no answer (3 looks in a row)")]
    assert halt.event.is_set()


class ThreeTimes(ManualClock):
    """A clock that notes for how long it is waited, and ends the fourth wait."""

    def __init__(self) -> None:
        super().__init__(auto_advance=True)
        self.waits: list[float] = []

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        return len(self.waits) > 3 or super().wait(event, seconds)


def test_the_guards_are_looked_at_every_two_seconds() -> None:
    """By a thread that does not keep the process alive, and is gone after the block."""
    clock, looks, go_on = ThreeTimes(), list[float](), threading.Event()

    def note() -> str:
        go_on.wait(20.0)
        looks.append(clock.monotonic() - 1000.0)
        return "seen"

    with GuardWatch({"g": note}, Halt(), clock, note=lambda _: None).watching():
        [thread] = [one for one in threading.enumerate() if one.name == "guards"]
        assert thread.daemon
        go_on.set()
        wait_until(lambda: len(clock.waits) == 4, says="it looked three times")

    assert (clock.waits, looks) == ([2.0] * 4, [2.0, 4.0, 6.0])
    assert not thread.is_alive()


def test_the_block_ends_when_the_last_look_has_ended() -> None:
    """Whoever closes the connections next closes none that is in use."""
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        gate.wait(20.0)
        ended.set()
        return "seen"

    opener = threading.Timer(0.05, gate.set)
    with GuardWatch({"g": slow}, Halt(), ThreeTimes(), note=lambda _: None).watching():
        assert begun.wait(20.0)
        opener.start()

    assert ended.is_set()
    opener.join()
