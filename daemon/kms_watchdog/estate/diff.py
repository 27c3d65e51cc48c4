"""What differs between the keys there should be and those there are: a pure function, the one comparison there is.

The plan, the drift canary and whoever audits read the same differences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kms_watchdog.estate.desired import DesiredKey
from kms_watchdog.estate.kms_admin import KeyInRegion
from kms_watchdog.estate.observed import CREATING, ENABLED, ObservedKey, ObservedRegion, ObservedReplica


class Field(StrEnum):
    """The closed list of what may differ; values of the metrics' `field` label."""

    STATE = "state"  # not there, not Enabled, or primary where a replica should be and the other way round
    SPEC = "spec"  # also: a key of one region
    USAGE = "usage"
    ROTATION = "rotation"
    POLICY = "policy"
    TAGS = "tags"
    DESCRIPTION = "description"
    ALIAS = "alias"  # missing, or leads elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that is not as it should be, in one region."""

    purpose: str
    region: str
    field: Field
    what: str
    passes: bool = False
    """Whether it ends by itself: the key is being made."""

    def __str__(self) -> str:
        return f"{self.purpose} in {self.region}: {self.what}"


def diff(wanted: DesiredKey, found: ObservedKey) -> tuple[Difference, ...]:
    """Return all differences, region by region."""
    return tuple(
        difference
        for region in wanted.regions
        for difference in diff_region(wanted, region, found.regions[region], found.key_id)
    )


def diff_region(wanted: DesiredKey, region: str, found: ObservedRegion, key_id: str | None) -> tuple[Difference, ...]:
    """Return the differences in one region; `key_id` says which key it should be, None that nobody knows."""
    key = found.replica.key if found.replica else None
    passing = _being(key) if key is not None and key.state == CREATING else None
    return tuple(
        Difference(purpose=wanted.purpose, region=region, field=field, what=what, passes=what == passing)
        for field, what in _all(wanted, region, found, key_id)
    )


def _all(wanted: DesiredKey, region: str, found: ObservedRegion, key_id: str | None) -> Iterator[tuple[Field, str]]:
    if found.replica is None:
        yield Field.STATE, f"{key_id} is not there" if key_id else "there is no key"
    else:
        yield from _of_key(wanted, region, found.replica)
    if found.alias_target is None:
        yield Field.ALIAS, f"{wanted.alias} does not exist"
    elif key_id is not None and found.alias_target != key_id:
        yield Field.ALIAS, f"{wanted.alias} leads to {found.alias_target}, not to {key_id}"


def _of_key(wanted: DesiredKey, region: str, replica: ObservedReplica) -> Iterator[tuple[Field, str]]:
    key = replica.key
    if key.state != ENABLED:
        yield Field.STATE, _being(key)
    yield from _of_role(wanted, region, key)
    if key.spec != wanted.spec:
        yield Field.SPEC, f"its spec is {key.spec}, not {wanted.spec}"
    if key.usage != wanted.usage:
        yield Field.USAGE, f"its usage is {key.usage}, not {wanted.usage}"
    if replica.rotates is False:
        yield Field.ROTATION, "its rotation is off"
    if canonical_policy(replica.policy) != canonical_policy(wanted.policy):
        yield Field.POLICY, "its key policy is not the one rendered here"
    if missing := {name for name, value in wanted.tags.items() if replica.tags.get(name) != value}:
        yield Field.TAGS, f"its tags {', '.join(sorted(missing))} are not as they should be"
    if key.description != wanted.description_in(region):
        yield Field.DESCRIPTION, f"its description is {key.description!r}"


def _being(key: KeyInRegion) -> str:
    return f"{key.key_id} is {key.state}"


def _of_role(wanted: DesiredKey, region: str, key: KeyInRegion) -> Iterator[tuple[Field, str]]:
    role = "PRIMARY" if region == wanted.primary_region else "REPLICA"
    if not key.multi_region_type:
        yield Field.SPEC, f"{key.key_id} is a key of one region, which cannot be changed"
    elif key.primary_region != wanted.primary_region:
        yield Field.STATE, f"the primary of {key.key_id} is in {key.primary_region}, not {wanted.primary_region}"
    elif key.multi_region_type != role:
        yield Field.STATE, f"{key.key_id} is a {key.multi_region_type} here, not the {role}"


def canonical_policy(policy: Any) -> Any:
    """Return `policy` in the one form in which policies of equal meaning and wording are equal.

    KMS gives lists of one as a value, and lists and members in another order. A principal that comes back as a unique
    id is the trace of a role that was deleted: it stays different.
    """
    if isinstance(policy, Mapping):
        return {
            name: canonical_policy({"AWS": "*"} if name == "Principal" and value == "*" else value)
            for name, value in policy.items()
        }
    if isinstance(policy, list):
        parts = {json.dumps(part, sort_keys=True): part for part in map(canonical_policy, policy)}
        ordered = [parts[text] for text in sorted(parts)]
        return ordered[0] if len(ordered) == 1 else ordered
    return str(policy).lower() if isinstance(policy, bool) else policy
