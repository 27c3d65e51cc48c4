"""Whether keys, their policies, their rotation and the roles are as rendered: read from AWS, each region by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kms_core.clock import Clock
from kms_watchdog.config import Settings
from kms_watchdog.estate.desired import DesiredKey, desired_keys
from kms_watchdog.estate.diff import Difference, Field, diff_region
from kms_watchdog.estate.kms_admin import EstateError, KmsAdmin
from kms_watchdog.estate.observed import ObservedRegion, observe_region
from kms_watchdog.estate.role_admin import RoleAdmin
from kms_watchdog.estate.role_plan import (
    DesiredBoundary,
    DesiredRole,
    ObservedRole,
    desired_boundaries,
    desired_roles,
    plan_boundary,
    plan_role,
)
from kms_watchdog.readiness.items import KEYS, ROLES, ROTATION, Evidence, State

_ITEM_OF_FIELD = {Field.POLICY: ROLES, Field.ROTATION: ROTATION}
"""Which item a difference belongs to; all others to that on the keys themselves."""
_THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One key in one region: what is there, or why nobody could see it."""

    wanted: DesiredKey
    region: str
    found: ObservedRegion | None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRole:
    """One role: what is there, None for nothing, or why nobody could see it."""

    wanted: DesiredRole
    found: ObservedRole | None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBoundary:
    """One managed policy that says what roles may at most: its text, None for nothing, or why nobody could see it."""

    wanted: DesiredBoundary
    found: Any | None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """What was seen of the whole estate."""

    keys: tuple[Seen, ...]
    key_ids: Mapping[str, str]
    """By purpose, where all regions that were seen agree on one."""
    roles: tuple[SeenRole, ...]
    boundaries: tuple[SeenBoundary, ...]


def look(settings: Settings, clock: Clock) -> Estate:
    """Read the estate; changes nothing. Main thread."""
    admin, iam = KmsAdmin(settings, clock), RoleAdmin(settings, clock)
    places = [(wanted, region) for wanted in desired_keys(settings) for region in wanted.regions]
    with ThreadPoolExecutor(min(_THREADS, len(places))) as threads:
        keys = tuple(threads.map(lambda place: _seen(admin, *place), places))
        ids = key_ids(keys)
        keys = tuple(threads.map(lambda seen: _by_id(admin, seen, ids), keys))
        roles = tuple(threads.map(lambda role: _seen_role(iam, role), desired_roles(settings, ids)))
        boundaries = tuple(threads.map(lambda one: _seen_boundary(iam, one), desired_boundaries(settings)))
    return Estate(keys=keys, key_ids=ids, roles=roles, boundaries=boundaries)


def key_ids(keys: Iterable[Seen]) -> dict[str, str]:
    """Return by purpose the id to which its aliases lead, where all that were seen lead to one. Pure."""
    return {purpose: ids[0] for purpose, ids in _targets(keys).items() if len(ids) == 1}


def _targets(keys: Iterable[Seen]) -> dict[str, list[str]]:
    targets: dict[str, list[str]] = {}
    for seen in keys:
        if seen.found is not None and seen.found.alias_target is not None:
            ids = targets.setdefault(seen.wanted.purpose, [])
            if seen.found.alias_target not in ids:
                ids.append(seen.found.alias_target)
    return targets


def evidence(estate: Estate, now_utc: datetime) -> dict[str, list[Evidence]]:
    """Return by item what `estate` shows. Pure."""
    found: dict[str, list[Evidence]] = {KEYS: [], ROTATION: [], ROLES: []}
    for seen in estate.keys:
        what = f"{seen.wanted.purpose} in {seen.region}"
        if seen.found is None:
            for evidences in found.values():
                evidences.append(Evidence(what=what, seen=seen.trouble, at_utc=now_utc, state=State.UNKNOWN))
            continue
        differences = diff_region(seen.wanted, seen.region, seen.found, estate.key_ids.get(seen.wanted.purpose))
        for item, evidences in found.items():
            evidences.append(_of_key(item, what, seen.found, differences, now_utc))
    for purpose, ids in _targets(estate.keys).items():
        if len(ids) > 1:
            seen_as = f"its alias leads to several keys: {', '.join(ids)}"
            found[KEYS].append(Evidence(what=purpose, seen=seen_as, at_utc=now_utc, state=State.BAD))
    found[ROLES] += [_of_role(role, now_utc) for role in estate.roles]
    found[ROLES] += [_of_boundary(boundary, now_utc) for boundary in estate.boundaries]
    return found


