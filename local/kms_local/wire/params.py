"""Typed reading of a JSON request: a wrong type is a SerializationException, a missing field a ValidationException."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, cast

from kms_local.wire.errors import invalid, serialization_error

JsonObject = dict[str, Any]


class Params:
    """The members of one request."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = members

    def text(self, name: str) -> str:
        """Return a required string."""
        value = self.optional_text(name)
        if value is None:
            raise invalid(None, name, "Member must not be null")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None when it was not given."""
        return cast("str | None", self._typed(name, str))

    def integer(self, name: str, *, low: int, high: int, default: int | None = None) -> int | None:
        """Return an integer in `low`..`high`, or `default` when it was not given."""
        value = cast("int | None", self._typed(name, int))
        if value is None:
            return default
        if value < low:
            raise invalid(value, name, f"Member must have value greater than or equal to {low}")
        if value > high:
            raise invalid(value, name, f"Member must have value less than or equal to {high}")
        return value

    def number(self, name: str) -> float | None:
        """Return a number, or None when it was not given; NaN and infinities may come as JSON strings."""
        value = self._members.get(name)
        if isinstance(value, str) and value in {"NaN", "Infinity", "-Infinity"}:
            return float(value)
        return cast("float | None", self._typed(name, (int, float)))

    def flag(self, name: str) -> bool:
        """Return a boolean; one not given is false."""
        value = self._members.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise serialization_error()
        return value

    def blob(self, name: str, *, max_bytes: int) -> bytes:
        """Return required binary data of 1 to `max_bytes` bytes."""
        text = self.text(name)
        try:
            value = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as e:
            raise serialization_error() from e
        if not value:
            raise invalid("java.nio.HeapByteBuffer[pos=0 lim=0 cap=0]", name, _AT_LEAST_ONE)
        if len(value) > max_bytes:
            shown = f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
            raise invalid(shown, name, f"Member must have length less than or equal to {max_bytes}")
        return value

    def string_map(self, name: str) -> dict[str, str]:
        """Return a map from strings to strings; one not given is empty."""
        value = self._typed(name, dict) or {}
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
            raise serialization_error()
        return cast("dict[str, str]", value)

    def objects(self, name: str) -> list[Params]:
        """Return a list of structures; one not given is empty."""
        value = self._typed(name, list) or []
        if not all(isinstance(item, dict) for item in value):
            raise serialization_error()
        return [Params(item) for item in value]

    def object(self, name: str) -> Params | None:
        """Return one structure, or None when it was not given."""
        value = self._typed(name, dict)
        return None if value is None else Params(cast("dict[str, Any]", value))

    def texts(self, name: str) -> list[str]:
        """Return a list of strings; one not given is empty."""
        value = self._typed(name, list) or []
        if not all(isinstance(item, str) for item in value):
            raise serialization_error()
        return cast("list[str]", value)

    def numbers(self, name: str) -> list[float] | None:
        """Return a list of numbers, or None when it was not given; NaN and infinities may come as JSON strings."""
        value = cast("list[Any] | None", self._typed(name, list))
        if value is None:
            return None
        return [cast("float", Params({"x": item}).number("x")) for item in value]

    def given(self, name: str) -> bool:
        """Say whether the request has this member at all."""
        return self._members.get(name) is not None

    def raw(self, name: str) -> Any:
        """Return a member as the decoder gave it, None when it was not given."""
        return self._members.get(name)

    def as_dict(self) -> JsonObject:
        """Return every member, to be echoed."""
        return dict(self._members)

    def _typed(self, name: str, kind: type | tuple[type, ...]) -> Any:
        value = self._members.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise serialization_error()
        return value


_AT_LEAST_ONE = "Member must have length greater than or equal to 1"
