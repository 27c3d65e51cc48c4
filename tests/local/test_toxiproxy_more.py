"""What the embedded Toxiproxy has beyond the real one: leases, a token, live metrics; its flags; what it outlives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kms_local.clock import SystemClock
from kms_local.toxiproxy import http_server, lookups
from kms_local.toxiproxy.collection import ProxyCollection
from kms_local.toxiproxy.errors import ApiError
from kms_local.toxiproxy.http_messages import Head, Request, Response

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "kms_local", "toxiproxy")
TOKEN = "letmein"


# -- leases ------------------------------------------------------------------------------------------------


@pytest.mark.deviates("ttl")
def test_a_toxic_with_a_lease_ends_by_itself(
    embedded: Any, echo_upstream: Any, clients: Callable[[str], Any], eventually: Callable[..., None]
) -> None:
    """It shows its TTL, works until then, and is gone from the API and from open connections afterwards."""
    client = clients(embedded.proxy("p", echo_upstream.address)["listen"])
    body = {"type": "latency", "name": "t", "attributes": {"latency": 60_000}, "ttl": 300}

    made = embedded.call("POST", "/proxies/p/toxics", body)
    client.send(b"late")

    assert (made.status, made.json()["ttl"]) == (200, 300)
    assert embedded.call("GET", "/proxies/p/toxics/t").json()["ttl"] == 300
    assert client.receive(4) == b"late"  # in 60 s otherwise, and the deadline is 10
    eventually(lambda: embedded.call("GET", "/proxies/p/toxics").json() == [])


@pytest.mark.deviates("ttl")
def test_a_lease_can_be_prolonged_and_given_up(embedded: Any, eventually: Callable[..., None]) -> None:
    """PATCH with another TTL starts it again, with null ends the lease; the toxic of that name after it has none."""
    embedded.proxy("p", "127.0.0.1:1")
    for name in ("short", "kept", "again"):
        embedded.call("POST", "/proxies/p/toxics", {"type": "noop", "name": name, "ttl": 400})

    assert embedded.call("PATCH", "/proxies/p/toxics/kept", {"ttl": None}).json().get("ttl") is None
    assert embedded.call("PATCH", "/proxies/p/toxics/kept", {"toxicity": 0.5}).status == 200
    embedded.call("DELETE", "/proxies/p/toxics/again")
    embedded.toxic("p", "noop", name="again")

    eventually(lambda: embedded.call("GET", "/proxies/p/toxics/short").status == 404)
    assert {toxic["name"] for toxic in embedded.call("GET", "/proxies/p/toxics").json()} == {"kept", "again"}


@pytest.mark.deviates("ttl")
@pytest.mark.parametrize("ttl", [0, -1, 10**12, "5", 1.5, True])
def test_a_lease_that_is_none_is_refused(embedded: Any, ttl: object) -> None:
    """A lease that nobody would keep is an error, and makes no toxic."""
    embedded.proxy("p", "127.0.0.1:1")

    answer = embedded.call("POST", "/proxies/p/toxics", {"type": "noop", "ttl": ttl})

    assert answer.status == 400
    assert "ttl" in answer.json()["error"]
    assert embedded.call("GET", "/proxies/p/toxics").json() == []


def test_the_member_ttl_does_no_harm_anywhere(toxiproxy: Any) -> None:
    """A client may send it to either server; one without a lease ignores it."""
    toxiproxy.proxy("p", "127.0.0.1:1")

    answer = toxiproxy.call("POST", "/proxies/p/toxics", {"type": "noop", "name": "t", "ttl": 60_000})

    assert (answer.status, answer.json()["name"]) == (200, "t")


# -- the token ---------------------------------------------------------------------------------------------


@pytest.mark.deviates("token")
@pytest.mark.parametrize(
    ("header", "status"),
    [
        pytest.param(None, 401, id="none"),
        pytest.param("Bearer wrong", 401, id="wrong"),
        pytest.param(TOKEN, 401, id="no-scheme"),
        pytest.param(f"Bearer {TOKEN}", 200, id="right"),
    ],
)
def test_a_token_guards_the_port(starts_toxiproxy: Callable[..., Any], header: str | None, status: int) -> None:
    """With `-api-token` every request must carry it; an unknown path tells nothing without."""
    server = starts_toxiproxy("embedded", "-api-token", TOKEN)
    line = b"" if header is None else f"Authorization: {header}\r\n".encode()

    for path, expected in ((b"/proxies", status), (b"/nope", 404 if status == 200 else 401)):
        answer, _ = server.raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n")
        assert answer.startswith(f"HTTP/1.1 {expected} ".encode())
        assert (b"WWW-Authenticate: Bearer" in answer) is (expected == 401)


@pytest.mark.deviates("token")
def test_the_token_may_come_from_the_environment(
    starts_toxiproxy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag shows in the list of processes, a variable does not."""
    monkeypatch.setenv("TOXIPROXY_API_TOKEN", TOKEN)
    server = starts_toxiproxy("embedded")

    assert server.call("GET", "/version").status == 401


