"""JSON as Go's `encoding/json` reads and writes it, its error texts included: clients compare them.

What matters to an API: only the first value of a body counts, keys match in any case, `null` means "not given", numbers
keep their literal until the field's type is known, and `<`, `>` and `&` are written escaped.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

_INT64 = range(-(2**63), 2**63)
_POSITIONAL = (1e-6, 1e21)  # outside of it Go writes an exponent
_FLOAT32_DIGITS = 9
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Number(NamedTuple):
    """A number as it was written."""

    literal: str


class DecodeError(ValueError):
    """A body that Go's decoder would refuse, in its words."""


def decode(raw: bytes) -> Any:
    """Return the first JSON value of `raw`; numbers come as `Number`.

    Raises:
        DecodeError: there is none.
    """
    text = raw.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise DecodeError("EOF")
    decoder = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_no_constant)
    try:
        value, _ = decoder.raw_decode(text)
    except _ConstantError as e:
        raise DecodeError(f"invalid character '{e.args[0][0]}' looking for beginning of value") from e
    except json.JSONDecodeError as e:
        raise DecodeError(_syntax_error(text, e)) from e
    except RecursionError as e:
        raise DecodeError("exceeded max depth") from e
    return value


def members(value: Any, go_type: str) -> dict[str, Any]:
    """Return an object's members under lower-case names, without those that are null; `null` itself has none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DecodeError(f"json: cannot unmarshal {_kind(value)} into Go value of type {go_type}")
    return {name.lower(): member for name, member in value.items() if member is not None}


def elements(value: Any, go_type: str) -> list[Any]:
    """Return an array's elements; `null` has none."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise DecodeError(f"json: cannot unmarshal {_kind(value)} into Go value of type {go_type}")
    return value


def text_field(given: Mapping[str, Any], name: str, owner: str, default: str) -> str:
    """Return a string member of `given`."""
    value = given.get(name, default)
    if not isinstance(value, str):
        raise _wrong_type(value, f"{owner}.{name}", "string")
    return value


def bool_field(given: Mapping[str, Any], name: str, owner: str, *, default: bool) -> bool:
    """Return a boolean member of `given`."""
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise _wrong_type(value, f"{owner}.{name}", "bool")
    return value


def int64(value: Any, field: str, go_type: str) -> int:
    """Return `value` as an integer of 64 bits; `1.0` and `1e3` are none, as in Go."""
    if not isinstance(value, Number):
        raise _wrong_type(value, field, go_type)
    if not re.fullmatch(r"-?\d+", value.literal) or int(value.literal) not in _INT64:
        raise _wrong_number(value, field, go_type)
    return int(value.literal)


def float32_field(given: Mapping[str, Any], name: str, owner: str, default: float) -> float:
    """Return a member of `given` rounded to a float of 32 bits."""
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, Number):
        raise _wrong_type(value, f"{owner}.{name}", "float32")
    try:
        return _as_float32(float(value.literal))
    except OverflowError as e:
        raise _wrong_number(value, f"{owner}.{name}", "float32") from e


def object_field(given: Mapping[str, Any], name: str, owner: str, go_type: str) -> dict[str, Any]:
    """Return the members of an object member of `given`."""
    value = given.get(name, {})
    if not isinstance(value, dict):
        raise _wrong_type(value, f"{owner}.{name}", go_type)
    return members(value, go_type)


def encode(value: Any) -> str:
    """Return `value` as compact JSON."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return "".join(_ESCAPES.get(character, character) for character in text) if _needs_escape(text) else text


def float32_text(value: float) -> str:
    """Return the shortest decimal that reads back as the same float of 32 bits, as Go writes it."""
    digits = next(text for text in _candidates(value) if _reads_back(text, value))
    if value == 0 or _POSITIONAL[0] <= abs(value) < _POSITIONAL[1]:
        return format(Decimal(digits), "f")
    mantissa, _, exponent = f"{Decimal(digits):e}".partition("e")
    return f"{mantissa}e{int(exponent):+d}"


def _candidates(value: float) -> list[str]:
    return [f"{value:.{digits}g}" for digits in range(1, _FLOAT32_DIGITS)] + [f"{value:.{_FLOAT32_DIGITS}g}"]


def _reads_back(text: str, value: float) -> bool:
    try:
        return _as_float32(float(text)) == value
    except OverflowError:  # rounded up beyond the largest float of 32 bits
        return False


def _as_float32(value: float) -> float:
    rounded: float
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    if rounded in {float("inf"), float("-inf")}:
        raise OverflowError
    return rounded


def _needs_escape(text: str) -> bool:
    return any(character in text for character in _ESCAPES)


class _ConstantError(ValueError):
    """NaN and Infinity: Python's decoder knows them, JSON does not."""


def _no_constant(name: str) -> None:
    raise _ConstantError(name)


def _syntax_error(text: str, error: json.JSONDecodeError) -> str:
    position = error.pos
    if position >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    character = text[position]
    shown = "'\\''" if character == "'" else f"'{character}'"
    return f"invalid character {shown} {_place(error.msg, text, position)}"


_PLACES = (  # how Python's decoder begins a complaint, and how Go's ends one
    ("Expecting property name", "looking for beginning of object key string"),
    ("Illegal trailing comma", "looking for beginning of object key string"),  # newer versions of Python
    ("Expecting ':'", "after object key"),
    ("Invalid control character", "in string literal"),
    ("Invalid \\", "in string escape code"),
)


def _place(message: str, text: str, position: int) -> str:
    if message.startswith("Expecting ','"):
        return "after array element" if _innermost(text[:position]) == "[" else "after object key:value pair"
    return next((place for start, place in _PLACES if message.startswith(start)), "looking for beginning of value")


def _innermost(text: str) -> str:
    """Return the bracket that is open at the end of `text`, strings left out."""
    opened: list[str] = []
    for bracket in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        if bracket in "[{":
            opened.append(bracket)
        elif bracket in "]}" and opened:
            opened.pop()
    return opened[-1] if opened else ""


def _kind(value: Any) -> str:
    if isinstance(value, Number):  # before tuple, which it is too
        return "number"
    names: dict[type, str] = {bool: "bool", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def _wrong_type(value: Any, field: str, go_type: str) -> DecodeError:
    return DecodeError(f"json: cannot unmarshal {_kind(value)} into Go struct field {field} of type {go_type}")


def _wrong_number(value: Number, field: str, go_type: str) -> DecodeError:
    return DecodeError(f"json: cannot unmarshal number {value.literal} into Go struct field {field} of type {go_type}")
