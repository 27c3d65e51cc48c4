"""HTTP requests and responses as values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from kms_local.clock import http_date

MAX_BODY_BYTES = 2 * 1024 * 1024  # twice CloudWatch's own limit of 1 MB, the largest of any service here


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, its body complete and as it was on the wire (still compressed, if it was)."""

    method: str
    path: str  # still percent-encoded
    query: str
    headers: Mapping[str, str]  # names in lower case; repeated ones joined by a comma
    body: bytes
    peer_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One HTTP answer; `Date`, `Content-Length` and `Connection` are added where it is sent."""

    status: int = 200
    body: bytes = b""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]


def wire_form(response: Response, *, now: float, keep_alive: bool, head_only: bool) -> bytes:
    """Return an answer as it goes over the wire, in one piece: over TLS that is one record if it is small.

    Args:
        response: the answer.
        now: POSIX seconds, for `Date`.
        keep_alive: False says `Connection: close`.
        head_only: whether the request was a HEAD, whose answer has every header and no body.
    """
    lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}", f"Date: {http_date(now)}"]
    if response.content_type:
        lines.append(f"Content-Type: {response.content_type}")
    lines += [f"{name}: {value}" for name, value in response.headers]
    if response.status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(response.body)}")
    if not keep_alive:
        lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if head_only else head + response.body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