# -- metrics -----------------------------------------------------------------------------------------------


def families(page: str) -> dict[str, str]:
    return dict(line.split()[2:4] for line in page.splitlines() if line.startswith("# TYPE "))


@pytest.mark.parametrize("kind", ["embedded", "real"])
def test_metrics_have_the_real_servers_names(
    starts_toxiproxy: Callable[..., Any],
    echo_upstream: Any,
    clients: Callable[[str], Any],
    eventually: Callable[..., None],
    kind: str,
) -> None:
    """Families, types and labels; a large counter is written as Go writes it."""
    server = starts_toxiproxy(kind, "-proxy-metrics", "-runtime-metrics")
    listen = server.proxy("p", echo_upstream.address)["listen"]
    client = clients(listen)
    client.send(b"x" * 1_234_567)
    client.receive(1_234_567)
    client.raw.close()

    def page() -> str:
        return str(server.call("GET", "/metrics").body.decode())

    labels = f'direction="downstream",listener="{listen}",proxy="p",upstream="{echo_upstream.address}"'
    eventually(lambda: f"toxiproxy_proxy_sent_bytes_total{{{labels}}} 1.234567e+06\n" in page())
    found = families(page())
    assert {name: found[name] for name in sorted(found) if not name.startswith(("go_", "kms_local_"))} == {
        "process_cpu_seconds_total": "counter",
        "process_max_fds": "gauge",
        "process_network_receive_bytes_total": "counter",
        "process_network_transmit_bytes_total": "counter",
        "process_open_fds": "gauge",
        "process_resident_memory_bytes": "gauge",
        "process_start_time_seconds": "gauge",
        "process_virtual_memory_bytes": "gauge",
        "process_virtual_memory_max_bytes": "gauge",
        "promhttp_metric_handler_errors_total": "counter",
        "toxiproxy_proxy_received_bytes_total": "counter",
        "toxiproxy_proxy_sent_bytes_total": "counter",
    }
    head = server.call("GET", "/metrics").headers
    assert head["content-type"] == "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"


@pytest.mark.deviates("own-metrics")
@pytest.mark.deviates("go-metrics")
def test_metrics_show_what_runs_now(
    starts_toxiproxy: Callable[..., Any],
    echo_upstream: Any,
    clients: Callable[[str], Any],
    eventually: Callable[..., None],
) -> None:
    """Open connections, toxics and whether it listens, by proxy; nothing of a Go runtime that is not there."""
    server = starts_toxiproxy("embedded", "-proxy-metrics", "-runtime-metrics")
    client = clients(server.proxy("p", echo_upstream.address)["listen"])
    server.toxic("p", "noop")
    client.send(b"x")
    client.receive(1)

    page = server.call("GET", "/metrics").body.decode()

    assert 'kms_local_proxy_connections{proxy="p"} 1\n' in page
    assert 'kms_local_proxy_toxics{proxy="p"} 1\n' in page
    assert 'kms_local_proxy_enabled{proxy="p"} 1\n' in page
    assert not any(name.startswith("go_") for name in families(page))
    client.raw.close()
    eventually(lambda: 'kms_local_proxy_connections{proxy="p"} 0\n' in server.call("GET", "/metrics").body.decode())


# -- flags and the log -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        pytest.param(("-h",), 0, "", id="help"),
        pytest.param(("--help",), 0, "", id="long-help"),
        pytest.param(("-foo",), 2, "flag provided but not defined: -foo", id="unknown"),
        pytest.param(("-port",), 2, "flag needs an argument: -port", id="no-value"),
        pytest.param(("-seed", "abc"), 2, 'invalid value "abc" for flag -seed: parse error', id="no-number"),
        pytest.param(
            ("-seed=9" + "9" * 19,),
            2,
            'invalid value "9' + "9" * 19 + '" for flag -seed: value out of range',
            id="large",
        ),
        pytest.param(
            ("-proxy-metrics=maybe",), 2, 'invalid boolean value "maybe" for -proxy-metrics: parse error', id="bool"
        ),
        pytest.param(("---port",), 2, "bad flag syntax: ---port", id="dashes"),
    ],
)
def test_flags_as_the_real_servers(arguments: tuple[str, ...], code: int, complaint: str) -> None:
    """Go's exit codes and complaints, and then the usage, on stderr."""
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)

    lines = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (code, "")
    assert lines[0] == (complaint or "Usage of kms-local toxiproxy:")
    assert "  -runtime-metrics" in lines


