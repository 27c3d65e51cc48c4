"""A running `kms-local serve`, Toxiproxy servers of both kinds, and the sockets at either end of a proxy."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import boto3
import ports
import pytest
from botocore.config import Config

from kms_local.clock import SystemClock
from kms_local.endpoints import FILE_NAME

REGIONS = ("us-east-1", "us-west-2", "eu-west-1")


@dataclass
class LocalAws:
    """A running server, and clients for it."""

    directory: Path
    process: subprocess.Popen[str]
    clients: list[Any] = field(default_factory=list)
    session: Any = field(default_factory=boto3.session.Session)

    @property
    def endpoints(self) -> dict[str, Any]:
        return json.loads((self.directory / FILE_NAME).read_text())

    def client(self, service: str, region: str = "us-east-1", *, signed_for: str | None = None, **more: Any) -> Any:
        document = self.endpoints
        given = {**document["credentials"], "verify": document["ca_bundle"], **more}
        config = Config(
            retries={"total_max_attempts": 1}, read_timeout=10, connect_timeout=10, parameter_validation=False
        )
        made = self.session.client(
            service,
            region_name=signed_for or region,
            endpoint_url=document["regions"][region][service],
            config=config,
            **given,
        )
        self.clients.append(made)
        return made

    def admin(self, method: str, path: str, body: object = None, *, token: str | None = None) -> tuple[int, Any]:
        admin = self.endpoints["admin"]
        connection = http.client.HTTPConnection(admin["url"].removeprefix("http://"), timeout=10)
        headers = {"X-Kms-Local-Token": admin["token"] if token is None else token}
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content) if content else None

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "requests.ndjson").read_text().splitlines()]

    def certificate_is_good_for(self, name: str) -> bool:
        """Say whether a client that looks for `name` accepts the KMS listener of us-east-1."""
        host, _, port = self.endpoints["regions"]["us-east-1"]["kms"].removeprefix("https://").rpartition(":")
        context = ssl.create_default_context(cafile=self.endpoints["ca_bundle"])
        with socket.create_connection((host, int(port)), 10) as raw:
            try:
                context.wrap_socket(raw, server_hostname=name).close()
            except ssl.SSLCertVerificationError:
                return False
        return True

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def start_local_aws(directory: Path, *flags: str) -> LocalAws:
    """Start a server and wait until it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kms_local", "serve", "--dir", str(directory), *flags], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready")
    return LocalAws(directory, process)


@pytest.fixture(scope="session")
def local_aws_starter() -> Callable[..., LocalAws]:
    """Start a server in a directory; whoever starts it closes it."""
    return start_local_aws


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """One server for all tests: three regions, replicas ready in 0.3 s, alarms looked at twenty times a second."""
    flags = ("--creating-seconds", "0.3", "--evaluate-seconds", "0.05")
    aws = start_local_aws(tmp_path_factory.mktemp("aws"), *flags)
    yield aws
    aws.close()


