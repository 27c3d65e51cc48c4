"""A fault is gone when its block ends, however that ends, and whatever became of the server meanwhile."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fault_bench import SERVERS, TARGET, Bench, order_of
from waiting import wait_until

from kms_chaos.faults import peers
from kms_chaos.faults.apply import Shown
from kms_chaos.faults.bounded_http import ToxiproxyError
from kms_chaos.faults.controllers import Pause, running
from kms_chaos.faults.line import Far, Line, RouteError
from kms_chaos.faults.plans import KINDS
from kms_chaos.faults.preamble import bytes_before_answer
from kms_chaos.faults.toxics import Toxic
from kms_chaos.faults.toxiproxy import Toxiproxy
from kms_core.testing import ManualClock

pytestmark = pytest.mark.slow  # each on two servers

FIELDS: dict[str, dict[str, Any]] = {
    "latency": {"latency_ms": 400, "ramp_seconds": 60.0},
    "reset": {"when": "mid_response"},
    "intermittent": {"share": 0.5},
    "flapping": {"on_seconds": 5.0, "off_seconds": 5.0},
    "slow_operation": {"operation": "Decrypt", "delay_ms": 50},
    "clock_skew": {"seconds": 400.0},
}
FAULTS = sorted(KINDS.keys() - {"evacuation"})


@pytest.mark.parametrize("kind", FAULTS)
def test_a_block_that_fails_leaves_nothing(bench: Bench, kind: str) -> None:
    """Its own error comes out, and proxy and line are as they were; what is told is what was read back."""
    client = bench.client()
    bench.ask(client)
    lifted: list[Shown] = []
    line_before, proxy_before = bench.lines[TARGET].shown(), bench.server.proxy(bench.name(TARGET))

    with pytest.raises(ZeroDivisionError), bench.fault(order_of(kind=kind, **FIELDS.get(kind, {})), lifted.append):
        1 / 0  # noqa: B018 - any error will do

    assert bench.lines[TARGET].shown() == line_before
    assert bench.server.proxy(bench.name(TARGET)) == proxy_before
    assert len(lifted) == 1
    assert lifted[0].get("line", line_before) == line_before
    assert bench.ask(client).code == ""


@pytest.mark.parametrize(
    "kind",
    [
        "blackhole",
        "intermittent",
        pytest.param("refused", marks=pytest.mark.slow),
        pytest.param("truncated", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_died_has_no_fault_any_more(
    local_aws: Any, own_toxiproxy: tuple[str, subprocess.Popen[bytes]], kind: str
) -> None:
    """Its state is in memory alone: leaving the block is no failure, and tells that nothing is left."""
    url, process = own_toxiproxy
    lifted: list[Shown] = []
    with Toxiproxy(url) as server, ExitStack() as stack:
        bench = Bench(local_aws, server, stack)
        bench.client()
        with bench.fault(order_of(kind=kind, **FIELDS.get(kind, {})), lifted.append):
            process.kill()
            process.wait()
        stack.pop_all()  # nobody is there to delete proxies from

    (after,) = lifted
    assert (after["proxy"], after["enabled"], after["toxics_left"]) == (bench.name(TARGET), False, [])


@pytest.mark.parametrize("kind", ["blackhole", "refused", "slow_close"])
def test_a_fault_that_somebody_else_undid_is_left_alone(bench: Bench, kind: str) -> None:
    """A healer, or the drill's own second timer, deletes the proxies of a drill whose time is up."""
    lifted: list[Shown] = []
    bench.client()

    with bench.fault(order_of(kind=kind), lifted.append):
        bench.server.delete(bench.name(TARGET))

    assert [after["toxics_left"] for after in lifted] == [[]]


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_fault_that_fails_halfway_takes_off_what_it_put_on(bench: Bench) -> None:
    """The second toxic's name is taken; it was never on, so nobody is told that it is gone."""
    order = order_of(kind="blackhole")
    second = order.toxics[1]
    bench.server.add(bench.name(TARGET), Toxic(name=second.name, type="latency", stream="upstream"))
    lifted: list[Shown] = []

    with pytest.raises(ToxiproxyError, match="already exists"), bench.fault(order, lifted.append):
        pytest.fail("the block must not run")

    state = bench.server.proxy(bench.name(TARGET))
    assert state is not None
    assert (state.enabled, state.toxics, lifted) == (True, (), [])


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_one_of_two_faults_on_a_proxy_ends_alone(bench: Bench) -> None:
    """The other's toxics are still there, and still bite."""
    client = bench.client()
    name = bench.name(TARGET)

    with bench.fault(order_of(0, kind="latency", latency_ms=100)):
        with bench.fault(order_of(1, kind="slow_close", delay_ms=5000)):
            assert bench.ask(client).code == "ReadTimeout"
        state = bench.server.proxy(name)
        seconds = bench.ask(client).seconds

    assert state is not None
    assert state.toxic_names == ("kmswd_latency_0_downstream",)
    assert seconds > 0.09
    assert bench.ask(client).code == ""


