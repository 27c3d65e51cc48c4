"""Requests, one after the other, each with what came of it; a refusal for load is waited out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from kms_core.clock import Clock
from kms_watchdog import aws
from kms_watchdog.config import Endpoint, Settings
from kms_watchdog.estate.kms_admin import EstateError, insist
from kms_watchdog.preflight.answers import NO_ENDPOINT, Seen, words_of


class Asker:
    """The clients of the account; main thread. Requests are counted."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._clients: dict[tuple[str, str], Any] = {}
        self._never = threading.Event()
        self.requests = 0

    def kms(self, region: str, operation: str, call: Callable[[Any], Any], member: str = "") -> Seen:
        """Ask KMS, as `ask`."""
        return self.ask("kms", region, operation, call, member)

    def ask(self, service: str, region: str, operation: str, call: Callable[[Any], Any], member: str = "") -> Seen:
        """Make one request and return what came of it; no error of AWS's is raised.

        Args:
            service: as boto3 names it.
            region: where.
            operation: AWS's name of what `call` does.
            call: makes the request with the client.
            member: what the answer must have: botocore calls one that was cut off a success (aws.md, trap G).
        """
        if region in self._settings.endpoints and service not in Endpoint.model_fields:
            # AWS's own end point in place of one that is not configured would be another account's, or nobody's
            return Seen(region=region, operation=operation, code=NO_ENDPOINT)
        where = (service, region)
        if where not in self._clients:
            self._clients[where] = aws.client(self._settings, service, region)

        def once() -> Mapping[str, Any]:
            self.requests += 1
            answer: Mapping[str, Any] = call(self._clients[where]) or {}
            if member:
                answer[member]
            return answer

        try:
            answer = insist(once, region, operation, pause=self.pause)
        except EstateError as e:
            return Seen(
                region=region,
                operation=operation,
                code=e.code,
                message=words_of(_message(e.__cause__), e.code),
                request_id=e.request_id,
            )
        request_id = str(answer.get("ResponseMetadata", {}).get("RequestId", ""))
        return Seen(region=region, operation=operation, request_id=request_id, answer=answer)

    def pages(
        self, service: str, region: str, operation: str, call: Callable[[Any, Mapping[str, str]], Any], member: str,
        marker: tuple[str, str],
    ) -> Seen:  # fmt: skip
        """Ask for every page of a list; the answer holds all of `member`, the rest is the last page's.

        Args:
            service: as for `ask`.
            region: as for `ask`.
            operation: as for `ask`.
            call: makes the request, with the arguments that name the page.
            member: the list.
            marker: the argument that names a page, and the answer's member that tells the next one.
        """
        argument, told = marker
        found: list[Any] = []
        page: dict[str, str] = {}
        while True:
            seen = self.ask(service, region, operation, lambda client, page=page: call(client, page), member)  # type: ignore[misc]
            if seen.code:
                return seen
            found += seen.answer[member]
            if not seen.answer.get(told):
                return Seen(
                    region=region,
                    operation=operation,
                    request_id=seen.request_id,
                    answer={**seen.answer, member: found},
                )
            page = {argument: str(seen.answer[told])}

    def pause(self, seconds: float) -> None:
        """Wait."""
        self._clock.wait(self._never, seconds)


def _message(error: BaseException | None) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Message", ""))