@pytest.fixture
def starts_local_aws(tmp_path: Path) -> Iterator[Callable[..., LocalAws]]:
    """Start servers of one's own, which are stopped at the end."""
    started: list[LocalAws] = []

    def start(*flags: str) -> LocalAws:
        started.append(start_local_aws(tmp_path / f"aws{len(started)}", *flags))
        return started[-1]

    yield start
    for aws in started:
        aws.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something is true, with a deadline of 10 s."""

    def wait(claim: Callable[[], bool]) -> None:
        clock, never = SystemClock(), threading.Event()
        deadline = clock.monotonic() + 10
        while not claim():
            assert clock.monotonic() < deadline, "it did not become true in 10 s"
            never.wait(0.02)

    return wait


@dataclass
class Stopwatch:
    """Seconds since it was made."""

    started: float = field(default_factory=lambda: SystemClock().monotonic())

    def seconds(self) -> float:
        return SystemClock().monotonic() - self.started


@pytest.fixture
def stopwatch() -> type[Stopwatch]:
    return Stopwatch


# -- Toxiproxy ------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark of tests that hold a difference to the real Toxiproxy; docs/local-toxiproxy.md lists them all."""
    config.addinivalue_line("markers", "deviates(name): holds the deviation of that name in docs/local-toxiproxy.md")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ToxiproxyServer:
    """A server under test, ours or the real one."""

    kind: str
    port: int
    process: subprocess.Popen[str] | None  # None: somebody else runs it

    def call(
        self, method: str, path: str, body: object = None, *, raw: bytes | None = None, agent: str = "test"
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        content = raw if body is None else json.dumps(body).encode()
        connection.request(method, path, body=content, headers={"User-Agent": agent})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        found = Answer(answer.status, headers, answer.read())
        connection.close()
        return found

    def raw(self, request: bytes, *, half_close: bool = False) -> tuple[bytes, str]:
        """Send bytes, and return the answer and how the connection was left: FIN, RST, or open for a quarter second."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while True:
                try:
                    data = connection.recv(65536)
                except TimeoutError:
                    return answer, "open"
                except ConnectionResetError:
                    return answer, "RST"
                if not data:
                    return answer, "FIN"
                answer += data
                if b"\r\n\r\n" in answer:
                    connection.settimeout(3 if b"Connection: close" in answer else 0.25)

    def proxy(self, name: str, upstream: str, **more: object) -> Any:
        answer = self.call("POST", "/proxies", {"name": name, "upstream": upstream, "listen": "127.0.0.1:0", **more})
        assert answer.status == 201, answer
        return answer.json()

    def toxic(self, proxy: str, kind: str, /, stream: str = "downstream", **more: Any) -> Any:
        toxicity, name = more.pop("toxicity", 1), more.pop("name", "")
        body = {"type": kind, "stream": stream, "toxicity": toxicity, "name": name, "attributes": more}
        answer = self.call("POST", f"/proxies/{proxy}/toxics", body)
        assert answer.status == 200, answer
        return answer.json()

    def clear(self) -> None:
        for name in self.call("GET", "/proxies").json():
            assert self.call("DELETE", f"/proxies/{quote(name)}").status == 204


@pytest.fixture
def port_block() -> int:
    """The first of eight ports in a row that are free, below the range that the system hands out by itself."""
    first = 20_000 + os.getpid() * 16 % 10_000
    for start in range(first, first + 2000, 8):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(start, start + 8):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return start
    raise AssertionError("no eight free ports in a row")


_BUILT = Path(__file__).parents[2] / ".state" / "toxiproxy"  # by `make toxiproxy`
_GO_NEEDED = (1, 23)


def _built(name: str) -> str | None:
    return str(_BUILT / name) if (_BUILT / name).exists() else None


def _go_is_here() -> bool:
    """Say whether a Go that could build the real programs is on PATH."""
    go = shutil.which("go")
    if go is None:
        return False
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"go(\d+)\.(\d+)", said)
    return found is not None and (int(found[1]), int(found[2])) >= _GO_NEEDED


def _without_the_real_one(what: str) -> NoReturn:
    """Skip; where CI could have built it, that is a failure."""
    if os.environ.get("CI") == "true" and _go_is_here():
        pytest.fail(f"{what}, although Go is here: `make toxiproxy` builds it")
    pytest.skip(what)


def _real_server() -> str:
    found = os.environ.get("TOXIPROXY_BIN") or shutil.which("toxiproxy-server") or _built("server")
    return found or _without_the_real_one(
        "no real Toxiproxy here: neither TOXIPROXY_URL nor TOXIPROXY_BIN nor toxiproxy-server on PATH"
    )


@pytest.fixture(scope="session")
def toxiproxy_cli() -> str:
    """The real project's command-line client."""
    found = os.environ.get("TOXIPROXY_CLI") or shutil.which("toxiproxy-cli") or _built("cli")
    return found or _without_the_real_one("no real toxiproxy-cli here: neither TOXIPROXY_CLI nor toxiproxy-cli on PATH")


def start_toxiproxy(kind: str, *flags: str, limit: int | None = None) -> ToxiproxyServer:
    """Start a server of one kind, with at most `limit` file descriptors."""
    port = ports.free()
    command = [_real_server()] if kind == "real" else [sys.executable, "-m", "kms_local", "toxiproxy"]
    if limit is not None:
        command = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *command]
    process = subprocess.Popen([*command, "-port", str(port), *flags], stdout=subprocess.DEVNULL, text=True)
    clock, never, deadline = SystemClock(), threading.Event(), SystemClock().monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert clock.monotonic() < deadline, f"the {kind} server does not listen"
            never.wait(0.02)
        else:
            return ToxiproxyServer(kind, port, process)


