"""HTTP/1.1 as our listeners speak it: pipelining, HEAD, continuation, and handlers that fail."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from kms_local.clock import SystemClock
from kms_local.wire.exchange import Request, Response
from kms_local.wire.listener import listen


async def handler(request: Request) -> Response:
    """Say what was asked; `/broken` fails, `/slow` takes a moment."""
    if request.path == "/broken":
        raise RuntimeError("a handler with a mistake")
    if request.path == "/slow":
        await asyncio.sleep(0.2)
    body = f"{request.method} {request.path}?{request.query} {len(request.body)}".encode()
    return Response(body=body, content_type="text/plain")


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """A listener in a thread of its own."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    found: list[int] = []
    stop = asyncio.Event()

    async def serve() -> None:
        listener = await listen(handler, SystemClock(), host="127.0.0.1", port=0, tls=None)
        found.append(listener.port)
        ready.set()
        await stop.wait()
        await listener.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield "127.0.0.1", found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def exchange(address: tuple[str, int]) -> Callable[[bytes], bytes]:
    """Send bytes, and return all that comes until the server closes."""

    def send(data: bytes) -> bytes:
        with socket.create_connection(address, 10) as raw:
            raw.sendall(data)
            answer = b""
            while more := raw.recv(65536):
                answer += more
        return answer

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
        pytest.param(b"GET /a HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b"400", id="upgrade"),
        pytest.param(b"POST /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400", id="negative-length"),
    ],
)
def test_what_cannot_be_served_is_refused(exchange: Callable[[bytes], bytes], data: bytes, status: bytes) -> None:
    """Each has its status, and the connection ends."""
    assert exchange(data).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        pytest.param("serve", "httptools", "local", id="serve"),
        pytest.param("toxiproxy", "httptools", "local", id="toxiproxy"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(command: str, missing: str, extra: str) -> None:
    """Without what a command needs: exit code 2 and the extra's name."""
    script = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['kms-local', {command!r}, '--help'];"
        "from kms_local.__main__ import main; main()"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert ended.stderr == f"kms-local {command} needs {missing}: pip install 'kms-watchdog[{extra}]'\n"
