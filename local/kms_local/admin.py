"""The admin API: faults of the API on and off, and what the estate looks like; guarded by a token.

    GET    /state     keys, aliases and faults
    GET    /faults    the faults that are on
    POST   /faults    switch one on (members: `kms_local.faults.Fault`), 201 with its number
    DELETE /faults    switch all off, 204
    DELETE /faults/N  switch that one off, 204; 404 if it is not on
    GET    /iam       the roles, as they were handed over
    PUT    /iam       replace the roles (as `serve --iam` takes them), 200 with each role's credentials

Every call carries `X-Kms-Local-Token`, the token of `endpoints.json`.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kms_local.clock import Clock
from kms_local.endpoints import parts
from kms_local.faults import Faults, parse_fault
from kms_local.identities import Identities
from kms_local.kms.keys import Estate
from kms_local.wire.exchange import Request, Response
from kms_local.wire.json_text import parse_json

_MAX_DIGITS = 18
TOKEN_HEADER = "x-kms-local-token"  # noqa: S105  a header's name, not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminApi:
    """Answers admin requests."""

    token: str = field(repr=False)
    faults: Faults
    estate: Estate
    clock: Clock
    identities: Identities
    on_roles: Callable[[], None]  # called after the roles have changed
    changed: Callable[[], None]  # called after time has changed the estate: keys deleted, material rotated

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return _json(401, {"error": f"the header {TOKEN_HEADER} must carry the token of endpoints.json"})
        if request.path == "/faults" or request.path.startswith("/faults/"):
            return self._on_faults(request)
        match request.method, request.path:
            case "GET", "/state":
                return _json(200, self._state())
            case "GET", "/iam":
                return _json(200, dict(self.identities.document))
            case "PUT", "/iam":
                return self._replace_roles(request.body)
            case _:
                return _nothing_here(request)

    def _on_faults(self, request: Request) -> Response:
        match request.method, request.path.removeprefix("/faults").removeprefix("/"):
            case "GET", "":
                return _json(200, {"faults": self.faults.active()})
            case "POST", "":
                return self._add_fault(request.body)
            case "DELETE", "":
                self.faults.clear()
                return Response(status=204)
            case "DELETE", number:
                return self._end_fault(number)
            case _:
                return _nothing_here(request)

    def _add_fault(self, body: bytes) -> Response:
        try:
            members = parse_json(body)
            if not isinstance(members, dict):
                return _json(400, {"error": "a fault is a JSON object"})
            number = self.faults.add(parse_fault(members))
        except ValueError as error:
            return _json(400, {"error": str(error)})
        return _json(201, {"id": number})

    def _end_fault(self, number: str) -> Response:
        if number.isdecimal() and self.faults.remove(int(number[:_MAX_DIGITS])):
            return Response(status=204)
        return _json(404, {"error": f"no fault {number[:_MAX_DIGITS]} is on"})

    def _replace_roles(self, body: bytes) -> Response:
        try:
            self.identities.replace_roles(parse_json(body))
        except ValueError as error:  # PolicyError too
            return _json(400, {"error": str(error)})
        self.on_roles()
        return _json(200, {"roles": {name: parts(one) for name, one in self.identities.role_credentials().items()}})

    def _state(self) -> dict[str, Any]:
        now = self.clock.now()
        if self.estate.settle(now):
            self.changed()
        regions = {
            region.name: {
                "keys": {key_id: key.state(now).value for key_id, key in region.keys.items()},
                "aliases": {name: alias.key_id for name, alias in region.aliases.items()},
            }
            for region in self.estate.regions.values()
        }
        return {"regions": regions, "faults": self.faults.active()}


def _nothing_here(request: Request) -> Response:
    return _json(404, {"error": f"no {request.method} {request.path} here"})


def _json(status: int, value: dict[str, Any]) -> Response:
    return Response(status=status, body=json.dumps(value).encode(), content_type="application/json")
