"""What is to be done to get from the keys there are to those there should be: a pure diff."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kms_watchdog.estate.desired import DesiredKey
from kms_watchdog.estate.observed import ObservedKey, ObservedReplica

StepKind = Literal["create_key", "create_alias", "enable_rotation", "replicate", "await_enabled"]
Group = Literal["keys", "aliases", "rotation"]

GROUPS: Mapping[StepKind, Group] = {
    "create_key": "keys",
    "replicate": "keys",
    "await_enabled": "keys",
    "create_alias": "aliases",
    "enable_rotation": "rotation",
}
_WORDS: Mapping[StepKind, str] = {
    "create_key": "create the multi-Region key, with policy and tags",
    "create_alias": "create the alias",
    "enable_rotation": "enable rotation, for all regions",
    "replicate": "replicate the key, with policy and tags",
    "await_enabled": "wait until the replica is enabled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change; nothing here deletes, disables or moves anything."""

    kind: StepKind
    purpose: str
    region: str

    def __str__(self) -> str:
        return f"{self.purpose} in {self.region}: {_WORDS[self.kind]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that is not as it should be, and that no step here changes: a person decides."""

    purpose: str
    region: str
    what: str

    def __str__(self) -> str:
        return f"{self.purpose} in {self.region}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlan:
    """What to do about one key."""

    wanted: DesiredKey
    key_id: str | None
    steps: tuple[Step, ...]
    differences: tuple[Difference, ...]
    refusals: tuple[str, ...]
    """Why nothing may be done about it by a program."""


def plan(wanted: DesiredKey, found: ObservedKey, groups: frozenset[Group]) -> KeyPlan:
    """Return what is missing, what differs, and what forbids to do anything; only steps of `groups`."""
    refusals = tuple(_refusals(wanted, found, groups))
    return KeyPlan(
        wanted=wanted,
        key_id=found.key_id,
        steps=() if refusals else tuple(s for s in _steps(wanted, found) if GROUPS[s.kind] in groups),
        differences=tuple(_differences(wanted, found)),
        refusals=refusals,
    )


def _steps(wanted: DesiredKey, found: ObservedKey) -> Iterator[Step]:
    def step(kind: StepKind, region: str) -> Step:
        return Step(kind=kind, purpose=wanted.purpose, region=region)

    if found.key_id is None:
        yield step("create_key", wanted.primary_region)
    if found.alias_targets[wanted.primary_region] is None:
        yield step("create_alias", wanted.primary_region)
    if not found.rotates:
        yield step("enable_rotation", wanted.primary_region)
    for region in wanted.replica_regions:
        replica = found.replicas[region]
        if replica is None:
            yield step("replicate", region)
        if replica is None or replica.key.state == "Creating":
            yield step("await_enabled", region)
        if found.alias_targets[region] is None:
            yield step("create_alias", region)


def _refusals(wanted: DesiredKey, found: ObservedKey, groups: frozenset[Group]) -> Iterator[str]:
    if len(found.candidates) > 1:
        yield f"{wanted.purpose}: {wanted.alias} or our tags lead to several keys: {', '.join(found.candidates)}"
        return
    if found.key_id is None and "keys" not in groups:
        yield f"{wanted.purpose}: there is no key yet, and the steps do not include keys"
    primary = found.replicas[wanted.primary_region]
    if found.key_id is not None and primary is None:
        yield f"{wanted.purpose}: {found.key_id} is not in {wanted.primary_region}, the primary region"
    for region, replica in found.replicas.items():
        if replica is not None:
            yield from _unusable(wanted, region, replica)


def _unusable(wanted: DesiredKey, region: str, replica: ObservedReplica) -> Iterator[str]:
    key = replica.key
    if not key.multi_region_type:
        yield f"{wanted.purpose}: {key.key_id} in {region} is a key of one region, which cannot be changed"
    elif key.primary_region != wanted.primary_region:
        yield f"{wanted.purpose}: the primary of {key.key_id} is in {key.primary_region}, not {wanted.primary_region}"
    if key.state not in ("Enabled", "Creating"):
        yield f"{wanted.purpose}: {key.key_id} in {region} is {key.state}"


def _differences(wanted: DesiredKey, found: ObservedKey) -> Iterator[Difference]:
    for region, replica in found.replicas.items():
        if replica is None:
            continue
        for what in _replica_differences(wanted, region, replica):
            yield Difference(purpose=wanted.purpose, region=region, what=what)


def _replica_differences(wanted: DesiredKey, region: str, replica: ObservedReplica) -> Iterator[str]:
    if canonical_policy(replica.policy) != canonical_policy(wanted.policy):
        yield "its key policy is not the one rendered here"
    if missing := {name for name, value in wanted.tags.items() if replica.tags.get(name) != value}:
        yield f"its tags {', '.join(sorted(missing))} are not as they should be"
    if replica.key.description != wanted.description_in(region):
        yield f"its description is {replica.key.description!r}"


def canonical_policy(policy: Any) -> Any:
    """Return `policy` in the one form in which equal policies are equal: lists of one unwrapped, others sorted."""
    if isinstance(policy, Mapping):
        return {name: canonical_policy(value) for name, value in policy.items()}
    if isinstance(policy, list):
        parts = [canonical_policy(part) for part in policy]
        return parts[0] if len(parts) == 1 else sorted(parts, key=repr)
    return policy
