"""The load at a fixed rate: every request has an outcome, whatever the server does with its connections."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest
from benchmarks import http_peers
from benchmarks.http_load import CONNECTIONS, ask

HELD_SECONDS = 0.5


@pytest.mark.parametrize(
    ("peer", "path"),
    [
        pytest.param(http_peers.HTTP_SERVER, "", id="connections-are-kept"),
        pytest.param(http_peers.EXPORTER, "metrics", id="connections-are-closed"),
    ],
)
def test_every_request_is_answered_and_timed(peer: str, path: str) -> None:
    """As many answers as were asked for, each with its time."""
    with http_peers.serving(peer) as (url, _):
        found = ask(url + path, rate=100, seconds=0.5)

    assert (found.statuses, found.errors) == ({200: 50}, {})
    assert len(found.seconds) == 50
    assert 0 < found.percentile_ms(0.5) <= found.percentile_ms(1.0) == max(found.seconds) * 1000


def test_nobody_there_is_an_error_of_each_request() -> None:
    """None of them is left out of the count."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]

    found = ask(f"http://127.0.0.1:{port}/", rate=100, seconds=0.2)

    assert found.errors == {"ConnectionRefusedError": 20}
    assert not found.seconds


@pytest.fixture
def late() -> Iterator[int]:
    """A server that answers nobody until all connections of the load have asked and a while has gone by; then all."""
    opened, asked = threading.Event(), itertools.count(1)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:

        def serve(connection: socket.socket) -> None:
            with connection:
                while connection.recv(4096):
                    if next(asked) == CONNECTIONS:
                        threading.Timer(HELD_SECONDS, opened.set).start()
                    opened.wait(30)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def test_what_a_slow_server_holds_up_counts_from_its_own_time(late: int) -> None:
    """A load that waits for its answers would send one request in that time, and call the server fast.

    Two hundred have their time while the server stands still, more than there are connections: those that could not
    even be sent are late all the same.
    """
    found = ask(f"http://127.0.0.1:{late}/", rate=400, seconds=HELD_SECONDS)

    assert found.statuses == {200: 200}
    assert sum(1 for seconds in found.seconds if seconds > HELD_SECONDS / 4) > 100
