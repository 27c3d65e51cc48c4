"""The shape of the configuration, read off its JSON Schema: which names there are, of what type, and what is secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Shape:
    """One place in the configuration: a table, or a value."""

    nodes: tuple[Mapping[str, Any], ...]
    """What may stand here, references resolved."""
    definitions: Mapping[str, Any]

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Self:
        """Return the whole file's shape, from the JSON Schema of its model."""
        definitions = schema.get("$defs", {})
        return cls(tuple(_resolved(schema, definitions)), definitions)

    @property
    def names(self) -> tuple[str, ...]:
        """The keys that the table here knows; empty when any name will do, or when this is no table."""
        return tuple(name for node in self.nodes for name in node.get("properties", {}))

    @property
    def is_table(self) -> bool:
        """Whether a table may stand here."""
        return "object" in self.types

    @property
    def takes_any_name(self) -> bool:
        """Whether the table here holds tables of one kind under names of the user's choice, as `[keys.NAME]`."""
        return self.is_table and not self.names

    @property
    def types(self) -> frozenset[str]:
        """JSON Schema's names of the types that may stand here."""
        found = {node["type"] for node in self.nodes if "type" in node}
        enums = {type(value) for node in self.nodes for value in _literals(node)}
        return frozenset(found | {"string" for kind in enums if kind is str} | {"integer" for k in enums if k is int})

    @property
    def secret(self) -> bool:
        """Whether what stands here must never be shown."""
        return any(node.get("writeOnly") for node in self.nodes)

    @property
    def is_path(self) -> bool:
        """Whether what stands here is the path of a file or a folder."""
        return any(node.get("format") in {"path", "file-path", "directory-path"} for node in self.nodes)

    def below(self, name: str) -> Shape | None:
        """Return the shape of `name` in the table here; None: it knows no such name."""
        found = [child for node in self.nodes for child in _children(node, name)]
        nodes = tuple(each for child in found for each in _resolved(child, self.definitions))
        return Shape(nodes, self.definitions) if nodes else None

    def at(self, path: Sequence[str | int]) -> Shape | None:
        """Return the shape at the end of `path`; None: it leads nowhere."""
        shape: Shape | None = self
        for part in path:
            shape = shape.below(str(part)) if shape else None
        return shape


def _literals(node: Mapping[str, Any]) -> Sequence[Any]:
    literals: Sequence[Any] = node.get("enum", [node["const"]] if "const" in node else [])
    return literals


def _children(node: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    if name in node.get("properties", {}):
        yield node["properties"][name]
        return
    yield from node.get("patternProperties", {}).values()
    if isinstance(others := node.get("additionalProperties"), Mapping):
        yield others


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in node:
        yield from _resolved(definitions[node["$ref"].rpartition("/")[2]], definitions)
    for alternative in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from _resolved(alternative, definitions)
    if not node.keys() & {"$ref", "anyOf", "oneOf", "allOf"}:
        yield node