def test_a_proxy_that_the_drill_did_not_make_is_kept(bench: Bench) -> None:
    """Its toxics are taken off by name; it is not replaced, so what is somebody else's stays."""
    name = bench.name(TARGET)
    theirs = Toxic(name="theirs", type="latency", stream="downstream", attributes={"latency": 1})
    bench.server.add(name, theirs)
    lifted: list[Shown] = []

    with bench.fault(order_of(kind="blackhole"), lifted.append, made_by_drill=False):
        pass

    assert lifted == [{"proxy": name, "enabled": True, "toxics_left": ["theirs"]}]


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_ramp_rises_to_the_whole_and_ends_with_its_block(bench: Bench) -> None:
    """By the drill's clock, in steps, on connections that stay open."""
    clock = ManualClock()
    seen: list[int] = []

    def latency() -> int:
        state = bench.server.proxy(bench.name(TARGET))
        assert state is not None
        seen.append(state.toxics[0]["attributes"]["latency"])
        return seen[-1]

    order = order_of(kind="latency", latency_ms=400, jitter_ms=100, ramp_seconds=150.0)
    with bench.fault(order, clock=clock):
        assert latency() == 100
        for step in range(1, 16):
            wait_until(lambda: clock.waiting, says="the ramp waits")
            clock.advance(10.0)
            wait_until(lambda step=step: latency() >= 100 + 20 * step, says=f"step {step}")

    assert seen == sorted(seen)
    assert seen[-1] == 400
    state = bench.server.proxy(bench.name(TARGET))
    assert state is not None
    assert state.toxics == ()


@pytest.mark.parametrize("inner", ["blackhole", "refused"])
def test_a_flapping_region_comes_and_goes(bench: Bench, inner: str) -> None:
    """On for a time, off for a time, by the drill's clock, and off in the end."""
    clock = ManualClock()

    def is_on() -> bool:
        state = bench.server.proxy(bench.name(TARGET))
        return state is not None and (not state.enabled or len(state.toxics) == 2)

    def is_off() -> bool:
        state = bench.server.proxy(bench.name(TARGET))
        return state is not None and state.enabled and not state.toxics

    order = order_of(kind="flapping", inner=inner, on_seconds=30.0, off_seconds=10.0)
    with bench.fault(order, clock=clock):
        for seconds, what in ((30.0, is_off), (10.0, is_on), (30.0, is_off), (10.0, is_on)):
            wait_until(lambda: clock.waiting, says="the fault waits")
            clock.advance(seconds)
            wait_until(what, says=what.__name__)

    assert is_off()


