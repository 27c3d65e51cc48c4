"""The HTTP API of Toxiproxy 2.12: routes, statuses, bodies and headers as the real server sends them."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import unquote

from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.collection import PopulateError, ProxyCollection
from kms_local.toxiproxy.errors import ApiError
from kms_local.toxiproxy.exposition import Exposition
from kms_local.toxiproxy.proxies import Proxy
from kms_local.toxiproxy.toxics import parse_toxic, update_toxic
from kms_local.wire.exchange import Request, Response

VERSION = "2.12.0"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_NO_SNIFFING = ("X-Content-Type-Options", "nosniff")

_NAME = "{name}"  # stands for any segment in a route
_METRICS_PATH = ("metrics",)

_Answer = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Api:
    """Answers API requests."""

    proxies: ProxyCollection
    exposition: Exposition | None  # None: no metrics flag was given, so there is no /metrics
    entropy: Callable[[int], bytes]

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        path = unquote(request.path)
        if path != _clean(path):
            return Response(status=301, headers=(("Location", _clean(path)),))
        methods, arguments = self._route(path)
        if not methods:
            return _plain(404, "404 page not found\n")
        answer = methods.get(request.method) or methods.get("*")
        if answer is None:
            return Response(status=405)
        return _with_request_id(await self._admit(request, answer, arguments), self.entropy)

    async def _admit(self, request: Request, answer: _Answer, arguments: list[str]) -> Response:
        if request.headers.get("user-agent", "").startswith("Mozilla/"):
            return _plain(403, "User agent not allowed\n")
        try:
            return await answer(self, request.body, *arguments)
        except ApiError as error:
            body = go_json.encode({"error": error.message, "status": error.status})
            return _plain(error.status, body + "\n")

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


async def _version(_api: Api, _body: bytes) -> Response:
    body = f'{{"version": "{VERSION}"}}\n'
    return Response(body=body.encode(), content_type="application/json;charset=utf-8")


async def _metrics(api: Api, _body: bytes) -> Response:
    assert api.exposition is not None  # noqa: S101  the route exists only then
    text = api.exposition.text(api.proxies.all())
    return Response(body=text.encode(), content_type="text/plain; version=0.0.4; charset=utf-8")


async def _list_proxies(api: Api, _body: bytes) -> Response:
    members = ",".join(f"{go_json.encode(proxy.name)}:{proxy.text()}" for proxy in api.proxies.all())
    return _json(200, f"{{{members}}}")


async def _create_proxy(api: Api, body: bytes) -> Response:
    return _json(201, (await api.proxies.create(body)).text())


async def _populate(api: Api, body: bytes) -> Response:
    try:
        return _json(201, f'{{"proxies":{_proxy_list(await api.proxies.populate(body))}}}')
    except PopulateError as e:
        message, proxies = go_json.encode(e.error.message), _proxy_list(e.done)
        return _json(e.error.status, f'{{"error":{message},"status":{e.error.status},"proxies":{proxies}}}')


async def _reset(api: Api, _body: bytes) -> Response:
    await api.proxies.reset()
    return Response(status=204)


async def _show_proxy(api: Api, _body: bytes, name: str) -> Response:
    return _json(200, api.proxies.get(name).text())


async def _update_proxy(api: Api, body: bytes, name: str) -> Response:
    return _json(200, (await api.proxies.update(name, body)).text())


async def _delete_proxy(api: Api, _body: bytes, name: str) -> Response:
    await api.proxies.delete(name)
    return Response(status=204)


async def _list_toxics(api: Api, _body: bytes, name: str) -> Response:
    return _json(200, f"[{','.join(toxic.text() for toxic in api.proxies.get(name).toxics())}]")


async def _create_toxic(api: Api, body: bytes, name: str) -> Response:
    proxy = api.proxies.get(name)
    toxic = parse_toxic(body, {toxic.name for toxic in proxy.toxics()})
    proxy.add(toxic)
    return _json(200, toxic.text())


async def _show_toxic(api: Api, _body: bytes, name: str, toxic: str) -> Response:
    return _json(200, api.proxies.get(name).toxic(toxic).text())


async def _update_toxic(api: Api, body: bytes, name: str, toxic_name: str) -> Response:
    proxy = api.proxies.get(name)
    toxic = proxy.toxic(toxic_name)
    update_toxic(toxic, body)
    proxy.changed(toxic)
    return _json(200, toxic.text())


async def _delete_toxic(api: Api, _body: bytes, name: str, toxic: str) -> Response:
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


def _clean(path: str) -> str:
    """Return `path` without empty, `.` and `..` segments; a trailing slash stays."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def _proxy_list(proxies: list[Proxy]) -> str:
    return f"[{','.join(proxy.text() for proxy in proxies)}]" if proxies else "null"


def _json(status: int, text: str) -> Response:
    return Response(status=status, body=text.encode(), content_type=_JSON)


def _plain(status: int, text: str) -> Response:
    return Response(status=status, body=text.encode(), content_type=_TEXT, headers=(_NO_SNIFFING,))


def _with_request_id(response: Response, entropy: Callable[[int], bytes]) -> Response:
    """Add the id that matched routes carry: 12 bytes in 20 characters of base 32."""
    request_id = base64.b32hexencode(entropy(12)).decode().rstrip("=").lower()
    return Response(
        status=response.status,
        body=response.body,
        content_type=response.content_type,
        headers=(*response.headers, ("X-Toxiproxy-Request-Id", request_id)),
    )
