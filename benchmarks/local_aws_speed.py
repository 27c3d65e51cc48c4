"""The local KMS beside moto's server: calls a second, memory, and how long each takes to be ready.

Both run in processes of their own, over TLS, and take turns in one run. The load comes from further processes: stock
boto3, which is what tests use and which is the bottleneck with one thread, and bare sockets with requests signed in
advance, which leave the server as the bottleneck. Ours checks signatures and logs each request; moto does neither.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import queue
import socket
import ssl
import statistics
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from benchmarks.aws_servers import REGIONS, AwsServer, motos, ours
from benchmarks.benchmark import ONCE, Bars, Benchmark, Section, Size
from benchmarks.table import Cell, Table
from kms_core.clock import SystemClock

SPEED_GOAL = 2.5
"""How many times as many calls as moto, at least."""
MEMORY_GOAL = 0.5
"""Our proportional memory, as a share of moto's, at most."""
READY_GOAL_SECONDS = 1.0
STARTS = 5

_CLOCK = SystemClock()
_CONTEXT = {"benchmark": "local_aws_speed"}
_PROCESSES = 2
_SETTLED_CALLS = 3000  # before memory is read
_OK = b"HTTP/1.1 200"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one client process sends: GenerateDataKey and Decrypt in turn, from threads that share the regions out."""

    client: str  # "boto3" or "sockets"
    threads: int
    first_region: int
    urls: dict[str, str]
    ca_bundle: str
    credentials: dict[str, str]
    key_ids: dict[str, str]
    seconds: float
    calls: int | None = None  # stop after so many in all, instead

    def region(self, thread: int) -> str:
        """Return where a thread sends its calls."""
        return REGIONS[(self.first_region + thread) % len(REGIONS)]


@dataclass(frozen=True, slots=True)
class Rate:
    """What a server did under one load."""

    calls_a_second: float
    cpu_ms_a_call: float
    p50_ms: float
    p99_ms: float


BENCHMARK = Benchmark(
    title="The local KMS",
    section=Section.LOCAL,
    goals=(
        f"at least {SPEED_GOAL} times as many calls a second as moto's server",
        f"at most {MEMORY_GOAL} of its proportional memory",
        f"ready within {READY_GOAL_SECONDS:g} s",
    ),
    runs=ONCE,  # its own rounds take turns with moto's
    bars=(Bars(table=0, labels=(0, 1), value=2, title="calls a second", ours="kms-local", log=True),),
)


def run(size: Size) -> tuple[Table, ...]:
    """Measure speed, memory and start."""
    seconds, rounds = size.pick(quick=(0.5, 1), normal=(2.0, 3), full=(10.0, 3))
    with ours() as local, motos() as moto:
        for server in (local, moto):
            server.make_keys()
        speed = _speed(local, moto, seconds=seconds, rounds=rounds)
    calls = size.pick(quick=80, normal=_SETTLED_CALLS, full=_SETTLED_CALLS)
    return speed, _memory(calls), _start(size.pick(quick=1, normal=STARTS, full=STARTS))


# -- speed --------------------------------------------------------------------------------------------------------


def _speed(local: AwsServer, moto: AwsServer, *, seconds: float, rounds: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    missed: list[str] = []
    for title, client, processes, threads in (
        ("boto3, 1 thread", "boto3", 1, 1),
        ("boto3, 8 threads in 2 processes, 3 regions", "boto3", _PROCESSES, 4),
        ("sockets, 8 in 2 processes, 3 regions", "sockets", _PROCESSES, 4),
    ):
        rates: dict[str, list[Rate]] = {server.name: [] for server in (local, moto)}
        for _ in range(rounds):
            for server in (local, moto):
                rates[server.name].append(_rate(server, client, processes, threads, seconds))
        us, them = (_median(rates[server.name]) for server in (local, moto))
        ratio = us.calls_a_second / them.calls_a_second
        rows += [_speed_row(title, local.name, us, ratio), _speed_row(title, moto.name, them, None)]
        if client == "boto3" and ratio < SPEED_GOAL:
            missed.append(f"{title}: {ratio:.2f} times moto's calls a second; the goal is {SPEED_GOAL}")
    return Table(
        title="KMS calls: kms-local and moto",
        columns=("load", "server", "calls/s", "p50, ms", "p99, ms", "server's CPU, ms a call", "times moto's"),
        rows=tuple(rows),
        notes=(
            "GenerateDataKey and Decrypt in turn, with a context, under single-Region keys; both servers over TLS.",
            f"Median of {rounds} rounds of {seconds:g} s, in which the two take turns.",
            "kms-local checks signatures and logs each request; moto does neither, and closes every connection.",
            "boto3 itself needs milliseconds a call: its rows say less about a server than those of the sockets.",
        ),
        missed=tuple(missed),
    )


def _speed_row(title: str, name: str, rate: Rate, ratio: float | None) -> tuple[Cell, ...]:
    calls = round(rate.calls_a_second)
    return (
        title,
        name,
        calls,
        rate.p50_ms,
        rate.p99_ms,
        rate.cpu_ms_a_call,
        ratio if ratio is None else round(ratio, 1),
    )


def _median(rates: list[Rate]) -> Rate:
    return sorted(rates, key=lambda rate: rate.calls_a_second)[len(rates) // 2]


def _rate(server: AwsServer, client: str, processes: int, threads: int, seconds: float) -> Rate:
    cpu = server.cpu_seconds()
    times = _drive([_load(server, client, threads, index, seconds) for index in range(processes)])
    times.sort()
    return Rate(
        calls_a_second=len(times) / seconds,
        cpu_ms_a_call=(server.cpu_seconds() - cpu) / len(times) * 1000,
        p50_ms=times[len(times) // 2] * 1000,
        p99_ms=times[len(times) * 99 // 100] * 1000,
    )


def _load(server: AwsServer, client: str, threads: int, index: int, seconds: float, calls: int | None = None) -> Load:
    return Load(
        client=client,
        threads=threads,
        first_region=index,
        urls=server.urls,
        ca_bundle=server.ca_bundle,
        credentials=server.credentials,
        key_ids=server.key_ids,
        seconds=seconds,
        calls=calls,
    )


def _drive(loads: list[Load]) -> list[float]:
    """Run each load in a process of its own, all from the same moment; return the seconds that each call took."""
    spawn = multiprocessing.get_context("spawn")
    results: Any = spawn.Queue()
    barrier = spawn.Barrier(len(loads))
    workers = [spawn.Process(target=_work, args=(load, barrier, results), daemon=True) for load in loads]
    for worker in workers:
        worker.start()
    try:
        times = [seconds for _ in workers for seconds in results.get(timeout=120 + loads[0].seconds)]
    except queue.Empty:
        raise RuntimeError("a client process did not answer") from None
    finally:
        for worker in workers:
            worker.join(10)
    return times


def _work(load: Load, barrier: Barrier, results: Any) -> None:
    """Send the load: what a client process does."""
    make = _with_boto3 if load.client == "boto3" else _with_sockets
    with contextlib.ExitStack() as stack:
        senders = [make(load, load.region(thread), stack) for thread in range(load.threads)]
        for send in senders:  # connections, and whatever a server does the first time
            send()
            send()
        barrier.wait(60)
        results.put(_timed(load, senders))


def _timed(load: Load, senders: list[Callable[[], None]]) -> list[float]:
    times: list[list[float]] = [[] for _ in senders]
    ending = _CLOCK.monotonic() + load.seconds
    share = None if load.calls is None else load.calls // len(senders)

    def send_all(send: Callable[[], None], into: list[float]) -> None:
        now = _CLOCK.monotonic()
        while now < ending if share is None else len(into) < share:
            send()
            then, now = now, _CLOCK.monotonic()
            into.append(now - then)

    threads = [threading.Thread(target=send_all, args=pair) for pair in zip(senders, times, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [seconds for one in times for seconds in one]


def _with_boto3(load: Load, region: str, stack: contextlib.ExitStack) -> Callable[[], None]:
    """Return a sender with a client of its own; its calls are GenerateDataKey and Decrypt in turn."""
    client = boto3.client(
        "kms",
        region_name=region,
        endpoint_url=load.urls[region],
        verify=load.ca_bundle,
        config=Config(retries={"total_max_attempts": 1}),
        **load.credentials,
    )
    stack.callback(client.close)
    key_id = load.key_ids[region]
    blobs: list[bytes] = []

    def send() -> None:
        if blobs:
            client.decrypt(KeyId=key_id, CiphertextBlob=blobs.pop(), EncryptionContext=_CONTEXT)
        else:
            answer = client.generate_data_key(KeyId=key_id, KeySpec="AES_256", EncryptionContext=_CONTEXT)
            blobs.append(answer["CiphertextBlob"])

    return send


def _with_sockets(load: Load, region: str, stack: contextlib.ExitStack) -> Callable[[], None]:
    """Return a sender with a connection of its own, made anew when the server closes it."""
    connection = _Connection(load, region)
    stack.callback(connection.close)
    key_id = load.key_ids[region]
    generate = _signed(load, region, "GenerateDataKey", {"KeyId": key_id, "KeySpec": "AES_256"})
    blob = json.loads(connection.ask(generate))["CiphertextBlob"]
    requests = [generate, _signed(load, region, "Decrypt", {"KeyId": key_id, "CiphertextBlob": blob})]

    def send() -> None:
        requests.reverse()
        connection.ask(requests[0])

    return send


class _Connection:
    """A connection that reads one answer a request."""

    def __init__(self, load: Load, region: str) -> None:
        host, _, port = load.urls[region].removeprefix("https://").rpartition(":")
        self._address = (host, int(port))
        self._context = ssl.create_default_context(cafile=load.ca_bundle)
        self._raw: ssl.SSLSocket | None = None

    def ask(self, request: bytes) -> bytes:
        """Send one request and return its answer's body."""
        raw = self._raw or self._connect()
        raw.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += raw.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(_OK):
            raise RuntimeError(answer.decode(errors="replace"))
        names = head.lower()
        length = int(names.partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += raw.recv(65536)
        if b"connection: close" in names:
            self.close()
        return body

    def close(self) -> None:
        """Close it."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def _connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(self._address, 20)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._raw = self._context.wrap_socket(raw, server_hostname="localhost")
        return self._raw


def _signed(load: Load, region: str, operation: str, members: dict[str, Any]) -> bytes:
    """Return a request as it goes over the wire; its signature is good for five minutes."""
    url = load.urls[region]
    body = json.dumps({**members, "EncryptionContext": _CONTEXT}).encode()
    headers = {"X-Amz-Target": f"TrentService.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", f"{url}/", data=body, headers=headers)
    given = load.credentials
    credentials = Credentials(given["aws_access_key_id"], given["aws_secret_access_key"])
    SigV4Auth(credentials, "kms", region).add_auth(request)
    lines = ["POST / HTTP/1.1", f"Host: {url.removeprefix('https://')}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


# -- memory and start ---------------------------------------------------------------------------------------------


def _memory(calls: int) -> Table:
    """Compare both after the same number of calls, each in a process that has done nothing else."""
    with ours() as local, motos() as moto:
        for server in (local, moto):
            server.make_keys()
            loads = [_load(server, "boto3", 4, index, 0.0, calls // _PROCESSES) for index in range(_PROCESSES)]
            _drive(loads)
        us, them = (server.memory_mib() for server in (local, moto))
    share = us["proportional"] / them["proportional"]
    rows = tuple((name, us[name], them[name], round(us[name] / them[name], 2)) for name in us)
    return Table(
        title="Memory",
        columns=("of the process", "kms-local, MiB", "moto, MiB", "share"),
        rows=rows,
        notes=(
            f"After {calls} calls of boto3 with 8 threads, three regions, both servers running.",
            "Resident counts Python's and OpenSSL's shared libraries in full, proportional counts each reader's part.",
        ),
        missed=()
        if share < MEMORY_GOAL
        else (f"{share:.2f} of moto's proportional memory; the goal is {MEMORY_GOAL}",),
    )


def _start(starts: int) -> Table:
    """Compare the time from the start of the process to the moment at which clients can come."""
    times: dict[str, list[float]] = {}
    for _ in range(starts):
        for make in (ours, motos):
            with make() as server:
                times.setdefault(server.name, []).append(server.ready_seconds)
    medians = {name: statistics.median(one) for name, one in times.items()}
    us = medians["kms-local"]
    return Table(
        title="From start to ready",
        columns=("server", "median, s", "slowest, s"),
        rows=tuple((name, round(medians[name], 2), round(max(one), 2)) for name, one in times.items()),
        notes=(
            f"{starts} starts each. kms-local: until its ready line, three regions and their certificates made.",
            "moto: until a TLS handshake succeeds; its first KMS call takes 0.3 to 0.8 s more.",
        ),
        missed=() if us < READY_GOAL_SECONDS else (f"ready after {us:.2f} s; the goal is {READY_GOAL_SECONDS:g} s",),
    )
