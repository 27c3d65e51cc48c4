"""The clock: what an answer's `Date` says of ours, to the second and the way it took; and when nothing can be said."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Callable
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ports import nobody
from tls_endpoint import HOST, certificate, connector, rude, server_context, tls_server

from kms_core import Core, SystemClock
from kms_core.clock import Clock
from kms_core.testing import ManualClock
from kms_watchdog.canaries.clock_offset import ClockOffset, offset
from kms_watchdog.canaries.cold_connection import ColdConnection
from kms_watchdog.results import CanaryResult, Kind, Outcome, Reason

NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
EXPIRED = dt.datetime(2021, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("sent", "round_trip", "date", "seconds", "uncertainty", "at_least"),
    [
        pytest.param(0.0, 0.0, 0, -0.5, 0.5, 0.0, id="at-once-on-the-second"),
        pytest.param(0.5, 0.0, 0, 0.0, 0.5, 0.0, id="in-the-middle-of-the-second"),
        pytest.param(0.9, 0.2, 0, 0.5, 0.6, 0.0, id="answered-in-the-old-second"),
        pytest.param(0.9, 0.2, 1, -0.5, 0.6, 0.0, id="answered-in-the-new-second"),
        pytest.param(0.5, 8.0, 4, 0.0, 4.5, 0.0, id="a-slow-way-is-no-offset"),
        pytest.param(0.5, 8.0, 8, -4.0, 4.5, 0.0, id="a-slow-way-there-is-no-offset"),
        pytest.param(60.5, 0.0, 0, 60.0, 0.5, 59.5, id="a-minute-ahead"),
        pytest.param(0.5, 0.2, 60, -59.9, 0.6, 59.3, id="a-minute-behind"),
    ],
)
def test_the_worked_examples(
    sent: float, round_trip: float, date: int, seconds: float, uncertainty: float, at_least: float
) -> None:
    """Seconds after noon by our clock when it was sent, the way there and back, and the `Date` that came."""
    found = offset(
        sent_utc=NOON + dt.timedelta(seconds=sent),
        round_trip_seconds=round_trip,
        date_utc=NOON + dt.timedelta(seconds=date),
    )

    assert found.seconds == pytest.approx(seconds)
    assert found.uncertainty_seconds == pytest.approx(uncertainty)
    assert found.at_least_seconds == pytest.approx(at_least)


@given(
    true=st.floats(-1e5, 1e5),
    there=st.floats(0, 10),
    back=st.floats(0, 10),
    second=st.floats(0, 1, exclude_max=True),
)
def test_the_truth_is_never_outside(true: float, there: float, back: float, second: float) -> None:
    """However the way splits and wherever in its second the answer was written."""
    written_utc = NOON + dt.timedelta(seconds=second)
    sent_utc = written_utc + dt.timedelta(seconds=true - there)

    found = offset(sent_utc=sent_utc, round_trip_seconds=there + back, date_utc=NOON)

    assert abs(found.seconds - true) <= found.uncertainty_seconds + 1e-5
    assert found.at_least_seconds <= abs(true) + 1e-5


def answer(date_utc: dt.datetime | str, status: str = "400 Bad Request") -> bytes:
    said = date_utc if isinstance(date_utc, str) else format_datetime(date_utc, usegmt=True)
    return f"HTTP/1.1 {status}\r\nDate: {said}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("pem"))


Look = Callable[..., CanaryResult]


@pytest.fixture
def look(core: Core, pem: Path) -> Look:
    """Ask a server on a port of the loopback."""

    def run(
        port: int, clock: Clock | None = None, *, trusted: Path = pem, deadline_seconds: float = 5.0
    ) -> CanaryResult:
        checked, timeless = connector(trusted, port), connector(trusted, port, times=False)
        canary = ClockOffset("us-east-1", checked, timeless, 30.0, deadline_seconds=deadline_seconds)
        return canary.run(core, clock or ManualClock(start_utc=NOON))

    return run


def test_a_clock_that_is_right(look: Look, pem: Path) -> None:
    """Even a refusal has a `Date`; the question is unsigned, names its host and closes."""
    asked: list[bytes] = []
    with rude(tls_server(pem, answer(NOON), asked)) as port:
        found = look(port)

    assert (found.outcome, found.canary, found.region, found.key) == (Outcome.OK, Kind.CLOCK_OFFSET, "us-east-1", "")
    assert found.facts == {"offset_seconds": -0.5, "round_trip_seconds": 0.0}
    assert list(found.steps) == ["dns", "tcp", "tls", "answer"]
    assert asked == [
        f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: kms-watchdog\r\nConnection: close\r\n\r\n".encode()
    ]


@pytest.mark.parametrize(
    ("theirs", "outcome", "detail"),
    [
        pytest.param(-31.0, Outcome.OK, "", id="at-the-limit"),
        pytest.param(-32.0, Outcome.FAILED, "31.5 s ahead of KMS, within 0.5 s", id="ahead"),
        pytest.param(31.0, Outcome.FAILED, "31.5 s behind KMS, within 0.5 s", id="behind"),
    ],
)
def test_a_clock_that_is_wrong(look: Look, pem: Path, theirs: float, outcome: Outcome, detail: str) -> None:
    """More than 30 s either way, the resolution of the `Date` taken off; the detail says which way."""
    with rude(tls_server(pem, answer(NOON + dt.timedelta(seconds=theirs)))) as port:
        found = look(port)

    assert found.outcome is outcome
    assert found.reason is (None if outcome is Outcome.OK else Reason.CLOCK_OFF)
    assert found.detail == (f"answer: {detail}" if detail else "")


@pytest.mark.parametrize(
    ("said", "reason", "code"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", Reason.UNREADABLE, "", id="no-date"),
        pytest.param(answer("yesterday"), Reason.UNREADABLE, "", id="no-such-date"),
        pytest.param(answer("Mon, 99 Jun 2026 12:00:00 GMT"), Reason.UNREADABLE, "", id="no-such-day"),
        pytest.param(b"220 mail\r\n\r\n", Reason.ERROR, "Truncated", id="no-http"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + 200 * b"A: b\r\n" + b"\r\n", Reason.ERROR, "Truncated", id="many"),
        pytest.param(b"", Reason.ERROR, "Truncated", id="nothing"),
    ],
)
def test_an_answer_that_tells_nothing(look: Look, pem: Path, said: bytes, reason: Reason, code: str) -> None:
    """Blind, not failed: the clock may be right."""
    with rude(tls_server(pem, said)) as port:
        found = look(port)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, reason, code)
    assert found.facts == {}


def test_an_answer_without_end(look: Look, pem: Path) -> None:
    """Headers that never stop are given up before the memory is: at 64 KiB."""

    def behave(connection: socket.socket) -> None:
        with server_context(pem).wrap_socket(connection, server_side=True) as tls:
            tls.sendall(b"HTTP/1.1 200 OK\r\nX: " + bytes(70_000))
            while tls.recv(4096):
                pass

    with rude(behave) as port:
        found = look(port, deadline_seconds=2.0)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, Reason.ERROR, "Truncated")


def test_a_date_without_a_zone_is_in_utc(look: Look, pem: Path) -> None:
    """`-0000` says that it is UTC, of nowhere in particular."""
    with rude(tls_server(pem, answer("Mon, 01 Jun 2026 12:00:00 -0000"))) as port:
        found = look(port)

    assert found.outcome is Outcome.OK


def test_nobody_answers(look: Look) -> None:
    """A region that cannot be reached says nothing of our clock; why it cannot stands in the result."""
    found = look(nobody())

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, Reason.CONNECT, "ConnectionRefused")


def test_an_answer_that_trickles_ends_in_time(look: Look, pem: Path) -> None:
    """A byte now and then buys no time."""

    def behave(connection: socket.socket) -> None:
        never = threading.Event()
        with server_context(pem).wrap_socket(connection, server_side=True) as tls:
            for byte in answer(NOON):
                tls.sendall(bytes([byte]))
                never.wait(0.05)

    with rude(behave) as port:
        found = look(port, SystemClock(), deadline_seconds=0.5)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, Reason.TIMEOUT, "ReadTimeout")


def test_a_clock_so_wrong_that_certificates_look_expired(look: Look, tmp_path: Path) -> None:
    """That is when it matters most: the `Date` is read all the same, by who knows the name and the authority."""
    expired = certificate(tmp_path, ends=EXPIRED)
    with rude(tls_server(expired, answer(EXPIRED - dt.timedelta(days=1)))) as port:
        found = look(port, trusted=expired)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.CLOCK_OFF)
    assert float(found.facts["offset_seconds"]) > 5 * 365 * 86_400


def test_a_clock_so_wrong_that_certificates_are_of_the_future(look: Look, tmp_path: Path) -> None:
    """A clock far behind, as a machine without a battery has at its start."""
    future = certificate(tmp_path, starts=dt.datetime(2090, 1, 1, tzinfo=dt.UTC))
    with rude(tls_server(future, answer(dt.datetime(2091, 1, 1, tzinfo=dt.UTC)))) as port:
        found = look(port, trusted=future)

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.CLOCK_OFF)
    assert float(found.facts["offset_seconds"]) < 0


def test_an_expired_certificate_vouches_for_no_clock(look: Look, tmp_path: Path) -> None:
    """Where clock and `Date` agree, the certificate itself is to blame, and its word is not enough to say OK."""
    expired = certificate(tmp_path, ends=EXPIRED)
    with rude(tls_server(expired, answer(NOON))) as port:
        found = look(port, trusted=expired)

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.UNREADABLE)
    assert "certificate has expired" in found.detail


def test_only_the_time_is_forgiven(tmp_path: Path, pem: Path, core: Core) -> None:
    """Without times, an expired certificate will do; one of another name or of another authority still will not."""
    expired, other = certificate(tmp_path, ends=EXPIRED), certificate(tmp_path, "kms.example", ends=EXPIRED)

    def connects(shown: Path, trusted: Path) -> CanaryResult:
        with rude(tls_server(shown)) as port:
            over = connector(trusted, port, times=False)
            return ColdConnection("us-east-1", over, certificate_days=-36_500.0).run(core, ManualClock())

    found = [connects(expired, expired), connects(other, other), connects(expired, pem)]

    assert [one.reason for one in found] == [None, Reason.TLS, Reason.TLS]


def test_a_stranger_is_not_asked_again(look: Look, tmp_path: Path) -> None:
    """Another name's certificate, expired or not, tells nothing of the clock."""
    other = certificate(tmp_path, "kms.example", ends=EXPIRED)
    with rude(tls_server(other, answer(EXPIRED))) as port:
        found = look(port, trusted=other)

    assert (found.outcome, found.reason) == (Outcome.BLIND, Reason.TLS)
