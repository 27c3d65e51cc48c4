"""The AWS JSON protocols: a signed POST whose `X-Amz-Target` names the operation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from kms_local.wire.body import inflated
from kms_local.wire.errors import ServiceError, serialization_error
from kms_local.wire.exchange import Request, Response
from kms_local.wire.json_text import parse_json
from kms_local.wire.params import JsonObject

_JSON_TYPE = re.compile(r"application/(x-amz-)?json\b", re.IGNORECASE)
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode  # made once: `dumps` makes one a call


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonProtocol:
    """How one service speaks: its target prefix and its content type."""

    target_prefix: str  # with the dot
    content_type: str
    query_shapes: Mapping[str, str] = field(default_factory=dict)  # for a service that once spoke the query protocol

    def operation(self, request: Request) -> str:
        """Return the operation's name.

        Raises:
            ServiceError: UnknownOperationException: no target, another service's, or a body of another type than JSON.
        """
        target = request.headers.get("x-amz-target", "")
        if request.method != "POST" or not target.startswith(self.target_prefix):
            raise unknown_operation()
        if not _JSON_TYPE.match(request.headers.get("content-type", "application/json")):
            raise unknown_operation()  # the body's type chooses the protocol, and the others do not read the target
        return target.removeprefix(self.target_prefix)

    def decode(self, request: Request) -> JsonObject:
        """Return the request's members.

        Raises:
            ServiceError: SerializationException: not a JSON object, or badly compressed.
        """
        try:
            members = parse_json(inflated(request) or b"{}")
        except ValueError as e:
            raise serialization_error() from e
        if not isinstance(members, dict):
            raise serialization_error()
        return cast("JsonObject", members)

    def answer(self, members: JsonObject, request_id: str, *more: tuple[str, str]) -> Response:
        """Return a successful answer, with `more` headers; operations without a result have an empty body, as AWS's."""
        body = _encode(members).encode() if members else b""
        return self._response(200, body, request_id, *more)

    def refusal(self, error: ServiceError, request_id: str) -> Response:
        """Return an error answer; an old query code goes into a header, where SDKs look for it."""
        members = {"__type": self.query_shapes.get(error.code, error.code)}
        if error.message is not None:
            members["message"] = error.message
        body = _encode(members).encode()
        if error.code not in self.query_shapes:
            return self._response(error.status, body, request_id)
        return self._response(error.status, body, request_id, ("x-amzn-query-error", f"{error.code};Sender"))

    def _response(self, status: int, body: bytes, request_id: str, *more: tuple[str, str]) -> Response:
        return Response(
            status=status,
            body=body,
            content_type=self.content_type,
            headers=(
                ("x-amzn-RequestId", request_id),
                *more,
                ("Cache-Control", "no-cache, no-store, must-revalidate, private"),
            ),
        )


def unknown_operation() -> ServiceError:
    """Refuse an operation that the service does not have."""
    return ServiceError("UnknownOperationException", None)
