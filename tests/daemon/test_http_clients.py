"""Clients of every kind: silent, slow, wordy, many. None of them is anybody else's trouble. Over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from status_kit import TOKEN, ServedWatchdog, Site, served
from waiting import wait_until

from kms_watchdog.config import Settings
from kms_watchdog.results import CanaryResult
from kms_watchdog.web.connection import Bounds
from kms_watchdog.web.flights import Sharing

pytestmark = pytest.mark.slow

QUICK = Bounds(connections=20, refused_at_once=5, client_seconds=0.4, check_seconds=0.1, gives_way_seconds=0.1)
PATIENT = Bounds(connections=20, refused_at_once=5, gives_way_seconds=0.2)
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def watchdog(settings: Settings) -> ServedWatchdog:
    return ServedWatchdog(settings, token=TOKEN)


@pytest.fixture
def site(watchdog: ServedWatchdog) -> Iterator[Site]:
    with served(watchdog) as made:
        yield made


def connect(site: Site, send: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", site.port), timeout=20)
    made.sendall(send)
    return made


def all_of(client: socket.socket) -> bytes:
    """Read to the end, be it orderly or not."""
    found = b""
    try:
        while chunk := client.recv(65_536):
            found += chunk
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost:", id="half-a-head"),
        pytest.param(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ntoken=", id="half-a-body"),
        pytest.param(LIVEZ, id="no-second-request"),
    ],
)
def test_who_keeps_us_waiting_is_cut_off(watchdog: ServedWatchdog, sent: bytes) -> None:
    """A place is for asking, not for sitting."""
    with served(watchdog, QUICK) as site, connect(site, sent) as client:
        answered = all_of(client)

    assert answered.startswith(b"HTTP/1.1 200") if sent == LIVEZ else b"200 OK" not in answered


def test_who_takes_an_answer_slowly_is_cut_off_and_hinders_nobody(watchdog: ServedWatchdog) -> None:
    """Twenty megabytes of metrics that nobody reads; the next client does not notice."""
    watchdog.metrics_body = b"x" * 20_000_000
    with served(watchdog, QUICK) as site, ExitStack() as stack:
        slow = [stack.enter_context(connect(site, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")) for _ in range(10)]
        others = [site.ask("GET", path).code for path in ("/livez", "/", "/health")]
        cut_off = threading.Event()
        wait_until(lambda: cut_off.is_set() or not _more(slow[0], cut_off), says="the answer ends")
        read = all_of(slow[1])

    assert others == [200, 200, 200]
    assert len(read) < 20_000_000


def _more(client: socket.socket, ended: threading.Event) -> bool:
    """Look without reading: a client that never reads learns of the end by its next word."""
    try:
        client.sendall(b"x")
    except ConnectionError:
        ended.set()
    return True


def test_an_honest_client_of_a_large_answer_gets_all_of_it(watchdog: ServedWatchdog) -> None:
    """However many pieces it takes."""
    watchdog.metrics_body = b"x" * 5_000_000
    with served(watchdog, QUICK) as site:
        reply = site.ask("GET", "/metrics")

    assert len(reply.body) == 5_000_000


def test_a_crowd_of_sleepers_does_not_lock_anybody_out(watchdog: ServedWatchdog) -> None:
    """All places are taken by clients that say nothing: who asks gets the place of who has waited longest."""
    with served(watchdog, PATIENT) as site, ExitStack() as stack:
        sleepers = [stack.enter_context(connect(site)) for _ in range(PATIENT.connections)]
        wait_until(lambda: site.ask("GET", "/livez").code == 200, says="they have waited long enough")
        codes = [site.ask("GET", "/livez").code for _ in range(10)]
        gone = all_of(sleepers[0])

    assert codes == [200] * 10
    assert gone == b""


def test_who_is_being_served_does_not_give_way(watchdog: ServedWatchdog) -> None:
    """Beyond the places a newcomer is told to come back; those who wait for us get their answers."""
    go = threading.Event()
    watchdog.before_metrics = lambda: go.wait(20)
    metrics = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with served(watchdog, PATIENT) as site, ExitStack() as stack:
        waiting = [stack.enter_context(connect(site, metrics)) for _ in range(PATIENT.connections)]
        wait_until(lambda: site.ask("GET", "/livez").code == 503, says="all places are taken")
        go.set()
        answers = [all_of(client) for client in waiting]

    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /livez?" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="address"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", id="one-header"),
        pytest.param(b"GET /livez HTTP/1.1\r\n" + b"X: a\r\n" * 8_000 + b"\r\n", id="many-headers"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: " + b"a" * 200_000, id="a-line-without-end"),
    ],
)
def test_a_head_beyond_all_reason_is_refused(site: Site, head: bytes) -> None:
    """With 431 and the end of the connection, not with all the memory it asks for."""
    with connect(site) as client:
        with suppress(ConnectionError):  # it has been told already
            client.sendall(head)
        answer = all_of(client)

    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""  # what is still under way may cut the answer off
    assert site.ask("GET", "/livez").code == 200


def test_a_large_head_within_reason_is_served(site: Site) -> None:
    """Cookies and traces of a big company's proxies."""
    assert site.ask("GET", "/livez", headers={"X-Trace": "a" * 16_000}).code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_body_that_nobody_asked_for_is_not_kept(site: Site, method: str) -> None:
    """Answered before it has come; the connection ends, and no memory is filled."""
    path = "/livez" if method == "GET" else "/api/v1/canaries/round_trip:us-east-1:pii/run"
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n".encode()
    with connect(site, head) as client:
        answer = client.recv(4096)

    assert answer.startswith(b"HTTP/1.1 200" if method == "GET" else b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        pytest.param("POST", "/", {"GET", "HEAD"}, id="page"),
        pytest.param("DELETE", "/health", {"GET", "HEAD"}, id="health"),
        pytest.param("TRACE", "/livez", {"GET", "HEAD"}, id="trace"),
        pytest.param("PUT", "/login", {"GET", "HEAD", "POST"}, id="login"),
        pytest.param("GET", "/api/v1/canaries/x/run", {"POST"}, id="run"),
        pytest.param("GET", "/logout", {"POST"}, id="logout"),
        pytest.param("OPTIONS", "/api/v1/status", {"GET", "HEAD"}, id="options"),
    ],
)
def test_another_method_is_405_and_says_which_are_right(site: Site, method: str, path: str, allow: set[str]) -> None:
    """In `Allow`, as the standard wants."""
    reply = site.ask(method, path)

    assert reply.code == 405
    assert {name.strip() for name in reply.headers["allow"].split(",")} == allow


