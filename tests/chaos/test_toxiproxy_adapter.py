"""The adapter over toxiproxy-python, against the embedded server and, where there is one, a real Toxiproxy."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from kms_chaos.faults import undo
from kms_chaos.faults.apply import Shown, Site, applied
from kms_chaos.faults.bounded_http import ToxiproxyError, ToxiproxyUnreachableError
from kms_chaos.faults.line import Line
from kms_chaos.faults.plans import Blackhole, Ordered
from kms_chaos.faults.toxics import ProxyState, Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_core import SystemClock
from kms_core.testing import ManualClock
from kms_watchdog.drills.undo import ProxyUndo


@pytest.fixture
def server(toxiproxy_url: str) -> Iterator[Toxiproxy]:
    with Toxiproxy(toxiproxy_url) as found:
        yield found


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a server that sends back what it gets."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        host, port = listener.getsockname()
        yield f"{host}:{port}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


OURS = Toxic(name="kmswd_ours", type="timeout", stream="upstream", attributes={"timeout": 0})


def mine(state: ProxyState, toxics: tuple[str, ...] = ()) -> ProxyUndo:
    return ProxyUndo(
        name=state.name, region="us-east-1", listen=state.listen, upstream=state.upstream, made_by_drill=True,
        toxics=toxics,
    )  # fmt: skip


def ask(state: ProxyState, *, seconds: float = 0.5) -> bytes:
    with socket.create_connection(state.address, timeout=2) as connection:
        connection.settimeout(seconds)
        connection.sendall(b"hello")
        return connection.recv(100)


def test_what_is_created_is_read_back(server: Toxiproxy, echo: str) -> None:
    """A proxy listens on a port of loopback, carries bytes, and is gone when it was deleted."""
    state = server.create("kmswd.test.us-east-1", upstream=echo)

    assert ask(state) == b"hello"
    assert server.proxies()[state.name] == state
    server.delete(state.name)
    assert server.proxy(state.name) is None
    server.delete(state.name)  # once more is harmless


def black_hole(
    server: Toxiproxy, state: ProxyState, lifted: Callable[[Shown], None] = lambda _: None
) -> AbstractContextManager[Shown]:
    order = Ordered(id="0-blackhole-us-east-1", region="us-east-1", plan=Blackhole(kind="blackhole"))
    site = Site(
        server=server,
        proxy=mine(state, tuple(toxic.name for toxic in order.toxics)),
        line=Line(state.address),
        clock=ManualClock(),
        rng=random.Random(0),
        stop=threading.Event(),
    )
    return applied(order, site, lifted=lifted)


def test_a_black_hole_bites_open_and_new_connections_and_is_lifted(server: Toxiproxy, echo: str) -> None:
    """While it lasts nothing comes back; afterwards the proxy carries bytes again, without a toxic on it."""
    state = server.create("kmswd.test.us-east-1", upstream=echo)
    lifted: list[Shown] = []

    with socket.create_connection(state.address, timeout=2) as pooled:
        pooled.settimeout(0.3)
        with black_hole(server, state, lifted.append) as hurt:
            assert {(t["type"], t["stream"]) for t in hurt["toxics"]} == {
                ("timeout", "upstream"),
                ("timeout", "downstream"),
            }
            pooled.sendall(b"hello")
            with pytest.raises(TimeoutError):
                pooled.recv(100)
            with pytest.raises(TimeoutError):
                ask(state, seconds=0.3)

    assert lifted == [{"proxy": state.name, "enabled": True, "toxics_left": []}]
    assert server.proxies()[state.name].toxics == ()
    assert ask(server.proxies()[state.name]) == b"hello"


def test_a_black_hole_is_lifted_when_its_block_fails(server: Toxiproxy, echo: str) -> None:
    """Restoring is not for good endings only."""
    state = server.create("kmswd.test.us-east-1", upstream=echo)

    with pytest.raises(ZeroDivisionError), black_hole(server, state):
        1 / 0  # noqa: B018 - any error will do

    assert server.proxies()[state.name].toxics == ()


def test_a_fault_on_a_disabled_proxy_is_refused(server: Toxiproxy, echo: str) -> None:
    """Toxiproxy accepts a toxic there, and it does nothing: a drill that would prove nothing."""
    state = server.create("kmswd.test.us-east-1", upstream=echo)
    server.disable(state.name)

    with pytest.raises(ToxiproxyError, match="not enabled"), black_hole(server, state):
        pytest.fail("the block must not run")


def test_a_proxy_of_somebody_else_gets_back_what_it_had(server: Toxiproxy, echo: str) -> None:
    """Only the drill's toxics are taken, and a proxy that was found disabled is not enabled."""
    state = server.create("theirs", upstream=echo)
    server.add("theirs", Toxic(name="slow", type="latency", stream="downstream", attributes={"latency": 5}))
    server.add("theirs", OURS)
    server.disable("theirs")
    theirs = ProxyUndo(
        name="theirs", region="us-east-1", listen=state.listen, upstream=echo, made_by_drill=False, enabled=False,
        toxics=(OURS.name,),
    )  # fmt: skip

    undo.lift(server, theirs)

    after = server.proxies()["theirs"]
    assert not after.enabled
    assert after.toxic_names == ("slow",)


