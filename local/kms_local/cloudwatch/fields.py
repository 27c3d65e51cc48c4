"""Parts of requests that several operations share: dimensions, timestamps, paging, and the wording of refusals."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from datetime import datetime

from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

MAX_DIMENSIONS = 30
_MAX_NAME, _MAX_VALUE = 255, 1024


def bad_value(message: str) -> ServiceError:
    """Refuse a value."""
    return ServiceError("InvalidParameterValue", message)


def bad_combination(message: str) -> ServiceError:
    """Refuse members that do not go together."""
    return ServiceError("InvalidParameterCombination", message)


def missing(name: str) -> ServiceError:
    """Refuse a request without a required member."""
    return ServiceError("MissingParameter", f"The parameter {name} is required.")


def required_text(params: Params, name: str, where: str = "", *, limit: int = _MAX_NAME) -> str:
    """Return a required string of 1 to `limit` characters."""
    value = params.optional_text(name)
    if value is None:
        raise missing(where + name)
    if not 1 <= len(value) <= limit:
        raise bad_value(f"The parameter {where}{name} must be 1 to {limit} characters long.")
    return value


def dimensions(params: Params, where: str = "") -> frozenset[tuple[str, str]]:
    """Return the exact set of dimensions of a metric."""
    given = params.objects("Dimensions")
    if len(given) > MAX_DIMENSIONS:
        raise bad_value(f"The collection {where}Dimensions must not have a size greater than {MAX_DIMENSIONS}.")
    pairs = [_dimension(item, f"{where}Dimensions.member.{number}.") for number, item in enumerate(given, 1)]
    if len({name for name, _ in pairs}) < len(pairs):
        raise bad_value(f"The collection {where}Dimensions must not name a dimension twice.")
    return frozenset(pairs)


def dimension_list(pairs: Iterable[tuple[str, str]]) -> list[JsonObject]:
    """Return dimensions in the form of the wire."""
    return [{"Name": name, "Value": value} for name, value in sorted(pairs)]


def timestamp(params: Params, name: str) -> float | None:
    """Return a timestamp as POSIX seconds; on the wire it is a number, or text in ISO 8601."""
    value = params.raw(name)
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError as e:
            raise bad_value(f"The parameter {name} must be a timestamp.") from e
    return params.number(name)


def required_timestamp(params: Params, name: str) -> float:
    """Return a required timestamp as POSIX seconds."""
    value = timestamp(params, name)
    if value is None:
        raise missing(name)
    return value


def page(params: Params, name: str, items: Sequence[JsonObject], *, size: int) -> JsonObject:
    """Return one page of `items` under `name`."""
    start = _position(params.optional_text("NextToken"))
    answer: JsonObject = {name: list(items[start : start + size])}
    if start + size < len(items):
        answer["NextToken"] = base64.b64encode(f"at:{start + size}".encode()).decode()
    return answer


def _dimension(item: Params, where: str) -> tuple[str, str]:
    name = required_text(item, "Name", where)
    value = required_text(item, "Value", where, limit=_MAX_VALUE)
    for text in (name, value):
        if not text.isascii() or not text.strip():
            raise bad_value(f"The parameter {where.rstrip('.')} must contain only ASCII characters, not blank alone.")
    if name.startswith(":"):
        raise bad_value(f"The parameter {where}Name must not begin with a colon.")
    return name, value


def _position(token: str | None) -> int:
    if token is None:
        return 0
    try:
        return int(base64.b64decode(token, validate=True).removeprefix(b"at:"))
    except (binascii.Error, ValueError) as e:
        raise ServiceError("InvalidNextToken", "The next token specified is invalid.") from e
