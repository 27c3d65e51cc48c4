"""What wedges or kills the real server, and the embedded one survives; its flags, its metrics, its leash."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "kms_local", "toxiproxy")


def stalled_client(listen: str, size: int = 20_000_000) -> tuple[socket.socket, threading.Thread]:
    """Return a connection through which far more is sent than anybody reads, and who is sending."""
    host, _, port = listen.rpartition(":")
    raw = socket.create_connection((host, int(port)), 10)

    def send() -> None:
        try:
            raw.sendall(b"x" * size)
        except OSError:
            return

    sender = threading.Thread(target=send)
    sender.start()
    return raw, sender


@pytest.mark.deviates("stalled-client")
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        pytest.param("latency", {"latency": 5}, id="latency"),
        pytest.param("bandwidth", {"rate": 100_000}, id="bandwidth"),
        pytest.param("limit_data", {"bytes": 100_000_000}, id="limit"),
        pytest.param("slow_close", {"delay": 5}, id="slow-close"),
        pytest.param("slicer", {"average_size": 1000}, id="slicer"),
        pytest.param("reset_peer", {"timeout": 60_000}, id="waiting-reset"),
    ],
)
@pytest.mark.parametrize("how", ["delete-toxic", "reset", "disable", "delete-proxy"])
def test_a_client_that_does_not_read_wedges_nothing(
    embedded: Any,
    echo_upstream: Any,
    eventually: Callable[..., None],
    stopwatch: Any,
    how: str,
    kind: str,
    attributes: dict[str, int],
) -> None:
    """With a stalled client every call is answered at once, and so is everything afterwards."""
    listen = embedded.proxy("p", echo_upstream.address)["listen"]
    embedded.toxic("p", kind, name="t", **attributes)
    raw, sender = stalled_client(listen)
    eventually(lambda: bool(echo_upstream.accepted))
    watch = stopwatch()

    calls = {
        "delete-toxic": ("DELETE", "/proxies/p/toxics/t", None),
        "reset": ("POST", "/reset", None),
        "disable": ("PATCH", "/proxies/p", {"enabled": False}),
        "delete-proxy": ("DELETE", "/proxies/p", None),
    }
    method, path, body = calls[how]
    assert embedded.call(method, path, body).status in {200, 204}
    embedded.clear()

    assert watch.seconds() < 2
    raw.close()
    sender.join(10)


@pytest.mark.deviates("deadly-attributes")
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        pytest.param("slicer", {}, id="slicer-defaults"),
        pytest.param("slicer", {"average_size": 10, "size_variation": 100}, id="variation-above-average"),
        pytest.param("slicer", {"average_size": -5, "size_variation": -5, "delay": -5}, id="slicer-negative"),
        pytest.param("bandwidth", {"rate": -1}, id="negative-rate"),
        pytest.param("latency", {"latency": 1, "jitter": 2**62}, id="jitter-overflows"),
        pytest.param("latency", {"latency": -5, "jitter": -5}, id="negative-latency"),
        pytest.param("latency", {"latency": 2**62}, id="latency-for-ever"),
        pytest.param("timeout", {"timeout": -5}, id="negative-timeout"),
        pytest.param("reset_peer", {"timeout": -5}, id="negative-reset"),
        pytest.param("limit_data", {"bytes": -5}, id="negative-limit"),
        pytest.param("slow_close", {"delay": -5}, id="negative-delay"),
    ],
)
def test_no_attribute_kills_it(
    embedded: Any, echo_upstream: Any, clients: Callable[[str], Any], kind: str, attributes: dict[str, int]
) -> None:
    """It accepts what the real server accepts, and lives."""
    listen = embedded.proxy("p", echo_upstream.address)["listen"]
    embedded.toxic("p", kind, name="t", **attributes)
    client = clients(listen)
    client.send(b"x" * 3000)
    with contextlib.suppress(ConnectionResetError):
        client.silent_for(0.05)

    assert embedded.call("DELETE", "/proxies/p/toxics/t").status == 204
    other = clients(listen)
    other.send(b"hello")
    assert other.receive(5) == b"hello"
    assert embedded.process.poll() is None


@pytest.mark.deviates("silent-upstream")
def test_an_upstream_that_drops_syns_blocks_nothing(embedded: Any, clients: Callable[[str], Any]) -> None:
    """While a dial hangs, the proxy can be disabled and deleted."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = []
    for _ in range(4):  # the backlog is full then, and further SYNs are dropped
        filler = socket.socket()
        filler.settimeout(0)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    listen = embedded.proxy("p", f"127.0.0.1:{full.getsockname()[1]}")["listen"]
    client = clients(listen)

    assert embedded.call("PATCH", "/proxies/p", {"enabled": False}).status == 200

    assert client.ending()[0] == 0
    assert embedded.call("DELETE", "/proxies/p").status == 204
    for raw in (*fillers, full):
        raw.close()


