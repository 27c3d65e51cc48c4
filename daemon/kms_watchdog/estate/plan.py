"""What is to be done to get from the keys there are to those there should be: pure, from their differences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kms_watchdog.estate.desired import PURPOSE_TAG, DesiredKey
from kms_watchdog.estate.diff import Difference, Field, diff
from kms_watchdog.estate.observed import CREATING, ObservedKey

StepKind = Literal[
    "create_key",
    "create_alias",
    "enable_rotation",
    "replicate",
    "await_enabled",
    "tag_key",
    "describe_key",
    "put_key_policy",
]
Group = Literal["roles", "trail", "keys", "aliases", "rotation", "tags", "policies"]

GROUPS: Mapping[StepKind, Group] = {
    "create_key": "keys",
    "replicate": "keys",
    "await_enabled": "keys",
    "create_alias": "aliases",
    "enable_rotation": "rotation",
    "tag_key": "tags",
    "describe_key": "tags",
    "put_key_policy": "policies",
}
_WORDS: Mapping[StepKind, str] = {
    "create_key": "create the multi-Region key, with policy and tags",
    "create_alias": "create the alias",
    "enable_rotation": "enable rotation, for all regions",
    "replicate": "replicate the key, with policy and tags",
    "await_enabled": "wait until the replica is enabled",
    "tag_key": "give the key its tags",
    "describe_key": "give the key its description",
    "put_key_policy": "put the key policy in the place of the one there is",
}

_PUT_RIGHT: Mapping[Field, StepKind] = {
    Field.TAGS: "tag_key",
    Field.DESCRIPTION: "describe_key",
    Field.POLICY: "put_key_policy",
}
"""What is put right on a key that is there; left as it is where its group is not asked for."""
_ON_KEYS: frozenset[Group] = frozenset({"aliases", "rotation"})
"""What cannot be done without a key; roles can be made before there is one."""
_REFUSED = frozenset({Field.STATE, Field.SPEC, Field.USAGE})
"""What no program mends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change; nothing here deletes, disables or moves anything."""

    kind: StepKind
    purpose: str
    region: str

    def __str__(self) -> str:
        return f"{self.purpose} in {self.region}: {_WORDS[self.kind]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlan:
    """What to do about one key."""

    wanted: DesiredKey
    key_id: str | None
    steps: tuple[Step, ...]
    differences: tuple[Difference, ...]
    """What is not as it should be and is left so: a person decides."""
    refusals: tuple[str, ...]
    """Why nothing may be done about it by a program."""


def plan(wanted: DesiredKey, found: ObservedKey, groups: frozenset[Group]) -> KeyPlan:
    """Return what is missing, what differs, and what forbids to do anything; only steps of `groups`."""
    differences = diff(wanted, found)
    refusals = tuple(_refusals(wanted, found, differences, groups))
    return KeyPlan(
        wanted=wanted,
        key_id=found.key_id,
        steps=() if refusals else tuple(s for s in _steps(wanted, found, differences) if GROUPS[s.kind] in groups),
        differences=tuple(each for each in differences if _is_left(each.field, groups)),
        refusals=refusals,
    )


def _steps(wanted: DesiredKey, found: ObservedKey, differences: Sequence[Difference]) -> Iterator[Step]:
    differing = {(each.region, each.field) for each in differences}

    def step(kind: StepKind, region: str) -> Step:
        return Step(kind=kind, purpose=wanted.purpose, region=region)

    if found.key_id is None:
        yield step("create_key", wanted.primary_region)
    if (wanted.primary_region, Field.ALIAS) in differing:
        yield step("create_alias", wanted.primary_region)
    if found.key_id is None or (wanted.primary_region, Field.ROTATION) in differing:
        yield step("enable_rotation", wanted.primary_region)
    yield from _put_right(step, wanted.primary_region, differing)
    for region in wanted.replica_regions:
        replica = found.regions[region].replica
        if replica is None:
            yield step("replicate", region)
        if replica is None or replica.key.state == CREATING:
            yield step("await_enabled", region)
        if (region, Field.ALIAS) in differing:
            yield step("create_alias", region)
        yield from _put_right(step, region, differing)


def _put_right(
    step: Callable[[StepKind, str], Step], region: str, differing: Collection[tuple[str, Field]]
) -> Iterator[Step]:
    for field, kind in _PUT_RIGHT.items():
        if (region, field) in differing:
            yield step(kind, region)


def _is_left(field: Field, groups: frozenset[Group]) -> bool:
    return field in _PUT_RIGHT and GROUPS[_PUT_RIGHT[field]] not in groups


def _refusals(
    wanted: DesiredKey, found: ObservedKey, differences: Sequence[Difference], groups: frozenset[Group]
) -> Iterator[str]:
    if len(found.candidates) > 1:
        yield f"{wanted.purpose}: {wanted.alias} or our tags lead to several keys: {', '.join(found.candidates)}"
        return
    for key in found.leaving:
        yield (
            f"{wanted.purpose}: {key.key_id} carries our tags and is {key.state}: cancel its deletion; if it shall go,"
            f" take its tag {PURPOSE_TAG}, and a new key is made, which opens nothing that the old one sealed"
        )
    if found.key_id is None and groups & _ON_KEYS and "keys" not in groups:
        yield f"{wanted.purpose}: there is no key yet, and the steps do not include keys"
    if found.key_id is not None and found.regions[wanted.primary_region].replica is None:
        yield f"{wanted.purpose}: {found.key_id} is not in {wanted.primary_region}, the primary region"
    for each in differences:
        is_there = found.regions[each.region].replica is not None
        if is_there and each.field in _REFUSED and not each.passes:
            yield str(each)
