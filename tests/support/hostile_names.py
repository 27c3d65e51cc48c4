"""Names that want to be markup, script, a template, mathematics or an order to a terminal; and values full of them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from html.parser import HTMLParser
from typing import Any

from kms_chaos.testing import END, Story, held_story

STRUCTURE = frozenset(
    {
        "phase", "state", "mode", "old", "new", "outcome", "when", "since_utc", "expires_at_utc", "started_at_utc",
        "drill_file", "operation", "lane", "stream", "type", "target", "verdict", "by",
    }
)  # fmt: skip
"""Members of a journal that are words of closed lists, or times: with another word it is no drill's journal."""

TERMINAL = "\x1b]0;owned\x07\x1b[2J\x1b[8m\r\x9b31m"
"""Sets a terminal's title, clears it, hides what follows."""


def hostile(port: int, *, controls: bool = False) -> str:
    """Return a name that, taken for markup, asks `port` of this machine, in several ways, or runs a script."""
    there = f"http://127.0.0.1:{port}"
    return "".join(
        (
            f'"><img src={there}/img onerror=fetch("{there}/onerror")>',
            f"'><script src={there}/script></script><script>fetch('{there}/inline');document.title='owned'</script>",
            f"</style></title></pre><iframe src={there}/frame></iframe><svg onload=fetch('{there}/svg')></svg>",
            f"<link rel=stylesheet href={there}/css><base href={there}/base>",
            f"<a id=owned href=javascript:fetch('{there}')>",
            f"javascript:fetch('{there}/url') {{{{7*7}}}} {{% raw %}} ${{7*7}} &lt; ]]>--> `x` \\0",
            r"$\frac{$ $x^{2$ ",  # mathematics that is none
            "\u202e\u2066drow",  # from right to left
            TERMINAL if controls else "",
        )
    )


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def injected(dom: str, *, scripts: frozenset[str] = frozenset()) -> list[str]:
    """Return what no page of ours has: elements, handlers and addresses; `scripts` are the addresses of its own."""
    page = _Elements()
    page.feed(dom)
    wrong = []
    for tag, attributes in page.found:
        address = str(attributes.get("src") or attributes.get("href") or attributes.get("xlink:href") or "")
        own_script = tag == "script" and address.partition("?")[0] in scripts
        if tag in {"img", "iframe", "base", "object", "embed"} or (tag == "script" and not own_script):
            wrong.append(tag)
        wrong += [f"{tag} {name}" for name in attributes if name.startswith("on")]
        wrong += [f"{tag} {address}" for start in ("javascript:", "http://127.0.0.1", "data:text") if start in address]
        wrong += [f"{tag} #owned"] if attributes.get("id") == "owned" else []
    return wrong


def text_of(dom: str) -> str:
    """Return what a reader sees of a page."""
    page = _Elements()
    page.feed(dom)
    return "".join(page.texts)


def spoiled(values: Any, mark: str, kept: frozenset[str]) -> Any:
    """Return JSON values with `mark` at the end of every string but those under the names in `kept`, and those in them.

    Equal strings stay equal.
    """
    match values:
        case str():
            return values + mark
        case dict() | Mapping():
            return {name: one if name in kept else spoiled(one, mark, kept) for name, one in values.items()}
        case list() | tuple():
            return [spoiled(one, mark, kept) for one in values]
    return values


def hostile_story(mark: str) -> Story:
    """Return a drill whose every name is hostile: regions, keys, codes, request ids, reasons, proxies, versions."""
    found = held_story()
    spoilt = tuple(
        dataclasses.replace(
            one, fields={k: v if k in STRUCTURE else spoiled(v, mark, STRUCTURE) for k, v in one.fields.items()}
        )
        for one in found.lines
    )
    more = Story(spoilt).add(END + 1, "interrupted", reason=f"stopped{mark}")
    return more.add(
        END + 2, "healed", by="healer", reason="owner_dead", proxies=[f"x{mark}"], torn_line=True, finding=f"f{mark}"
    )


def filled(kind: Any, mark: str) -> Any:
    """Return a value of a type: of a dataclass with `mark` in every string, one of everything, the first of an enum."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return filled(arguments[0], mark)
    if origin is typing.Literal:
        return arguments[0]
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{f.name: filled(hints[f.name], mark) for f in dataclasses.fields(kind) if f.init})  # type: ignore[operator]
    return _gathered(origin, arguments, mark) if origin else _plain(kind, mark)


def _gathered(origin: Any, arguments: tuple[Any, ...], mark: str) -> Any:
    parts = [filled(one, mark) for one in arguments if one is not Ellipsis]
    if issubclass(origin, Counter):
        return Counter({parts[0]: 1})
    if issubclass(origin, Mapping):
        return {parts[0]: parts[1]}
    return frozenset(parts) if issubclass(origin, frozenset) else tuple(parts)


def _plain(kind: Any, mark: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    known: dict[Any, Any] = {
        str: f"name{mark}", bool: True, int: 1, float: 1.0, datetime: datetime(2026, 1, 1, tzinfo=UTC),
        timedelta: timedelta(days=1), bytes: mark.encode(), object: f"name{mark}", Any: f"name{mark}",
    }  # fmt: skip
    return known[kind]
