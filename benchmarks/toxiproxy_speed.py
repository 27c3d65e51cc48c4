"""The Toxiproxy server beside a direct connection and, where there is one, beside the real server.

All take turns in one run, and medians are compared. The load is one Python process and the upstream another, so on two
cores all three share them, and only ratios mean something.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Bars, Benchmark, Section, Size
from benchmarks.table import Cell, Table
from benchmarks.toxiproxies import commands, serving, started
from kms_local.clock import SystemClock

REQUEST, REPLY = 200, 500
WRITE = 64 * 1024
AT_ONCE = 1000
ADDED_GOAL, RATE_GOAL = 1.3, 0.8
_REFERENCE_ADDED_US, _REFERENCE_RATE = 101.0 / 94.0, 590.0 / 1616.0
"""What the real server added to a direct round trip, and left of a direct connection's rate, where it was measured."""
_NEUTRAL = ({"type": "noop", "stream": "upstream"}, {"type": "noop", "stream": "downstream"})
_CLOCK = SystemClock()


@dataclass(slots=True)
class Target:
    """An address that leads to the upstream, and what was measured through it."""

    name: str
    address: tuple[str, int]
    trips_us: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    bursts_ms: list[float] = field(default_factory=list)
    repeated_syns: int = 0

    @property
    def trip_us(self) -> float:
        """The median of the rounds' median round trips."""
        return statistics.median(self.trips_us)

    @property
    def rate(self) -> float:
        """The median rate in MB/s."""
        return statistics.median(self.rates)