def test_connections_go_stale_again_and_again_when_that_is_ordered(bench: Bench) -> None:
    """Those that were opened since as well."""
    clock, client = ManualClock(), bench.client()
    line = bench.lines[TARGET]
    bench.ask(client)

    with bench.fault(order_of(kind="stale_pool", every_seconds=10.0), clock=clock):
        assert [bench.ask(client).code for _ in range(3)] == ["ReadTimeout", "", ""]
        clock.advance(10.0)
        wait_until(lambda: line.shown()["moves"][0]["moved"] == 2, says="the second connection was moved")
        assert [bench.ask(client).code for _ in range(2)] == ["ReadTimeout", ""]


def test_what_runs_in_time_ends_with_its_block_and_with_the_drill() -> None:
    """Though it waits for an hour."""
    ended: list[str] = []

    def work(pause: Pause) -> None:
        ended.append("asked to end" if pause(3600.0) else "time was up")

    stop = threading.Event()
    with running(work, clock=ManualClock(), stop=stop):
        pass
    with running(work, clock=ManualClock(auto_advance=True), stop=stop):
        wait_until(lambda: len(ended) == 2, says="an hour went by")
    with running(work, clock=ManualClock(auto_advance=True), stop=stop):
        pass
    stop.set()
    with running(work, clock=ManualClock(auto_advance=True), stop=stop):
        wait_until(lambda: len(ended) == 4, says="the drill ended")

    assert (ended[0], ended[1], ended[3]) == ("asked to end", "time was up", "asked to end")


def test_a_failure_in_time_is_raised_when_the_block_ends() -> None:
    """And noted on the block's own error, which comes first."""

    def fail(pause: Pause) -> None:
        raise ToxiproxyError("it is gone")

    with (
        pytest.raises(ToxiproxyError, match="it is gone"),
        running(fail, clock=ManualClock(), stop=threading.Event()),
    ):
        pass
    with pytest.raises(ZeroDivisionError) as raised, running(fail, clock=ManualClock(), stop=threading.Event()):
        1 / 0  # noqa: B018 - any error will do

    assert raised.value.__notes__ == ["the fault itself failed: ToxiproxyError: it is gone"]