def log_of(*flags: str, level: str | None) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "LOG_LEVEL"}
    read, write = os.pipe()
    os.close(write)  # the leash is cut before the server starts: it starts and ends
    process = subprocess.run(
        [*COMMAND, "-port", "0", "-leash-fd", str(read), *flags],
        env={**environment, **({} if level is None else {"LOG_LEVEL": level})},
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(read,),
        timeout=30,
        check=True,
    )
    os.close(read)
    return [json.loads(line) for line in process.stdout.splitlines()]


@pytest.mark.deviates("log")
@pytest.mark.parametrize(
    ("level", "levels"),
    [
        pytest.param(None, {"info", "error"}, id="unset"),
        pytest.param("debug", {"info", "error"}, id="debug"),
        pytest.param("ERROR", {"error"}, id="error"),
        pytest.param("disabled", set(), id="disabled"),
        pytest.param("loud", {"info", "error"}, id="unknown"),
    ],
)
def test_log_level(tmp_path: Path, level: str | None, levels: set[str]) -> None:
    """`LOG_LEVEL` decides what is written; a level that is none is complained about first."""
    events = log_of("-config", str(tmp_path / "missing"), level=level)

    assert {event["level"] for event in events} == levels
    assert ("unknown LOG_LEVEL" in str(events[:1])) is (level == "loud")


@pytest.mark.deviates("seed")
def test_the_seed_decides_the_dice(
    starts_toxiproxy: Callable[..., Any], echo_upstream: Any, clients: Callable[[str], Any]
) -> None:
    """Two servers with one seed spare the same connections."""

    def spared(seed: str) -> list[bool]:
        server = starts_toxiproxy("embedded", "-seed", seed)
        listen = server.proxy("p", echo_upstream.address)["listen"]
        server.toxic("p", "limit_data", bytes=0, toxicity=0.5)
        found = []
        for _ in range(24):
            client = clients(listen)
            client.send(b"x")
            found.append(client.receive(1) == b"x")
        return found

    first = spared("7")

    assert spared("7") == first
    assert spared("8") != first


# -- what it outlives --------------------------------------------------------------------------------------


