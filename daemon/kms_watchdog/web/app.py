"""The routes. Handlers answer from memory; what renders does so in a worker thread: `/livez` never waits for it."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from kms_core.clock import Clock
from kms_watchdog.health import Health
from kms_watchdog.health import Status as HealthStatus
from kms_watchdog.looks import CanaryBusyError, TooManyLooksError, UnknownCanaryError
from kms_watchdog.results import CanaryResult
from kms_watchdog.web.access import SESSION_SECONDS, Access, Answer
from kms_watchdog.web.documents import Status, health_document, result_document, status_document
from kms_watchdog.web.door import (
    COMMON_HEADERS,
    IN_THE_CLEAR,
    LATER,
    Door,
    Visitor,
    address_of,
    cookie_name,
    from_our_page,
    refuse,
)
from kms_watchdog.web.flights import Sharing
from kms_watchdog.web.page import Page, Viewer

log = structlog.get_logger("http")

HEALTH_CODES = {HealthStatus.HEALTHY: 200, HealthStatus.DEGRADED: 503, HealthStatus.UNHEALTHY: 500}
MAX_FORM_BYTES = 4096
GZIP_LEVEL = 5
"""The page is a fifteenth then, for a millisecond or two; nothing secret is on it that somebody could guess at."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report is one self-contained file: its styles and pictures are inside it, and it has no script at all."""
HTML_HEADERS = {
    **COMMON_HEADERS,
    "Content-Security-Policy": PAGE_POLICY,
    "Content-Type": "text/html; charset=utf-8",
}


