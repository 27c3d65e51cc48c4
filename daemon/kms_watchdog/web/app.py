"""The routes. Handlers answer from memory; what renders does so in a worker thread: `/livez` never waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kms_core.clock import Clock
from kms_watchdog.health import Health
from kms_watchdog.health import Status as HealthStatus
from kms_watchdog.web.documents import Status, health_document, status_document
from kms_watchdog.web.page import Page

log = structlog.get_logger("http")

HEALTH_CODES = {HealthStatus.HEALTHY: 200, HealthStatus.DEGRADED: 503, HealthStatus.UNHEALTHY: 500}

COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report is one self-contained file: its styles and pictures are inside it, and it has no script at all."""


class Watched(Protocol):
    """What is served."""

    clock: Clock

    def alive(self) -> bool:
        """Return whether jobs are being dispatched."""

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


class Handlers:
    """What answers each route."""

    def __init__(self, watched: Watched, page: Page) -> None:
        self._watched, self._page = watched, page

    async def livez(self, _request: Request) -> Response:
        """Say whether the process does its work; never depends on AWS, since failing it gets the process killed."""
        alive = self._watched.alive()
        return JSONResponse({"alive": alive}, 200 if alive else 503, COMMON_HEADERS)

    async def readyz(self, _request: Request) -> Response:
        """Say whether it has looked at everything once."""
        waiting = self._watched.waiting_for()
        body = {"ready": not waiting, "waiting_for": list(waiting)}
        return JSONResponse(body, 503 if waiting else 200, COMMON_HEADERS)

    async def health(self, _request: Request) -> Response:
        """Answer in the setup guide's form: 200 healthy, 503 degraded, 500 unhealthy."""
        health = self._watched.health_now()
        document = health_document(health, self._watched.clock.now_utc())
        return JSONResponse(document, HEALTH_CODES[health.status], COMMON_HEADERS)

    def metrics(self, request: Request) -> Response:
        """Answer in Prometheus's text format, or OpenMetrics if that is asked for."""
        body, content_type = self._watched.metrics_text(request.headers.get("accept", ""))
        return Response(body, headers={**COMMON_HEADERS, "Content-Type": content_type})

    def status(self, _request: Request) -> Response:
        """Answer with the status page's data."""
        return JSONResponse(status_document(self._watched.status()), headers=COMMON_HEADERS)

    def index(self, _request: Request) -> Response:
        """Answer with the status page."""
        return self._html(self._page.whole(status_document(self._watched.status())))

    def fragment(self, _request: Request) -> Response:
        """Answer with what changes on the status page."""
        return self._html(self._page.fragment(status_document(self._watched.status())))

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

    def _html(self, text: str) -> Response:
        headers = {**COMMON_HEADERS, "Content-Security-Policy": PAGE_POLICY}
        return Response(text, headers=headers, media_type="text/html; charset=utf-8")


def application(watched: Watched, page: Page, *, with_metrics: bool) -> Starlette:
    """Return the ASGI application."""
    handlers = Handlers(watched, page)
    routes = [
        Route("/livez", handlers.livez),
        Route("/readyz", handlers.readyz),
        Route("/health", handlers.health),
        Route("/api/v1/status", handlers.status),
        Route("/", handlers.index),
        Route("/fragment", handlers.fragment),
        Route("/static/{name}", handlers.static),
        Route("/drills/{run_id}/report.html", handlers.report),
    ]
    if with_metrics:
        routes.append(Route("/metrics", handlers.metrics))
    return Starlette(routes=routes, exception_handlers={HTTPException: _not_found, Exception: _failed})


async def _not_found(_request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 404
    return PlainTextResponse(f"{code}\n", code, COMMON_HEADERS)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer as the setup guide says for an exception, but keep its text for the log."""
    log.error("http.failed", path=request.url.path, error=type(error).__name__, exc_info=error)
    return JSONResponse({"status": "unhealthy", "error": "internal"}, 500, COMMON_HEADERS)
