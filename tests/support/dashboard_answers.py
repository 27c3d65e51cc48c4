"""What a Prometheus answers to the queries of a dashboard, as Grafana would send them."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kms_dashboards.asked import Asked, asked, filled, variables

OF_GRAFANA = {"__rate_interval": "20s", "__range": "10m"}
"""Grafana's own variables, for a scrape every few seconds."""


class AskError(RuntimeError):
    """Prometheus refused a query; the message is its own."""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard with its variables chosen."""

    name: str
    queries: Mapping[str, Asked]
    """By the dashboard's name and the place in it."""
    values: Mapping[str, str]

    @classmethod
    def of(cls, name: str, document: Mapping[str, Any], **chosen: str) -> Board:
        """Return it; `chosen` are values of its variables."""
        found = {f"{name}: {one.where}": one for one in asked(document)}
        return cls(name, found, variables(document, **OF_GRAFANA, **chosen))


@dataclass
class Answers:
    """What has been answered so far, and what has not."""

    prometheus: str
    missing: dict[str, str] = field(default_factory=dict)
    """Why, by place; those that have had data once are gone."""

    def begin(self, boards: Iterable[Board]) -> None:
        """Start anew: nothing has been answered."""
        self.missing = dict.fromkeys((where for board in boards for where in board.queries), "not asked yet")

    def ask(self, boards: Iterable[Board]) -> None:
        """Ask again what has had no data yet."""
        for board in boards:
            for where, query in board.queries.items():
                if where in self.missing:
                    self._ask(where, query, board.values)

    def _ask(self, where: str, query: Asked, values: Mapping[str, str]) -> None:
        series = instant(self.prometheus, filled(query.expression, values))
        real = [one for one in series if one["value"][1] != "NaN"]
        # An alert may speak of no region or no key: its columns stay empty then.
        wanted = [label for label in query.labels if "ALERTS" not in query.expression or label not in {"region", "key"}]
        unnamed = [label for label in wanted if not any(label in one["metric"] for one in real)]
        if not real:
            self.missing[where] = "only NaN" if series else "no data"
        elif unnamed:
            self.missing[where] = f"no label {unnamed[0]} in {real[0]['metric']}"
        else:
            del self.missing[where]


def instant(prometheus: str, expression: str) -> list[dict[str, Any]]:
    """Return the series that a query gives now.

    Raises:
        AskError: it is not PromQL, or cannot be evaluated.
    """
    body = urllib.parse.urlencode({"query": expression}).encode()
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query", body, timeout=30) as answer:  # noqa: S310 - ours
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as e:
        raise AskError(f"{json.load(e)['error']}: {expression}") from e
    return found
