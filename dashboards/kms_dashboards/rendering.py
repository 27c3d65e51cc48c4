"""Dashboards as the JSON that Grafana loads, byte for byte the same each time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from kms_dashboards import overview

BUILDERS: Mapping[str, Callable[[], model.Dashboard]] = {"overview.json": overview.build}


def render(name: str) -> str:
    """Return the file `name` of `dashboards/grafana/`."""
    document = json.loads(json.dumps(BUILDERS[name](), cls=JSONEncoder))
    for number, panel in enumerate(_panels(document), start=1):
        panel["id"] = number  # the SDK gives panels none, and every row 0
    for annotation in document.get("annotations", {}).get("list", []):
        annotation.pop("placement", None)  # unasked, and unknown to Grafana 10
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for outer in document["panels"] for panel in (outer, *outer.get("panels", []))]