def repeated_syns(connection: socket.socket) -> int:
    """Return how many segments of a connection were sent again, its SYN included."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack_from("I", info, 100)[0])


def test_a_thousand_connections_at_once(toxiproxy: Any, upstreams: Callable[..., Any]) -> None:
    """All are accepted without a second SYN."""
    upstream = upstreams(lambda raw: raw.recv(1))
    host, _, port = toxiproxy.proxy("p", upstream.address)["listen"].rpartition(":")
    opened = [socket.socket() for _ in range(1000)]
    for raw in opened:
        raw.settimeout(0)
        raw.connect_ex((host, int(port)))
    for raw in opened:
        raw.settimeout(10)
        raw.send(b"x")  # waits until it is connected

    assert sum(repeated_syns(raw) for raw in opened) == 0
    for raw in opened:
        raw.close()


def test_it_outlives_running_out_of_descriptors(
    starts_toxiproxy: Callable[..., Any], echo_upstream: Any, eventually: Callable[..., None]
) -> None:
    """What is too much is refused or waits; once there is room again, everything works."""
    server = starts_toxiproxy("embedded", limit=40)
    host, _, port = server.proxy("p", echo_upstream.address)["listen"].rpartition(":")
    opened = [socket.create_connection((host, int(port)), 10) for _ in range(60)]
    for raw in opened:
        raw.close()

    def works() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 10) as raw:
            raw.sendall(b"x")
            return raw.recv(1) == b"x"
        return False

    eventually(works)
    assert server.call("GET", "/version").status == 200


@pytest.mark.deviates("memory")
def test_closed_connections_leave_nothing_behind(
    starts_toxiproxy: Callable[..., Any], echo_upstream: Any, eventually: Callable[..., None]
) -> None:
    """After hundreds of connections that were cut with data left over there are as many descriptors as before."""
    server = starts_toxiproxy("embedded", "-proxy-metrics", "-runtime-metrics")
    host, _, port = server.proxy("p", echo_upstream.address)["listen"].rpartition(":")
    server.toxic("p", "limit_data", bytes=10)

    def descriptors() -> float:
        page = server.call("GET", "/metrics").body.decode()
        return float(page.partition("\nprocess_open_fds ")[2].partition("\n")[0])

    before = descriptors()
    for _ in range(300):
        with socket.create_connection((host, int(port)), 10) as raw:
            raw.sendall(b"x" * 1000)
            assert len(raw.recv(1000)) == 10

    eventually(lambda: descriptors() <= before)
    assert 'kms_local_proxy_connections{proxy="p"} 0\n' in server.call("GET", "/metrics").body.decode()


@pytest.mark.deviates("waiting-reset")
def test_removing_a_waiting_reset_resets_at_once(
    embedded: Any, echo_upstream: Any, clients: Callable[[str], Any], stopwatch: Any
) -> None:
    """A reset that waits for a minute does not hold up its own removal."""
    listen = embedded.proxy("p", echo_upstream.address)["listen"]
    embedded.toxic("p", "reset_peer", name="t", timeout=60_000)
    client = clients(listen)
    client.send(b"x")
    assert client.silent_for(0.1)
    watch = stopwatch()

    assert embedded.call("DELETE", "/proxies/p/toxics/t").status == 204

    assert client.ending() == (0, "RST")
    assert watch.seconds() < 10


@pytest.mark.deviates("large-bodies")
def test_bodies_beyond_all_bounds_are_refused(embedded: Any) -> None:
    """Before they are read."""
    head = b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"

    answer, state = embedded.raw(head)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert state == "FIN"


def test_toxics_by_the_thousand(embedded: Any, echo_upstream: Any, clients: Callable[[str], Any]) -> None:
    """A chain of a thousand toxics passes data, and is gone with one call."""
    client = clients(embedded.proxy("p", echo_upstream.address)["listen"])
    client.send(b"x")
    client.receive(1)
    for number in range(1000):
        embedded.toxic("p", "noop", name=f"t{number}")
    client.send(b"y" * 100_000)

    assert client.receive(100_000) == b"y" * 100_000
    assert len(embedded.call("GET", "/proxies/p/toxics").json()) == 1000
    assert embedded.call("POST", "/reset").status == 204
    client.send(b"z")
    assert client.receive(1) == b"z"


def test_slow_clients_of_the_api_keep_nobody_waiting(embedded: Any, stopwatch: Any) -> None:
    """Hundreds of requests that never end: the next one is answered at once."""
    slow = [socket.create_connection(("127.0.0.1", embedded.port), 10) for _ in range(300)]
    for raw in slow:
        raw.sendall(b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    watch = stopwatch()

    assert embedded.call("GET", "/version").status == 200

    assert watch.seconds() < 5
    for raw in slow:
        raw.close()


def test_slow_requests_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not end is closed without a word; a body that does not, with the reader's error."""
    monkeypatch.setattr(http_server, "_READ_SECONDS", 0.2)
    seen: list[Request] = []

    async def handler(request: Request) -> Response:
        seen.append(request)
        return Response(status=400)

    async def scenario() -> list[bytes]:
        site = http_server.Site(handler=handler, reads_body=_always, clock=SystemClock())
        port = await http_server.open_admin_port(site, "127.0.0.1", 0)
        answers = []
        for sent in (b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
            writer.write(sent)
            answers.append(await reader.read())
            writer.close()
        await port.close()
        return answers

    head, body = asyncio.run(scenario())

    assert head == b""
    assert body.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close" in body
    assert [request.body for request in seen] == [b"{"]
    assert seen[0].end.endswith(": i/o timeout")


def _always(_head: Head) -> bool:
    return True


@pytest.mark.deviates("lookups")
def test_a_silent_name_server_holds_up_one_proxy_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is being looked up fails after its time; other proxies come and go meanwhile."""
    monkeypatch.setattr(lookups, "_SECONDS", 0.3)
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers.wait(20) and [])

    async def scenario() -> str:
        proxies = ProxyCollection(random.Random(1))
        slow = asyncio.create_task(proxies.create(b'{"name":"s","upstream":"a:1","listen":"nowhere.test:0"}', "EOF"))
        await asyncio.sleep(0)
        await proxies.create(b'{"name":"p","upstream":"a:1","listen":"127.0.0.1:0"}', "EOF")
        assert not slow.done()
        proxies.delete("p")
        with pytest.raises(ApiError) as refused:
            await slow
        return refused.value.message

    message = asyncio.run(scenario())
    answers.set()

    assert message.startswith("listen tcp: lookup nowhere.test")
    assert message.endswith(": i/o timeout")
