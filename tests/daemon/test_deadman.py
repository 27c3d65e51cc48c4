"""The dead man's switch: pinged after good rounds alone, with a real listener on the other side."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, get_args

import pytest
import structlog
from daemon_kit import result

from kms_core.testing import ManualClock
from kms_watchdog.deadman import DeadMan, PingResult, Switch
from kms_watchdog.health import Health, Subject, assess, board
from kms_watchdog.results import CanaryResult, Kind, Outcome
from kms_watchdog.sinks.series import PING_RESULTS

ROUND_TRIPS = [Subject(Kind.ROUND_TRIP, region, "general") for region in ("us-east-1", "us-west-2")]
ALARM_PATH = Subject(Kind.ALARM_PATH, "us-east-1", "")
STALE_AFTER = {Kind.ROUND_TRIP: 90.0, Kind.ALARM_PATH: 900.0}


class Standing:
    """The health, as the daemon keeps it."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._board = board([*ROUND_TRIPS, ALARM_PATH])

    def board(self) -> Any:
        return self._board

    def health(self) -> Health:
        now = self._clock.monotonic()
        return assess(self._board, {}, now=now, stale_after_seconds=STALE_AFTER)

    def write(self, *results: CanaryResult) -> None:
        for each in results:
            self._board = self._board.fold(each, now=self._clock.monotonic())


@dataclass
class Pings:
    """Takes pings, and answers them as told."""

    answers: list[PingResult] = field(default_factory=list)
    taken: int = 0
    counted: list[PingResult] = field(default_factory=list)

    def ping(self) -> PingResult:
        self.taken += 1
        return self.answers.pop(0) if self.answers else "success"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pings() -> Pings:
    return Pings()


@pytest.fixture
def standing(clock: ManualClock) -> Standing:
    return Standing(clock)


@pytest.fixture
def dead_man(clock: ManualClock, pings: Pings, standing: Standing) -> DeadMan:
    return DeadMan(pings.ping, standing, clock, stale_after_seconds=STALE_AFTER, count=pings.counted.append)


def of(subject: Subject, outcome: Outcome = Outcome.OK) -> CanaryResult:
    seen = result(outcome, region=subject.region, key=subject.key)
    return CanaryResult.from_json({**seen.to_json(), "canary": subject.canary})


@pytest.fixture
def round_of(clock: ManualClock, standing: Standing, dead_man: DeadMan) -> Callable[..., None]:
    """Let all canaries look once, 30 s later, and the switch be thought of after each."""

    def look(*outcomes: Outcome, alarm_path: Outcome | None = Outcome.OK) -> None:
        clock.advance(30)
        for subject, outcome in zip(ROUND_TRIPS, outcomes, strict=True):
            standing.write(of(subject, outcome))
            dead_man.look()
        if alarm_path is not None:
            standing.write(of(ALARM_PATH, alarm_path))
        dead_man.look()

    return look


OK, FAILED, BLIND = Outcome.OK, Outcome.FAILED, Outcome.BLIND


def test_a_good_round_is_one_ping(round_of: Callable[..., None], pings: Pings, standing: Standing) -> None:
    """Not one a look, not one a check; counted by what came of it."""
    standing.write(of(ALARM_PATH))

    round_of(OK, OK)
    round_of(OK, OK)

    assert (pings.taken, pings.counted) == (2, ["success", "success"])


def test_no_round_no_ping(dead_man: DeadMan, clock: ManualClock, pings: Pings, standing: Standing) -> None:
    """Half a round is none; nor is time alone: a stalled schedule falls silent."""
    standing.write(of(ALARM_PATH))
    clock.advance(30)
    standing.write(of(ROUND_TRIPS[0]))
    for _ in range(100):
        dead_man.look()
        clock.advance(1)

    assert pings.taken == 0


def test_unhealthy_is_no_good_round(round_of: Callable[..., None], pings: Pings, standing: Standing) -> None:
    """A key that nobody can use anywhere stops the pings, and they go on when it can be used again."""
    standing.write(of(ALARM_PATH))
    with structlog.testing.capture_logs() as logs:
        round_of(OK, OK)
        for _ in range(3):
            round_of(FAILED, FAILED)
        while_down = pings.taken
        for _ in range(3):
            round_of(OK, OK)

    assert (while_down, pings.taken) == (3, 5)  # two failures are a blip, two successes the way back
    assert [entry["event"] for entry in logs] == ["deadman.withheld", "deadman.resumed"]


