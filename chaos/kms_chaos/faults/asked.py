"""One request to KMS as it is about to be sent: which operation, under which key, of which purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kms_watchdog.json_text import read_json

_DESCRIBE = "DescribeKey"
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, before it is sent."""

    url: str
    operation: str
    """KMS's own name for it."""
    key: str
    """What it calls the key: alias, id or ARN; empty when it names none."""
    purpose: str
    """The purpose whose key that is, as far as the line knows; else empty."""
    read_timeout_seconds: float
    """How long its client waits for an answer."""


class KeyNames:
    """Which names belong to the key of which purpose. It learns key ids from the answers to DescribeKey."""

    def __init__(self, keys: Mapping[str, tuple[str, ...]]) -> None:
        self._purposes = {_last(name): purpose for purpose, names in keys.items() for name in names}

    @property
    def purposes(self) -> frozenset[str]:
        """The purposes that are known."""
        return frozenset(self._purposes.values())

    def purpose_of(self, key: str) -> str:
        """Return the purpose of the key that is called so, or an empty text."""
        return self._purposes.get(_last(key), "")

    def learn(self, asked: Asked, response: Any) -> None:
        """Take note of what an alias points to, when `response` (botocore's) says so."""
        if asked.operation != _DESCRIBE or not asked.purpose or response.status_code != _OK:
            return
        arn = _members(response.content).get("KeyMetadata", {}).get("Arn", "")
        if arn:
            self._purposes[_last(arn)] = asked.purpose


def read(request: Any, names: KeyNames, *, read_timeout_seconds: float) -> Asked:
    """Return what `request`, botocore's prepared one, asks."""
    target = request.headers.get("X-Amz-Target", "")
    text = target.decode("ascii", "replace") if isinstance(target, bytes) else str(target)
    key = str(_members(request.body).get("KeyId", ""))
    return Asked(
        url=request.url,
        operation=text.rpartition(".")[2],
        key=key,
        purpose=names.purpose_of(key),
        read_timeout_seconds=read_timeout_seconds,
    )


def _members(body: Any) -> dict[str, Any]:
    try:
        members = read_json(body or b"{}")
    except (TypeError, ValueError):
        return {}
    return members if isinstance(members, dict) else {}


def _last(name: str) -> str:
    """Return an ARN's own part: `alias/general`, or a key's id without `key/`."""
    return name.rpartition(":")[2].removeprefix("key/")
