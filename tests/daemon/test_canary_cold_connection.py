"""The cold connection: every way in which a new connection fails has its reason, and none takes longer than it may."""

from __future__ import annotations

import datetime as dt
import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ports import nobody
from tls_endpoint import ENDS, HOST, certificate, connector, rude, tls_server
from tls_kms import deaf_port

from kms_core import Core, SystemClock
from kms_core.clock import Clock
from kms_core.testing import ManualClock
from kms_watchdog.canaries.cold_connection import ColdConnection
from kms_watchdog.name_lookup import Resolver, SocketAddress, system_lookup
from kms_watchdog.new_connection import Address, Connector, Proxy
from kms_watchdog.results import CanaryResult, Kind, Outcome, Reason


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("pem"))


Look = Callable[..., CanaryResult]


@pytest.fixture
def look(core: Core) -> Look:
    """Run the canary over a connector."""

    def run(
        over: Connector, clock: Clock | None = None, *, days: float = 14.0, deadline_seconds: float = 5.0
    ) -> CanaryResult:
        canary = ColdConnection("us-east-1", over, days, deadline_seconds=deadline_seconds)
        return canary.run(core, clock or ManualClock())

    return run


def test_a_connection_that_comes_about(look: Look, pem: Path) -> None:
    """Each step has its time, and what was seen is told."""
    with rude(tls_server(pem)) as port:
        found = look(connector(pem, port), SystemClock())

    assert (found.outcome, found.canary, found.region, found.key) == (
        Outcome.OK,
        Kind.COLD_CONNECTION,
        "us-east-1",
        "",
    )
    assert list(found.steps) == ["dns", "tcp", "tls"]
    assert all(seconds > 0 for seconds in found.steps.values())
    assert (found.facts["address"], found.facts["certificate_issuer"]) == ("127.0.0.1", "Test Authority")
    assert str(found.facts["tls_version"]).startswith("TLSv1.")
    assert found.detail == ""


@pytest.mark.parametrize(
    ("days_left", "reason"),
    [
        pytest.param(14.1, None, id="just-enough"),
        pytest.param(13.9, Reason.CERTIFICATE_EXPIRES, id="renewal-overdue"),
    ],
)
def test_a_certificate_that_ends_soon(look: Look, pem: Path, days_left: float, reason: Reason | None) -> None:
    """Renewal is overdue below the limit, while the connection itself still works."""
    clock = ManualClock(start_utc=ENDS - dt.timedelta(days=days_left))
    with rude(tls_server(pem)) as port:
        found = look(connector(pem, port), clock)

    assert found.reason is reason
    assert found.facts["certificate_days_left"] == pytest.approx(days_left)


def test_an_expired_certificate(look: Look, tmp_path: Path) -> None:
    """It says so, and is not merely a TLS error."""
    expired = certificate(tmp_path, ends=dt.datetime(2021, 1, 1, tzinfo=dt.UTC))
    with rude(tls_server(expired)) as port:
        found = look(connector(expired, port))

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.CERTIFICATE_EXPIRES)
    assert found.detail.startswith("tls: certificate has expired")


def test_a_certificate_of_the_future(look: Look, tmp_path: Path) -> None:
    """Not yet valid is a TLS error: nothing ends."""
    future = certificate(tmp_path, starts=ENDS - dt.timedelta(days=1))
    with rude(tls_server(future)) as port:
        found = look(connector(future, port))

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.TLS)


def test_somebody_elses_certificate(look: Look, tmp_path: Path) -> None:
    """The name is checked, whoever signed."""
    other = certificate(tmp_path, "kms.us-west-2.amazonaws.com")
    with rude(tls_server(other)) as port:
        found = look(connector(other, port))

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.TLS, "TlsError")
    assert "Hostname mismatch" in found.detail


def test_a_certificate_nobody_trusts(look: Look, tmp_path: Path, pem: Path) -> None:
    """The authority is checked, whatever the name."""
    stranger = certificate(tmp_path)
    with rude(tls_server(stranger)) as port:
        found = look(connector(pem, port))

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.TLS, "TlsError")


