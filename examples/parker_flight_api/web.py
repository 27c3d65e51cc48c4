"""The routes, and which answer each of the core's errors becomes: by what the caller can do about it."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kms_core import (
    Clock,
    ClosedError,
    ConfigurationError,
    CoreConfig,
    KmsCoreError,
    KmsDeniedError,
    KmsUnavailableError,
    MessageError,
)
from parker_flight_api.bodies import BadRequestError, body_of, to_open, to_seal
from parker_flight_api.bookings import Bookings, UnknownFieldError
from parker_flight_api.metrics import Metrics
from parker_flight_api.readiness import Answer, Watch, health_answer, readiness_answer

MAX_AT_ONCE = 256
"""Bookings that are under way; who comes then is told to come back. Health checks are not counted: a crowd must not get
the task killed."""
QUEUE_SECONDS = 1.0
"""So long may a request wait for one of the core's threads beyond what the core itself takes; then it is answered
that it was in vain. Else a crowd of slow ones would still stand in the queue when the end no longer waits."""
NO_STORE = {"Cache-Control": "no-store"}

log = logging.getLogger("parker_flight_api")

Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """What answers each route."""

    def __init__(
        self, bookings: Bookings, watch: Watch, metrics: Metrics, clock: Clock, *, config: CoreConfig, health_token: str
    ) -> None:
        self._bookings, self._watch, self._metrics, self._clock = bookings, watch, metrics, clock
        self._later = {"Retry-After": str(math.ceil(config.breaker_open_seconds))}
        """When an open breaker lets a probe through."""
        self._seconds = config.deadline_seconds + QUEUE_SECONDS
        self._health_token = health_token
        self._under_way = 0
        self.draining = False
        """Whether the end has begun: each answer is then its connection's last."""

    def begin_to_end(self) -> None:
        """Tell load balancers and clients that the end has begun."""
        self.draining = True

    async def livez(self, _request: Request) -> Response:
        """Say that the process answers; never depends on AWS, since failing it gets the task killed."""
        return JSONResponse({"alive": True}, headers=NO_STORE)

    async def readyz(self, _request: Request) -> Response:
        """Say whether each key has a region that works."""
        return _json(readiness_answer(self._watch.last(), draining=self.draining))

    async def health(self, request: Request) -> Response:
        """Answer in the setup guide's form."""
        breakers = {name: region.breaker for name, region in self._bookings.core.health().regions.items()}
        detail = self._may_see_detail(request)
        return _json(health_answer(self._watch.last(), breakers, self._clock.now_utc(), detail=detail))

    async def metrics(self, request: Request) -> Response:
        """Answer in Prometheus's text format, or OpenMetrics where that is asked for."""
        body, content_type = self._metrics.text(request.headers.get("accept", ""))
        return Response(body, headers={**NO_STORE, "Content-Type": content_type})

    async def seal(self, request: Request) -> Response:
        """Seal a booking's fields."""
        asked = to_seal(await body_of(request))
        async with asyncio.timeout(self._seconds):
            sealed = await self._bookings.seal(asked.reference, asked.values)
        texts = {name: base64.b64encode(message).decode() for name, message in sealed.items()}
        return JSONResponse({"reference": asked.reference, "sealed": texts}, headers=NO_STORE)

    async def open(self, request: Request) -> Response:
        """Open a booking's fields."""
        asked = to_open(await body_of(request))
        async with asyncio.timeout(self._seconds):
            values = await self._bookings.open(asked.reference, asked.sealed)
        return JSONResponse({"reference": asked.reference, "fields": values}, headers=NO_STORE)

    def guarded(self, route: str, handle: Handler) -> Handler:
        """Return `handle` with its errors answered, its requests counted, and not too many of them at once."""

        async def answer(request: Request) -> Response:
            began = self._clock.monotonic()
            response = await self._answered(handle, request)
            self._metrics.answered(route, response.status_code, self._clock.monotonic() - began)
            return response

        return answer

    async def _answered(self, handle: Handler, request: Request) -> Response:
        if self._under_way >= MAX_AT_ONCE:
            return _error(503, "busy", {"Retry-After": "1"})
        self._under_way += 1
        try:
            return await handle(request)
        except (BadRequestError, UnknownFieldError) as e:
            return _error(e.status if isinstance(e, BadRequestError) else 400, str(e))
        except KmsCoreError as e:
            return self._refused(e)
        except TimeoutError:
            return _error(503, "busy", self._later)
        finally:
            self._under_way -= 1

    def _refused(self, error: KmsCoreError) -> Response:
        """Answer for an error of the core; who asks learns no more than what to do."""
        match error:
            case MessageError():
                return _error(422, "this is not what was sealed for this booking")
            case KmsUnavailableError() | ClosedError():
                log.warning("kms.unavailable code=%s: %s", error.error_code, error)
                return _error(503, "try again later", self._later)
            case KmsDeniedError() | ConfigurationError() | _:
                log.error("kms.denied code=%s: somebody must look: %s", error.error_code, error)
                return _error(500, "we are looking into it")

    def _may_see_detail(self, request: Request) -> bool:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        return bool(self._health_token) and hmac.compare_digest(shown.encode(), self._health_token.encode())


def application(api: Api, close: Callable[[], Awaitable[None]]) -> Starlette:
    """Return the ASGI application; `close` is awaited when the last request has been answered."""

    @asynccontextmanager
    async def life(_app: Starlette) -> AsyncIterator[None]:
        yield
        await close()

    routes = [
        Route("/livez", api.livez),
        Route("/readyz", api.readyz),
        Route("/health", api.health),
        Route("/metrics", api.metrics),
        Route("/bookings/seal", api.guarded("seal", api.seal), methods=["POST"]),
        Route("/bookings/open", api.guarded("open", api.open), methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=life)


class LastAnswers:
    """While the end has begun, tells each client with its answer that the connection closes: none asks in vain."""

    def __init__(self, app: Starlette, api: Api) -> None:
        self._app, self._api = app, api

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what is asked and answered."""

        async def tell(message: Any) -> None:
            if message["type"] == "http.response.start" and self._api.draining:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, tell)


def _json(answer: Answer) -> Response:
    status, document = answer
    return JSONResponse(document, status, NO_STORE)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, {**NO_STORE, **(headers or {})})