@pytest.mark.parametrize("path", ["/", "/livez", "/health", "/metrics", "/api/v1/status", "/static/status.css"])
def test_head_is_get_without_a_body(site: Site, path: str) -> None:
    """Uptime monitors ask so."""
    get, head = site.ask("GET", path), site.ask("HEAD", path)

    assert (head.code, head.body) == (get.code, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"BREW /pot HTTP/1.1\r\n\r\n", id="method"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="tls"),
        pytest.param(b"\x00" * 100, id="zeros"),
        pytest.param(b"GET /livez HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(b"GET http:// HTTP/1.1\r\n\r\n", id="address"),
        pytest.param(
            b"POST /login HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="smuggled"
        ),
    ],
)
def test_what_is_no_request_is_refused(site: Site, sent: bytes) -> None:
    """With 400 and the end of the connection; the next client is served."""
    with connect(site, sent) as client:
        client.shutdown(socket.SHUT_WR)
        answer = all_of(client)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert site.ask("GET", "/livez").code == 200


def at_once(times: int, call: Callable[[], CanaryResult | object]) -> list[Future[object]]:
    """Call from so many threads."""
    pool = ThreadPoolExecutor(times)
    made: list[Future[object]] = [pool.submit(call) for _ in range(times)]
    pool.shutdown(wait=False)
    return made


def test_a_rendering_under_way_holds_nobody_up_and_nobody_gets_it_late(site: Site, watchdog: ServedWatchdog) -> None:
    """Who comes while it is made gets what is made after: nothing that was true before the question."""
    go, begun = threading.Event(), threading.Semaphore(0)

    def make() -> None:
        begun.release()
        assert go.wait(20)

    watchdog.before_metrics = make
    first = at_once(1, lambda: site.ask("GET", "/metrics").body)
    assert begun.acquire(timeout=20)
    others = at_once(10, lambda: site.ask("GET", "/metrics").body)
    alive = site.ask("GET", "/livez").code
    watchdog.metrics_body = b"fresh 1\n"
    go.set()

    assert alive == 200
    assert first[0].result(20) is not None
    assert {future.result(20) for future in others} == {b"fresh 1\n"}


def test_what_is_costly_is_made_once_for_all_who_wait() -> None:
    """One under way, and one for the thousand who came meanwhile."""
    go, begun = threading.Event(), threading.Semaphore(0)
    made: list[int] = []

    def make() -> int:
        begun.release()
        assert go.wait(20)
        made.append(len(made))
        return made[-1]

    async def flood() -> list[int]:
        sharing = Sharing()
        first = asyncio.create_task(sharing.get("page", make))
        assert await asyncio.to_thread(begun.acquire, timeout=20)
        others = [asyncio.create_task(sharing.get("page", make)) for _ in range(1000)]
        gone = asyncio.create_task(sharing.get("page", make))
        assert not await asyncio.to_thread(begun.acquire, timeout=0.1)  # one at a time
        gone.cancel()  # a client that went away
        go.set()
        return [await each for each in (first, *others)]

    found = asyncio.run(flood())

    assert (found, made) == ([0] + [1] * 1000, [0, 1])


def test_what_cannot_be_made_is_an_error_for_all_who_wait_and_for_nobody_after() -> None:
    """The next one tries again."""
    answers: list[Callable[[], str]] = [lambda: str(1 // 0), lambda: "well"]

    async def ask_twice() -> list[object]:
        sharing = Sharing()
        first = await asyncio.gather(*(sharing.get("page", answers[0]) for _ in range(3)), return_exceptions=True)
        return [*map(type, first), await sharing.get("page", answers[1])]

    assert asyncio.run(ask_twice()) == [ZeroDivisionError] * 3 + ["well"]


def test_a_long_look_on_demand_hinders_nobody(watchdog: ServedWatchdog) -> None:
    """A dead region holds the threads of who asked about it."""
    go = threading.Event()
    inner = watchdog.run_canary

    def slow(name: str) -> CanaryResult:
        assert go.wait(20)
        return inner(name)

    watchdog.run_canary = slow  # type: ignore[method-assign] # this one watchdog's regions are dead
    path = "/api/v1/canaries/round_trip:us-east-1:pii/run"
    with served(watchdog) as site:
        running = at_once(4, lambda: site.ask("POST", path, headers=BEARER).code)
        others = [site.ask("GET", path).code for path in ("/livez", "/health", "/metrics", "/")]
        go.set()
        codes = [future.result(20) for future in running]

    assert others == [200] * 4
    assert codes == [200] * 4


def test_the_page_travels_packed(site: Site) -> None:
    """Every browser takes gzip; who does not say so gets it plain."""
    plain = site.ask("GET", "/fragment")
    packed = site.ask("GET", "/fragment", headers={"Accept-Encoding": "gzip, br"})

    assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
    assert packed.headers["vary"] == "Accept-Encoding"
    assert len(packed.body) * 5 < len(plain.body)
