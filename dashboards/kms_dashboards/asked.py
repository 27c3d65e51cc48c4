"""Every query of a rendered dashboard, as Grafana sends it: for whoever wants to see it answered. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ALL = ".*"
"""What the variables of region and key stand for until somebody chooses."""
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_VALUES_OF = re.compile(r"label_values\((.+),\s*(\w+)\)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One query."""

    where: str
    """`panel "Title" A`, `annotation "Name"` or `variable "name"`."""
    expression: str
    """PromQL, with the variables of the dashboard and of Grafana in it."""
    labels: tuple[str, ...] = ()
    """Labels that the answer must have: its legend or its columns name them."""
    panel: int = 0
    """The panel's id; 0: it is none's."""
    ref: str = ""
    instant: bool = False


def asked(document: Mapping[str, Any]) -> Iterator[Asked]:
    """Return the queries of the panels, the annotations and the variables.

    Raises:
        ValueError: a variable is asked for in a way that this does not know.
    """
    for panel in document["panels"]:
        for target in panel.get("targets", []):
            yield Asked(
                where=f'panel "{panel["title"]}" {target["refId"]}',
                expression=target["expr"],
                labels=tuple(_LABEL.findall(target.get("legendFormat", ""))) or _columns(panel),
                panel=panel["id"],
                ref=target["refId"],
                instant=target["instant"],
            )
    for annotation in document["annotations"]["list"]:
        yield Asked(
            where=f'annotation "{annotation["name"]}"',
            expression=annotation["expr"],
            # Of its title alone: a text may name a label that some alerts do not have.
            labels=tuple(_LABEL.findall(annotation["titleFormat"])),
        )
    for variable in document["templating"]["list"]:
        if variable["type"] == "query":
            found = _VALUES_OF.fullmatch(variable["query"])
            if found is None:
                raise ValueError(f"variable {variable['name']}: {variable['query']}")
            yield Asked(
                where=f'variable "{variable["name"]}"',
                expression=f"count by ({found[2]}) ({found[1]})",
                labels=(found[2],),
                instant=True,
            )


def filled(expression: str, values: Mapping[str, str]) -> str:
    """Return `expression` with its variables replaced.

    Raises:
        KeyError: `values` lacks one of them.
    """
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], expression)


def variables(document: Mapping[str, Any], **others: str) -> dict[str, str]:
    """Return what each variable of the dashboard stands for where nobody has chosen, and `others` such as `mode`."""
    found = {
        variable["name"]: ALL if variable["type"] == "query" else str(variable["query"]).partition(",")[0]
        for variable in document["templating"]["list"]
    }
    return found | others


def _columns(panel: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels that a table makes columns of."""
    renamed = (
        one["options"].get("renameByName", {})
        for one in panel.get("transformations", [])
        if one["id"] == "organize" and panel["type"] == "table"
    )
    return tuple(name for names in renamed for name in names if not name.startswith("Value"))