@contextlib.contextmanager
def _offered_toxiproxy(url: str, directory: Path) -> Iterator[ToxiproxyServer]:
    """Use a server that runs already, on this machine; workers take turns, since each clears it."""
    parts = urlsplit(url)
    assert parts.hostname in {"localhost", "127.0.0.1"}, "TOXIPROXY_URL: its proxies and ours must share this machine"
    with (directory.parent / "toxiproxy.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        server = ToxiproxyServer("real", parts.port or 8474, None)
        server.clear()
        yield server


@contextlib.contextmanager
def _own_toxiproxy(kind: str, *flags: str, limit: int | None = None) -> Iterator[ToxiproxyServer]:
    server = start_toxiproxy(kind, *flags, limit=limit)
    assert server.process is not None
    try:
        yield server
    finally:
        server.process.kill()  # the real one takes long to stop once it is wedged
        server.process.wait(10)


@pytest.fixture(scope="module", params=["embedded", "real"])
def toxiproxy_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ToxiproxyServer]:
    """Each test runs against our server and, where there is one, against the real one."""
    offered = os.environ.get("TOXIPROXY_URL") if request.param == "real" else None
    with contextlib.ExitStack() as stack:
        if offered:
            yield stack.enter_context(_offered_toxiproxy(offered, tmp_path_factory.getbasetemp()))
        else:
            yield stack.enter_context(_own_toxiproxy(request.param))


@pytest.fixture
def toxiproxy(toxiproxy_server: ToxiproxyServer) -> Iterator[ToxiproxyServer]:
    """A server without proxies."""
    yield toxiproxy_server
    toxiproxy_server.clear()


@pytest.fixture
def embedded() -> Iterator[ToxiproxyServer]:
    """Our server alone: for what the real one does not survive."""
    with _own_toxiproxy("embedded") as server:
        yield server


@pytest.fixture
def starts_toxiproxy() -> Iterator[Callable[..., ToxiproxyServer]]:
    """Start servers of either kind with flags of one's own, which are killed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda kind, *flags, **more: stack.enter_context(_own_toxiproxy(kind, *flags, **more))


@dataclass
class Upstream:
    """A server that runs `serve` on every connection, in a thread each."""

    listener: socket.socket
    serve: Callable[[socket.socket], None]
    threads: list[threading.Thread] = field(default_factory=list)
    accepted: list[socket.socket] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self.serve(connection)
        except OSError:
            pass
        finally:
            connection.close()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.accepted:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@pytest.fixture
def upstreams() -> Iterator[Callable[[Callable[[socket.socket], None]], Upstream]]:
    """Start servers with a behaviour of one's own."""
    started: list[tuple[Upstream, threading.Thread]] = []

    def start(serve: Callable[[socket.socket], None]) -> Upstream:
        upstream = Upstream(socket.create_server(("127.0.0.1", 0), backlog=512), serve)
        thread = threading.Thread(target=upstream.run)
        thread.start()
        started.append((upstream, thread))
        return upstream

    yield start
    for upstream, thread in started:
        upstream.close()
        thread.join(10)
        for worker in upstream.threads:
            worker.join(10)


def echo(connection: socket.socket) -> None:
    """Send back whatever comes."""
    while data := connection.recv(65536):
        connection.sendall(data)


@pytest.fixture
def echo_upstream(upstreams: Callable[[Callable[[socket.socket], None]], Upstream]) -> Upstream:
    return upstreams(echo)


@dataclass
class Client:
    """A connection through a proxy."""

    raw: socket.socket

    def send(self, data: bytes) -> None:
        self.raw.sendall(data)

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.raw.recv(min(65536, size - len(data)))):
            data += more
        return data

    def ending(self) -> tuple[int, str]:
        """Return how many bytes still came, and how the connection ended: FIN or RST."""
        count = 0
        while True:
            try:
                data = self.raw.recv(65536)
            except ConnectionResetError:
                return count, "RST"
            if not data:
                return count, "FIN"
            count += len(data)

    def silent_for(self, seconds: float) -> bool:
        """Say whether nothing comes for so long."""
        self.raw.settimeout(seconds)
        try:
            self.raw.recv(1)
        except TimeoutError:
            return True
        finally:
            self.raw.settimeout(10)
        return False

    def reset(self) -> None:
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()


@pytest.fixture
def clients() -> Iterator[Callable[[str], Client]]:
    """Open connections to `host:port`, closed at the end."""
    opened: list[Client] = []

    def connect(address: str) -> Client:
        host, _, port = address.rpartition(":")
        raw = socket.create_connection((host, int(port)), 10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.append(Client(raw))
        return opened[-1]

    yield connect
    for client in opened:
        client.raw.close()
