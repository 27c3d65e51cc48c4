"""The configuration as it is in effect: every value, where it comes from, and no secret. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kms_watchdog.configuring.document import Document, Where, leaves
from kms_watchdog.configuring.shape import Shape

MASK = "**********"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """One value in effect."""

    where: Where
    value: Any
    """As JSON has it; a secret is masked."""
    origin: str


def effective(
    values: Mapping[str, Any], document: Document, shape: Shape, *, also_called: Mapping[Where, Iterable[Where]]
) -> Iterator[Effective]:
    """Return every value of `values`, the settings as JSON.

    Args:
        values: of the settings; their secrets need not be masked.
        document: what they were made of.
        shape: of the configuration.
        also_called: other places in the document that mean the same value.
    """
    for where, value in leaves(values):
        names = (where, *also_called.get(where, ()))
        origin = next((found for name in names if (found := document.origin(name))), None)
        here = shape.at(where)
        shown = MASK if here is not None and here.secret and value is not None else _without_credentials(value)
        yield Effective(where=where, value=shown, origin=str(origin) if origin else "default")


def _without_credentials(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_credentials(each) for each in value]
    return _CREDENTIALS.sub(MASK, value) if isinstance(value, str) else value


def as_toml(found: Iterable[Effective]) -> Iterator[str]:
    """Return lines of TOML, each value's origin behind it."""
    sections: dict[Where, list[str]] = {}
    for one in found:
        if one.value == {}:
            continue  # no table is there
        key = _key(one.where[-1])
        line = f"# {key} is not set" if one.value is None else f"{key} = {toml_value(one.value)}"
        sections.setdefault(one.where[:-1], []).append(f"{line}  # {one.origin}")
    for section, lines in sections.items():
        yield ""
        yield f"[{'.'.join(_key(part) for part in section)}]"
        yield from lines


def as_json(found: Iterable[Effective], document: Document) -> dict[str, Any]:
    """Return the same as one JSON document."""
    return {
        "schema": 1,
        "file": str(document.path),
        "estate": document.estate,
        "values": [{"key": ".".join(one.where), "value": one.value, "origin": one.origin} for one in found],
    }


def _key(part: str) -> str:
    return part if _BARE.fullmatch(part) else json.dumps(part)


def toml_value(value: Any) -> str:
    """Return a value as TOML spells it, in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)} = {toml_value(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # texts, numbers, true and false are the same in both
