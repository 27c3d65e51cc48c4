"""One region's keys in memory, as `KeyReader` tells of them; roles with policies; an estate that is as it should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kms_watchdog.estate.access import RoleAccess, parse_about_kms
from kms_watchdog.estate.desired import DesiredKey
from kms_watchdog.estate.kms_admin import EstateError, Grant, KeyInRegion

ACCOUNT = "123456789012"
KEY_ID, OTHER_ID = "mrk-" + "1" * 32, "mrk-" + "2" * 32


def key_in(wanted: DesiredKey, region: str, *, key_id: str = KEY_ID, **more: Any) -> KeyInRegion:
    """A key as it should be in `region`, but for what is named."""
    usual: dict[str, Any] = {
        "region": region,
        "arn": f"arn:aws:kms:{region}:{ACCOUNT}:key/{key_id}",
        "key_id": key_id,
        "state": "Enabled",
        "multi_region_type": "PRIMARY" if region == wanted.primary_region else "REPLICA",
        "primary_region": wanted.primary_region,
        "description": wanted.description_in(region),
        "spec": wanted.spec,
        "usage": wanted.usage,
        "deletion_at_utc": None,
    }
    return KeyInRegion(**{**usual, **more})


@dataclass
class FakeReader:
    """KMS as the watchdog's role sees it in one region: a `KeyReader`. Its attributes are switches."""

    region: str
    key: KeyInRegion | None = None
    key_policy: Mapping[str, Any] = field(default_factory=dict)
    key_tags: Mapping[str, str] = field(default_factory=dict)
    on: bool = True
    """Whether the key rotates."""
    given: tuple[Grant, ...] = ()
    alias_targets: dict[str, KeyInRegion] = field(default_factory=dict)
    failing: dict[str, EstateError] = field(default_factory=dict)
    """By operation: raised in place of an answer."""
    before_each: Callable[[], object] = lambda: None
    calls: list[str] = field(default_factory=list)

    def change(self, **more: Any) -> None:
        """Let the key be otherwise."""
        assert self.key is not None
        before, self.key = self.key, replace(self.key, **more)
        self.alias_targets = {a: self.key if k is before else k for a, k in self.alias_targets.items()}

    def fail(self, operation: str, code: str, *, unreachable: bool = False) -> None:
        """Let `operation` fail from now on."""
        self.failing[operation] = EstateError(self.region, operation, code, unreachable=unreachable, request_id="r-1")

    def describe(self, region: str, key: str) -> KeyInRegion | None:
        self._ask("DescribeKey", region)
        named = self.key if self.key is not None and key == self.key.key_id else self.alias_targets.get(key)
        if named is None or named != self.key:  # the watchdog may look at its own key alone
            raise EstateError(region, "DescribeKey", "AccessDeniedException", unreachable=False)
        return named

    def alias_target(self, region: str, alias: str) -> str | None:
        self._ask("ListAliases", region)
        return self.alias_targets[alias].key_id if alias in self.alias_targets else None

    def policy(self, region: str, key_id: str) -> Mapping[str, Any]:
        return self._of_key("GetKeyPolicy", region, key_id, self.key_policy)

    def tags(self, region: str, key_id: str) -> Mapping[str, str]:
        return self._of_key("ListResourceTags", region, key_id, self.key_tags)

    def rotates(self, region: str, key_id: str) -> bool:
        return self._of_key("GetKeyRotationStatus", region, key_id, self.on)

    def grants(self, region: str, key_id: str) -> tuple[Grant, ...]:
        return self._of_key("ListGrants", region, key_id, self.given)

    def aliases(self, region: str, key_id: str) -> tuple[str, ...]:
        names = tuple(alias for alias, target in self.alias_targets.items() if target.key_id == key_id)
        return self._of_key("ListAliases", region, key_id, names)

    def _of_key(self, operation: str, region: str, key_id: str, answer: Any) -> Any:
        self._ask(operation, region)
        if self.key is None or key_id != self.key.key_id:
            raise EstateError(region, operation, "NotFoundException", unreachable=False)
        return answer

    def _ask(self, operation: str, region: str) -> None:
        assert region == self.region
        self.calls.append(operation)
        self.before_each()
        if operation in self.failing:
            raise self.failing[operation]


def reader_of(wanted: DesiredKey, region: str, *, key_id: str = KEY_ID) -> FakeReader:
    """A region in which the key is as it should be."""
    key = key_in(wanted, region, key_id=key_id)
    return FakeReader(
        region,
        key=key,
        key_policy=wanted.policy,
        key_tags={**wanted.tags, "cost": "x"},
        alias_targets={wanted.alias: key},
    )


def role(name: str, *statements: Mapping[str, Any], boundary: Mapping[str, Any] | None = None) -> RoleAccess:
    """A role with one policy of these statements."""
    return RoleAccess(
        name=name,
        arn=f"arn:aws:iam::{ACCOUNT}:role/{name}",
        role_id="AROA" + name.upper(),
        policies=(parse_about_kms({"Statement": list(statements)}, "Inline"),) if statements else (),
        boundary=parse_about_kms({"Statement": [boundary]}, "Boundary") if boundary else None,
    )