def _of_key(
    item: str, what: str, there: ObservedRegion, differences: Iterable[Difference], now_utc: datetime
) -> Evidence:
    wrong = [each.what for each in differences if _ITEM_OF_FIELD.get(each.field, KEYS) == item]
    if wrong:
        return Evidence(what=what, seen=", ".join(wrong), at_utc=now_utc, state=State.BAD)
    if there.replica is None:
        return Evidence(what=what, seen="there is no key", at_utc=now_utc, state=State.BAD)
    key = there.replica.key
    if item == ROTATION:
        if there.replica.rotates is None:
            return Evidence(
                what=what, seen=f"KMS does not say while it is {key.state}", at_utc=now_utc, state=State.UNKNOWN
            )
        return Evidence(what=what, seen="rotation is on", at_utc=now_utc)
    if item == ROLES:
        return Evidence(what=what, seen="the key policy is the rendered one", at_utc=now_utc)
    return Evidence(what=what, seen=f"{key.key_id} is {key.state}, {key.multi_region_type}", at_utc=now_utc)


def _of_role(seen: SeenRole, now_utc: datetime) -> Evidence:
    what, wanted = f"role {seen.wanted.name}", seen.wanted
    if seen.trouble:
        return Evidence(what=what, seen=seen.trouble, at_utc=now_utc, state=State.UNKNOWN)
    if seen.found is None or seen.found.policy is None:
        missing = f"it has no policy {wanted.policy_name}" if seen.found else "there is no such role"
        return Evidence(what=what, seen=missing, at_utc=now_utc, state=State.BAD)
    if wanted.policy is None:
        unknown = "its policy names keys, and not every key is known by one id"
        return Evidence(what=what, seen=unknown, at_utc=now_utc, state=State.UNKNOWN)
    if differences := plan_role(wanted, seen.found, frozenset()).differences:
        return Evidence(what=what, seen=", ".join(differences), at_utc=now_utc, state=State.BAD)
    seen_as = "boundary, trust and policy are the rendered ones" if wanted.compared else "it is there, for others too"
    return Evidence(what=what, seen=seen_as, at_utc=now_utc)


def _of_boundary(seen: SeenBoundary, now_utc: datetime) -> Evidence:
    what = f"policy {seen.wanted.name}"
    if seen.trouble:
        return Evidence(what=what, seen=seen.trouble, at_utc=now_utc, state=State.UNKNOWN)
    if seen.found is None:
        return Evidence(what=what, seen="there is no such policy", at_utc=now_utc, state=State.BAD)
    if plan_boundary(seen.wanted, seen.found, frozenset()).differences:
        return Evidence(what=what, seen="it is not the policy rendered here", at_utc=now_utc, state=State.BAD)
    return Evidence(what=what, seen="it is the rendered one", at_utc=now_utc)


def _by_id(admin: KmsAdmin, seen: Seen, ids: Mapping[str, str]) -> Seen:
    """Look again for a key by its id where no alias leads to it: it may be there all the same."""
    key_id = ids.get(seen.wanted.purpose)
    if key_id is None or seen.found is None or seen.found.alias_target is not None:
        return seen
    return _seen(admin, seen.wanted, seen.region, key_id)


def _seen(admin: KmsAdmin, wanted: DesiredKey, region: str, key_id: str | None = None) -> Seen:
    try:
        return Seen(wanted=wanted, region=region, found=observe_region(wanted, admin, region, key_id))
    except EstateError as e:
        return Seen(wanted=wanted, region=region, found=None, trouble=str(e))


def _seen_role(iam: RoleAdmin, wanted: DesiredRole) -> SeenRole:
    try:
        return SeenRole(wanted=wanted, found=iam.observe(wanted))
    except EstateError as e:
        return SeenRole(wanted=wanted, found=None, trouble=str(e))


def _seen_boundary(iam: RoleAdmin, wanted: DesiredBoundary) -> SeenBoundary:
    try:
        return SeenBoundary(wanted=wanted, found=iam.observe_boundary(wanted))
    except EstateError as e:
        return SeenBoundary(wanted=wanted, found=None, trouble=str(e))