def test_a_region_down_does_not_stop_the_pings(round_of: Callable[..., None], pings: Pings, standing: Standing) -> None:
    """Alarms tell of it; a switch that rings for days is one that nobody hears any more."""
    standing.write(of(ALARM_PATH))

    for _ in range(5):
        round_of(OK, FAILED, alarm_path=FAILED)

    assert pings.taken == 5


def test_blindness_of_all_stops_the_pings(round_of: Callable[..., None], pings: Pings, standing: Standing) -> None:
    """Without credentials nobody looks at anything: as soon as no answer is fresh."""
    standing.write(of(ALARM_PATH))
    round_of(OK, OK)

    for _ in range(6):
        round_of(BLIND, BLIND, alarm_path=BLIND)

    assert pings.taken == 1 + 3  # three intervals old is still fresh


def test_a_missing_result_stops_the_pings(round_of: Callable[..., None], pings: Pings, standing: Standing) -> None:
    """A canary of any kind that never looked, or has not for three of its intervals, is silence."""
    round_of(OK, OK, alarm_path=None)
    never = pings.taken
    round_of(OK, OK, alarm_path=BLIND)
    round_of(OK, OK, alarm_path=None)
    lately = pings.taken
    for _ in range(40):
        round_of(OK, OK, alarm_path=None)

    assert (never, lately) == (0, 1)  # the blind look ended the round it came in too late for
    assert pings.taken == 30


def test_failures_are_counted_and_told_once(round_of: Callable[..., None], pings: Pings, standing: Standing) -> None:
    """A switch out of order for a day is two lines in the log."""
    standing.write(of(ALARM_PATH))
    pings.answers = ["unreachable", "unreachable", "refused", "success", "success"]

    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            round_of(OK, OK)

    assert pings.counted == ["unreachable", "unreachable", "refused", "success", "success"]
    assert [entry["result"] for entry in logs] == ["unreachable", "refused", "success"]


@contextmanager
def answering(code: int) -> Iterator[tuple[str, list[str]]]:
    """Listen; give the address, and the requests that came."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(self.requestline)
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - http.server's own names

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ping/secret", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("code", "method", "expected"),
    [
        pytest.param(200, "GET", "success", id="taken"),
        pytest.param(202, "POST", "success", id="posted"),
        pytest.param(404, "GET", "refused", id="unknown"),
        pytest.param(500, "GET", "refused", id="broken"),
    ],
)
def test_a_ping_is_what_the_other_side_says(code: int, method: Any, expected: PingResult) -> None:
    """By its status."""
    with answering(code) as (url, came):
        found = Switch(url, method).ping()

    assert found == expected
    assert came == [f"{method} /ping/secret HTTP/1.1"]


def test_nobody_there_is_no_crash() -> None:
    """Refused, no such name, hanging up, or something else than HTTP: unreachable, in time."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        hangs = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        found = [
            Switch(f"http://127.0.0.1:{port}/").ping(),
            Switch(hangs, timeout_seconds=0.2).ping(),
            Switch("http://no-such-name.invalid/", timeout_seconds=0.2).ping(),
        ]

    assert found == ["unreachable"] * 3


@pytest.mark.parametrize("said", [pytest.param(b"", id="hangs-up"), pytest.param(b"220 ftp ready\r\n", id="no-http")])
def test_what_is_no_http_is_unreachable(said: bytes) -> None:
    """Whatever listens there."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with closing(connection):
                connection.recv(4096)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        found = Switch(f"http://127.0.0.1:{listener.getsockname()[1]}/").ping()
        thread.join()

    assert found == "unreachable"


def test_the_address_is_a_secret() -> None:
    """Whoever knows it can keep the switch quiet."""
    assert "secret" not in repr(Switch("https://hc.example/secret"))


def test_every_result_of_a_ping_has_its_series() -> None:
    """From the first scrape on."""
    assert get_args(PingResult) == PING_RESULTS