BENCHMARK = Benchmark(
    title="The local Toxiproxy",
    section=Section.LOCAL,
    goals=(
        f"adds at most {ADDED_GOAL} times to a round trip what the real server adds",
        f"carries at least {RATE_GOAL} of its MB/s",
        "serves a thousand connections at once without a repeated SYN",
    ),
    bars=(
        Bars(table=0, labels=(0,), value=1, title="p50 of a round trip, µs", ours="embedded"),
        Bars(table=0, labels=(0,), value=3, title="MB/s", ours="embedded"),
    ),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure."""
    rounds, trips, megabytes = size.pick(quick=(3, 500, 20), normal=(5, 1500, 60), full=(9, 4000, 200))
    with contextlib.ExitStack() as stack:
        targets = _targets(stack)
        for target in targets:  # the first connections of a process are slow
            _trip_us(target.address, 200)
        for _ in range(rounds):
            for target in targets:
                target.trips_us.append(_trip_us(target.address, trips))
                target.rates.append(_rate(target.address, megabytes))
        for target in targets:
            for _ in range(3):
                syns, milliseconds = _burst(target.address)
                target.bursts_ms.append(milliseconds)
                target.repeated_syns += syns
    return (_speed(targets), _bursts(targets))


def _speed(targets: list[Target]) -> Table:
    direct, ours = targets[0], targets[1]
    real = next((target for target in targets if target.name == "real"), None)
    rows: list[tuple[Cell, ...]] = [
        (target.name, round(target.trip_us, 1), round(target.trip_us - direct.trip_us, 1), round(target.rate))
        for target in targets
    ]
    added = (ours.trip_us - direct.trip_us) / _added_by_real(direct, real)
    rate = ours.rate / (real.rate if real else direct.rate * _REFERENCE_RATE)
    beside = "the real server in the same run" if real else "the real server's ratios where it was measured"
    missed = []
    if added > ADDED_GOAL:
        missed.append(f"added p50 is {added:.2f} times that of {beside}, goal {ADDED_GOAL}")
    if rate < RATE_GOAL:
        missed.append(f"MB/s are {rate:.2f} of those of {beside}, goal {RATE_GOAL}")
    return Table(
        title="Toxiproxy: a round trip and a stream",
        columns=("", "p50 of a round trip (µs)", "added (µs)", "MB/s"),
        rows=tuple(rows),
        notes=(
            f"{REQUEST} B there, {REPLY} B back, one connection; {WRITE // 1024} KiB writes; medians of turns",
            f"embedded beside {beside}: added p50 {added:.2f} (goal {ADDED_GOAL}), MB/s {rate:.2f} (goal {RATE_GOAL})",
        ),
        missed=tuple(missed),
    )


def _added_by_real(direct: Target, real: Target | None) -> float:
    return real.trip_us - direct.trip_us if real else direct.trip_us * _REFERENCE_ADDED_US


def _bursts(targets: list[Target]) -> Table:
    missed = tuple(
        f"{target.repeated_syns} SYNs were repeated through {target.name}, goal 0"
        for target in targets
        if target.repeated_syns and target.name.startswith("embedded")
    )
    return Table(
        title=f"Toxiproxy: {AT_ONCE} connections at once",
        columns=("", "all served after (ms)", "SYNs repeated"),
        rows=tuple(
            (target.name, round(statistics.median(target.bursts_ms)), target.repeated_syns) for target in targets
        ),
        notes=(
            f"{AT_ONCE} connects in one go, a byte there and back on each; three times; the kernel's count of SYNs",
        ),
        missed=missed,
    )


# -- what is measured --------------------------------------------------------------------------------------


def _trip_us(address: tuple[str, int], count: int) -> float:
    request, times = b"R" * REQUEST, []
    with _connected(address) as connection:
        for _ in range(count):
            start = _CLOCK.monotonic()
            connection.sendall(request)
            _receive(connection, REPLY)
            times.append(_CLOCK.monotonic() - start)
    return statistics.median(times) * 1e6


def _rate(address: tuple[str, int], megabytes: int) -> float:
    block, writes = b"S" * WRITE, megabytes * 1_000_000 // WRITE
    with _connected(address) as connection:
        start = _CLOCK.monotonic()
        connection.sendall(b"S" + writes.to_bytes(8, "big"))
        for _ in range(writes):
            connection.sendall(block)
        _receive(connection, 1)
        return writes * WRITE / 1e6 / (_CLOCK.monotonic() - start)


def _burst(address: tuple[str, int]) -> tuple[int, float]:
    before, start = _syns_repeated(), _CLOCK.monotonic()
    with contextlib.ExitStack() as stack:
        chooser = stack.enter_context(selectors.DefaultSelector())
        for _ in range(AT_ONCE):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(0)
            connection.connect_ex(address)
            chooser.register(connection, selectors.EVENT_WRITE)
        left = AT_ONCE
        while left:
            for key, events in chooser.select():
                connection = key.fileobj  # type: ignore[assignment]  # sockets were registered
                if events & selectors.EVENT_WRITE:
                    connection.send(b"E")
                    chooser.modify(connection, selectors.EVENT_READ)
                else:
                    connection.recv(1)
                    chooser.unregister(connection)
                    left -= 1
        return _syns_repeated() - before, (_CLOCK.monotonic() - start) * 1000


def _syns_repeated() -> int:
    """Return how often this machine has sent a SYN again."""
    lines = [line.split() for line in Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")]
    return int(dict(zip(lines[0], lines[1], strict=True))["TCPSynRetrans"])


@contextlib.contextmanager
def _connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, 30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def _receive(connection: socket.socket, size: int) -> None:
    while size:
        size -= len(connection.recv(size)) or _closed()


def _closed() -> int:
    raise ConnectionError("the other end closed the connection")


# -- who takes part ----------------------------------------------------------------------------------------


def _targets(stack: contextlib.ExitStack) -> list[Target]:
    ports: list[int] = []
    command = [sys.executable, "-m", "benchmarks.toxiproxy_speed"]
    stack.enter_context(started(command, lambda process: ports.append(_printed_port(process))))
    (upstream,) = ports
    targets = [Target("direct", ("127.0.0.1", upstream))]
    for name, command in commands().items():
        port, _ = stack.enter_context(serving(command))
        targets += [
            Target(name, _proxy(port, "plain", upstream, ())),
            Target(f"{name}, 2 neutral toxics", _proxy(port, "noop", upstream, _NEUTRAL)),
        ]
    return targets


def _printed_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    return int(process.stdout.readline())


def _proxy(port: int, name: str, upstream: int, toxics: tuple[dict[str, str], ...]) -> tuple[str, int]:
    made = _post(port, "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{upstream}"})
    for toxic in toxics:
        _post(port, f"/proxies/{name}/toxics", toxic)
    host, _, listening = made["listen"].rpartition(":")
    return host, int(listening)


def _post(port: int, path: str, body: dict[str, str]) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310 - as above
        return json.load(reply)


# -- the upstream, in a process of its own ------------------------------------------------------------------


def _serve_upstream() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    """Reply as the first byte says: to requests (R), to the end of a stream (S), or with the byte itself (E)."""
    with connection, contextlib.suppress(OSError):
        kind = connection.recv(1, socket.MSG_PEEK)
        if kind == b"S":
            head = connection.recv(9, socket.MSG_WAITALL)
            left, buffer = int.from_bytes(head[1:], "big") * WRITE, bytearray(1 << 20)
            while left:
                left -= connection.recv_into(buffer) or left
            connection.sendall(b"k")
        size, reply = (REQUEST, b"r" * REPLY) if kind == b"R" else (1, b"e")
        while len(connection.recv(size, socket.MSG_WAITALL)) == size:
            connection.sendall(reply)


if __name__ == "__main__":
    _serve_upstream()
