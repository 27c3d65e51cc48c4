"""HTTP requests and responses as Go's `net/http` reads and writes them; no input or output happens here."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

MAX_HEAD_BYTES = 1024 * 1024 + 4096
MAX_BODY_BYTES = 32 * 1024 * 1024
_CHUNKED_ABOVE = 2048  # bytes; a longer answer of the real server goes out in chunks
_NO_BODY = {HTTPStatus.NO_CONTENT}
_VERSION = re.compile(r"HTTP/([0-9])\.([0-9])")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOST = re.compile(r"[!$%&'()*+,\-.0-9:;=A-Z\[\]_a-z~]*")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z ]+")  # with a space it is refused, but a little later
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPE = re.compile(rb"%([0-9a-fA-F]{2})")
_KEPT_IN_PATH = re.compile(rb"[A-Za-z0-9\-._~$&+,/:;=@]")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")


class HttpError(Exception):
    """A request that is answered before any handler sees it, and whose connection is closed."""

    def __init__(self, status: str, body: str | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = status if body is None else body

    def wire_form(self) -> bytes:
        """Return the answer."""
        head = f"HTTP/1.1 {self.status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
        return (head + self.body).encode("latin-1", "replace")


_BAD_REQUEST = "400 Bad Request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The request line and the headers."""

    method: str
    origin: str
    """What stands before the path: scheme and host of an absolute target, or nothing."""
    path: str
    """Decoded; bytes that are no UTF-8 are kept as surrogates."""
    query: str | None
    minor: int
    """Of the version: 1 of HTTP/1.1."""
    headers: Mapping[str, str]
    """Names in lower case; of a repeated one the first."""
    length: int
    """Of the body; 0 while `chunked`."""
    chunked: bool

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may stay open afterwards."""
        words = _words(self.headers.get("connection", ""))
        return "close" not in words if self.minor else "keep-alive" in words

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        return bool(self.minor and (self.chunked or self.length)) and "100-continue" in self._expected

    @property
    def expects_else(self) -> bool:
        """Whether the client expects what no server here can do."""
        return bool(self.headers.get("expect")) and "100-continue" not in self._expected

    @property
    def _expected(self) -> set[str]:
        return _words(self.headers.get("expect", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as a handler sees it."""

    head: Head
    body: bytes = b""
    end: str = "EOF"
    """Why there is no more of the body, in Go's words."""
    cut: bool = False
    """Whether the client went away before its body was complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Line(NamedTuple):
    """The request line."""

    method: str
    target: str
    minor: int


def request_line(raw: bytes) -> Line:
    """Read a request line.

    Raises:
        HttpError: it is none.
    """
    method, space, rest = raw.decode("latin-1").partition(" ")
    target, second, version = rest.partition(" ")
    found = _VERSION.fullmatch(version)
    if not (space and second and found and _TOKEN.fullmatch(method)):
        raise HttpError(_BAD_REQUEST)
    if found[1] != "1":
        raise HttpError("505 HTTP Version Not Supported: unsupported protocol version")
    return Line(method, target, int(found[2]))


def read_head(line: Line, raw: bytes) -> Head:
    """Read what follows the request line, up to the empty line and without it.

    Raises:
        HttpError: there is something wrong with it.
    """
    origin, path, query = _target(line.method, line.target)
    headers = list(_fields(raw))
    _check(line, headers)
    first: dict[str, str] = {}
    for name, value in headers:
        first.setdefault(name.lower(), value)
    chunked = _chunked(line, headers)
    length = 0 if chunked else _length([value for name, value in headers if name.lower() == "content-length"])
    return Head(
        method=line.method,
        origin=origin,
        path=path,
        query=query,
        minor=line.minor,
        headers=first,
        length=length,
        chunked=chunked,
    )


def _target(method: str, target: str) -> tuple[str, str, str | None]:
    origin, rest = "", target
    if method == "CONNECT" and not target.startswith("/"):
        if not target:
            return "", "", None
        origin = re.split("[/?]", target, maxsplit=1)[0]
        origin, rest = f"//{origin}", target[len(origin) :]
    elif not target.startswith("/") and target != "*":
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise HttpError(_BAD_REQUEST)
        origin, rest = absolute[0], target[absolute.end() :]
    if any(ord(character) <= ord(" ") or character == "\x7f" for character in rest):
        raise HttpError(_BAD_REQUEST)
    path, mark, query = rest.partition("?")
    raw = path.encode("latin-1")
    if raw.count(b"%") != len(_ESCAPE.findall(raw)):
        raise HttpError(_BAD_REQUEST)
    decoded = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw)
    return origin, decoded.decode("utf-8", "surrogateescape"), query if mark else None


def _fields(raw: bytes) -> Iterable[tuple[str, str]]:
    lines = [line.removesuffix("\r") for line in raw.decode("latin-1").split("\n")] if raw else []
    if lines and lines[0][:1] in {" ", "\t"}:
        raise HttpError(_BAD_REQUEST)
    unfolded: list[str] = []
    for line in lines:
        if line[:1] in {" ", "\t"}:
            unfolded[-1] += " " + line.strip(" \t")
        else:
            unfolded.append(line)
    for line in unfolded:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise HttpError(_BAD_REQUEST)
        yield name, value.strip(" \t")


def _check(line: Line, headers: list[tuple[str, str]]) -> None:
    hosts = [value for name, value in headers if name.lower() == "host"]
    if len(hosts) > 1:
        raise HttpError(_BAD_REQUEST)
    if line.minor and not hosts and line.method != "CONNECT":
        raise HttpError(f"{_BAD_REQUEST}: missing required Host header")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise HttpError(f"{_BAD_REQUEST}: malformed Host header")
    if any(" " in name for name, _ in headers):
        raise HttpError(f"{_BAD_REQUEST}: invalid header name")


def _chunked(line: Line, headers: list[tuple[str, str]]) -> bool:
    encodings = [value for name, value in headers if name.lower() == "transfer-encoding"]
    if not encodings or not line.minor:
        return False
    if len(encodings) > 1 or encodings[0].lower() != "chunked":
        raise HttpError("501 Not Implemented", "Unsupported transfer encoding")
    return True


def _length(given: list[str]) -> int:
    if not given:
        return 0
    if len(set(given)) > 1 or not given[0].isascii() or not given[0].isdecimal() or int(given[0]) >= 2**63:
        raise HttpError(_BAD_REQUEST)
    return int(given[0])


def _words(value: str) -> set[str]:
    return {word.strip(" \t").lower() for word in value.split(",")}


def canonical(path: str) -> str:
    """Return `path` without empty, `.` and `..` segments; a trailing slash stays."""
    if not path:
        return "/"
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def location(head: Head) -> str:
    """Return where a request with a path that is not canonical is sent."""
    raw = canonical(head.path).encode("utf-8", "surrogateescape")
    escaped = "".join(chr(byte) if _KEPT_IN_PATH.fullmatch(bytes([byte])) else f"%{byte:02X}" for byte in raw)
    return head.origin + (escaped if head.query is None else f"{escaped}?{head.query}")


def wire_form(head: Head, response: Response, *, date: str, close: bool) -> bytes:
    """Return an answer as it goes over the wire.

    Args:
        head: of the request.
        response: the answer.
        date: the value of `Date`.
        close: whether the connection ends with it.
    """
    body = response.body
    chunks = bool(head.minor) and len(body) > _CHUNKED_ABOVE
    lines = [f"HTTP/1.{head.minor and 1} {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in sorted(response.headers)]
    lines.append(f"Date: {date}")
    if chunks:
        lines.append("Transfer-Encoding: chunked")
    elif response.status not in _NO_BODY and (body or head.method != "HEAD") and len(body) <= _CHUNKED_ABOVE:
        lines.append(f"Content-Length: {len(body)}")
    if close and head.minor:
        lines.append("Connection: close")
    elif not close and not head.minor and not head.expects_else:
        lines.append("Connection: keep-alive")
    start = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
    if head.method == "HEAD":
        return start
    return start + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunks else body)
