"""JSON as Go's `encoding/json` reads and writes it, its error texts included: clients compare them.

What matters to an API: only the first value of a body counts, members are kept in order with their repetitions, numbers
keep their literal until the field's type is known, and `<`, `>` and `&` are written escaped.
"""

from __future__ import annotations

import codecs
import json
import re
import struct
from decimal import Decimal
from typing import Any, NamedTuple

_MAX_DEPTH = 10_000
_POSITIONAL = (1e-6, 1e21)  # outside of it Go writes an exponent
_FLOAT32_DIGITS = 9
_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_HEX = re.compile(rb"[0-9a-fA-F]*")
_ESCAPED = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")
_WRITTEN_ESCAPED = re.compile("[<>&\u2028\u2029]")
_WORDS: dict[int, tuple[bytes, object]] = {
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
    ord("n"): (b"null", None),
}
_CONTROLS = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r"}
_FIRST_PRINTABLE_LATIN = 0xA1
_SOFT_HYPHEN = 0xAD
_DELETE = 0x7F


class Number(NamedTuple):
    """A number as it was written."""

    literal: str


class Members(list[tuple[str, Any]]):
    """An object: its members in order, repeated names included."""


class DecodeError(ValueError):
    """A body that Go's decoder would refuse, in its words."""


def decode(raw: bytes, *, end: str = "EOF") -> Any:
    """Return the first JSON value of `raw`; objects come as `Members`, numbers as `Number`.

    Args:
        raw: the body, as far as it could be read.
        end: why it could not be read any further; only a value that is not complete asks for it.

    Raises:
        DecodeError: there is no value.
    """
    if raw.lstrip(b" \t\r\n")[:1] in {b"{", b"["}:
        try:
            return _quickly(raw)
        except (ValueError, RecursionError):
            pass  # whoever is wrong is told in Go's words
    return _Scanner(raw, end).scan()


def _quickly(raw: bytes) -> Any:
    """Decode what is not wrong; a lone surrogate is left to the other way, which replaces it.

    Raises:
        ValueError: it is wrong, or looks so.
    """
    text = raw.decode("utf-8").lstrip(" \t\r\n")
    if "\\u" in text:
        raise ValueError(text)
    return _DECODER.raw_decode(text)[0]


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity: Python's decoder knows them, JSON does not


_DECODER = json.JSONDecoder(
    parse_float=Number, parse_int=Number, parse_constant=_no_constant, object_pairs_hook=Members
)


