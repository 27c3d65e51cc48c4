"""The admin API: faults of the API on and off, and what the estate looks like; guarded by a token.

    GET    /state     keys, aliases and faults
    GET    /faults    the faults that are on
    POST   /faults    switch one on (members: `kms_local.faults.Fault`), 201 with its number
    DELETE /faults    switch all off, 204

Every call carries `X-Kms-Local-Token`, the token of `endpoints.json`.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field
from typing import Any

from kms_local.clock import Clock
from kms_local.faults import Faults, parse_fault
from kms_local.kms.keys import Estate
from kms_local.wire.exchange import Request, Response

TOKEN_HEADER = "x-kms-local-token"  # noqa: S105  a header's name, not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminApi:
    """Answers admin requests."""

    token: str = field(repr=False)
    faults: Faults
    estate: Estate
    clock: Clock

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return _json(401, {"error": f"the header {TOKEN_HEADER} must carry the token of endpoints.json"})
        match request.method, request.path:
            case "GET", "/state":
                return _json(200, self._state())
            case "GET", "/faults":
                return _json(200, {"faults": self.faults.active()})
            case "POST", "/faults":
                return self._add_fault(request.body)
            case "DELETE", "/faults":
                self.faults.clear()
                return Response(status=204)
            case _:
                return _json(404, {"error": f"no {request.method} {request.path} here"})

    def _add_fault(self, body: bytes) -> Response:
        try:
            members = json.loads(body)
            if not isinstance(members, dict):
                return _json(400, {"error": "a fault is a JSON object"})
            number = self.faults.add(parse_fault(members))
        except ValueError as error:
            return _json(400, {"error": str(error)})
        return _json(201, {"id": number})

    def _state(self) -> dict[str, Any]:
        now = self.clock.now()
        self.estate.settle(now)
        regions = {
            region.name: {
                "keys": {key_id: key.state(now).value for key_id, key in region.keys.items()},
                "aliases": {name: alias.key_id for name, alias in region.aliases.items()},
            }
            for region in self.estate.regions.values()
        }
        return {"regions": regions, "faults": self.faults.active()}


def _json(status: int, value: dict[str, Any]) -> Response:
    return Response(status=status, body=json.dumps(value).encode(), content_type="application/json")
