"""How soon a drill's faults are gone once that is decided: undone and read back, under load that no toxic likes.

Each round has three proxies of a drill, each with faults and with connections whose clients do not read what is sent
to them: with those, deleting a toxic in the wrong order makes the real server's whole API hang. A wedged server is one
whose process stands still: it can be told from a healthy one by its silence alone.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import statistics
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

from benchmarks.benchmark import ONCE, Bars, Benchmark, Section, Size
from benchmarks.table import Cell, Table
from benchmarks.toxiproxies import commands, serving
from kms_chaos.faults import undo
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.toxics import Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_core.clock import SystemClock
from kms_watchdog.drills.undo import ProxyUndo, UndoRecord

HEALTHY_GOAL, WEDGED_GOAL = 2.0, 10.0
"""Seconds from the decision: until all is undone and read back; until it is known, and told, that it cannot be."""
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
CONNECTIONS = 10
"""To each proxy."""
TOXICS = (
    Toxic(name="kmswd_late", type="latency", stream="downstream", attributes={"latency": 3000, "jitter": 500}),
    Toxic(name="kmswd_crawl", type="bandwidth", stream="downstream", attributes={"rate": 1}),
    Toxic(name="kmswd_cut", type="limit_data", stream="downstream", attributes={"bytes": 1_000_000_000}),
    Toxic(name="kmswd_close", type="slow_close", stream="downstream", attributes={"delay": 60_000}),
    Toxic(name="kmswd_hole", type="timeout", stream="upstream", attributes={"timeout": 0}),
)
_CLOCK = SystemClock()
_MUCH = bytes(1 << 21)
"""More than the buffers on the way take while the client does not read."""


BENCHMARK = Benchmark(
    title="Undoing a drill",
    section=Section.DRILLS,
    goals=(
        f"undone and read back within {HEALTHY_GOAL:g} s of the decision",
        f"a server that stands still is told of within {WEDGED_GOAL:g} s",
    ),
    runs=ONCE,
    bars=(Bars(table=0, labels=(0,), value=1, title="undone after, s, median", ours="embedded"),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure."""
    rounds = size.pick(quick=3, normal=8, full=30)
    rows: list[tuple[Cell, ...]] = []
    missed = []
    for name, command in commands().items():
        with serving(command) as (port, process), _flood() as upstream:
            times = [_undone(port, upstream, number) for number in range(rounds)]
            silent = _silent(port, upstream, process.send_signal)
        rows.append((name, statistics.median(times), max(times), silent))
        if max(times) > HEALTHY_GOAL:
            missed.append(f"{name}: undone after {max(times):.1f} s, goal {HEALTHY_GOAL:g}")
        if silent > WEDGED_GOAL:
            missed.append(f"{name}, wedged: told after {silent:.1f} s, goal {WEDGED_GOAL:g}")
    return (
        Table(
            title="Undoing a drill",
            columns=("server", "undone after (s), median", "longest", "wedged: told after (s)"),
            rows=tuple(rows),
            notes=(
                f"{rounds} rounds; {len(REGIONS)} proxies, {len(TOXICS)} toxics and {CONNECTIONS} full connections",
                "of a wedged server it is told; the run is BROKE, and the healer tries until the server is well",
            ),
            missed=tuple(missed),
        ),
    )


def _undone(port: int, upstream: int, number: int) -> float:
    """Return how many seconds it takes to undo a drill's faults, and to see that nothing of it is left."""
    with Toxiproxy(f"http://127.0.0.1:{port}") as server, _broken(server, upstream, number) as record:
        began = _CLOCK.monotonic()
        undo.undo(server, record)
        left = undo.left(server, record)
        seconds = _CLOCK.monotonic() - began
    assert not left, left  # noqa: S101 - a time until it is not undone is no time
    return seconds


def _silent(port: int, upstream: int, send_signal: Callable[[int], None]) -> float:
    """Return how many seconds it takes to find out that a server that stands still undoes nothing."""
    with Toxiproxy(f"http://127.0.0.1:{port}") as server, _broken(server, upstream, 0) as record:
        send_signal(signal.SIGSTOP)
        began = _CLOCK.monotonic()
        try:
            undo.undo(server, record)
        except ToxiproxyError:
            return _CLOCK.monotonic() - began
        finally:
            send_signal(signal.SIGCONT)
    raise AssertionError("a server that stands still answered")


@contextlib.contextmanager
def _broken(server: Toxiproxy, upstream: int, number: int) -> Iterator[UndoRecord]:
    """Break what a drill breaks, with connections in the middle of it."""
    now = _CLOCK.now_utc()
    with contextlib.ExitStack() as stack:
        proxies = []
        for region in REGIONS:
            name = f"kmswd.bench-{number}.{region}"
            made = server.create(name, upstream=f"127.0.0.1:{upstream}")
            for _ in range(CONNECTIONS):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(made.address)
            for toxic in TOXICS:
                server.add(name, toxic)
            names = tuple(toxic.name for toxic in TOXICS)
            proxies.append(
                ProxyUndo(
                    name=name,
                    region=region,
                    listen=made.listen,
                    upstream=made.upstream,
                    made_by_drill=True,
                    toxics=names,
                )
            )
        yield UndoRecord(
            run_id=f"bench-{number}",
            drill="bench",
            toxiproxy_url=server.url,
            created_at_utc=now,
            expires_at_utc=now + timedelta(minutes=5),
            proxies=tuple(proxies),
        )


@contextlib.contextmanager
def _flood() -> Iterator[int]:
    """Serve what sends more than anybody takes, to each connection, and give its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        yield int(listener.getsockname()[1])


def _accept(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_send, args=(connection,), daemon=True).start()


def _send(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.sendall(_MUCH)
        connection.recv(1)
