"""Toxics and proxies as Toxiproxy's API knows them, checked before they are sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROXY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")

_MOST_MS = 600_000
_RANGES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "timeout": {"timeout": (0, _MOST_MS)},
    "latency": {"latency": (0, _MOST_MS), "jitter": (0, _MOST_MS)},
    "bandwidth": {"rate": (1, 10_000_000)},
    "slow_close": {"delay": (0, _MOST_MS)},
    "reset_peer": {"timeout": (0, _MOST_MS)},
    "slicer": {"average_size": (1, 1 << 30), "size_variation": (0, 1 << 30), "delay": (0, _MOST_MS * 1000)},
    "limit_data": {"bytes": (0, 1 << 40)},
}
"""Attributes by toxic, lowest and highest value. The real server checks none, and some values end its process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """One toxic, as Toxiproxy's API knows it; times in milliseconds."""

    name: str
    type: str
    stream: str
    attributes: Mapping[str, int] = field(default_factory=dict)
    toxicity: float = 1.0

    def __post_init__(self) -> None:
        ranges = _RANGES.get(self.type)
        if ranges is None:
            raise ValueError(f"no toxic is of type {self.type!r}")
        if not PROXY_NAME.fullmatch(self.name):
            raise ValueError(f"not a toxic's name: {self.name!r}")
        if self.stream not in {"upstream", "downstream"}:
            raise ValueError(f"a stream is upstream or downstream, not {self.stream!r}")
        if not 0.0 <= self.toxicity <= 1.0:
            raise ValueError(f"toxicity must be from 0 to 1, not {self.toxicity}")
        if unknown := sorted(self.attributes.keys() - ranges.keys()):
            raise ValueError(f"{self.type} has no attribute {unknown[0]!r}")
        for name, (least, most) in ranges.items():
            self._check(name, least, most)
        if self.type == "slicer" and self.attributes.get("size_variation", 0) >= self.attributes["average_size"]:
            raise ValueError("slicer: size_variation must be below average_size")

    def _check(self, name: str, least: int, most: int) -> None:
        value = self.attributes.get(name, 0)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{self.type}: {name} must be a whole number from {least} to {most}, not {value!r}")

    def to_json(self) -> dict[str, Any]:
        """Return the toxic as Toxiproxy's API writes it: every attribute named, and 0 where none was given."""
        return {
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "attributes": {name: self.attributes.get(name, 0) for name in _RANGES[self.type]},
            "toxicity": self.toxicity,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyState:
    """One proxy, read from the server."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[Mapping[str, Any], ...] = ()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which it listens."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def toxic_names(self) -> tuple[str, ...]:
        """Names of all its toxics."""
        return tuple(str(toxic["name"]) for toxic in self.toxics)