def test_a_handshake_that_hangs_ends_in_time(look: Look, pem: Path) -> None:
    """Whoever takes the connection and says nothing is a timeout."""
    with rude(None) as port:
        found = look(connector(pem, port), SystemClock(), deadline_seconds=0.2)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.TIMEOUT, "HandshakeTimeout")
    assert found.duration_seconds < 4


def test_a_handshake_that_trickles_ends_in_time(look: Look, pem: Path) -> None:
    """A byte now and then buys no time: the limit is on the handshake, not on each receive."""

    def trickle(connection: socket.socket) -> None:
        never = threading.Event()
        for byte in b"\x16\x03\x03\x40\x00" + bytes(1000):  # a record of 16 KiB, in instalments
            connection.sendall(bytes([byte]))
            never.wait(0.02)

    with rude(trickle) as port:
        found = look(connector(pem, port), SystemClock(), deadline_seconds=0.3)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.TIMEOUT, "HandshakeTimeout")


@pytest.mark.parametrize(
    ("answer", "code"),
    [pytest.param(b"", "ConnectionReset", id="hangs-up"), pytest.param(b"220 smtp", "TlsError", id="no-tls")],
)
def test_whoever_speaks_no_tls(look: Look, pem: Path, answer: bytes, code: str) -> None:
    """An end of the connection in the handshake, or anything that is no TLS."""

    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with rude(behave) as port:
        found = look(connector(pem, port))

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.TLS, code)


def test_nobody_listens(look: Look, pem: Path) -> None:
    """Refused is refused, and at which address."""
    found = look(connector(pem, nobody()))

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.CONNECT, "ConnectionRefused")
    assert found.detail == "tcp: 127.0.0.1 ConnectionRefused"
    assert list(found.steps) == ["dns", "tcp"]


def test_a_black_hole(look: Look, pem: Path) -> None:
    """No answer to the SYN is a timeout, not a refusal."""
    with deaf_port() as url:
        found = look(connector(pem, int(url.rpartition(":")[2])), deadline_seconds=0.2)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.TIMEOUT, "ConnectTimeout")


def test_the_next_address_is_tried(look: Look, pem: Path) -> None:
    """One that refuses and one that is silent leave time for the third: each has its share."""
    with deaf_port() as url, rude(tls_server(pem)) as port:
        over = connector(pem, nobody(), int(url.rpartition(":")[2]), port)
        found = look(over, SystemClock(), deadline_seconds=1.0)

    assert found.outcome is Outcome.OK


def test_all_addresses_failing_is_a_refusal_if_one_was(look: Look, pem: Path) -> None:
    """Time was not what was short; the detail names them all."""
    with deaf_port() as url:
        found = look(connector(pem, int(url.rpartition(":")[2]), nobody()), deadline_seconds=0.4)

    assert (found.reason, found.error_code) == (Reason.CONNECT, "ConnectionRefused")
    assert found.detail == "tcp: 127.0.0.1 ConnectTimeout, 127.0.0.1 ConnectionRefused"


def test_a_name_without_addresses(look: Look, pem: Path) -> None:
    """Nothing to connect to is no crash."""
    found = look(connector(pem))

    assert (found.outcome, found.reason) == (Outcome.FAILED, Reason.CONNECT)


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        pytest.param(socket.gaierror(socket.EAI_NONAME, "not known"), Outcome.FAILED, Reason.DNS, id="unknown"),
        pytest.param(socket.gaierror(socket.EAI_MEMORY, "memory"), Outcome.BLIND, Reason.ERROR, id="no-memory"),
        pytest.param(UnicodeError("label too long"), Outcome.FAILED, Reason.DNS, id="no-name"),
        pytest.param(OSError(24, "Too many open files"), Outcome.BLIND, Reason.ERROR, id="no-descriptor"),
    ],
)
def test_a_name_that_does_not_resolve(
    look: Look, pem: Path, error: Exception, outcome: Outcome, reason: Reason
) -> None:
    """The name is to blame, unless this machine could not ask."""

    def lookup(_host: str, _port: int) -> tuple[SocketAddress, ...]:
        raise error

    found = look(connector(pem, resolver=Resolver(lookup)))

    assert (found.outcome, found.reason) == (outcome, reason)
    assert list(found.steps) == ["dns"]


