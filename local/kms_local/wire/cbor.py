"""CBOR as Smithy's RPC v2 protocol uses it: maps with text keys, lists, text, numbers, booleans, null, and times.

A time is tag 1 around seconds since 1970; it is decoded as the number alone. Source: RFC 8949, and Smithy's
documentation, "Smithy RPC v2 CBOR protocol".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MAX_DEPTH = 32
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_INDEFINITE = 31
_INLINE = 24  # arguments below it stand in the first byte itself
_WIDTHS = {24: ">B", 25: ">H", 26: ">I", 27: ">Q"}
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_CONSTANTS: dict[int, bool | None] = {20: False, 21: True, 22: None, 23: None}
_BREAK = 0xFF


@dataclass(frozen=True, slots=True)
class Time:
    """A number of seconds since 1970, to be encoded as a time."""

    seconds: float


def decode(data: bytes) -> Any:
    """Return the one value that `data` is.

    Raises:
        ValueError: it is none, or more than one, or nested too deeply.
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.position != len(data):
        raise ValueError("something follows the value")
    return value


def encode(value: Any) -> bytes:
    """Return `value` as CBOR: None, bool, int (of 64 bits), float, str, Time, lists and mappings of them."""
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.position = 0
        self._data = data

    def value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("the value is nested too deeply")
        first = self._take(1)[0]
        major, low = first >> 5, first & 0x1F
        if major == _SIMPLE:
            return self._simple(low)
        if major in {_LIST, _MAP}:
            return self._list(low, depth) if major == _LIST else self._map(low, depth)
        if major in {_BYTES, _TEXT}:
            content = self._content(major, low)
            return content if major == _BYTES else content.decode()
        argument = self._argument(low)
        if major == _TAG:
            return self.value(depth + 1)  # a time's number, or whatever else was marked
        return argument if major == _UNSIGNED else -1 - argument

    def _take(self, size: int) -> bytes:
        taken = self._data[self.position : self.position + size]
        if len(taken) < size:
            raise ValueError("the value is cut short")
        self.position += size
        return taken

    def _argument(self, low: int) -> int:
        if low < _INLINE:
            return low
        if low not in _WIDTHS:
            raise ValueError("an argument that cannot be")
        return int(struct.unpack(_WIDTHS[low], self._take(struct.calcsize(_WIDTHS[low])))[0])

    def _simple(self, low: int) -> bool | float | None:
        if low in _FLOATS:
            return float(struct.unpack(_FLOATS[low], self._take(struct.calcsize(_FLOATS[low])))[0])
        if low not in _CONSTANTS:
            raise ValueError("a simple value that cannot be")
        return _CONSTANTS[low]

    def _content(self, major: int, low: int) -> bytes:
        if low != _INDEFINITE:
            return self._take(self._argument(low))
        pieces = []
        while not self._at_break():
            first = self._take(1)[0]
            if first >> 5 != major or first & 0x1F == _INDEFINITE:
                raise ValueError("a piece of another kind")
            pieces.append(self._take(self._argument(first & 0x1F)))
        return b"".join(pieces)

    def _list(self, low: int, depth: int) -> list[Any]:
        if low == _INDEFINITE:
            items = []
            while not self._at_break():
                items.append(self.value(depth + 1))
            return items
        return [self.value(depth + 1) for _ in range(self._count(low))]

    def _map(self, low: int, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        count = math.inf if low == _INDEFINITE else self._count(low)
        while len(members) < count and not (low == _INDEFINITE and self._at_break()):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in members:
                raise ValueError("a key that is no text, or there already")
            members[key] = self.value(depth + 1)
        return members

    def _count(self, low: int) -> int:
        count = self._argument(low)
        if count > len(self._data) - self.position:  # every item has a byte at least
            raise ValueError("the value is cut short")
        return count

    def _at_break(self) -> bool:
        if self._data[self.position : self.position + 1] != bytes([_BREAK]):
            return False
        self.position += 1
        return True


def _write(value: Any, parts: list[bytes]) -> None:
    if isinstance(value, Time):
        parts.append(_head(_TAG, 1))
        _write(float(value.seconds), parts)
    elif value is None or isinstance(value, bool):
        parts.append(_head(_SIMPLE, {False: 20, True: 21, None: 22}[value]))
    elif isinstance(value, int):
        parts.append(_head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value))
    elif isinstance(value, float):
        parts.append(bytes([_SIMPLE << 5 | 27]) + struct.pack(">d", value))
    elif isinstance(value, str):
        text = value.encode(errors="replace")
        parts += [_head(_TEXT, len(text)), text]
    elif isinstance(value, Mapping):
        parts.append(_head(_MAP, len(value)))
        for key, item in value.items():
            _write(str(key), parts)
            _write(item, parts)
    else:
        items = list(value)
        parts.append(_head(_LIST, len(items)))
        for item in items:
            _write(item, parts)


def _head(major: int, argument: int) -> bytes:
    if argument < _INLINE:
        return bytes([major << 5 | argument])
    for low, width in _WIDTHS.items():
        if argument < 1 << 8 * struct.calcsize(width):
            return bytes([major << 5 | low]) + struct.pack(width, argument)
    raise ValueError("a number of more than 64 bits")
