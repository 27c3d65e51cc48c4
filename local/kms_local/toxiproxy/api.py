"""The HTTP API of Toxiproxy 2.12: routes, statuses, bodies and headers as the real server sends them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hmac
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kms_local.clock import Clock
from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.collection import PopulateError, ProxyCollection
from kms_local.toxiproxy.errors import ApiError
from kms_local.toxiproxy.exposition import CONTENT_TYPE, Exposition
from kms_local.toxiproxy.http_messages import Head, Request, Response, canonical, location
from kms_local.toxiproxy.proxies import Proxy
from kms_local.toxiproxy.toxics import parse_toxic, update_toxic

VERSION = "2.12.0"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_NO_SNIFFING = ("X-Content-Type-Options", "nosniff")

_TIMEOUT_PAGE = "<html><head><title>Timeout</title></head><body><h1>Timeout</h1></body></html>"
_HANDLER_SECONDS = 25.0

_NAME = "{name}"  # stands for any segment in a route
_METRICS_PATH = ("metrics",)

_Answer = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class RequestIds:
    """Ids of 12 bytes in 20 characters of base 32: seconds, five bytes of this process, a counter."""

    clock: Clock
    process: bytes
    count: itertools.count[int] = field(default_factory=itertools.count)

    def next(self) -> str:
        """Return another id."""
        seconds = int(self.clock.now()) & 0xFFFFFFFF
        raw = seconds.to_bytes(4) + self.process + (next(self.count) & 0xFFFFFF).to_bytes(3)
        return base64.b32hexencode(raw).decode().rstrip("=").lower()


@dataclass(frozen=True, slots=True)
class Api:
    """Answers API requests."""

    proxies: ProxyCollection
    exposition: Exposition | None  # None: no metrics flag was given, so there is no /metrics
    ids: RequestIds
    token: str | None = None  # None: as in the real server, whoever reaches the port may use it

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        head = request.head
        if head.method == "OPTIONS" and head.path == "*":
            return Response()
        if self.token is not None and not _authorised(head, self.token):
            return _unauthorised()
        if head.path != canonical(head.path):
            return Response(status=301, headers=(("Location", location(head)),))
        methods, arguments = self._route(head.path)
        if not methods:
            return _plain(404, "404 page not found\n")
        answer = methods.get(head.method) or methods.get("*")
        if answer is None:
            return Response(status=405)
        return _with_request_id(await self._admit(request, answer, arguments), self.ids.next())

    def reads_body(self, head: Head) -> bool:
        """Say whether the handler of this request looks at its body."""
        methods, arguments = self._route(head.path)
        if methods.get(head.method) not in _BODY_READERS:
            return False
        try:  # what names a proxy or a toxic that is unknown is refused before its body is read
            for name in arguments[:1]:
                proxy = self.proxies.get(name)
                for toxic in arguments[1:]:
                    proxy.toxic(toxic)
        except ApiError:
            return False
        return True

    async def _admit(self, request: Request, answer: _Answer, arguments: list[str]) -> Response:
        if request.head.headers.get("user-agent", "").startswith("Mozilla/"):
            return _plain(403, "User agent not allowed\n")
        if request.cut and self.reads_body(request.head):
            return Response(status=503)
        try:
            async with asyncio.timeout(_HANDLER_SECONDS):
                return await answer(self, request, *arguments)
        except ApiError as error:
            body = go_json.encode({"error": error.message, "status": error.status})
            return _plain(error.status, body + "\n")
        except TimeoutError:
            return Response(
                status=503, body=_TIMEOUT_PAGE.encode(), headers=(("Content-Type", "text/html; charset=utf-8"),)
            )

    def _route(self, path: str) -> tuple[dict[str, _Answer], list[str]]:
        """Return what a path answers by method, and the names in it; a trailing slash is another path."""
        segments = path.split("/")[1:]
        for pattern, methods in _ROUTES:
            if _matches(pattern, segments) and (pattern != _METRICS_PATH or self.exposition is not None):
                return methods, [segment for part, segment in zip(pattern, segments, strict=True) if part == _NAME]
        return {}, []


def _matches(pattern: tuple[str, ...], segments: list[str]) -> bool:
    return len(pattern) == len(segments) and all(
        segment and part in {_NAME, segment} for part, segment in zip(pattern, segments, strict=True)
    )


def _authorised(head: Head, token: str) -> bool:
    given = head.headers.get("authorization", "").encode("latin-1", "replace")
    return hmac.compare_digest(given, f"Bearer {token}".encode())


def _unauthorised() -> Response:
    refused = _plain(401, go_json.encode({"error": "wrong or missing API token", "status": 401}) + "\n")
    return Response(status=401, body=refused.body, headers=(*refused.headers, ("WWW-Authenticate", "Bearer")))


async def _version(_api: Api, _request: Request) -> Response:
    body = f'{{"version": "{VERSION}"}}\n'
    return _typed(200, body, "application/json;charset=utf-8")


async def _metrics(api: Api, request: Request) -> Response:
    assert api.exposition is not None  # noqa: S101  the route exists only then
    page = api.exposition.text(api.proxies.all()).encode()
    headers: tuple[tuple[str, str], ...] = (("Content-Type", CONTENT_TYPE),)
    accepted = (word.strip().partition(";")[0] for word in request.head.headers.get("accept-encoding", "").split(","))
    if "gzip" in accepted:
        page, headers = gzip.compress(page), (*headers, ("Content-Encoding", "gzip"))
    return Response(body=page, headers=headers)


async def _list_proxies(api: Api, _request: Request) -> Response:
    members = ",".join(f"{go_json.encode(proxy.name)}:{proxy.text()}" for proxy in api.proxies.all())
    return _json(200, f"{{{members}}}")


async def _create_proxy(api: Api, request: Request) -> Response:
    return _json(201, (await api.proxies.create(request.body, request.end)).text())


async def _populate(api: Api, request: Request) -> Response:
    try:
        return _json(201, f'{{"proxies":{_proxy_list(await api.proxies.populate(request.body, request.end))}}}')
    except PopulateError as e:
        message, proxies = go_json.encode(e.error.message), _proxy_list(e.done)
        return _json(e.error.status, f'{{"error":{message},"status":{e.error.status},"proxies":{proxies}}}')


async def _reset(api: Api, _request: Request) -> Response:
    await api.proxies.reset()
    return Response(status=204)


async def _show_proxy(api: Api, _request: Request, name: str) -> Response:
    return _json(200, api.proxies.get(name).text())


async def _update_proxy(api: Api, request: Request, name: str) -> Response:
    return _json(200, (await api.proxies.update(name, request.body, request.end)).text())


async def _delete_proxy(api: Api, _request: Request, name: str) -> Response:
    api.proxies.delete(name)
    return Response(status=204)


async def _list_toxics(api: Api, _request: Request, name: str) -> Response:
    return _json(200, f"[{','.join(toxic.text() for toxic in api.proxies.get(name).toxics())}]")


async def _create_toxic(api: Api, request: Request, name: str) -> Response:
    proxy = api.proxies.get(name)
    toxic = parse_toxic(request.body, request.end, {toxic.name for toxic in proxy.toxics()})
    proxy.add(toxic)
    return _json(200, toxic.text())


async def _show_toxic(api: Api, _request: Request, name: str, toxic: str) -> Response:
    return _json(200, api.proxies.get(name).toxic(toxic).text())


async def _update_toxic(api: Api, request: Request, name: str, toxic_name: str) -> Response:
    proxy = api.proxies.get(name)
    toxic = proxy.toxic(toxic_name)
    if update_toxic(toxic, request.body, request.end):
        proxy.lease(toxic)
    proxy.changed(toxic)
    return _json(200, toxic.text())


async def _delete_toxic(api: Api, _request: Request, name: str, toxic: str) -> Response:
    proxy = api.proxies.get(name)
    proxy.remove(proxy.toxic(toxic))
    return Response(status=204)


_ROUTES: tuple[tuple[tuple[str, ...], dict[str, _Answer]], ...] = (
    (("version",), {"GET": _version}),
    (_METRICS_PATH, {"*": _metrics}),
    (("reset",), {"POST": _reset}),
    (("populate",), {"POST": _populate}),
    (("proxies",), {"GET": _list_proxies, "POST": _create_proxy}),
    (
        ("proxies", _NAME),
        {"GET": _show_proxy, "POST": _update_proxy, "PATCH": _update_proxy, "DELETE": _delete_proxy},
    ),
    (("proxies", _NAME, "toxics"), {"GET": _list_toxics, "POST": _create_toxic}),
    (
        ("proxies", _NAME, "toxics", _NAME),
        {"GET": _show_toxic, "POST": _update_toxic, "PATCH": _update_toxic, "DELETE": _delete_toxic},
    ),
)


_BODY_READERS = {_create_proxy, _populate, _update_proxy, _create_toxic, _update_toxic}


def _proxy_list(proxies: list[Proxy]) -> str:
    return f"[{','.join(proxy.text() for proxy in proxies)}]" if proxies else "null"


def _json(status: int, text: str) -> Response:
    return _typed(status, text, _JSON)


def _typed(status: int, text: str, content_type: str) -> Response:
    return Response(status=status, body=text.encode("utf-8", "replace"), headers=(("Content-Type", content_type),))


def _plain(status: int, text: str) -> Response:
    typed = _typed(status, text, _TEXT)
    return Response(status=status, body=typed.body, headers=(*typed.headers, _NO_SNIFFING))


def _with_request_id(response: Response, request_id: str) -> Response:
    headers = (*response.headers, ("X-Toxiproxy-Request-Id", request_id))
    return Response(status=response.status, body=response.body, headers=headers)