class _Scanner:
    """Reads one value; it does not recurse, so a body of a million brackets is refused and no more."""

    def __init__(self, raw: bytes, end: str) -> None:
        self._raw = raw
        self._end = end
        self._at = 0
        self._open: list[Members | list[Any]] = []
        self._names: list[str] = []  # of the members that are being read

    def scan(self) -> Any:
        self._skip_space()
        if self._at == len(self._raw):
            raise DecodeError(self._end)
        while True:
            value, opened = self._begin_value()
            while not opened:  # a value is complete: its container goes on, or is complete too
                if not self._open:
                    return value
                value, opened = self._end_value(value)

    def _begin_value(self) -> tuple[Any, bool]:
        """Read a scalar, or open a container up to its first value; say whether a value is still to come."""
        byte = self._peek()
        if byte in b"{[":
            return self._open_container(byte)
        if byte == ord('"'):
            value: Any = self._string()
        elif byte in _WORDS:
            value = self._word(*_WORDS[byte])
        elif byte in b"-0123456789":
            value = self._number()
        else:
            raise self._wrong("looking for beginning of value")
        return value, False

    def _open_container(self, byte: int) -> tuple[Any, bool]:
        if len(self._open) >= _MAX_DEPTH:
            raise self._wrong("exceeded max depth")
        container: Members | list[Any] = Members() if byte == ord("{") else []
        self._at += 1
        self._skip_space()
        if self._peek() == (ord("}") if byte == ord("{") else ord("]")):
            self._at += 1
            return container, False
        self._open.append(container)
        if byte == ord("{"):
            self._name()
        return None, True

    def _end_value(self, value: Any) -> tuple[Any, bool]:
        """Put a value into its container, and see whether another follows."""
        container = self._open[-1]
        is_object = isinstance(container, Members)
        container.append((self._names.pop(), value) if is_object else value)
        self._skip_space()
        byte = self._peek()
        if byte == ord(","):
            self._at += 1
            self._skip_space()
            if is_object:
                self._name()
            return None, True
        if byte != (ord("}") if is_object else ord("]")):
            raise self._wrong("after object key:value pair" if is_object else "after array element")
        self._at += 1
        return self._open.pop(), False

    def _name(self) -> None:
        if self._peek() != ord('"'):
            raise self._wrong("looking for beginning of object key string")
        self._names.append(self._string())
        self._skip_space()
        if self._peek() != ord(":"):
            raise self._wrong("after object key")
        self._at += 1
        self._skip_space()

    def _string(self) -> str:
        start = self._at = self._at + 1
        while True:
            self._skip(_PLAIN)
            byte = self._peek()
            if byte == ord('"'):
                break
            if byte != ord("\\"):
                raise self._wrong("in string literal")
            self._at += 1
            self._escape()
        self._at += 1
        return _unquoted(self._raw[start : self._at - 1])

    def _escape(self) -> None:
        if self._peek() not in b'"\\/bfnrtu':
            raise self._wrong("in string escape code")
        self._at += 1
        if self._raw[self._at - 1] == ord("u"):
            start = self._at
            self._at = min(self._skip(_HEX, move=False), start + 4)
            if self._at < start + 4:
                self._peek()
                raise self._wrong("in \\u hexadecimal character escape")

    def _word(self, word: bytes, value: object) -> object:
        for position in range(1, len(word)):
            self._at += 1
            if self._peek() != word[position]:
                raise self._wrong(f"in literal {word.decode()} (expecting '{chr(word[position])}')")
        self._at += 1
        return value

    def _number(self) -> Number:
        start = self._at
        if self._raw[self._at] == ord("-"):
            self._at += 1
            self._need_digit("in numeric literal")
        if self._raw[self._at] == ord("0"):
            self._at += 1
        else:
            self._skip(_DIGITS)
        if self._raw[self._at : self._at + 1] == b".":
            self._at += 1
            self._need_digit("after decimal point in numeric literal")
            self._skip(_DIGITS)
        if self._raw[self._at : self._at + 1] in {b"e", b"E"}:
            self._at += 1
            if self._peek() in b"+-":
                self._at += 1
            self._need_digit("in exponent of numeric literal")
            self._skip(_DIGITS)
        if self._at == len(self._raw) and (self._open or self._end != "EOF"):
            self._peek()
        return Number(self._raw[start : self._at].decode())

    def _need_digit(self, place: str) -> None:
        if self._peek() not in b"0123456789":
            raise self._wrong(place)

    def _skip_space(self) -> None:
        self._skip(_SPACE)

    def _skip(self, pattern: re.Pattern[bytes], *, move: bool = True) -> int:
        found = pattern.match(self._raw, self._at)
        end = found.end() if found else self._at
        if move:
            self._at = end
        return end

    def _peek(self) -> int:
        if self._at == len(self._raw):
            raise DecodeError("unexpected EOF" if self._end == "EOF" else self._end)
        return self._raw[self._at]

    def _wrong(self, place: str) -> DecodeError:
        return DecodeError(f"invalid character {_shown(self._raw[self._at])} {place}")


def _unquoted(raw: bytes) -> str:
    text = raw.decode("utf-8", "kms_local_each_byte")
    if "\\" not in text:
        return text
    return _SURROGATES.sub(_paired, _ESCAPED.sub(_unescaped, text))


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    return (
        chr(int(code[1:], 16))
        if code[0] == "u"
        else {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}.get(code, code)
    )


def _paired(found: re.Match[str]) -> str:
    return (
        found[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if len(found[0]) > 1 else "\ufffd"
    )


def _each_byte_replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)  # noqa: S101  it is registered for decoding only
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("kms_local_each_byte", _each_byte_replaced)


def _shown(byte: int) -> str:
    """Return a byte as Go quotes it in an error."""
    if chr(byte) in "'\\":
        return f"'\\{chr(byte)}'"
    if byte in _CONTROLS:
        return f"'\\{_CONTROLS[byte]}'"
    if byte < ord(" ") or byte == _DELETE:
        return f"'\\x{byte:02x}'"
    if _DELETE < byte < _FIRST_PRINTABLE_LATIN or byte == _SOFT_HYPHEN:
        return f"'\\u{byte:04x}'"
    return f"'{chr(byte)}'"


def encode(value: Any) -> str:
    """Return `value` as compact JSON."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return _WRITTEN_ESCAPED.sub(_as_code, text)


def _as_code(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def float32(literal: str) -> float:
    """Return the float of 32 bits that `literal` means.

    Raises:
        OverflowError: it is too large for one.
    """
    rounded: float
    (rounded,) = struct.unpack("<f", struct.pack("<f", float(literal)))
    if rounded in {float("inf"), float("-inf")}:
        raise OverflowError
    return rounded


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
        return float32(text) == value
    except OverflowError:  # rounded up beyond the largest float of 32 bits
        return False