def test_changes_under_traffic_lose_and_repeat_nothing(embedded: Any, echo_upstream: Any, clients: Any) -> None:
    """Toxics that let data pass come, change and go at random while megabytes run; every byte arrives once."""
    rng = random.Random(11)
    listen = embedded.proxy("p", echo_upstream.address)["listen"]
    client, blob = clients(listen), rng.randbytes(3_000_000)
    done = threading.Event()

    def disturb() -> None:
        kinds = {"latency": {"latency": 3}, "slicer": {"average_size": 7000}, "noop": {}, "bandwidth": {"rate": 50_000}}
        there: list[str] = []
        for number in range(400):
            if done.is_set():
                return
            if there and rng.random() < 0.5:
                name = there.pop(rng.randrange(len(there)))
                embedded.call("DELETE", f"/proxies/p/toxics/{name}")
            else:
                kind = rng.choice(list(kinds))
                stream = rng.choice(["upstream", "downstream"])
                embedded.toxic("p", kind, stream, name=f"t{number}", toxicity=rng.random(), **kinds[kind])
                there.append(f"t{number}")
                embedded.call("PATCH", f"/proxies/p/toxics/t{number}", {"toxicity": rng.random()})

    def send() -> None:
        for start in range(0, len(blob), 10_000):
            client.send(blob[start : start + 10_000])

    workers = [threading.Thread(target=disturb), threading.Thread(target=send)]
    for worker in workers:
        worker.start()
    try:
        assert client.receive(len(blob)) == blob
    finally:
        done.set()
        for worker in workers:
            worker.join(30)


@pytest.mark.deviates("live-counters")
def test_metrics_count_bytes_while_they_run(echo_upstream: Any, clients: Any, tmp_path: Path) -> None:
    """`-proxy-metrics` serves live counters with the real server's names and labels; `-config` makes proxies."""
    config = tmp_path / "proxies.json"
    config.write_text(json.dumps([{"name": "p", "upstream": echo_upstream.address, "listen": "127.0.0.1:0"}]))
    process, api = start("-config", str(config), "-proxy-metrics", "-runtime-metrics", "-seed", "7")
    listen = call(api, "/proxies/p")["listen"]
    client = clients(listen)
    client.send(b"x" * 1234)
    client.receive(1234)

    page = raw_call(api, "/metrics")

    labels = f'direction="upstream",listener="{listen}",proxy="p",upstream="{echo_upstream.address}"'
    assert f"toxiproxy_proxy_received_bytes_total{{{labels}}} 1234" in page
    assert f"toxiproxy_proxy_sent_bytes_total{{{labels}}} 1234" in page
    assert "process_cpu_seconds_total" in page
    assert 'kms_local_proxy_connections{proxy="p"} 1' in page
    stop(process)


@pytest.mark.parametrize("content", [pytest.param("[{", id="broken"), pytest.param(None, id="missing")])
def test_a_bad_configuration_is_only_logged(tmp_path: Path, content: str | None) -> None:
    """As in the real server: it says what is wrong and runs."""
    config = tmp_path / "proxies.json"
    if content is not None:
        config.write_text(content)

    process, api = start("-config", str(config))

    assert call(api, "/proxies") == {}
    stop(process)


@pytest.mark.deviates("version")
def test_one_dash_or_two_and_the_version() -> None:
    """The real server's flags have one dash; two are understood as well."""
    for dash in ("-", "--"):
        ended = subprocess.run([*COMMAND, f"{dash}version"], capture_output=True, text=True, timeout=30, check=True)
        assert ended.stdout == "toxiproxy-server version 2.12.0\n"


@pytest.mark.deviates("taken-port")
def test_a_taken_port_is_one_line() -> None:
    """The API's port in use: exit code 2 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run([*COMMAND, "-port", port], capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert f":{port}: bind: address already in use" in ended.stderr


def test_it_ends_with_its_leash(eventually: Callable[..., None]) -> None:
    """When the last holder of the pipe is gone, so is the server."""
    read, write = os.pipe()
    process, _ = start("-leash-fd", str(read), pass_fds=(read,))
    os.close(read)
    assert process.poll() is None

    os.close(write)

    eventually(lambda: process.poll() is not None)
    stop(process)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once(echo_upstream: Any, clients: Any, stopwatch: Any, number: signal.Signals) -> None:
    """Exit code 0 within a second, also while a client is stalled."""
    process, api = start()
    body = json.dumps({"name": "p", "upstream": echo_upstream.address, "listen": "127.0.0.1:0"}).encode()
    listen = json.loads(raw_call(api, "/proxies", body))["listen"]
    client = clients(listen)
    client.send(b"x")
    client.receive(1)
    watch = stopwatch()

    process.send_signal(number)

    assert process.wait(10) == 0
    assert watch.seconds() < 2
    assert client.ending()[0] == 0
    stop(process)


def start(*flags: str, pass_fds: tuple[int, ...] = ()) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """Start a server at a free port; return it and where its API is, as its log says."""
    process = subprocess.Popen([*COMMAND, "-port", "0", *flags], stdout=subprocess.PIPE, text=True, pass_fds=pass_fds)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["message"] == "listening":
            host, _, port = event["address"].rpartition(":")
            return process, (host, int(port))
    raise AssertionError("it ended")


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(10)
    assert process.stdout is not None
    process.stdout.close()


def raw_call(api: tuple[str, int], path: str, body: bytes | None = None) -> str:
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with socket.create_connection(api, 10) as raw:
        raw.sendall(f"{head}Content-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b""))
        answer = b""
        while more := raw.recv(65536):
            answer += more
    return answer.partition(b"\r\n\r\n")[2].decode()


def call(api: tuple[str, int], path: str) -> Any:
    return json.loads(raw_call(api, path))
