"""Parts of requests that several operations share: dimensions, timestamps, paging, and the wording of refusals."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from kms_local.wire.errors import ServiceError
from kms_local.wire.params import JsonObject, Params

MAX_DIMENSIONS = 30
_MAX_NAME, _MAX_VALUE = 255, 1024
_TOKEN = re.compile(rb"at:(\d{1,9})")
_FAR_SECONDS = 1e11  # the year 5138: beyond it, and not a number at all, is no timestamp
_FIRST_PRINTABLE, _DELETE = " ", "\x7f"


def bad_value(message: str) -> ServiceError:
    """Refuse a value."""
    return ServiceError("InvalidParameterValue", message)


def bad_combination(message: str) -> ServiceError:
    """Refuse members that do not go together."""
    return ServiceError("InvalidParameterCombination", message)


def bad_request(message: str) -> ServiceError:
    """Refuse what the newer operations call a validation error."""
    return ServiceError("ValidationError", message)


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


def namespace(params: Params) -> str:
    """Return a namespace: printable ASCII that does not begin with a colon."""
    value = _printable(required_text(params, "Namespace"), "Namespace")
    if value.startswith(":"):
        raise bad_value("The parameter Namespace must not begin with a colon.")
    return value


def one_of(params: Params, name: str, allowed: Iterable[str]) -> str | None:
    """Return a string that has to be one of `allowed`, or None when it was not given."""
    value = params.optional_text(name)
    if value is not None and value not in allowed:
        raise bad_request(
            f"1 validation error detected: Value '{value}' at '{name[:1].lower()}{name[1:]}' failed to satisfy "
            f"constraint: Member must satisfy enum value set: [{', '.join(sorted(allowed))}]"
        )
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
    """Return a timestamp as POSIX seconds; on the wire a number, or text in ISO 8601 (UTC if it names no zone)."""
    value = params.raw(name)
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError) as e:
            raise bad_value(f"The parameter {name} must be a timestamp.") from e
    at = params.number(name)
    if at is not None and not abs(at) < _FAR_SECONDS:
        raise bad_value(f"The parameter {name} must be a timestamp.")
    return at


def required_timestamp(params: Params, name: str) -> float:
    """Return a required timestamp as POSIX seconds."""
    value = timestamp(params, name)
    if value is None:
        raise missing(name)
    return value


def page(params: Params, name: str, items: Sequence[JsonObject], *, size: int) -> JsonObject:
    """Return one page of `items` under `name`."""
    start = position(params.optional_text("NextToken"))
    answer: JsonObject = {name: list(items[start : start + size])}
    if start + size < len(items):
        answer["NextToken"] = token_at(start + size)
    return answer


def token_at(start: int) -> str:
    """Return the token that asks for what begins at `start`."""
    return base64.b64encode(f"at:{start}".encode()).decode()


def position(token: str | None) -> int:
    """Return where a token says that its page begins.

    Raises:
        ServiceError: InvalidNextToken.
    """
    if token is None:
        return 0
    try:
        match = _TOKEN.fullmatch(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError):
        match = None
    if match is None:
        raise ServiceError("InvalidNextToken", "The next token specified is invalid.")
    return int(match[1])


def _dimension(item: Params, where: str) -> tuple[str, str]:
    name = _printable(required_text(item, "Name", where), f"{where}Name")
    value = _printable(required_text(item, "Value", where, limit=_MAX_VALUE), f"{where}Value")
    if name.startswith(":"):
        raise bad_value(f"The parameter {where}Name must not begin with a colon.")
    return name, value


def _printable(text: str, where: str) -> str:
    """Return text of ASCII characters without control characters, one of which is not blank."""
    if not text.isascii() or not text.strip() or any(c < _FIRST_PRINTABLE or c == _DELETE for c in text):
        raise bad_value(
            f"The parameter {where} must contain only ASCII characters, no control characters and not blanks alone."
        )
    return text
