"""The configuration's JSON Schema as editors and checkers want it: the file as it is written, not as it is read. Pure.

What the program reads is one estate with every variable expanded. In the file a text may hold `${NAME}` instead of what
its pattern asks for, `[core]` takes the setup guide's names too, and `[estates.NAME]` tables may share their sections.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

TAKES_A_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_NOT_ASKED = frozenset({"pattern", "enum", "const", "format", "minLength", "maxLength"})


def published(schema: Mapping[str, Any], *, guide_names: Mapping[str, str]) -> dict[str, Any]:
    """Return the schema to publish.

    Args:
        schema: of the model that holds one estate.
        guide_names: names that `[core]` takes besides its own, each to the field that it means.
    """
    whole = copy.deepcopy(dict(schema))
    definitions: dict[str, Any] = whole.pop("$defs")
    core = definitions["Core"]["properties"]
    for name, field in guide_names.items():
        if field in core:
            core[name] = {"title": name, "type": "number", "minimum": 0, "description": f"The setup guide's {field}."}
    one = {**whole, "title": "one estate"}
    shared = {name: _partial(each) for name, each in definitions.items()}
    some = _renamed(_partial({**whole, "title": "what estates share, or one adds"}))
    estates = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z0-9-]{1,40}$"},
        "additionalProperties": some,
    }
    several = {**some, "properties": {**some["properties"], "estates": estates}, "required": ["estates"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kms-watchdog configuration",
        "description": "One TOML file, read by kms-watchdog, kms-chaos, kms-alarms and kms-dashboards.",
        "if": {"required": ["estates"]},
        "then": _loosened({**several, "title": "several estates"}),
        "else": _loosened(one),
        "$defs": _loosened({**definitions, **{f"Some{name}": _renamed(each) for name, each in shared.items()}}),
    }


def _partial(node: Any) -> Any:
    """Return `node` asking for nothing: what is missing in one place stands in another."""
    if isinstance(node, dict):
        return {name: _partial(each) for name, each in node.items() if name not in {"required", "minProperties"}}
    return [_partial(each) for each in node] if isinstance(node, list) else node


def _renamed(node: Any) -> Any:
    """Return `node` with its references leading to the partial definitions."""
    if isinstance(node, dict):
        reference = {"$ref": node["$ref"].replace("#/$defs/", "#/$defs/Some")} if "$ref" in node else {}
        return {name: _renamed(each) for name, each in node.items()} | reference
    return [_renamed(each) for each in node] if isinstance(node, list) else node


def _loosened(node: Any) -> Any:
    """Return `node` with every text that has rules also taking one with `${NAME}` in it."""
    if isinstance(node, list):
        return [_loosened(each) for each in node]
    if not isinstance(node, dict):
        return node
    loose = {
        name: each if name in {"propertyNames", "patternProperties"} else _loosened(each) for name, each in node.items()
    }
    if "patternProperties" in node:
        loose["patternProperties"] = {name: _loosened(each) for name, each in node["patternProperties"].items()}
    if loose.get("type") != "string" or not loose.keys() & _NOT_ASKED or loose == TAKES_A_VARIABLE:
        return loose
    rules = {name: each for name, each in loose.items() if name in _NOT_ASKED or name == "type"}
    return {name: each for name, each in loose.items() if name not in rules} | {"anyOf": [rules, TAKES_A_VARIABLE]}
