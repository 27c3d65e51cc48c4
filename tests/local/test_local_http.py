"""HTTP/1.1 as our listeners speak it: pipelining, HEAD, continuation, and handlers that fail."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from kms_local.clock import SystemClock
from kms_local.wire.certificates import CertificateAuthority, make_authority, server_pem
from kms_local.wire.exchange import Request, Response
from kms_local.wire.issued import tls_context
from kms_local.wire.listener import Listener, listen
from kms_local.wire.protocol import Limits

BIG = 8 * 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\n"
QUICK = Limits(request_seconds=0.5, idle_seconds=60, stall_seconds=0.5, linger_seconds=0.5)


async def handler(request: Request) -> Response:
    """Say what was asked; `/broken` fails, `/slow` takes a moment, `/big` says a lot."""
    if request.path == "/broken":
        raise RuntimeError("a handler with a mistake")
    if request.path == "/slow":
        await asyncio.sleep(0.2)
    if request.path == "/big":
        return Response(body=bytes(BIG))
    body = f"{request.method} {request.path}?{request.query} {len(request.body)}".encode()
    return Response(body=body, content_type="text/plain")


@dataclass
class Served:
    """A listener in a thread of its own."""

    address: tuple[str, int]
    listener: Listener
    authority: CertificateAuthority

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, 10)

    def connect_tls(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        return context.wrap_socket(self.connect(), server_hostname="localhost")


@pytest.fixture
def serves() -> Iterator[Callable[..., Served]]:
    """Serve with limits and TLS as a test wants it; all ends with it."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(_served(**settings))


@contextlib.contextmanager
def _served(*, limits: Limits = Limits(), tls: bool = False) -> Iterator[Served]:  # noqa: B008  a frozen value
    ready, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    authority = make_authority(now=SystemClock().now())
    found: list[Listener] = []

    async def serve() -> None:
        context = tls_context(server_pem(authority, ["localhost"]).decode()) if tls else None
        found.append(await listen(handler, SystemClock(), host="127.0.0.1", port=0, tls=context, limits=limits))
        ready.set()
        await stop.wait()
        await found[0].close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield Served(("127.0.0.1", found[0].port), found[0], authority)
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def address(serves: Callable[..., Served]) -> tuple[str, int]:
    return serves().address


def read_all(raw: socket.socket) -> bytes:
    """Return all that comes until the server closes, however it does."""
    answer = b""
    try:
        while more := raw.recv(65536):
            answer += more
    except (ConnectionResetError, ssl.SSLEOFError):
        pass
    return answer


@pytest.fixture
def exchange(address: tuple[str, int]) -> Callable[[bytes], bytes]:
    """Send bytes, and return all that comes until the server closes."""

    def send(data: bytes) -> bytes:
        with socket.create_connection(address, 10) as raw:
            raw.sendall(data)
            return read_all(raw)

    return send


LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def test_pipelined_requests_are_answered_in_order(exchange: Callable[[bytes], bytes]) -> None:
    """A slow request does not let a fast one overtake it."""
    requests = b"".join(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"slow", b"a", b"b"))

    bodies = [part.partition(b"\r\n\r\n")[2] for part in exchange(requests + LAST).split(b"HTTP/1.1 200 OK")[1:]]

    assert bodies == [b"GET /slow? 0", b"GET /a? 0", b"GET /b? 0", b"GET /last? 0"]


def test_head_has_a_length_and_no_body(exchange: Callable[[bytes], bytes]) -> None:
    """The answer to HEAD ends with its headers."""
    answer = exchange(b"HEAD /a?b=c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert b"Content-Length: 13\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_that_asks_may_continue(exchange: Callable[[bytes], bytes]) -> None:
    """`Expect: 100-continue` is answered before the body."""
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"

    answer = exchange(head + b"abc")

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"POST /a? 3")


