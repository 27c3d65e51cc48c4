"""HTTP at the edge, byte by byte: what `net/http` and the router answer to odd requests; on both servers."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HOST = b"Host: x\r\n"
NAMELESS = b'{"name":"","upstream":"a:1"}'
NO_NAME = '{"error":"missing required field: name","status":400}\n'
NOT_FOUND = '{"error":"proxy not found","status":404}\n'
PLAIN = "Content-Type: text/plain; charset=utf-8\r\n"
NO_SNIFFING = "X-Content-Type-Options: nosniff\r\n"
REFUSED = f"HTTP/1.1 {{0}}\r\n{PLAIN}Connection: close\r\n\r\n{{0}}"


def ask(method: bytes, path: bytes, headers: bytes = b"", body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return method + b" " + path + b" " + version + b"\r\n" + HOST + headers + b"\r\n" + body


def told(answer: bytes) -> str:
    """Return an answer without what differs from call to call: ids and dates."""
    text = re.sub(r"X-Toxiproxy-Request-Id: [0-9a-v]{20}", "ID", answer.decode("latin-1"))
    return re.sub(r"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "DATE", text)


def answer(status: str, headers: str, body: str = "", *, close: bool = False, version: str = "HTTP/1.1") -> str:
    end = "Connection: close\r\n" if close else ""
    return f"{version} {status}\r\n{headers}DATE\r\nContent-Length: {len(body)}\r\n{end}\r\n{body}"


BAD_NAME = answer("400 Bad Request", f"{PLAIN}{NO_SNIFFING}ID\r\n", NO_NAME)
UNKNOWN = answer("404 Not Found", f"{PLAIN}{NO_SNIFFING}ID\r\n", NOT_FOUND, close=True)
NO_ROUTE = answer("404 Not Found", f"{PLAIN}{NO_SNIFFING}", "404 page not found\n")
NO_METHOD = answer("405 Method Not Allowed", "")


def moved(to: str) -> str:
    return answer("301 Moved Permanently", f"Location: {to}\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "expected", "left"),
    [
        pytest.param(ask(b"GET", b"/proxies/"), NO_ROUTE, "open", id="trailing-slash"),
        pytest.param(ask(b"GET", b"/proxies/a%2Fb"), NO_ROUTE, "open", id="escaped-slash"),
        pytest.param(ask(b"GET", b"/version#a"), NO_ROUTE, "open", id="fragment"),
        pytest.param(ask(b"PUT", b"/proxies"), NO_METHOD, "open", id="put"),
        pytest.param(ask(b"get", b"/proxies"), NO_METHOD, "open", id="lower-case"),
        pytest.param(ask(b"HEAD", b"/proxies"), NO_METHOD.replace("Content-Length: 0\r\n", ""), "open", id="head"),
        pytest.param(ask(b"OPTIONS", b"/proxies"), NO_METHOD, "open", id="options"),
        pytest.param(ask(b"GET", b"//version?a=%20"), moved("/version?a=%20"), "open", id="empty-segment"),
        pytest.param(ask(b"GET", b"/proxies/%2e%2e/a%20b"), moved("/a%20b"), "open", id="dots"),
        pytest.param(ask(b"GET", b"http://h?x"), moved("http://h/?x"), "open", id="absolute"),
        pytest.param(ask(b"GET", b"*"), moved("/%2A"), "open", id="star"),
        pytest.param(ask(b"CONNECT", b"a:1"), moved("//a:1/"), "open", id="connect"),
        pytest.param(b"GARBAGE\r\n", REFUSED.format("400 Bad Request"), "FIN", id="garbage"),
        pytest.param(b"\r\n" + ask(b"GET", b"/version"), REFUSED.format("400 Bad Request"), "FIN", id="blank-line"),
        pytest.param(ask(b"GET", b"/%zz"), REFUSED.format("400 Bad Request"), "FIN", id="bad-escape"),
        pytest.param(ask(b"GET", b"version"), REFUSED.format("400 Bad Request"), "FIN", id="no-slash"),
        pytest.param(
            ask(b"GET", b"/", version=b"HTTP/2.0"),
            REFUSED.format("505 HTTP Version Not Supported: unsupported protocol version"),
            "FIN",
            id="http-2",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\n\r\n",
            REFUSED.format("400 Bad Request: missing required Host header"),
            "FIN",
            id="no-host",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            REFUSED.format("400 Bad Request: malformed Host header"),
            "FIN",
            id="bad-host",
        ),
        pytest.param(
            ask(b"GET", b"/", b"a b: 1\r\n"), REFUSED.format("400 Bad Request: invalid header name"), "FIN", id="name"
        ),
        pytest.param(ask(b"GET", b"/", b"a: \x01\r\n"), REFUSED.format("400 Bad Request"), "FIN", id="value"),
        pytest.param(
            ask(b"GET", b"/", b"a: " + b"a" * 1_100_000 + b"\r\n"),
            REFUSED.format("431 Request Header Fields Too Large"),
            "FIN",
            id="long-head",
        ),
        pytest.param(
            ask(b"POST", b"/proxies", b"Transfer-Encoding: gzip\r\n"),
            f"HTTP/1.1 501 Not Implemented\r\n{PLAIN}Connection: close\r\n\r\nUnsupported transfer encoding",
            "FIN",
            id="gzip",
        ),
        pytest.param(
            ask(b"POST", b"/proxies", b"Content-Length: 028\r\n", NAMELESS), BAD_NAME, "open", id="padded-length"
        ),
        pytest.param(
            ask(b"POST", b"/proxies", b"Content-Length: -1\r\n"),
            REFUSED.format("400 Bad Request"),
            "FIN",
            id="negative-length",
        ),
        pytest.param(
            ask(b"POST", b"/proxies", b"Transfer-Encoding: chunked\r\n", b"1C;a=b\r\n" + NAMELESS + b"\r\n0\r\n\r\n"),
            BAD_NAME,
            "open",
            id="chunked",
        ),
        pytest.param(
            ask(b"POST", b"/proxies", b"Transfer-Encoding: chunked\r\n", b"zz\r\n"),
            answer(
                "400 Bad Request",
                f"{PLAIN}{NO_SNIFFING}ID\r\n",
                '{"error":"bad request body: invalid byte in chunk length","status":400}\n',
                close=True,
            ),
            "FIN",
            id="bad-chunk",
        ),
        pytest.param(
            ask(b"POST", b"/proxies", b"Expect: 100-continue\r\nContent-Length: 28\r\n", NAMELESS),
            "HTTP/1.1 100 Continue\r\n\r\n" + BAD_NAME,
            "open",
            id="continue",
        ),
        pytest.param(
            ask(b"GET", b"/version", b"Expect: tea\r\n"),
            "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nDATE\r\nContent-Length: 0\r\n\r\n",
            "FIN",
            id="expectation",
        ),
        pytest.param(
            ask(b"POST", b"/proxies", b"Content-Length: 28\r\n", NAMELESS, b"HTTP/1.0"),
            BAD_NAME.replace("HTTP/1.1", "HTTP/1.0"),
            "FIN",
            id="http-1.0",
        ),
        pytest.param(
            ask(b"PUT", b"/proxies", b"Connection: keep-alive\r\n", b"", b"HTTP/1.0"),
            "HTTP/1.0 405 Method Not Allowed\r\nDATE\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
            "open",
            id="http-1.0-kept",
        ),
        pytest.param(
            ask(b"PUT", b"/proxies", b"Connection: x, CLOSE\r\n"),
            answer("405 Method Not Allowed", "", close=True),
            "FIN",
            id="close",
        ),
        pytest.param(ask(b"PUT", b"/proxies") + ask(b"GET", b"/"), NO_METHOD + NO_ROUTE, "open", id="pipelined"),
        pytest.param(
            ask(b"GET", b"/proxies", b"User-Agent: Mozilla/5.0\r\n"),
            answer("403 Forbidden", f"{PLAIN}{NO_SNIFFING}ID\r\n", "User agent not allowed\n"),
            "open",
            id="browser",
        ),
    ],
)
def test_odd_requests(toxiproxy: Any, request_bytes: bytes, expected: str, left: str) -> None:
    """Each has its answer, to the byte, and leaves the connection open or closed as there."""
    found, state = toxiproxy.raw(request_bytes)

    assert (told(found), state) == (expected, left)


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        pytest.param(b"GET /vers", REFUSED.format("400 Bad Request"), id="in-the-line"),
        pytest.param(b"GET /version HTTP/1.1\r\nHo", REFUSED.format("400 Bad Request"), id="in-the-head"),
        pytest.param(
            ask(b"POST", b"/proxies", b"Content-Length: 9\r\n", b'{"a":'),
            answer("503 Service Unavailable", "ID\r\n"),
            id="in-the-body",
        ),
        pytest.param(
            ask(b"POST", b"/nope", b"Content-Length: 9\r\n", b'{"a":'),
            NO_ROUTE.replace("19\r\n\r\n", "19\r\nConnection: close\r\n\r\n"),
            id="in-a-body-nobody-reads",
        ),
        pytest.param(
            ask(b"POST", b"/proxies/x", b"Expect: 100-continue\r\nContent-Length: 28\r\n"), UNKNOWN, id="not-encouraged"
        ),
        pytest.param(ask(b"PUT", b"/proxies"), NO_METHOD, id="after-a-request"),
        pytest.param(b"", "", id="before-any"),
    ],
)
def test_a_client_that_closes_its_side(toxiproxy: Any, request_bytes: bytes, expected: str) -> None:
    """What was complete is answered; then the server closes too."""
    found, state = toxiproxy.raw(request_bytes, half_close=True)

    assert (told(found), state) == (expected, "FIN")


def test_long_answers_come_in_chunks(toxiproxy: Any) -> None:
    """Above 2048 bytes there is no Content-Length, and to a client of HTTP/1.0 the end of the connection says it."""
    toxiproxy.proxy("p" * 3000, "127.0.0.1:1", enabled=False)

    chunked, _ = toxiproxy.raw(ask(b"GET", b"/proxies", b"Connection: close\r\n"))
    plain, state = toxiproxy.raw(ask(b"GET", b"/proxies", version=b"HTTP/1.0"))

    head, _, body = chunked.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    size, _, rest = body.partition(b"\r\n")
    document = plain.partition(b"\r\n\r\n")[2]
    assert rest == document + b"\r\n0\r\n\r\n"
    assert int(size, 16) == len(document)
    assert b"Content-Length" not in plain
    assert state == "FIN"


def test_large_bodies_are_read(toxiproxy: Any) -> None:
    """Three megabytes are a body like any other."""
    answered = toxiproxy.call("POST", "/proxies", raw=b'{"name":"' + b"n" * 3_000_000 + b'"}')

    assert (answered.status, answered.json()["error"]) == (400, "missing required field: upstream")