def test_the_servers_own_words_are_what_is_told(server: Toxiproxy, echo: str) -> None:
    """The library's exceptions are misnamed and hold bytes."""
    server.create("kmswd.test.us-east-1", upstream=echo)

    with pytest.raises(ToxiproxyError, match="already exists"):
        server.create("kmswd.test.us-east-1", upstream=echo)
    with pytest.raises(ToxiproxyError, match="proxy not found"):
        server.disable("kmswd.nobody")


def test_a_status_that_the_library_swallows_is_an_error(server: Toxiproxy, echo: str, toxiproxy_url: str) -> None:
    """A 500 on create is a KeyError in the library; here it is an error with the server's words."""
    taken = toxiproxy_url.removeprefix("http://")

    with pytest.raises(ToxiproxyError, match="address already in use"):
        server.create("kmswd.test.us-east-1", upstream=echo, listen=taken)


def test_a_proxy_in_the_environment_is_not_for_the_admin_port(
    server: Toxiproxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY breaks the bare library."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    assert server.proxies() == {}


def test_two_servers_in_one_process_are_not_mixed_up(server: Toxiproxy, free_port: int) -> None:
    """The library's address is one global; ours is set for each call."""
    with Toxiproxy(f"http://127.0.0.1:{free_port}") as other, pytest.raises(ToxiproxyUnreachableError):
        other.proxies()

    assert server.proxies() == {}


def test_nobody_there_is_told_apart_from_somebody_silent(free_port: int) -> None:
    """Refused: no server, so no fault. Silent: one may be there, so nothing is known; found out within seconds."""
    with Toxiproxy(f"http://127.0.0.1:{free_port}") as absent, pytest.raises(ToxiproxyUnreachableError) as refused:
        absent.proxies()
    clock = SystemClock()
    started = clock.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Toxiproxy(url) as hung, pytest.raises(ToxiproxyUnreachableError) as waiting:
            hung.proxies()

    assert refused.value.refused
    assert not waiting.value.refused
    assert clock.monotonic() - started < 30  # the silent one would have been silent for ever


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Toxic(name="x", type="bandwidth", stream="upstream", attributes={"rate": -1}), id="rate"),
        pytest.param(lambda: Toxic(name="x", type="slicer", stream="upstream"), id="slicer-defaults"),
        pytest.param(
            lambda: Toxic(
                name="x", type="slicer", stream="upstream", attributes={"average_size": 10, "size_variation": 10}
            ),
            id="slicer-variation",
        ),
        pytest.param(
            lambda: Toxic(name="x", type="latency", stream="upstream", attributes={"jitter": 1 << 62}), id="jitter"
        ),
        pytest.param(
            lambda: Toxic(name="x", type="latency", stream="upstream", attributes={"latency": True}), id="not-a-number"
        ),
        pytest.param(
            lambda: Toxic(name="x", type="latency", stream="upstream", attributes={"delay": 1}), id="unknown-attribute"
        ),
        pytest.param(lambda: Toxic(name="x", type="latency", stream="upstream", toxicity=7), id="toxicity"),
        pytest.param(lambda: Toxic(name="x", type="latency", stream="sideways"), id="stream"),
        pytest.param(lambda: Toxic(name="a/b", type="timeout", stream="upstream"), id="name"),
        pytest.param(lambda: Toxic(name="x", type="nonsense", stream="upstream"), id="type"),
        pytest.param(lambda: Toxiproxy("https://127.0.0.1:1"), id="https"),
        pytest.param(lambda: Toxiproxy("http://127.0.0.1"), id="no-port"),
    ],
)
def test_values_are_checked_before_they_are_sent(make: Callable[[], object]) -> None:
    """The real server takes any, and some end its process at the first byte."""
    with pytest.raises(ValueError, match=r".+"):
        make()