def test_one_failing_handler_ends_nothing(exchange: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture) -> None:
    """The request is answered with 500, the mistake is logged, and the next request is served."""
    with caplog.at_level(logging.CRITICAL, "kms_local.wire.protocol"):
        answer = exchange(b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n" + LAST)

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b"GET /last? 0")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"nonsense\r\n\r\n", b"400", id="garbage"),
        pytest.param(b"GET /a HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431", id="headers-too-long"),
        pytest.param(b"GET /a HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", b"431", id="headers-too-many"),
        pytest.param(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"431", id="target-too-long"),
        pytest.param(b"POST /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400", id="negative-length"),
        pytest.param(b"POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400", id="two-lengths"),
        pytest.param(
            b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
            id="smuggling",
        ),
        pytest.param(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"400", id="broken-chunk"),
        pytest.param(b"POST /a HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413", id="length-too-large"),
        pytest.param(
            b"POST /a HTTP/1.1\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
            b"413",
            id="expects-too-much",
        ),
        pytest.param(
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + bytes(65536) + b"\r\n" * 40,
            b"400",
            id="chunks-out-of-step",
        ),
        pytest.param(b"CONNECT x:443 HTTP/1.1\r\n\r\n", b"400", id="connect"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", b"400", id="tls-hello"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400", id="http2"),
    ],
)
def test_what_cannot_be_served_is_refused(exchange: Callable[[bytes], bytes], data: bytes, status: bytes) -> None:
    """Each has its status, and the connection ends."""
    assert exchange(data).startswith(b"HTTP/1.1 " + status)


def test_a_refusal_waits_for_the_answers_before_it(exchange: Callable[[bytes], bytes]) -> None:
    """Garbage behind a request does not overtake its answer."""
    answer = exchange(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\ngarbage\r\n\r\n")

    assert answer.index(b"GET /slow? 0") < answer.index(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("data", "body"),
    [
        pytest.param(b"GET /a HTTP/1.0\r\n\r\n", b"GET /a? 0", id="http-1.0"),
        pytest.param(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET /a? 0", id="http-1.0-keep-alive"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n\r\n", b"OPTIONS *? 0", id="options"),
        pytest.param(
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: t\r\n\r\n",
            b"POST /a? 5",
            id="chunked",
        ),
        pytest.param(
            b"GET /a HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b"GET /a? 0", id="upgrade-is-declined"
        ),
    ],
)
def test_every_way_to_ask_is_answered(exchange: Callable[[bytes], bytes], data: bytes, body: bytes) -> None:
    """With 200, and the connection ends where it must."""
    answer = exchange(data)

    assert answer.startswith(OK)
    assert b"Connection: close\r\n" in answer
    assert answer.partition(b"\r\n\r\n")[2] == body


def test_a_client_may_stop_sending_before_it_is_answered(serves: Callable[..., Served]) -> None:
    """What was asked before the client's FIN is answered behind it."""
    with serves().connect() as raw:
        raw.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        raw.shutdown(socket.SHUT_WR)

        assert read_all(raw).endswith(b"GET /slow? 0")


def test_thousands_of_pipelined_requests_are_answered(serves: Callable[..., Served]) -> None:
    """In order, by a client that reads while it sends."""
    request, count = b"GET /a?%d HTTP/1.1\r\nHost: x\r\n\r\n", 5000
    with serves().connect() as raw:
        sender = threading.Thread(target=lambda: raw.sendall(b"".join(request % n for n in range(count)) + LAST))
        sender.start()
        answer = read_all(raw)
        sender.join(10)

    assert [int(part.split(b" ")[0]) for part in answer.split(b"GET /a?")[1:]] == list(range(count))


def test_a_refused_body_is_heard_out(serves: Callable[..., Served]) -> None:
    """A client that goes on sending after the refusal can still read it: no RST takes it away."""
    with serves().connect() as raw:
        raw.sendall(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
        assert raw.recv(1, socket.MSG_PEEK) == b"H"  # it is refused by now
        for _ in range(30):
            raw.sendall(bytes(100_000))

        assert read_all(raw).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nX: ", id="headers"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", id="body"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", id="chunk-extension"),
    ],
)
def test_a_client_that_drips_is_cut_off(serves: Callable[..., Served], begin: bytes, *, tls: bool) -> None:
    """Drop by drop does not prolong the time a request may take; others are served meanwhile."""
    served = serves(limits=QUICK, tls=tls)
    never = threading.Event()
    connect = served.connect_tls if tls else served.connect
    with connect() as slow, connect() as other:
        slow.sendall(begin)
        for _ in range(200):
            try:
                slow.sendall(b"x" if begin else b"")
            except OSError:
                break
            never.wait(0.05)
            other.sendall(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.recv(65536).startswith(OK)
            if served.listener.connections == 1:
                break

        assert served.listener.connections == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_client_that_never_reads_is_cut_off(
    serves: Callable[..., Served], eventually: Callable[..., None], *, tls: bool
) -> None:
    """It gets a while, then its connection ends, and what it had asked for is forgotten."""
    served = serves(limits=QUICK, tls=tls)
    with (served.connect_tls if tls else served.connect)() as raw:
        raw.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 10)

        eventually(lambda: served.listener.connections == 0)


