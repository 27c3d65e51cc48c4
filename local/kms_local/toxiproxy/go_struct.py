"""A JSON value put into a Go struct: names in any case, `null`, the first error kept and the rest applied."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kms_local.toxiproxy import go_json
from kms_local.toxiproxy.go_json import DecodeError, Members, Number

_INT64 = range(-(2**63), 2**63)
_INT64_DIGITS = 20
_FOLDED = str.maketrans({"\u017f": "s", "\u212a": "k"})  # the two letters beyond ASCII that fold into it


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct."""

    go_type: str
    where: str = ""
    """The struct and the path to it, as errors have them; empty for one whose struct has no name."""
    pointer: bool = False
    """Whether `null` unsets it; otherwise it changes nothing."""
    inner: Struct | None = None
    """The struct that it is, if it is one."""


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct as `encoding/json` sees it."""

    go_type: str
    fields: Mapping[str, Field]
    folded: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folded", {_fold(name): name for name in self.fields})


@dataclass(slots=True)
class Filled:
    """What was put into a struct, nested structs likewise; `error` is the first that was met, if any."""

    values: dict[str, Any] = field(default_factory=dict)
    error: DecodeError | None = None

    def checked(self) -> dict[str, Any]:
        """Return the values.

        Raises:
            DecodeError: some had the wrong type.
        """
        if self.error is not None:
            raise self.error
        return self.values


def fill(struct: Struct, value: Any) -> Filled:
    """Put `value` into `struct`; `null` leaves it as it is."""
    filled = Filled()
    _fill(struct, value, filled, filled.values, f"Go value of type {struct.go_type}")
    return filled


def fill_all(struct: Struct, value: Any) -> list[Filled]:
    """Put an array into a slice of structs; `null` is an empty one.

    Raises:
        DecodeError: it is no array.
    """
    if value is None:
        return []
    if isinstance(value, Members) or not isinstance(value, list):
        raise DecodeError(f"json: cannot unmarshal {kind(value)} into Go value of type []{struct.go_type}")
    return [fill(struct, element) for element in value]


def _fill(struct: Struct, value: Any, filled: Filled, into: dict[str, Any], target: str) -> None:
    if value is None:
        return
    if not isinstance(value, Members):
        _keep(filled, f"json: cannot unmarshal {kind(value)} into {target}")
        return
    for name, member in value:
        known = name if name in struct.fields else struct.folded.get(_fold(name))
        if known is not None:
            _set(struct.fields[known], known, member, filled, into)


def _set(target: Field, name: str, value: Any, filled: Filled, into: dict[str, Any]) -> None:
    if value is None:
        if target.pointer:
            into[name] = None
        return
    if target.inner is not None:
        if name not in into or into[name] is not None:
            _fill(target.inner, value, filled, into.setdefault(name, {}), _place(target))
        return
    try:
        into[name] = _CONVERSIONS[target.go_type](value)
    except _MismatchError as e:
        _keep(filled, f"json: cannot unmarshal {e} into {_place(target)}")


def _place(target: Field) -> str:
    return f"Go struct field {target.where} of type {target.go_type}"


def _keep(filled: Filled, message: str) -> None:
    if filled.error is None:
        filled.error = DecodeError(message)


class _MismatchError(ValueError):
    """A value that does not fit; its text is how Go describes the value."""


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _MismatchError(kind(value))
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _MismatchError(kind(value))
    return value


def _integer(value: Any) -> int:
    """Return an integer of 64 bits; `1.0` and `1e3` are none, as in Go."""
    if not isinstance(value, Number):
        raise _MismatchError(kind(value))
    literal = value.literal
    if len(literal) > _INT64_DIGITS or not re.fullmatch(r"-?\d+", literal) or int(literal) not in _INT64:
        raise _MismatchError(f"number {literal}")
    return int(literal)


def _float32(value: Any) -> float:
    if not isinstance(value, Number):
        raise _MismatchError(kind(value))
    try:
        return go_json.float32(value.literal)
    except OverflowError as e:
        raise _MismatchError(f"number {value.literal}") from e


_CONVERSIONS = {"string": _string, "bool": _bool, "int64": _integer, "int": _integer, "float32": _float32}


def kind(value: Any) -> str:
    """Return what Go calls the kind of a JSON value."""
    if isinstance(value, Number):  # before tuple, which it is too
        return "number"
    names: dict[type, str] = {bool: "bool", str: "string", list: "array", Members: "object"}
    return names[type(value)]


def _fold(name: str) -> str:
    return name.translate(_FOLDED).lower()
