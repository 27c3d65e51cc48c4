"""Requests that nobody would write by hand: any method, path, header and body. Over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from status_kit import TOKEN, ServedWatchdog, Site, served

from kms_watchdog.config import Settings

pytestmark = pytest.mark.slow

METHODS = ("GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH")
PATHS = (
    "/livez", "/readyz", "/health", "/api/v1/status", "/api/v1/canaries/", "/", "/fragment", "/login", "/logout",
    "/static/", "/drills/", "/metrics", "/%2e%2e/", "//", "*", "http://x/",
)  # fmt: skip
ENDS = ("", "/run", "?", "?next=", "/report.html", "%00", "%ff", "/../../etc/passwd")
HEADERS = (
    "Host", "Cookie", "Authorization", "Accept", "Accept-Encoding", "Content-Type", "Origin", "Range", "Content-Length",
    "Transfer-Encoding", "Connection", "Upgrade", "Sec-Fetch-Site", "Referer", "If-None-Match", "X-Forwarded-For",
)  # fmt: skip
VALUES = (
    f"Bearer {TOKEN}", "gzip;q=x", "bytes=0-", "bytes=-1,5-3", "chunked", "0", "-1", "5", "websocket", "null",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
)  # fmt: skip
BODIES = (b"token=%ff%fe", b"token=" + b"a" * 5000, b"token&token&&=", b"--x\r\n", b"5\r\nhello\r\n0\r\n\r\n")
NOISE = st.text(st.characters(codec="latin-1", exclude_characters="\r\n "), max_size=30)
SAYS_IT_IS_UNWELL = ("/health", "/readyz")
"""What answers 500 or 503 because that is what it is asked about."""


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with served(ServedWatchdog(settings, token=TOKEN)) as made:
        yield made


def exchange(site: Site, request: bytes) -> bytes:
    """Send it, and return all that is answered, be the end orderly or not."""
    answer = b""
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as client, suppress(ConnectionError):
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        while chunk := client.recv(65_536):
            answer += chunk
    return answer


@hypothesis_settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS),
    path=st.sampled_from(PATHS),
    more=st.tuples(NOISE, st.sampled_from(ENDS), NOISE).map("".join),
    headers=st.lists(st.tuples(st.sampled_from(HEADERS), NOISE | st.sampled_from(VALUES)), max_size=5),
    body=st.binary(max_size=40) | st.sampled_from(BODIES),
)
def test_no_request_makes_it_stumble(
    site: Site, method: str, path: str, more: str, headers: Sequence[tuple[str, str]], body: bytes
) -> None:
    """It is answered with anything but an error of our own; the next client is served."""
    framed = any(name in {"Content-Length", "Transfer-Encoding"} for name, _ in headers)
    lines = [f"{method} {path}{more} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers)]
    lines += [] if framed else [f"Content-Length: {len(body)}"]

    answer = exchange(site, "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body)

    code = int(answer.split(b" ", 2)[1]) if answer else 0
    assert code < 500 or path in SAYS_IT_IS_UNWELL, answer[:300]
    assert site.ask("GET", "/livez").code == 200
