"""What a dashboard shows, kept in a file: each with the answers to its queries, for `dashboards/preview` to draw."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from dashboard_answers import OF_GRAFANA

from kms_core.clock import SystemClock
from kms_dashboards.asked import asked, filled, variables
from kms_dashboards.rendering import BUILDERS, render

_STEP_SECONDS = 4


def capture(prometheus: str, folder: Path, *, minutes: float, until: float | None = None) -> None:
    """Write a file for each dashboard into `folder`, over `minutes` up to `until`, which is Unix time; None: now.

    The overview is written twice: of live traffic, and of a drill's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    until = until or SystemClock().now_utc().timestamp()
    since = until - 60 * minutes
    for name in sorted(BUILDERS):
        document = json.loads(render(name))
        modes = ("live", "drill") if name == "overview.json" else ("live",)
        for mode in modes:
            kept = _answered(prometheus, document, since, until, mode)
            path = folder / (name if mode == "live" else f"{mode}-{name}")
            path.write_text(json.dumps(kept), encoding="utf-8")


def _answered(prometheus: str, document: dict[str, Any], since: float, until: float, mode: str) -> dict[str, Any]:
    values = variables(document, **{**OF_GRAFANA, "__range": f"{until - since:.0f}s"})
    values |= {"mode": mode} if "mode" in values else {}
    panels: dict[str, dict[str, Any]] = {}
    annotations: dict[str, Any] = {}
    for one in asked(document):
        expression = filled(one.expression, values)
        if one.panel:
            answer = _get(prometheus, expression, since, until, instant=one.instant)
            panels.setdefault(str(one.panel), {})[one.ref] = answer
        elif one.where.startswith("annotation"):
            annotations[one.where.split('"')[1]] = _get(prometheus, expression, since, until, instant=False)
    return {
        "dashboard": document,
        "from": since * 1000,
        "to": until * 1000,
        "variables": values,
        "panels": panels,
        "annotations": annotations,
    }


def _get(prometheus: str, expression: str, since: float, until: float, *, instant: bool) -> list[dict[str, Any]]:
    asking: dict[str, str] = {"query": expression}
    asking |= {"time": f"{until}"} if instant else {"start": f"{since}", "end": f"{until}", "step": f"{_STEP_SECONDS}"}
    body = urllib.parse.urlencode(asking).encode()
    with urllib.request.urlopen(  # noqa: S310 - ours, on 127.0.0.1
        f"{prometheus}/api/v1/{'query' if instant else 'query_range'}", body, timeout=60
    ) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found
