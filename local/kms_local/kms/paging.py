"""Pages of a listing: `Limit`, `Marker`, `Truncated`, `NextMarker`."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

_POSITION = re.compile(rb"at:(\d{1,9})")


def page(params: Params, name: str, items: Sequence[JsonObject], *, default: int, high: int) -> JsonObject:
    """Return one page of `items` under `name`; a marker is the position where the next page begins."""
    limit = params.integer("Limit", low=1, high=high, default=default) or default
    start = _position(params.optional_text("Marker"))
    end = start + limit
    answer: JsonObject = {name: list(items[start:end]), "Truncated": end < len(items)}
    if end < len(items):
        answer["NextMarker"] = base64.b64encode(f"at:{end}".encode()).decode()
    return answer


def _position(marker: str | None) -> int:
    if marker is None:
        return 0
    try:
        found = _POSITION.fullmatch(base64.b64decode(marker, validate=True))
    except (binascii.Error, ValueError):
        found = None
    if found is None:
        raise ServiceError("InvalidMarkerException", "Could not deserialize marker")
    return int(found[1])