def test_half_a_request_leaves_nothing_behind(serves: Callable[..., Served], eventually: Callable[..., None]) -> None:
    """A client that goes away in the middle is forgotten at once."""
    served = serves()
    for data in (b"", b"GE", b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"):
        with served.connect() as raw:
            raw.sendall(data)

    eventually(lambda: served.listener.connections == 0)


def test_the_longest_idle_connection_gives_way(serves: Callable[..., Served]) -> None:
    """At the limit a new client is served, and the one that has been silent for longest is not kept."""
    served = serves(limits=Limits(connections=3))
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(served.connect()) for _ in range(3)]
        for raw in (raws[1], raws[0], raws[2]):
            raw.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.recv(65536).startswith(OK)
        newest = stack.enter_context(served.connect())
        newest.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")

        assert newest.recv(65536).startswith(OK)
        assert read_all(raws[1]) == b""
        raws[0].sendall(LAST)
        assert read_all(raws[0]).startswith(OK)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="plain-http"),
        pytest.param(b"\x00" * 100, id="zeros"),
        pytest.param(b"\x16\x03\x01\x00\x05hello" * 50, id="half-a-hello"),
        pytest.param(b"\x16\x03\x01\xff\xff" + b"x" * 70_000, id="long-record"),
    ],
)
def test_what_is_no_tls_ends(serves: Callable[..., Served], data: bytes) -> None:
    """A TLS port closes the connection of a client that speaks something else, and serves the next one."""
    served = serves(tls=True)
    with served.connect() as raw, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        raw.sendall(data)
        assert not read_all(raw).startswith(b"HTTP")

    with served.connect_tls() as good:
        good.sendall(LAST)
        assert read_all(good).startswith(OK)


def test_a_stalled_handshake_ends_in_time(serves: Callable[..., Served], eventually: Callable[..., None]) -> None:
    """A handshake counts as a connection, and has the time of a request; fifty others work meanwhile."""
    served = serves(limits=QUICK, tls=True)
    with contextlib.ExitStack() as stack:
        stalled = stack.enter_context(served.connect())
        stalled.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        eventually(lambda: served.listener.connections == 1)
        for _ in range(50):
            with served.connect_tls() as good:
                good.sendall(LAST)
                assert read_all(good).startswith(OK)

        eventually(lambda: served.listener.connections == 0)


def test_bytes_behind_the_handshake_are_not_lost(serves: Callable[..., Served]) -> None:
    """A request that comes together with the client's last handshake message is answered, byte by byte too."""
    served = serves(tls=True)
    context = ssl.create_default_context(cadata=served.authority.pem.decode())
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with served.connect() as raw:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    raw.sendall(bytes([byte]))
                incoming.write(raw.recv(65536))
            else:
                break
        tls.write(LAST)
        raw.sendall(outgoing.read())
        incoming.write(read_all(raw))

    assert tls.read(65536).startswith(OK)


def test_a_missing_extra_is_named_in_one_line() -> None:
    """Without what a command needs: exit code 2 and the extra's name."""
    script = (
        "import sys; sys.modules['httptools'] = None; sys.argv = ['kms-local', 'serve', '--help'];"
        "from kms_local.__main__ import main; main()"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert ended.stderr == "kms-local serve needs httptools: pip install 'kms-watchdog[local]'\n"
