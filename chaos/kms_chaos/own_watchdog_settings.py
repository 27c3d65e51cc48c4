"""What a drill's own watchdog is told: the estate's configuration, with nothing in it that the live one has. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kms_watchdog.config import Settings
from kms_watchdog.results import Kind

MOST_SECONDS = 5.0
"""How often its canaries look at the least: a drill does not wait for those of every minute."""
_DEADLINE_SHARE = 0.9
_KINDS = (Kind.ROUND_TRIP, Kind.FAILOVER_PATH)
"""Whether keys can be used in each region, and whether failover leads somewhere; the rest needs no drill."""
_NOT_TAKEN = frozenset({"http", "health", "prometheus", "otel", "drills", "canaries", "log", "state", "replicas"})
"""Its port, the dead man's switch, the gateway, tokens, slots of drills, its share of the canaries: all of it belongs
to the live watchdog."""
_PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


def document(settings: Settings, state_dir: Path, *, publishes: bool) -> dict[str, Any]:
    """Return the configuration of a drill's own watchdog, which keeps its state in `state_dir`.

    `publishes`: whether it sends metrics to CloudWatch, into a namespace that no alarm reads.
    """
    taken = settings.model_dump(mode="json", exclude=set(_NOT_TAKEN))
    usual = settings.canaries
    interval_seconds = min(usual.interval_seconds, MOST_SECONDS)
    deadline_seconds = min(usual.deadline_seconds, _DEADLINE_SHARE * interval_seconds)
    return {
        **taken,
        "state": {"dir": str(state_dir)},
        "http": {"listen": "127.0.0.1:0"},
        "canaries": {
            "interval_seconds": interval_seconds,
            "deadline_seconds": deadline_seconds,
            "kinds": [str(kind) for kind in _KINDS],
        },
        "cloudwatch": {
            **taken["cloudwatch"],
            "enabled": publishes,
            "namespace": settings.cloudwatch.own_watchdog_namespace,
        },
        "log": {"format": "json"},
    }


def environment(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of its process: `given` without what would have a say in its configuration or its ways."""
    kept = {
        name: value
        for name, value in given.items()
        if not name.startswith("KMS_WATCHDOG_") and name.lower() not in _PROXY_VARIABLES
    }
    return {**kept, "NO_PROXY": "*", "KMS_WATCHDOG__ESTATE__HOME_REGION": settings.home_region}


def toml(values: Mapping[str, Any]) -> str:
    """Return `values`, of JSON's types, as a TOML document; what is None is left out."""
    return "".join(f"{json.dumps(name)} = {_value(value)}\n" for name, value in values.items() if value is not None)


def _value(value: Any) -> str:
    match value:
        case Mapping():
            inside = (f"{json.dumps(name)} = {_value(one)}" for name, one in value.items() if one is not None)
            return "{" + ", ".join(inside) + "}"
        case list() | tuple():
            return "[" + ", ".join(_value(one) for one in value) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)  # strings, numbers and booleans are spelt alike
