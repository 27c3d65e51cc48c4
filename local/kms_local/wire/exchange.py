"""HTTP requests and responses as values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus

from kms_local.clock import http_date

_NO_CONTENT = 204
_PHRASES = {int(status): status.phrase for status in HTTPStatus}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where an answer is cut off, and its connection with it."""

    at: int
    """How many bytes of the body are sent; with `in_head`, of the whole answer, and no byte of the body."""
    in_head: bool = False
    reset: bool = False
    """Whether the connection ends with a RST, not with a FIN. Either way it ends without a word from TLS."""


answer_cut: ContextVar[Cut | None] = ContextVar("answer_cut", default=None)
"""Where to cut the answer to the request under way: set while a handler runs, obeyed when it has ended."""

Handler = Callable[[Request], Awaitable[Response]]


def wire_parts(response: Response, *, now: float, keep_alive: bool, head_only: bool) -> tuple[bytes, bytes]:
    """Return an answer's head and body as they go over the wire.

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
    if response.status != _NO_CONTENT:
        lines.append(f"Content-Length: {len(response.body)}")
    if not keep_alive:
        lines.append("Connection: close")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1"), b"" if head_only else response.body


def _phrase(status: int) -> str:
    return _PHRASES.get(status, "Unknown")
