"""Logs: transitions only, one JSON object a line, nothing that is secret."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog
from daemon_kit import START, result

from kms_core.events import Attempt, BreakerMoved, KeyQuarantined
from kms_core.testing import ManualClock
from kms_watchdog import logs
from kms_watchdog.config import Log
from kms_watchdog.health import Subject, assess, board
from kms_watchdog.results import CanaryResult, Mode, Outcome, Reason
from kms_watchdog.sinks.log import LogSink
from kms_watchdog.sinks.sink import Seen

OK, FAILED, BLIND = result(), result(Outcome.FAILED), result(Outcome.BLIND)
DENIED = result(Outcome.FAILED, reason=Reason.DENIED)


@pytest.mark.parametrize(
    ("results", "events"),
    [
        pytest.param([OK, OK], [], id="good-from-the-start-is-no-news"),
        pytest.param([OK, FAILED, FAILED, OK], ["canary.failed", "canary.recovered"], id="down-and-up"),
        pytest.param([FAILED], ["canary.failed"], id="bad-from-the-start"),
        pytest.param([FAILED, DENIED], ["canary.failed", "canary.failed"], id="another-reason-is-news"),
        pytest.param([BLIND, FAILED, OK], ["canary.blind", "canary.failed", "canary.recovered"], id="blind"),
        pytest.param([FAILED, result(mode=Mode.DRILL)], ["canary.failed"], id="a-drill-heals-nothing"),
    ],
)
def test_only_changes_are_logged(results: list[CanaryResult], events: list[str]) -> None:
    """An outage of a day is two lines for each canary."""
    sink = LogSink()

    with structlog.testing.capture_logs() as found:
        for each in results:
            sink.write(each)

    assert [entry["event"] for entry in found] == events


def test_a_failure_carries_what_one_asks_first() -> None:
    """Where, why, KMS's own code, the request id that AWS support wants, and the canary's own words."""
    failed = result(Outcome.FAILED, error_code="KMSInternalException", request_id="r-1", detail="alias leads elsewhere")

    with structlog.testing.capture_logs() as found:
        LogSink().write(failed)

    assert {
        "region": "us-east-1",
        "key": "general",
        "reason": "timeout",
        "error_code": "KMSInternalException",
        "request_id": "r-1",
        "detail": "alias leads elsewhere",
        "log_level": "warning",
    }.items() <= found[0].items()


def test_breakers_and_quarantined_keys_are_logged() -> None:
    """Attempts are not: a line a request helps nobody."""
    sink = LogSink()
    attempt = Attempt(
        region="r", operation="Decrypt", purpose="pii", seconds=0.1, error_code="X", request_id="", pinned=True
    )
    events = (
        BreakerMoved(region="us-east-1", old="closed", new="open", cause="failures"),
        KeyQuarantined(region="us-east-1", purpose="pii", error_code="DisabledException", seconds=60.0),
        attempt,
    )

    with structlog.testing.capture_logs() as found:
        for event in events:
            sink.on_event(Seen(event=event, mode=Mode.LIVE, at_utc=START))

    assert [entry["event"] for entry in found] == ["breaker.moved", "key.quarantined"]


def test_the_health_is_logged_when_it_changes() -> None:
    """With its reasons as short codes."""
    sink = LogSink()
    health = assess(board([Subject("round_trip", "r", "k")]), {}, now=0, stale_after_seconds={"round_trip": 1})

    with structlog.testing.capture_logs() as found:
        sink.on_health(health)
        sink.on_health(health)

    assert [entry["event"] for entry in found] == ["health.changed"]
    assert found[0]["reasons"] == ["no_fresh_result", "never_probed:r:k"]


def test_a_line_is_a_json_object(capsys: pytest.CaptureFixture[str], clock: ManualClock) -> None:
    """Time, level and event first; what is not known is left out; the standard library's loggers too."""
    logs.configure(Log(format="json"), clock)

    structlog.get_logger("x").warning("canary.failed", region="us-east-1", error_code=None)
    logging.getLogger("library").warning("something %s", "odd")

    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert list(first) == ["at_utc", "level", "event", "region"]
    assert first["at_utc"] == "2026-01-01T00:00:00.000+00:00"
    assert second["event"] == "something odd"


def test_an_exception_is_one_line_too(capsys: pytest.CaptureFixture[str], clock: ManualClock) -> None:
    """A traceback does not break the stream of objects."""
    logs.configure(Log(format="auto"), clock)

    try:
        int("no")
    except ValueError:
        structlog.get_logger("x").exception("canary.crashed")

    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


def test_a_person_gets_a_readable_form(capsys: pytest.CaptureFixture[str], clock: ManualClock) -> None:
    """No JSON on a terminal."""
    logs.configure(Log(format="console"), clock)

    structlog.get_logger("x").info("canary.recovered", region="us-east-1")

    written = capsys.readouterr().err
    assert "canary.recovered" in written
    assert "{" not in written


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_a_terminal_has_colours_unless_told_otherwise(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, variable: str, *, coloured: bool
) -> None:
    """NO_COLOR, as everywhere."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("NO_COLOR", variable)
    logs.configure(Log(format="auto"), clock)

    structlog.get_logger("x").info("canary.recovered", region="us-east-1")

    assert "canary.recovered" in terminal.getvalue()
    assert ("\x1b[" in terminal.getvalue()) is coloured


def test_the_level_is_kept(capsys: pytest.CaptureFixture[str], clock: ManualClock) -> None:
    """What is below it is not written."""
    logs.configure(Log(format="json", level="warning"), clock)

    structlog.get_logger("x").info("drill.began")

    assert capsys.readouterr().err == ""