class HangingLookup:
    """A resolver that answers when it is let."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0

    def __call__(self, host: str, port: int) -> tuple[SocketAddress, ...]:
        self.asked += 1
        self.answers.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, f"look-up {self.asked}")


def test_a_resolver_that_hangs_holds_one_thread_for_ever_many_looks(look: Look, pem: Path) -> None:
    """The look ends in time; the next joins the look-up under way; once that ends, one asks anew."""
    lookup = HangingLookup()
    over = connector(pem, resolver=Resolver(lookup))

    found = [look(over, deadline_seconds=0.05) for _ in range(3)]

    assert [(one.outcome, one.reason, one.error_code) for one in found] == 3 * [
        (Outcome.FAILED, Reason.TIMEOUT, "DnsFailure")
    ]
    assert lookup.asked == 1
    assert sum(thread.name == f"name-lookup {HOST}" for thread in threading.enumerate()) == 1
    lookup.answers.set()
    while look(over).detail != "dns: kms.us-east-1.amazonaws.com: look-up 2":
        assert lookup.asked <= 2


def test_the_machines_own_resolver() -> None:
    """What the system says, addresses ready for `connect`."""
    assert (int(socket.AF_INET), ("127.0.0.1", 443)) in system_lookup("localhost", 443)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_machine_without_descriptors_is_blind(look: Look, pem: Path) -> None:
    """It knows nothing of the region, and says what it lacks, whatever its resolver makes of that."""

    def lookup(_host: str, _port: int) -> tuple[SocketAddress, ...]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    over = connector(pem, resolver=Resolver(lookup))
    with no_descriptor_left():
        found = look(over)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.BLIND, Reason.ERROR, "EMFILE")


@pytest.mark.parametrize(
    ("says", "reason", "code"),
    [
        pytest.param(b"HTTP/1.1 200 Connection established\r\n\r\n", None, "", id="lets-through"),
        pytest.param(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Reason.CONNECT, "Proxy407", id="refuses"),
        pytest.param(b"", Reason.CONNECT, "Truncated", id="hangs-up"),
    ],
)
def test_through_a_proxy(look: Look, pem: Path, says: bytes, reason: Reason | None, code: str) -> None:
    """The way that boto3 takes is the way looked at; TLS is with KMS, not with the proxy."""
    heard: list[bytes] = []
    beyond = tls_server(pem)

    def proxy(connection: socket.socket) -> None:
        heard.append(connection.recv(4096))
        connection.sendall(says)
        if reason is None:
            beyond(connection)

    with rude(proxy) as port:
        through = Proxy.of(f"http://user:p%40ss@127.0.0.1:{port}")
        plain = connector(pem, port)
        over = Connector(Address(HOST, 443), plain._context, Resolver(), proxy=through)
        found = look(over)

    assert (found.reason, found.error_code) == (reason, code)
    assert heard[0].startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n".encode())
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in heard[0]
    assert "cEBzcw" not in repr(through)


def test_a_proxy_over_tls_is_blind(look: Look, pem: Path) -> None:
    """Regression: it was spoken to in plain text, and that it hung up was said of the region. boto3 gets through."""
    with rude(tls_server(pem)) as port:
        plain = connector(pem, port)
        over = Connector(Address(HOST, 443), plain._context, Resolver(), proxy=Proxy.of(f"https://127.0.0.1:{port}"))
        found = look(over)

    assert (found.outcome, found.error_code) == (Outcome.BLIND, "ProxyOverTls")


def test_the_time_is_the_whole_looks(look: Look, pem: Path) -> None:
    """What the name took is missing later: each step has what is left, not a deadline of its own."""
    clock = ManualClock()

    def lookup(_host: str, _port: int) -> tuple[SocketAddress, ...]:
        clock.advance(5.0)
        return ((int(socket.AF_INET), ("127.0.0.1", port)),)

    with rude(tls_server(pem)) as port:
        found = look(connector(pem, resolver=Resolver(lookup)), clock, deadline_seconds=5.0)

    assert (found.outcome, found.reason, found.error_code) == (Outcome.FAILED, Reason.TIMEOUT, "ConnectTimeout")
    assert found.steps["dns"] == 5.0