def test_moving_connections_touches_no_other_file(bench: Bench, tmp_path: Path) -> None:
    """Threads open and close connections and files meanwhile: descriptors are used again at once by somebody else."""
    over, wrong = threading.Event(), []
    line = bench.lines[TARGET]
    clients = [bench.client() for _ in range(3)]

    def ask(client: Any) -> None:
        while not over.is_set():
            if (code := bench.ask(client).code) not in {"", "ConnectionReset"}:
                wrong.append(code)

    def write(path: Path) -> None:
        while not over.is_set():
            with path.open("w+b") as file:
                file.write(b"mine")
                file.seek(0)
                if file.read() != b"mine":
                    wrong.append("a file was moved")

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    threads += [threading.Thread(target=write, args=(tmp_path / str(number),)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        with peers.resetting() as address, line.moves(address, to="reset"):
            for _ in range(200):
                line.move_again()
    finally:
        over.set()
        for thread in threads:
            thread.join()

    assert wrong == []
    assert [bench.ask(client).code for client in clients] == [""] * 3


@pytest.mark.parametrize("seconds", [None, 5.0], ids=["blocking", "with-a-timeout"])
def test_a_connection_that_is_moved_waits_as_it_did(bench: Bench, seconds: float | None) -> None:
    """The owner's socket object knows nothing of the move: its descriptor must block, or not, as before."""

    class Open:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

    line = bench.lines[TARGET]
    with socket.create_connection(line.address) as mine, socket.create_server(("127.0.0.1", 0)) as elsewhere:
        mine.settimeout(seconds)
        connection = Open(mine)
        line.opened(connection)
        before = os.get_blocking(mine.fileno())

        with line.moves(elsewhere.getsockname(), to="a peer of the test"):
            assert line.shown()["moves"] == [{"to": "a peer of the test", "moved": 1}]

        other, _ = elsewhere.accept()
        with other:
            mine.sendall(b"hello")
            assert other.recv(10) == b"hello"
        assert (os.get_blocking(mine.fileno()), before) == (seconds is None, seconds is None)


def test_a_line_stays_on_loopback() -> None:
    """Another host would see who drills, and when."""
    line = Line(("127.0.0.1", 1))
    with pytest.raises(RouteError, match="loopback"):
        Line(("192.0.2.1", 443))
    with pytest.raises(RouteError, match="loopback"), line.dial_to(("192.0.2.1", 443)):
        pytest.fail("the block must not run")
    with pytest.raises(RouteError, match="loopback"), line.moves(("192.0.2.1", 443), to="nowhere"):
        pytest.fail("the block must not run")


def test_a_way_that_nobody_goes_cannot_be_measured(bench: Bench) -> None:
    """And so no answer can be cut on it; nothing was touched."""
    with pytest.raises(RouteError, match="nobody knows"), bench.fault(order_of(kind="truncated")):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("wrong", ["authority", "name", "nobody", "hangs-up"])
def test_what_comes_before_an_answer_is_measured_of_the_right_server_alone(bench: Bench, wrong: str) -> None:
    """Verified, like every connection of a drill; at the right one it is the same each time, but for a few bytes."""
    bench.client()
    line, far = bench.lines[TARGET], bench.lines[TARGET].far
    ways: dict[str, Callable[[], int]] = {
        "authority": lambda: bytes_before_answer(line.address, Far(far.host, ssl.create_default_context)),
        "name": lambda: bytes_before_answer(line.address, Far("kms.us-west-2.amazonaws.com", far.tls)),
        "nobody": lambda: bytes_before_answer(("127.0.0.1", 1), far),
        "hangs-up": lambda: bytes_before_answer(("127.0.0.1", silent_port), far),
    }
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_port = silent.getsockname()[1]

        def hang_up() -> None:
            silent.accept()[0].close()

        hanging_up = threading.Thread(target=hang_up)
        hanging_up.start()

        with pytest.raises(RouteError, match="cannot be measured"):
            ways[wrong]()
        socket.create_connection(silent.getsockname()).close()
        hanging_up.join()

    sizes = {bytes_before_answer(line.address, far) for _ in range(3)}
    assert max(sizes) - min(sizes) < 10
    assert min(sizes) > 500


def test_the_measure_ends_where_the_answer_begins(bench: Bench) -> None:
    """With so many bytes let through, the handshake ends well, and of the answer nothing can be read."""
    bench.client()
    line, far = bench.lines[TARGET], bench.lines[TARGET].far
    limit = bytes_before_answer(line.address, far)
    bench.server.add(
        bench.name(TARGET), Toxic(name="cut", type="limit_data", stream="downstream", attributes={"bytes": limit})
    )

    with (
        socket.create_connection(line.address, timeout=5) as plain,
        far.tls().wrap_socket(plain, server_hostname=far.host, suppress_ragged_eofs=True) as tls,
    ):
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {far.host}\r\n\r\n".encode("ascii"))
        assert tls.recv(1000) == b""


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_toxic_is_changed_while_it_is_on(bench: Bench) -> None:
    """The server shows the new values; there must be one of that name."""
    name = bench.name(TARGET)
    bench.server.add(name, Toxic(name="slow", type="latency", stream="downstream", attributes={"latency": 5}))

    bench.server.update(name, Toxic(name="slow", type="latency", stream="downstream", attributes={"latency": 7}))

    state = bench.server.proxy(name)
    assert state is not None
    assert state.toxics[0]["attributes"]["latency"] == 7
    with pytest.raises(ToxiproxyError, match="toxic not found"):
        bench.server.update(name, Toxic(name="other", type="latency", stream="downstream"))
    with pytest.raises(ToxiproxyError, match="as it was changed"):
        bench.server.update(name, Toxic(name="slow", type="latency", stream="upstream"))
