"""Dashboards as the JSON that Grafana loads, byte for byte the same each time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from kms_dashboards import drills, internals, keys, overview

BUILDERS: Mapping[str, Callable[[], model.Dashboard]] = {
    "drills.json": drills.build,
    "internals.json": internals.build,
    "keys-and-estate.json": keys.build,
    "overview.json": overview.build,
}


def render(name: str) -> str:
    """Return the file `name` of `dashboards/grafana/`."""
    document = json.loads(json.dumps(BUILDERS[name](), cls=JSONEncoder))
    for number, panel in enumerate(_panels(document), start=1):
        panel["id"] = number  # the SDK gives panels none, and every row 0
    links = [link for outer in (document, *_panels(document)) for link in outer.get("links", [])]
    for placed in (*document["annotations"]["list"], *links):
        placed.pop("placement", None)  # unasked, and unknown to Grafana 10
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for outer in document["panels"] for panel in (outer, *outer.get("panels", []))]