class Watched(Protocol):
    """What is served."""

    clock: Clock
    access: Access

    def alive(self) -> bool:
        """Return whether jobs are being dispatched and results kept."""

    def waiting_for(self) -> tuple[str, ...]:
        """Return what is missing before it is ready."""

    def health_now(self) -> Health:
        """Return the live health."""

    def status(self) -> Status:
        """Return all that the status page tells."""

    def metrics_text(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type."""

    def report(self, run_id: str) -> Path | None:
        """Return a drill's report; None: there is none, or `run_id` is no run id."""

    def run_canary(self, name: str) -> CanaryResult:
        """Let a canary look now; its result has gone to every sink. Takes as long as the look.

        Raises:
            UnknownCanaryError, CanaryBusyError, TooManyLooksError: it was not asked.
        """


class Handlers:
    """What answers each route."""

    def __init__(self, watched: Watched, page: Page) -> None:
        self._watched, self._page = watched, page
        self._door, self._sharing = Door(watched.access), Sharing()

    async def livez(self, _request: Request) -> Response:
        """Say whether the process does its work; never depends on AWS, since failing it gets the process killed."""
        alive = self._watched.alive()
        return JSONResponse({"alive": alive}, 200 if alive else 503, COMMON_HEADERS)

    async def readyz(self, _request: Request) -> Response:
        """Say whether it has looked at everything once."""
        waiting = self._watched.waiting_for()
        body = {"ready": not waiting, "waiting_for": list(waiting)}
        return JSONResponse(body, 503 if waiting else 200, COMMON_HEADERS)

    async def health(self, request: Request) -> Response:
        """Answer in the setup guide's form: 200 healthy, 503 degraded, 500 unhealthy."""
        # A wrong token here is a stranger's: an uptime monitor must not read it as an outage.
        detail, health = self._door.visitor(request).known, self._watched.health_now()
        document = health_document(health, self._watched.clock.now_utc(), detail=detail)
        return JSONResponse(document, HEALTH_CODES[health.status], COMMON_HEADERS)

    async def metrics(self, request: Request) -> Response:
        """Answer in Prometheus's text format, or OpenMetrics if that is asked for."""
        accept = request.headers.get("accept", "")
        body, content_type = await self._sharing.get(("metrics", accept), lambda: self._watched.metrics_text(accept))
        return Response(body, headers={**COMMON_HEADERS, "Content-Type": content_type})

    async def status(self, request: Request) -> Response:
        """Answer with the status page's data; 401 for a token that is wrong, so that nobody misses detail unawares."""
        visitor = self._door.visitor(request)
        if visitor in {Visitor.WRONG, Visitor.TOO_OFTEN, Visitor.IN_THE_CLEAR} and (
            refusal := self._door.refusal(request, visitor)
        ):
            return refusal
        return await self._made(
            request,
            ("status", visitor.known),
            lambda: self._status_json(detail=visitor.known),
            {**COMMON_HEADERS, "Content-Type": "application/json"},
        )

    async def index(self, request: Request) -> Response:
        """Answer with the status page."""
        return await self._drawn(request, self._page.whole)

    async def fragment(self, request: Request) -> Response:
        """Answer with what changes on the status page."""
        return await self._drawn(request, self._page.fragment)

    async def static(self, request: Request) -> Response:
        """Answer with one of the page's own files."""
        asset = self._page.assets.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404)
        caching = {"Cache-Control": "public, max-age=31536000, immutable"}  # the address carries the content's hash
        return Response(asset.body, headers={**COMMON_HEADERS, **caching, "Content-Type": asset.content_type})

    def report(self, request: Request) -> Response:
        """Answer with a drill's report."""
        path = self._watched.report(request.path_params["run_id"])
        if path is None:
            raise HTTPException(404)
        headers = {**COMMON_HEADERS, "Content-Security-Policy": REPORT_POLICY}
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)

    async def run_canary(self, request: Request) -> Response:
        """Let a canary look now, and answer with what it saw: whatever that is, the answer is 200."""
        if refusal := self._door.refusal(request, self._door.visitor(request)):
            return refusal
        try:
            result = await run_in_threadpool(self._watched.run_canary, request.path_params["name"])
        except UnknownCanaryError as e:
            return refuse(404, "unknown_canary", "no canary has that id", nearest=e.nearest)
        except CanaryBusyError:
            return refuse(409, "busy", "it is looking right now: its result comes by itself")
        except TooManyLooksError:
            return refuse(503, "too_many", "as many as may look at once are looking", headers={"Retry-After": "5"})
        if "text/html" in request.headers.get("accept", ""):  # a browser without script
            return RedirectResponse("/", 303, COMMON_HEADERS)
        return JSONResponse(result_document(result), headers=COMMON_HEADERS)

    async def login(self, request: Request) -> Response:
        """Ask a person for the token, and begin a session for whoever knows it."""
        if not self._door.access.configured:
            raise HTTPException(404)
        in_the_clear = self._door.in_the_clear(request)
        if request.method != "POST":
            return html(self._page.login(IN_THE_CLEAR if in_the_clear else ""))
        if not from_our_page(request):
            return refuse(403, "cross_site", "sign in on our own page")
        if in_the_clear:
            return html(self._page.login(IN_THE_CLEAR), 403)
        shown = parse_qs((await body_of(request)).decode("utf-8", "replace")).get("token", [""])[0].strip()
        answer = self._door.access.check(shown, address_of(request))
        if answer is Answer.TOO_OFTEN:
            return html(self._page.login("Too many wrong tokens from this address: wait a minute."), 429, LATER)
        if answer is Answer.WRONG:
            return html(self._page.login("That is not the token."), 401)
        response = RedirectResponse("/", 303, COMMON_HEADERS)
        response.set_cookie(
            cookie_name(request),
            self._door.access.begin_session(),
            max_age=int(SESSION_SECONDS),
            httponly=True,
            secure=request.url.scheme == "https",
            samesite="strict",
        )
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        if not from_our_page(request):
            return refuse(403, "cross_site", "sign out on our own page")
        self._door.access.end_session(request.cookies.get(cookie_name(request), ""))
        response = RedirectResponse("/", 303, COMMON_HEADERS)
        response.delete_cookie(cookie_name(request), httponly=True, samesite="strict")
        return response

    async def _drawn(self, request: Request, draw: Callable[[Mapping[str, Any], Viewer], str]) -> Response:
        visitor = self._door.visitor(request)
        viewer = Viewer(signed_in=visitor.known, may_sign_in=self._door.access.configured)
        return await self._made(
            request, (draw.__name__, viewer), lambda: draw(self._document(viewer), viewer), HTML_HEADERS
        )

    async def _made(
        self, request: Request, kind: tuple[Hashable, ...], make: Callable[[], str], headers: Mapping[str, str]
    ) -> Response:
        """Answer with what `make` makes in a worker, once for all of one kind who wait; packed if that is liked."""
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(await self._sharing.get(kind, make), headers=headers)
        body = await self._sharing.get((*kind, "gzip"), lambda: gzip.compress(make().encode(), GZIP_LEVEL, mtime=0))
        return Response(body, headers={**headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"})

    def _document(self, viewer: Viewer) -> Mapping[str, Any]:
        return status_document(self._watched.status(), detail=viewer.signed_in)

    def _status_json(self, *, detail: bool) -> str:
        return json.dumps(status_document(self._watched.status(), detail=detail), separators=(",", ":"))


def application(watched: Watched, page: Page, *, with_metrics: bool) -> Starlette:
    """Return the ASGI application."""
    handlers = Handlers(watched, page)
    routes = [
        Route("/livez", handlers.livez),
        Route("/readyz", handlers.readyz),
        Route("/health", handlers.health),
        Route("/api/v1/status", handlers.status),
        Route("/api/v1/canaries/{name}/run", handlers.run_canary, methods=["POST"]),
        Route("/", handlers.index),
        Route("/fragment", handlers.fragment),
        Route("/login", handlers.login, methods=["GET", "POST"]),
        Route("/logout", handlers.logout, methods=["POST"]),
        Route("/static/{name}", handlers.static),
        Route("/drills/{run_id}/report.html", handlers.report),
    ]
    if with_metrics:
        routes.append(Route("/metrics", handlers.metrics))
    return Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _failed})


async def body_of(request: Request) -> bytes:
    """Return the body of a form.

    Raises:
        HTTPException: 413, it is larger than any of our forms.
    """
    found = bytearray()
    chunks: AsyncIterator[bytes] = request.stream()
    async for chunk in chunks:
        found += chunk
        if len(found) > MAX_FORM_BYTES:
            raise HTTPException(413)
    return bytes(found)


def html(text: str, code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page under its policy."""
    return Response(text, code, headers={**HTML_HEADERS, **(headers or {})})


async def _refused(_request: Request, error: Exception) -> Response:
    code, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (404, None)
    return PlainTextResponse(f"{code}\n", code, {**COMMON_HEADERS, **(headers or {})})


async def _failed(request: Request, error: Exception) -> Response:
    """Answer as the setup guide says for an exception, but keep its text for the log."""
    log.error("http.failed", path=request.url.path, error=type(error).__name__, exc_info=error)
    return JSONResponse({"status": "unhealthy", "error": "internal"}, 500, COMMON_HEADERS)
